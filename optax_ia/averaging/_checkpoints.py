"""The average of checkpoints that exist already as files."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from optax_ia.averaging._checkpoint_files import open_arrays


def average_checkpoints(
    paths: Sequence[str | os.PathLike[str]],
    *,
    weights: Sequence[float] | None = None,
) -> dict[str, np.ndarray]:
    r"""The mean of the arrays in several checkpoint files.

    .. math::
      \bar w = \frac{\sum_i c_i w_i}{\sum_i c_i}

    Sums are in float64, so that their order does not matter; one checkpoint is open at
    a time. Batch statistics are averaged like all arrays: re-estimate them for the
    average. ``python -m experiments average_checkpoints`` writes the result to a file.

    Args:
      paths: the checkpoints: ``.npz`` and ``.safetensors`` files, and Orbax directories
        of one tree (Orbax must be installed); formats may be mixed.
      weights: :math:`c_i` >= 0, one for each checkpoint; None weighs all alike.

    Returns:
      The averages by name, in the dtypes of the files; in Orbax's trees names are paths
      such as ``"dense/kernel"``. Arrays of integers and bools are those of the last
      checkpoint.

    Raises:
      TypeError: if ``paths`` is one path.
      FileNotFoundError: if a file is missing.
      ValueError: if there is no checkpoint, names, shapes or dtypes differ, a file is
        damaged or in no known format, or ``weights`` do not fit.

    Example:
      >>> import numpy as np, optax_ia, pathlib, tempfile
      >>> folder = pathlib.Path(tempfile.mkdtemp())
      >>> paths = [folder / f"step_{n}.npz" for n in (1, 2, 3)]
      >>> for n, path in enumerate(paths):
      ...     np.savez(path, kernel=np.full(2, n, np.float32), step=n)
      >>> average = optax_ia.average_checkpoints(paths)
      >>> print(average["kernel"], average["kernel"].dtype, average["step"])
      [1. 1.] float32 2

    References:
      Izmailov et al., `Averaging Weights Leads to Wider Optima and Better
      Generalization <https://arxiv.org/abs/1803.05407>`_, 2018.
    """
    if isinstance(paths, (str, os.PathLike)):
        raise TypeError(f"paths must be a list of checkpoints, got {str(paths)!r}.")
    files = [Path(path) for path in paths]
    if not files:
        raise ValueError("paths must name at least one checkpoint, got none.")
    relative = np.ones(len(files)) if weights is None else np.asarray(weights, float)
    if relative.shape != (len(files),):
        raise ValueError(
            f"weights must have one number for each of the {len(files)} checkpoints, "
            f"got shape {relative.shape}."
        )
    if not (np.isfinite(relative).all() and (relative >= 0).all() and relative.any()):
        raise ValueError(f"weights must be >= 0, and not all zero, got {weights!r}.")
    relative = relative / relative.sum()

    averages: dict[str, np.ndarray] = {}
    dtypes: dict[str, np.dtype] = {}
    for path, weight in zip(files, relative, strict=True):
        with open_arrays(path) as arrays:
            if path is not files[0]:
                _check_names(set(averages), set(arrays), files[0], path)
            for name, read in arrays.items():
                array = read()
                old = averages.get(name)
                if old is None:
                    dtypes[name] = array.dtype
                elif (old.shape, dtypes[name]) != (array.shape, array.dtype):
                    raise ValueError(
                        f"{name!r} has shape {array.shape} and dtype {array.dtype} in "
                        f"{path}, but {old.shape} and {dtypes[name]} in {files[0]}."
                    )
                averages[name] = _added(old, array, weight)
    return {name: averages[name].astype(dtypes[name]) for name in averages}


def _added(total: np.ndarray | None, array: np.ndarray, weight: float) -> np.ndarray:
    """``total + weight * array`` in float64; the array itself if it holds integers."""
    if array.dtype.kind in "biu":
        return np.array(array)
    wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    # An array that is not finite must not enter by 0 * inf.
    part = weight * wide if weight else np.zeros_like(wide)
    return part if total is None else total + part


def _check_names(first: set[str], other: set[str], path: Path, at: Path) -> None:
    if first == other:
        return
    has, lacks, missing = path, at, first - other
    if not missing:
        has, lacks, missing = at, path, other - first
    name = min(missing)
    count = len(first ^ other)
    more = f" ({count} names differ)" if count > 1 else ""
    raise ValueError(f"{lacks} has no array {name!r}, which {has} has{more}.")
