"""Shampoo: gradients preconditioned along every axis of a tensor."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.arguments import Choice, Flag, Integer, Number, Unchecked, checked
from optax_ia._src.scalars import increment
from optax_ia._src.types import Mask
from optax_ia.decay import decoupled_decay
from optax_ia.schedules import scale_by_learning_rate
from optax_ia.second_order import _grafting as grafts
from optax_ia.second_order._shampoo_blocks import stacks_of
from optax_ia.second_order._shampoo_placement import Placement
from optax_ia.second_order._shampoo_stacks import (
    Options,
    ScaleByShampooState,
    StackState,
    identities,
    moment_of,
)


@checked(
    decay=Number(minimum=0, below=1, optional=True),
    precondition_every=Integer(minimum=1),
    statistics_every=Integer(minimum=1),
    start=Integer(minimum=1),
    grafting=Choice(grafts.METHODS, optional=True),
    max_dim=Integer(minimum=0, static=True),
    block_size=Integer(minimum=1, static=True, optional=True),
    sharding=Unchecked(),
    grafting_decay=Number(minimum=0, below=1),
    grafting_eps=Number(minimum=0),
    merge_axes=Flag(),
    diagonal_vectors=Flag(),
    relative_eps=Flag(),
)
def scale_by_shampoo(
    eps: jax.typing.ArrayLike = 1e-4,
    *,
    decay: jax.typing.ArrayLike | None = None,
    block_size: int | None = None,
    precondition_every: jax.typing.ArrayLike = 1,
    statistics_every: jax.typing.ArrayLike = 1,
    start: jax.typing.ArrayLike = 1,
    grafting: grafts.Method = None,
    grafting_decay: jax.typing.ArrayLike = 0.999,
    grafting_eps: jax.typing.ArrayLike = 1e-8,
    max_dim: int = 8192,
    merge_axes: bool = False,
    diagonal_vectors: bool = False,
    relative_eps: bool = False,
    sharding: jax.sharding.NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Preconditions every axis of a tensor by the inverse root of its statistic.

    For a tensor :math:`G` of order :math:`k` (a scalar is a vector of one), with
    :math:`G_{(i)}` the matrix whose rows run along axis i,

    .. math::
      L_i \leftarrow L_i + G_{(i)} G_{(i)}^T,\quad L_i^{(0)} = \epsilon I,\qquad
      u = G \times_1 L_1^{-1/2k} \times_2 \cdots \times_k L_k^{-1/2k}.

    For a matrix that is :math:`L^{-1/4} G R^{-1/4}`, for a vector full-matrix Adagrad.
    The defaults are the printed rule; each option departs from it where it says so.
    With ``decay``, :math:`\beta`, the sum is a bias-corrected average, so that the
    first step has the size of later ones:

    .. math::
      S_i \leftarrow \beta S_i + (1-\beta) G_{(i)} G_{(i)}^T,\qquad
      L_i = \epsilon I + S_i / (1 - \beta^n)

    after n gradients. An eigenvalue below rounding (machine epsilon times the largest)
    counts as that, a statistic of zeros without ``eps`` as the identity. A block of the
    gradient that is not finite, or whose squares are not, stays out of the statistics,
    and a root that is not finite leaves the previous one in use.

    Args:
      eps: :math:`\epsilon` >= 0. Smaller adapts more; in units of squared gradients.
      decay: :math:`\beta` in [0, 1) of the average; None sums.
      block_size: axes longer than that are cut into as few and as even pieces as can
        be, and every block is a tensor of its own; None cuts nothing. Statistics cost
        block_size / n as much memory and roots the square of that as much time. Static.
      precondition_every: updates between roots, >= 1.
      statistics_every: updates between gradients that enter the statistics, >= 1.
      start: the first update with roots, >= 1; before it they are identities.
      grafting: ``"sgd"``, ``"adagrad"`` or ``"rmsprop"`` (bias-corrected): the update
        of each tensor takes the norm of that method's step, and learning rates tuned
        for it carry over. None keeps the norm. Static.
      grafting_decay: decay of RMSprop's second moment, in [0, 1).
      grafting_eps: added to the root of the second moment, >= 0.
      max_dim: a longer axis keeps the diagonal of its statistic, and is not cut; other
        axes of the tensor are. Static.
      merge_axes: take all axes but the last for one: kernels become matrices. Static.
      diagonal_vectors: tensors of one axis keep only a diagonal; their full matrices
        are seldom of full rank. Static.
      relative_eps: whether ``eps`` is in units of the largest eigenvalue of each
        statistic, as suits an average of gradients of any size. Static.
      sharding: splits the blocks of all tensors, stacked by shape, over devices, as
        ``NamedSharding(mesh, PartitionSpec("data"))``: each holds its share of the
        statistics and computes the roots of those. None leaves this to the compiler.

    Returns:
      The transformation. Updates keep the gradient's dtype, statistics and roots are
      float32 (float64 for such parameters).

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      A gradient of two directions, one a hundred times the other, neither along an
      axis. Both arrive at the same speed, which no diagonal rule can do:

      >>> import jax.numpy as jnp, optax_ia
      >>> turn = jnp.array([[0.6, -0.8], [0.8, 0.6]])
      >>> g = turn @ jnp.diag(jnp.array([100.0, 1.0])) @ turn.T
      >>> tx = optax_ia.scale_by_shampoo(eps=1e-6)
      >>> u, _ = tx.update(g, tx.init(g))
      >>> [f"{x:.3f}" for x in jnp.linalg.svd(u, compute_uv=False)]
      ['1.000', '1.000']

    .. note::
      The order in the exponent is that of the tensor as it is preconditioned: two with
      ``merge_axes``. Anil et al. cut pieces of full length and a shorter last one.

    References:
      Gupta, Koren, Singer, `Shampoo: Preconditioned Stochastic Tensor Optimization
      <https://arxiv.org/abs/1802.09568>`_, 2018, Algorithms 1 and 2; P2, eq. 36.

      Anil, Gupta, Koren, Regan, Singer, `Scalable Second Order Optimization for Deep
      Learning <https://arxiv.org/abs/2002.09018>`_, 2020, sections 3 and 4.
    """
    placement = Placement(sharding)

    def stacked(leaves):
        return stacks_of(
            [leaf.shape for leaf in leaves],
            block_size=block_size,
            max_dim=max_dim,
            merge_axes=merge_axes,
            diagonal_vectors=diagonal_vectors,
            shards=placement.shards,
        )

    def init_fn(params):
        leaves = jax.tree.leaves(params)
        stacks = []
        for stack in stacked(leaves):
            dtype = jnp.result_type(
                jnp.float32, *(leaves[member.number].dtype for member in stack.members)
            )
            shapes = stack.statistic_shapes()
            zeros = [placement.split(jnp.zeros(shape, dtype)) for shape in shapes]
            roots = [placement.split(identities(shape, dtype)) for shape in shapes]
            memory = None
            if grafts.remembers(grafting):
                memory = placement.split(jnp.zeros(stack.shape, dtype))
            stacks.append(StackState(tuple(zeros), tuple(roots), memory))
        return ScaleByShampooState(jnp.zeros([], jnp.int32), tuple(stacks))

    def update_fn(updates, state, params=None, **extra_args):
        del params, extra_args
        leaves, structure = jax.tree.flatten(updates)
        count = increment(state.count)
        moment = moment_of(
            count,
            eps=eps,
            decay=decay,
            precondition_every=precondition_every,
            statistics_every=statistics_every,
            start=start,
            grafting_decay=grafting_decay,
            grafting_eps=grafting_eps,
        )
        stacks, directions = [], dict(enumerate(leaves))
        for stack, own in zip(stacked(leaves), state.stacks, strict=True):
            options = Options(stack.blocking, relative_eps, grafting)
            gradient = stack.gather(leaves, own.statistics[0].dtype)
            found = placement.advance(gradient, own, moment, options)
            stacks.append(found.state)
            tensors = stack.scatter(found.tensor)
            if grafting is not None:
                own_squares = stack.totals(found.own_squares)
                squares = stack.totals(found.squares)
                tensors = {
                    number: grafts.resized(u, own_squares[number], squares[number])
                    for number, u in tensors.items()
                }
            directions |= tensors
        updates = [directions[i].astype(g.dtype) for i, g in enumerate(leaves)]
        return structure.unflatten(updates), ScaleByShampooState(count, tuple(stacks))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


@checked(
    precondition_every=Integer(minimum=1),
    statistics_every=Integer(minimum=1),
    start=Integer(minimum=1, optional=True),
    grafting=Choice(grafts.METHODS, optional=True),
    max_dim=Integer(minimum=0, static=True),
    block_size=Integer(minimum=1, static=True, optional=True),
    sharding=Unchecked(),
)
def shampoo(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.99,
    eps: jax.typing.ArrayLike = 1e-4,
    *,
    block_size: int | None = 128,
    precondition_every: jax.typing.ArrayLike = 10,
    statistics_every: jax.typing.ArrayLike = 1,
    start: jax.typing.ArrayLike | None = None,
    grafting: grafts.Method = "rmsprop",
    max_dim: int = 8192,
    mu_dtype: Any = None,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Mask = None,
    sharding: jax.sharding.NamedSharding | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Shampoo for use: averages, blocks, roots now and then, grafting, momentum.

    .. math::
      w_t = (1 - \alpha_t \lambda) w_{t-1} - \alpha_t \hat m_t,\qquad
      m_t = \beta_1 m_{t-1} + (1 - \beta_1) u_t

    with :math:`u_t` of :func:`scale_by_shampoo` on kernels seen as matrices (all axes
    but the last as one) and in blocks, at the size of RMSprop's step, and
    :math:`\hat m_t = m_t/(1-\beta_1^t)`. So learning rates, momentum and decay of
    ``optax.adamw`` carry over. The decay is multiplied by the learning rate.

    Args:
      learning_rate: :math:`\alpha`, a number or a schedule.
      b1: :math:`\beta_1` in [0, 1), the momentum.
      b2: decay of the statistics and of RMSprop's second moment, in [0, 1).
      eps: ridge of the statistics, in units of their largest eigenvalues, >= 0.
      block_size: longest axis of a block; None cuts nothing. Roots cost its square.
        Static.
      precondition_every: updates between roots, >= 1. Most of the time goes there.
      statistics_every: updates between gradients that enter the statistics, >= 1; they
        cost about as much as all else between roots, and need not be many.
      start: the first update with roots, by default that of ``precondition_every``, for
        roots of one gradient are poor ones to keep; before it the direction is the
        gradient's.
      grafting: ``"sgd"``, ``"adagrad"``, ``"rmsprop"`` or None: whose size the update
        of each tensor takes. Static.
      max_dim: a longer axis (of the matrices) keeps only a diagonal. Static.
      mu_dtype: dtype of the momentum; None keeps the parameters'.
      weight_decay: :math:`\lambda` >= 0, a number or a schedule.
      mask: which parameters decay, a tree of bools or a function of the parameters.
      sharding: splits the blocks over devices; see :func:`scale_by_shampoo`.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if a concrete argument is out of its range.

    Example:
      Least squares, curved 100 times more one way than another, neither an axis:

      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> turn = jnp.array([[0.6, -0.8], [0.8, 0.6]])
      >>> x = jnp.diag(jnp.array([10.0, 1.0])) @ turn
      >>> f = lambda w: jnp.mean((x @ (w - turn)) ** 2)
      >>> def last(tx):
      ...     def step(carry, _):
      ...         w, state = carry
      ...         updates, state = tx.update(jax.grad(f)(w), state, w)
      ...         return (optax.apply_updates(w, updates), state), None
      ...     w = jnp.zeros((2, 2))
      ...     (w, _), _ = jax.lax.scan(step, (w, tx.init(w)), length=200)
      ...     return float(f(w))
      >>> rate = optax.linear_schedule(0.1, 0.0, 200)
      >>> last(optax_ia.shampoo(rate)) < 1e-3 * last(optax.adamw(rate))
      True

    .. note::
      P2's equation 36 is ``scale_by_shampoo()`` before a learning rate, no more.

    References:
      Anil, Gupta, Koren, Regan, Singer, `Scalable Second Order Optimization for Deep
      Learning <https://arxiv.org/abs/2002.09018>`_, 2020.
    """
    return optax.chain(
        scale_by_shampoo(
            eps,
            decay=b2,
            block_size=block_size,
            precondition_every=precondition_every,
            statistics_every=statistics_every,
            start=precondition_every if start is None else start,
            grafting=grafting,
            grafting_decay=b2,
            max_dim=max_dim,
            merge_axes=True,
            diagonal_vectors=True,
            relative_eps=True,
            sharding=sharding,
        ),
        optax.ema(b1, accumulator_dtype=mu_dtype),
        decoupled_decay(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
