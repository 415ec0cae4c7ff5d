"""Which layer a parameter belongs to, from paths, shapes and the order of calls."""

import re
from collections.abc import Mapping, Sequence

from optax_ia.explain._unfoldings import is_kernel

Shapes = Mapping[str, tuple[int, ...]]


def natural_key(path: str) -> list[tuple[int, int, str]]:
    """A key by which ``Conv_2`` comes before ``Conv_10``."""
    parts = re.findall(r"\d+|\D+", path.lower())
    return [(0, int(x), "") if x.isdigit() else (1, 0, x) for x in parts]


def _words(name: str) -> set[str]:
    """``BatchNorm_1`` has ``batch``, ``norm`` and ``1``."""
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    return {word.lower() for word in found}


def _before(path: str, kernels: list[str]) -> str:
    """The last kernel before a path in natural order; the first if there is none."""
    kernels = sorted(kernels, key=natural_key)
    earlier = [kernel for kernel in kernels if natural_key(kernel) < natural_key(path)]
    return earlier[-1] if earlier else kernels[0]


def _nearest(path: str, shape: tuple[int, ...], shapes: Shapes, kernels: list[str]):
    """The kernel of the smallest module that holds one, the likeliest of several."""
    parts = path.split("/")
    for depth in reversed(range(len(parts))):
        inside = [k for k in kernels if k.split("/")[:depth] == parts[:depth]]
        if inside:
            break
    else:
        return None
    fitting = [k for k in inside if shape and shapes[k][-1] == shape[-1]] or inside
    shared = {
        kernel: len(_words(kernel.split("/")[depth]) & _words(parts[depth]))
        for kernel in fitting
    }
    most = max(shared.values())
    return _before(path, [kernel for kernel in fitting if shared[kernel] == most])


def _module(path: str) -> str:
    return path.rpartition("/")[0]


def layers_followed(
    shapes: Shapes, order: Sequence[str] | None = None
) -> dict[str, str | None]:
    """The kernel whose rate each parameter takes.

    A kernel takes its own. Another parameter takes that of the kernel in the smallest
    module that holds it and a kernel: a bias that of its layer. Of several kernels
    there, it takes one with as many outputs as it has entries, and of those one whose
    name shares most words and numbers with its own (``BatchNorm_1`` and ``Conv_1``,
    ``bn_init`` and ``conv_init``), and of those the last before it in natural order
    (``Conv_2`` comes before ``Conv_10``), or the first if none is before it.

    Args:
      shapes: those of all parameters by path.
      order: paths of modules in the order of their calls: a parameter in a module
        without a kernel then takes the last kernel called before it.

    Returns:
      Path to the kernel's path; None where there is no kernel at all.

    Raises:
      ValueError: if ``order`` leaves out a module that has no kernel.
    """
    kernels = [path for path, shape in shapes.items() if is_kernel(path, shape)]
    found = {}
    for path, shape in shapes.items():
        own = [kernel for kernel in kernels if _module(kernel) == _module(path)]
        if path in kernels:
            found[path] = path
        elif order is None or own or not kernels:
            found[path] = _nearest(path, shape, shapes, own or kernels)
        else:
            found[path] = _called_before(_module(path), kernels, order)
    return found


def _called_before(module: str, kernels: list[str], order: Sequence[str]) -> str:
    if module not in order:
        raise ValueError(
            f"order must name every module without a kernel; {module!r} is not in "
            f"{list(order)}."
        )
    place = list(order).index(module)
    for name in [*reversed(order[:place]), *order[place:]]:
        own = [kernel for kernel in kernels if _module(kernel) == name]
        if own:
            return sorted(own, key=natural_key)[-1]
    raise ValueError(
        f"order must name modules that have kernels; none of {kernels} is in one of "
        f"{list(order)}."
    )
