"""How many runs go on at once, and which GPU each of them sees.

On the CPU each run has threads for all cores, however many run beside it: the number
of threads changes the rounding of sums, and a run must not depend on ``--workers``.
Whoever wants fewer sets ``PJRT_NPROC``, which the runs inherit. (Two ResNet-20 on two
cores took a seventh less processor time with one thread each than with two or 16.)
"""

import os
import subprocess
from collections import Counter
from pathlib import Path

from experiments.errors import ExperimentError

_CACHE = "JAX_COMPILATION_CACHE_DIR"
_SHORTEST = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
GPUS = "CUDA_VISIBLE_DEVICES"
_MEMORY = "XLA_PYTHON_CLIENT_MEM_FRACTION"
_SHARED_MEMORY = 0.9
"""Part of a GPU's memory that the runs on it take together, where several share it."""


def slots(devices: str | None, workers: int | None) -> list[dict[str, str]]:
    """What each slot's runs have in their environment.

    Args:
      devices: GPUs, ``"0,1"``: one slot for each, one named twice is shared. None
        takes the first ``workers`` that are visible.
      workers: number of slots; None is one for each device named, else one.

    Returns:
      Additions to the environment; empty ones where no GPU is chosen.

    Raises:
      ExperimentError: if the two do not fit each other, or the machine.
    """
    if workers is not None and workers < 1:
        raise ExperimentError(f"--workers must be at least 1, got {workers}")
    if devices is None:
        if workers is None:
            return [{}]  # whatever the machine has, for one run
        found = visible_gpus()
        if not found:
            return [{}] * workers
        if workers > len(found):
            raise ExperimentError(
                f"--workers must be at most {len(found)} (the GPUs that are visible), "
                f"got {workers}; to share one, name it twice: --devices 0,0"
            )
        return [{GPUS: name} for name in found[:workers]]
    names = [name.strip() for name in devices.split(",")]
    if not all(names):
        raise ExperimentError(f"--devices must be names such as 0,1, got {devices!r}")
    if workers is not None and workers > len(names):
        raise ExperimentError(
            f"--workers must be at most {len(names)} (the devices named), got {workers}"
        )
    names = names[:workers]
    shared = Counter(names)
    return [_on_gpu(name, shared[name]) for name in names]


def _on_gpu(name: str, sharing: int) -> dict[str, str]:
    added = {GPUS: name}
    if sharing > 1 and _MEMORY not in os.environ:
        added[_MEMORY] = f"{_SHARED_MEMORY / sharing:.3f}"
    return added


def keep_compiled(folder: Path) -> dict[str, str]:
    """What makes runs use what others before them compiled.

    Args:
      folder: where it is kept.

    Returns:
      Additions to the environment; none if it names a folder already. The time of a
      run falls to a third where it is small; its numbers are the same.
    """
    if _CACHE in os.environ:
        return {}
    return {_CACHE: str(folder.resolve()), _SHORTEST: os.environ.get(_SHORTEST, "0")}


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that a process started here may use, without starting JAX.

    Returns:
      Their numbers or names, none where JAX is told to use something else.
    """
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return []
    given = os.environ.get(GPUS)
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return listed.stdout.split()
