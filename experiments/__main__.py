"""``python -m experiments COMMAND``: finds the command and reports its errors."""

import importlib
import os
import sys
from collections.abc import Sequence

from experiments import memory
from experiments.errors import ExperimentError, unknown

# Decompositions inside JAX are OpenBLAS's, whose threads wait for one another where
# cores are shared: tens of milliseconds for a matrix of 30. It reads this when loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The modules are imported when they are called for: some take seconds.
COMMANDS = {
    "compare": "train several optimisers with several seeds; table and report",
    "train": "train one, with checkpoints and exact resume",
    "sweep": "seeds x optimisers x settings of train, from a file; resumable",
    "tune": "choose rates of the base or second-order optimisers on validation",
    "report": "make the table and the report of a run folder again",
    "benchmarks": "time one update of every optimiser against its peers",
    "datasets": "list the data sets: size, whether ready here, how to get them",
    "prepare": "download a data set and write it for reading, without TensorFlow",
    "average_checkpoints": "write the mean of the arrays in several checkpoint files",
    "methods": "print the table of methods",
    "models": "print the table of networks, with sizes and costs",
    "theory": "noise of iterates and averages on the noisy quadratic of P0, theorem 1",
    "trajectories": "paths of every optimiser on P2's Beale and Schubert functions",
    "switchover": "when SWATS leaves Adam for SGD, and what that changes (P3)",
    "sampling": "training data drawn with and without replacement (P2, fig. 6)",
    "variance_reduction": "SVRG and SGD on a convex problem, to rounding (P2, 4.3.1)",
    "lanczos": "LanczosOPT over damping and sharp scale, on a convex problem (P1, 4)",
    "damping": "Adam, AdamW or K-FAC over rate and damping, spectral norms (P1, 5)",
    "quality": "quality of the weights beside generalisation (P4, fig. 2)",
    "analyse": "spectrum, landscape and diversity of a finished run (P0, P1)",
}

_HELP = ("-h", "--help")


def usage() -> str:
    """The list of commands."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m experiments COMMAND [ARGUMENTS]",
            "",
            *lines,
            "",
            "python -m experiments COMMAND --help   lists a command's arguments",
        ]
    )


def main(arguments: Sequence[str]) -> int:
    """Runs one command.

    Args:
      arguments: the command's name and its arguments.

    Returns:
      The exit status: 2 after a wrong argument, 130 after Ctrl-C.
    """
    if not arguments or arguments[0] in _HELP:
        print(usage())
        return 0
    name, *rest = arguments
    try:
        if name not in COMMANDS:
            raise unknown("command", name, COMMANDS)
        status = importlib.import_module(f"experiments.{name}").main(rest)
    except ExperimentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        top = (error.name or "").partition(".")[0]
        if top in ("experiments", "optax_ia", ""):
            raise
        print(
            f"error: {top} is not installed: pip install 'optax-ia[experiments]'",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return int(status or 0)


if __name__ == "__main__":
    memory.keep_freed()
    sys.exit(main(sys.argv[1:]))
