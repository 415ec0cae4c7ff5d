"""How Shampoo cuts tensors into blocks, and stacks the blocks of several tensors."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

SMALL = 2**18
"""Tensors of fewer elements share a stack with others: fewer leaves, loops, programs.

Larger ones have a stack of their own, which spares copies of them.
"""


@dataclasses.dataclass(frozen=True)
class Blocking:
    """How one tensor is cut.

    Attributes:
      viewed: the shape it is preconditioned in, at least one axis.
      counts: number of pieces of each axis.
      sizes: length of each piece; the last of an axis may be padded with zeros.
      diagonal: which axes keep only the diagonal of their statistic; never cut.
    """

    viewed: tuple[int, ...]
    counts: tuple[int, ...]
    sizes: tuple[int, ...]
    diagonal: tuple[bool, ...]

    @classmethod
    def of(
        cls,
        shape: tuple[int, ...],
        *,
        block_size: int | None,
        max_dim: int,
        merge_axes: bool,
        diagonal_vectors: bool,
    ) -> "Blocking":
        """Decides on the cuts: as few and as even as ``block_size`` lets them be."""
        viewed = tuple(shape) or (1,)
        if merge_axes and len(viewed) > 2:
            viewed = (math.prod(viewed[:-1]), viewed[-1])
        flat = diagonal_vectors and len(viewed) == 1
        diagonal = tuple(flat or n > max_dim for n in viewed)
        counts = tuple(
            1 if block_size is None or whole else -(-n // block_size)
            for n, whole in zip(viewed, diagonal, strict=True)
        )
        sizes = tuple(-(-n // count) for n, count in zip(viewed, counts, strict=True))
        return cls(viewed, counts, sizes, diagonal)

    @property
    def num_blocks(self) -> int:
        """The number of blocks."""
        return math.prod(self.counts)

    @property
    def padded(self) -> tuple[int, ...]:
        """The shape with all pieces whole."""
        return tuple(c * s for c, s in zip(self.counts, self.sizes, strict=True))

    def first(self, pieces: int) -> "Blocking":
        """That of some pieces of the first axis, whole."""
        counts = (pieces, *self.counts[1:])
        return dataclasses.replace(
            self,
            viewed=(pieces * self.sizes[0], *self.padded[1:]),
            counts=counts,
        )

    def view(self, tensor: jax.Array) -> jax.Array:
        """A tensor as it is cut: viewed, and padded with zeros."""
        tensor = tensor.reshape(self.viewed)
        missing = [(0, n - m) for n, m in zip(self.padded, self.viewed, strict=True)]
        return jnp.pad(tensor, missing) if self.padded != self.viewed else tensor

    def unview(self, tensor: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """The tensor of a shape whose :meth:`view` is given."""
        return tensor[tuple(slice(0, n) for n in self.viewed)].reshape(shape)

    def cut(self, tensor: jax.Array) -> jax.Array:
        """The blocks of a padded tensor along a new first axis."""
        order = len(self.sizes)
        pairs = zip(self.counts, self.sizes, strict=True)
        tensor = tensor.reshape([n for pair in pairs for n in pair])
        places = (*range(0, 2 * order, 2), *range(1, 2 * order, 2))
        return tensor.transpose(places).reshape(self.num_blocks, *self.sizes)

    def join(self, blocks: jax.Array) -> jax.Array:
        """The padded tensor whose :meth:`cut` the blocks are."""
        order = len(self.sizes)
        places = itertools.chain.from_iterable((i, order + i) for i in range(order))
        blocks = blocks.reshape(*self.counts, *self.sizes)
        return blocks.transpose(*places).reshape(self.padded)


@dataclasses.dataclass(frozen=True)
class Member:
    """A tensor in a stack.

    Attributes:
      number: which of the leaves it is.
      shape: of the leaf.
      blocking: how it is cut.
    """

    number: int
    shape: tuple[int, ...]
    blocking: Blocking


@dataclasses.dataclass(frozen=True)
class Stack:
    """Blocks of one shape that are preconditioned together.

    Attributes:
      members: the tensors that they come from.
      blocking: how all of them together are cut: that of the only member, or one piece
        of the first axis for each block, and for what is padded.
    """

    members: tuple[Member, ...]
    blocking: Blocking

    @classmethod
    def of(cls, members: Sequence[Member], multiple: int | None) -> "Stack":
        """Stacks tensors whose blocks are alike.

        Args:
          members: the tensors.
          multiple: up to a multiple of which the number of blocks is padded; None if
            a lone tensor may stay as it is.

        Returns:
          The stack.
        """
        blocking = members[0].blocking
        if len(members) > 1 or multiple is not None:
            total = sum(member.blocking.num_blocks for member in members)
            total = -(-total // (multiple or 1)) * (multiple or 1)
            ones = (1,) * (len(blocking.sizes) - 1)
            whole = dataclasses.replace(blocking, counts=(1, *ones))
            blocking = whole.first(total)
        return cls(tuple(members), blocking)

    @property
    def order(self) -> int:
        """The number of axes of a block."""
        return len(self.blocking.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all blocks."""
        return (self.blocking.num_blocks, *self.blocking.sizes)

    def statistic_shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the statistics of all blocks, axis by axis."""
        blocks = self.blocking.num_blocks
        return [
            (blocks, n) if diagonal else (blocks, n, n)
            for n, diagonal in zip(
                self.blocking.sizes, self.blocking.diagonal, strict=True
            )
        ]

    @property
    def _alone(self) -> bool:
        return len(self.members) == 1 and self.members[0].blocking == self.blocking

    def gather(self, leaves: Sequence[jax.Array], dtype: Any) -> jax.Array:
        """All members as one tensor, in the padded shape of ``blocking``."""
        views = [
            member.blocking.view(leaves[member.number]).astype(dtype)
            for member in self.members
        ]
        if self._alone:
            return views[0]
        pieces = [
            member.blocking.cut(view).reshape(-1, *self.blocking.sizes[1:])
            for member, view in zip(self.members, views, strict=True)
        ]
        missing = self.blocking.padded[0] - sum(len(piece) for piece in pieces)
        if missing:
            pieces.append(jnp.zeros((missing, *self.blocking.sizes[1:]), dtype))
        return jnp.concatenate(pieces)

    def totals(self, values: jax.Array) -> dict[int, jax.Array]:
        """Sums of what there is for each block, by the number of the leaf."""
        sums, start = {}, 0
        for member in self.members:
            stop = start + member.blocking.num_blocks
            sums[member.number] = values[start:stop].sum()
            start = stop
        return sums

    def scatter(self, tensor: jax.Array) -> dict[int, jax.Array]:
        """The leaves whose :meth:`gather` is given, by number."""
        if self._alone:
            (member,) = self.members
            return {member.number: self.blocking.unview(tensor, member.shape)}
        leaves, start = {}, 0
        for member in self.members:
            own = member.blocking
            stop = start + own.num_blocks * own.sizes[0]
            blocks = tensor[start:stop].reshape(-1, *own.sizes)
            leaves[member.number] = own.unview(own.join(blocks), member.shape)
            start = stop
        return leaves


def stacks_of(
    shapes: Sequence[tuple[int, ...]],
    *,
    block_size: int | None,
    max_dim: int,
    merge_axes: bool,
    diagonal_vectors: bool,
    shards: int | None,
) -> tuple[Stack, ...]:
    """Decides which blocks are stacked: those of one shape, of all small tensors.

    Args:
      shapes: of the leaves; those without elements are left out.
      block_size: longest axis of a block; None does not cut.
      max_dim: longest axis with a full statistic.
      merge_axes: whether all axes but the last are one.
      diagonal_vectors: whether tensors of one axis keep only a diagonal.
      shards: if given, the blocks of large tensors are stacked too, up to a multiple
        of it.

    Returns:
      The stacks.
    """
    alike: dict[Any, list[Member]] = {}
    for number, shape in enumerate(shapes):
        if math.prod(shape):
            blocking = Blocking.of(
                shape,
                block_size=block_size,
                max_dim=max_dim,
                merge_axes=merge_axes,
                diagonal_vectors=diagonal_vectors,
            )
            own = shards is None and math.prod(shape) >= SMALL
            key = number if own else (blocking.sizes, blocking.diagonal)
            alike.setdefault(key, []).append(Member(number, tuple(shape), blocking))
    return tuple(Stack.of(members, shards) for members in alike.values())
