"""``python -m experiments.benchmarks COMMAND``."""

import sys

from experiments import memory
from experiments.__main__ import main

if __name__ == "__main__":
    memory.keep_freed()
    sys.exit(main(["benchmarks", *sys.argv[1:]]))
