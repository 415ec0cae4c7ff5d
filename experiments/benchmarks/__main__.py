"""``python -m experiments.benchmarks COMMAND``."""

import sys

from experiments.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["benchmarks", *sys.argv[1:]]))
