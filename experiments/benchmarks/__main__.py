"""``python -m experiments.benchmarks COMMAND``, its errors on one line."""

import sys

from experiments.benchmarks import main
from experiments.errors import ExperimentError

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ExperimentError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
