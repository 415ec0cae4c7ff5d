"""Statistics, roots and preconditioned gradients of one stack of blocks."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from optax_ia._src.rare import rarely
from optax_ia._src.scalars import default_float
from optax_ia.second_order import _grafting as grafts
from optax_ia.second_order._inverse_root import inverse_roots
from optax_ia.second_order._shampoo_blocks import Blocking

CHUNK = 2**18
"""Elements that are worked on at a time on CPU: what they need stays in the cache.

All at once would write every product to fresh memory, which costs as much as itself.
"""

Matrices = tuple[jax.Array, ...]


class Options(NamedTuple):
    """How stacks are treated, fixed when an update is traced.

    Attributes:
      blocking: how the stack's gradient is cut.
      relative: whether the ridge is in units of the statistics' largest eigenvalues.
      grafting: the grafted method.
    """

    blocking: Blocking
    relative: bool
    grafting: grafts.Method


class Moment(NamedTuple):
    """What one update does, the same for all stacks; arrays of shape ().

    Attributes:
      taken: whether the gradient enters the statistics.
      due: whether roots are computed.
      decay: of the statistics; None sums.
      scale: of the statistics before their roots.
      ridge: added to their eigenvalues.
      grafted: the numbers of the grafted method.
    """

    taken: jax.Array
    due: jax.Array
    decay: jax.Array | None
    scale: jax.Array
    ridge: jax.Array
    grafted: grafts.Grafted


def _is_one(value: Any) -> bool:
    return not isinstance(value, Tracer) and bool(value == 1)


def moment_of(
    count: jax.Array,
    *,
    eps: Any,
    decay: Any,
    precondition_every: Any,
    statistics_every: Any,
    start: Any,
    grafting_decay: Any,
    grafting_eps: Any,
) -> Moment:
    """What update ``count``, from 1, does; the arguments are the user's."""
    one = jnp.ones([], default_float())
    taken = (count - 1) % statistics_every == 0
    due = (count >= start) & ((count - start) % precondition_every == 0)

    def weight(decay: Any, number: jax.Array) -> jax.Array:
        return 1 - (decay * one) ** number

    number = (count - 1) // statistics_every + 1
    return Moment(
        # constants, where the options leave no choice, for the compiler
        taken=jnp.asarray(_is_one(statistics_every) or taken),
        due=jnp.asarray((_is_one(start) and _is_one(precondition_every)) or due),
        decay=None if decay is None else decay * one,
        scale=one if decay is None else 1 / weight(decay, number),
        ridge=eps * one,
        grafted=grafts.Grafted(
            decay=grafting_decay * one,
            correction=weight(grafting_decay, count),
            eps=grafting_eps * one,
        ),
    )


class StackState(NamedTuple):
    """What Shampoo keeps of one stack of N blocks.

    Attributes:
      statistics: for each axis, shape (N, n, n), or (N, n) if only a diagonal.
      roots: likewise.
      memory: second moment of the grafted method, shape (N, *sizes), or None.
    """

    statistics: Matrices
    roots: Matrices
    memory: Any


class ScaleByShampooState(NamedTuple):
    """State of :func:`scale_by_shampoo`.

    Large tensors are a stack of their own, small ones (all, with ``sharding``) share
    one with the others whose blocks have the same shape.

    Attributes:
      count: number of updates done, shape (), int32.
      stacks: for each stack of N blocks: for each axis the sum of :math:`GG^T` (or the
        average, not yet bias-corrected) without ``eps``, shape (N, n, n), or (N, n)
        where only the diagonal is kept; the inverse roots in use, likewise, identities
        at first; the second moment of the grafted method, if it keeps one, shape
        (N, n, m...). All float32 or wider.
    """

    count: jax.Array
    stacks: tuple[StackState, ...]


class Advanced(NamedTuple):
    """One update of a stack.

    Attributes:
      tensor: the preconditioned gradient, padded.
      own_squares: its squared norm, block by block, shape (N,); None without grafting.
      squares: that of the grafted method's step, likewise.
      state: the new one.
    """

    tensor: jax.Array
    own_squares: Any
    squares: Any
    state: StackState


def identities(shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Identity matrices, shape (N, n, n), or their diagonals, shape (N, n)."""
    if len(shape) == 2:
        return jnp.ones(shape, dtype)
    return jnp.broadcast_to(jnp.eye(shape[-1], dtype=dtype)[None], shape)


def _statistic(blocks: jax.Array, axis: int, *, diagonal: bool) -> jax.Array:
    """:math:`GG^T` along one axis of every block, or its diagonal."""
    rows = jnp.moveaxis(blocks, axis + 1, -1)
    rows = rows.reshape(len(rows), -1, rows.shape[-1])
    if diagonal:
        return jnp.sum(rows * rows, axis=1)
    # On CPU a batch of products over the first axes is spread over the cores, and one
    # over the last is not: the barrier keeps the compiler from making it that.
    rows = jax.lax.optimization_barrier(rows)
    return jax.lax.dot_general(
        rows, rows, (((1,), (1,)), ((0,), (0,))), precision=jax.lax.Precision.HIGHEST
    )


def _finite(statistics: jax.Array) -> jax.Array:
    """Whether each of them is, in a shape to choose them by.

    No entry of :math:`GG^T` is larger than the largest on its diagonal.
    """
    diagonals = statistics
    if statistics.ndim == 3:
        diagonals = jnp.diagonal(statistics, axis1=1, axis2=2)
    finite = jnp.isfinite(diagonals).all(axis=1)
    return finite.reshape(-1, *(1,) * (statistics.ndim - 1))


def _precondition(blocks: jax.Array, roots: Matrices) -> jax.Array:
    """Every block multiplied by its root along every axis."""
    for root in roots:
        # the first axis goes, the new one comes last: once round, all are in place
        if root.ndim == 2:
            rest = (1,) * (blocks.ndim - 2)
            blocks = jnp.moveaxis(blocks * root.reshape(*root.shape, *rest), 1, -1)
        else:
            blocks = jax.lax.dot_general(blocks, root, (((1,), (1,)), ((0,), (0,))))
    return blocks


def _pieces_at_a_time(blocking: Blocking) -> int:
    """Pieces of the first axis in a chunk: a divisor of their number, at least one."""
    elements = math.prod(blocking.first(1).padded)
    most = max(1, CHUNK // elements)
    return max(n for n in range(1, most + 1) if blocking.counts[0] % n == 0)


def _square(blocks: jax.Array) -> jax.Array:
    """The squared norm of every block."""
    return jnp.sum(blocks * blocks, axis=tuple(range(1, blocks.ndim)))


def advance(
    tensor: jax.Array,
    state: StackState,
    moment: Moment,
    *,
    options: Options,
    piecewise: bool,
) -> Advanced:
    """One update of a stack.

    Args:
      tensor: the gradient, padded.
      state: of the stack.
      moment: what to do.
      options: how.
      piecewise: in chunks that fit a cache, with roots one by one; or all at once.

    Returns:
      What comes of it.
    """
    blocking, grafting = options.blocking, options.grafting
    pieces = _pieces_at_a_time(blocking) if piecewise else blocking.counts[0]
    chunks = blocking.counts[0] // pieces
    part = blocking.first(pieces)

    def read(stack: jax.Array, chunk: jax.Array, length: int) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(stack, chunk * length, length)

    def write(stack: jax.Array, new: jax.Array, chunk: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(stack, new, chunk * len(new), 0)

    def blocks_of(tensor: jax.Array, chunk: jax.Array) -> jax.Array:
        return part.cut(read(tensor, chunk, part.padded[0]))

    def accumulate(
        stacks: Matrices, tensor: jax.Array, decay: Any, chunk: jax.Array
    ) -> Matrices:
        blocks, new = blocks_of(tensor, chunk), []
        for axis, stack in enumerate(stacks):
            own = read(stack, chunk, part.num_blocks)
            fresh = _statistic(blocks, axis, diagonal=stack.ndim == 2)
            if decay is None:
                after = own + fresh
            else:
                keep = decay.astype(own.dtype)
                after = keep * own + (1 - keep) * fresh
            after = jnp.where(_finite(fresh), after, own)
            new.append(write(stack, after, chunk))
        return tuple(new)

    if chunks == 1:
        statistics = rarely(
            moment.taken,
            accumulate,
            state.statistics,
            tensor,
            moment.decay,
            jnp.zeros([], jnp.int32),
        )
    else:
        # A conditional would copy the statistics, so make the loop empty instead.
        turns = jnp.where(moment.taken, chunks, 0)
        statistics = jax.lax.fori_loop(
            0,
            turns,
            lambda chunk, stacks: accumulate(stacks, tensor, moment.decay, chunk),
            state.statistics,
        )
    roots = inverse_roots(
        statistics,
        state.roots,
        moment.due,
        moment.scale,
        moment.ridge,
        power=1 / (2 * len(statistics)),
        relative=options.relative,
        alone=piecewise,
    )

    def precondition(chunk: jax.Array, carry: Any) -> Any:
        directions, own_squares, squares, memory = carry
        blocks = blocks_of(tensor, chunk)
        found = _precondition(
            blocks, tuple(read(stack, chunk, part.num_blocks) for stack in roots)
        )
        directions = write(directions, part.join(found), chunk)
        if grafting is None:
            return directions, own_squares, squares, memory
        old = None if memory is None else read(memory, chunk, part.num_blocks)
        step, new = grafts.step(grafting, blocks, old, moment.grafted)
        own_squares = write(own_squares, _square(found), chunk)
        squares = write(squares, _square(step), chunk)
        memory = None if memory is None else write(memory, new, chunk)
        return directions, own_squares, squares, memory

    zeros = None if grafting is None else jnp.zeros(blocking.num_blocks, tensor.dtype)
    # all of it is written over; a gradient is at hand where zeros would be made first
    carry = (tensor, zeros, zeros, state.memory)
    found, own_squares, squares, memory = jax.lax.fori_loop(
        0, chunks, precondition, carry
    )
    new = StackState(statistics, roots, memory)
    return Advanced(found, own_squares, squares, new)
