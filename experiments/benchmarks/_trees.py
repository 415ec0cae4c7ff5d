"""The parameter trees that steps are timed on."""

import itertools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

Shape = tuple[int, ...]


def _norm(width: int) -> list[Shape]:
    return [(width,), (width,)]


def _resnet50() -> Iterator[Shape]:
    """ResNet-50, 1000 classes: bottleneck blocks, projections where widths change."""
    yield from [(7, 7, 3, 64), *_norm(64)]
    before = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            after = 4 * width
            yield from [(1, 1, before, width), *_norm(width)]
            yield from [(3, 3, width, width), *_norm(width)]
            yield from [(1, 1, width, after), *_norm(after)]
            if block == 0:
                yield from [(1, 1, before, after), *_norm(after)]
            before = after
    yield from [(before, 1000), (1000,)]


def _resnet110() -> Iterator[Shape]:
    """ResNet-110 for CIFAR-10: 54 basic blocks, shortcuts without parameters."""
    yield from [(3, 3, 3, 16), *_norm(16)]
    before = 16
    for width, _ in itertools.product((16, 32, 64), range(18)):
        yield from [(3, 3, before, width), *_norm(width)]
        yield from [(3, 3, width, width), *_norm(width)]
        before = width
    yield from [(before, 10), (10,)]


TREES: dict[str, Callable[[], list[Shape]]] = {
    "flat": lambda: [(25_000_000,)],
    "resnet50": lambda: list(_resnet50()),
    "resnet110": lambda: list(_resnet110()),
    "toy": lambda: [(16, 8), (8,), ()],
}
"""Name to the shapes of the leaves. ``toy`` is for trying the command out."""

BARRED = ("flat", "resnet50")
"""The trees that the bars are stated for."""


def count(name: str) -> tuple[int, int]:
    """The number of leaves and of parameters of a tree."""
    shapes = TREES[name]()
    return len(shapes), sum(math.prod(shape) for shape in shapes)


def build(name: str, key: jax.Array) -> dict[str, jax.Array]:
    """A tree of normal numbers.

    Args:
      name: one of :data:`TREES`.
      key: of the random generator.

    Returns:
      The leaves by number, float32, of deviation 0.01.
    """
    shapes = TREES[name]()
    keys = jax.random.split(key, len(shapes))
    return {
        f"{number:03d}": 0.01 * jax.random.normal(key, shape, jnp.float32)
        for number, (key, shape) in enumerate(zip(keys, shapes, strict=True))
    }
