"""``python -m experiments average_checkpoints``: the mean of checkpoint files."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro

import optax_ia
from experiments.cli import parse
from experiments.errors import ExperimentError
from experiments.files import write_atomically
from optax_ia.averaging._checkpoint_files import safetensors_bytes


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Write the mean of the arrays in several checkpoints to a file.

    Checkpoints are .npz and .safetensors files and Orbax directories of one tree. Sums
    are in float64; arrays keep their dtypes, and integers are the last checkpoint's.
    """

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """The checkpoints."""
    out: Path
    """The file to write, .npz or .safetensors; one that exists is replaced."""
    weights: tuple[float, ...] | None = None
    """Relative weights, one for each checkpoint; all alike if not given."""


def main(arguments: Sequence[str]) -> int:
    """Averages checkpoints.

    Args:
      arguments: the words after the command.

    Returns:
      The exit status.

    Raises:
      ExperimentError: if they cannot be read, do not fit, or cannot be written.
    """
    config = parse(Arguments, arguments, command="average_checkpoints")
    if config.out.suffix not in (".npz", ".safetensors"):
        raise ExperimentError(
            f"--out must end in .npz or .safetensors, got {config.out}"
        )
    try:
        averages = optax_ia.average_checkpoints(config.paths, weights=config.weights)
        if config.out.suffix == ".npz":
            content = _npz_bytes(averages)
        else:
            content = safetensors_bytes(averages)
    except (OSError, ValueError) as error:
        raise ExperimentError(str(error).rstrip(".")) from error
    write_atomically(config.out, content)
    print(
        f"wrote {config.out}: {len(averages)} arrays, the mean of "
        f"{len(config.paths)} checkpoints"
    )
    return 0


def _npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    for name, array in arrays.items():
        if array.dtype.kind == "V":
            raise ValueError(
                f"{name!r} has dtype {array.dtype}, which .npz files lose; write a "
                ".safetensors file"
            )
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
