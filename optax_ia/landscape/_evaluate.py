"""The mean loss over a data set along a line and on a plane of weights."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia._src.scalars import default_float
from optax_ia.curvature._batches import Batches, as_batches
from optax_ia.curvature._loss import scalar_of
from optax_ia.landscape._directions import check_alike


class Line(NamedTuple):
    """Losses along a direction.

    Attributes:
      coordinates: shape (n,).
      losses: there, shape (n,).
    """

    coordinates: jax.Array
    losses: jax.Array


class Surface(NamedTuple):
    """Losses on a plane.

    Attributes:
      xs: coordinates along the first direction, shape (m,).
      ys: along the second, shape (n,).
      losses: shape (n, m), as plots want them: ``losses[j, i]`` is at
        ``(xs[i], ys[j])``.
    """

    xs: jax.Array
    ys: jax.Array
    losses: jax.Array


def _displaced(params: Any, directions: tuple[Any, ...], point: jax.Array) -> Any:
    """The weights at one point, in their own dtypes."""

    def moved(w, *ds):
        wide = jnp.promote_types(w.dtype, jnp.float32)
        place = w.astype(wide)
        for coordinate, d in zip(point, ds, strict=True):
            place = place + coordinate.astype(wide) * d.astype(wide)
        return place.astype(w.dtype)

    return jax.tree.map(moved, params, *directions)


_displaced_once = jax.jit(_displaced)


def _scalar(loss: Any) -> jax.Array:
    return scalar_of(loss).astype(default_float())


@functools.partial(jax.jit, static_argnames="loss_fn")
def _losses(params, directions, points, batch, *, loss_fn):
    """The loss of one batch at all points, one after the other."""
    return jax.lax.map(
        lambda point: _scalar(loss_fn(_displaced(params, directions, point), batch)),
        points,
    )


@functools.partial(jax.jit, static_argnames="loss_fn")
def _prepared_loss(params, batch, prepared, *, loss_fn):
    return _scalar(loss_fn(params, batch, prepared))


def _evaluate(loss_fn, params, directions, batches, points, prepare) -> jax.Array:
    """The mean loss at points of shape (n, len(directions))."""
    names = ["params", *(f"direction {i}" for i in range(1, len(directions) + 1))]
    check_alike([params, *directions], names)
    params, directions = jax.tree.map(jnp.asarray, (params, tuple(directions)))
    iterate = as_batches(batches)
    if prepare is None:
        total = jnp.zeros(len(points), points.dtype)
        for batch, weight in iterate():
            losses = _losses(params, directions, points, batch, loss_fn=loss_fn)
            total = total + weight * losses
        return total
    found = []
    for point in points:
        place = _displaced_once(params, directions, point)
        prepared = prepare(place)
        total = jnp.zeros([], points.dtype)
        for batch, weight in iterate():
            loss = _prepared_loss(place, batch, prepared, loss_fn=loss_fn)
            total = total + weight * loss
        found.append(total)
    return jnp.stack(found)


def _coordinates(name: str, values: Any) -> jax.Array:
    if values is None:
        values = np.arange(-12, 13) / 12  # holds 0 exactly, where the weights are
    values = jnp.asarray(values, default_float())
    if values.ndim != 1 or values.size == 0:
        raise ValueError(
            f"{name} must be coordinates of shape (n,), n >= 1, got {values.shape}."
        )
    return values


def line(
    loss_fn: Callable[..., Any],
    params: Any,
    direction: Any,
    batches: Batches,
    *,
    coordinates: Any = None,
    prepare: Callable[[Any], Any] | None = None,
) -> Line:
    r"""The loss along a direction, :math:`L(w + a\, d)`.

    .. math::
      L(w) = \sum_b n_b\, \ell_b(w) \Big/ \sum_b n_b

    over all batches b of :math:`n_b` examples. Only losses are computed, one point
    after the other in one compiled program; each different batch shape compiles once.

    Args:
      loss_fn: ``loss_fn(params, batch)``, the mean loss over a batch, a scalar. Pass
        the same function object each time: the compiled program is kept for it.
      params: w, the weights at coordinate 0.
      direction: d, a tree like them.
      batches: one batch (an array, a dict or a tuple that holds an array), a sequence
        or iterator of batches, or a function that returns an iterable, called for each
        pass.
      coordinates: a, shape (n,); None takes 25 from -1 to 1.
      prepare: called with the weights of every point; what it returns is passed on as
        ``loss_fn(params, batch, prepared)``. For BatchNorm statistics that belong to
        these weights, estimated anew by
        :func:`optax_ia.flax.recalibrate_batch_stats`. Costs a pass over the batches a
        point. None for statistics that are kept: ``loss_fn`` holds them itself.

    Returns:
      A :class:`Line`. Losses that are infinite or NaN stay so: one batch's NaN is that
      of its point.

    Raises:
      ValueError: if there is no batch, a direction is not shaped like the parameters,
        the coordinates are not one axis, or the loss is no scalar.
      TypeError: if a parameter is complex or of integers.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import landscape
      >>> def loss_fn(w, batch):
      ...     return jnp.mean((batch * w - 2 * batch) ** 2)
      >>> batches = iter([jnp.array([1.0, 1.0]), jnp.array([2.0])])
      >>> found = landscape.line(
      ...     loss_fn, jnp.array(0.0), jnp.array(1.0), batches, coordinates=[0, 1, 2, 3]
      ... )
      >>> print(found.losses)  # 2 (w - 2)^2
      [8. 2. 0. 2.]

    References:
      Goodfellow, Vinyals, Saxe, `Qualitatively Characterizing Neural Network
      Optimization Problems <https://arxiv.org/abs/1412.6544>`_, 2015; Syrek, The
      Optimisation of Gradient Descent, equation 37.
    """
    coordinates = _coordinates("coordinates", coordinates)
    points = coordinates[:, None]
    losses = _evaluate(loss_fn, params, [direction], batches, points, prepare)
    return Line(coordinates, losses)


def surface(
    loss_fn: Callable[..., Any],
    params: Any,
    directions: Sequence[Any],
    batches: Batches,
    *,
    xs: Any = None,
    ys: Any = None,
    prepare: Callable[[Any], Any] | None = None,
) -> Surface:
    r"""The loss on a plane, :math:`L(w + x\, d_1 + y\, d_2)`.

    Everything else is as for :func:`line`.

    Args:
      loss_fn: ``loss_fn(params, batch)``, the mean loss over a batch, a scalar.
      params: w, the weights at the origin.
      directions: d_1 and d_2, trees like them, as :func:`directions` gives them.
      batches: one batch, a sequence or iterator of them, or a function that returns an
        iterable.
      xs: coordinates along d_1, shape (m,); None takes 25 from -1 to 1.
      ys: along d_2, shape (n,); None takes ``xs``.
      prepare: called with the weights of every point; its value is passed on as
        ``loss_fn(params, batch, prepared)``.

    Returns:
      A :class:`Surface`, losses of shape (n, m); infinite and NaN ones stay so.

    Raises:
      ValueError: as :func:`line`, and if there are not two directions.
      TypeError: if a parameter is complex or of integers.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import landscape
      >>> def loss_fn(w, batch):
      ...     return jnp.mean(batch) * (w[0] ** 2 + 10 * w[1] ** 2)
      >>> axes = list(jnp.eye(2))
      >>> found = landscape.surface(
      ...     loss_fn, jnp.zeros(2), axes, jnp.ones(4), xs=[0, 1, 2], ys=[0, 1]
      ... )
      >>> print(found.losses)
      [[ 0.  1.  4.]
       [10. 11. 14.]]

    References:
      Li, Xu, Taylor, Studer, Goldstein, `Visualizing the Loss Landscape of Neural Nets
      <https://arxiv.org/abs/1712.09913>`_, 2018; Syrek, The Optimisation of Gradient
      Descent, equation 38.
    """
    directions = list(directions)
    if len(directions) != 2:
        raise ValueError(f"a surface needs two directions, got {len(directions)}.")
    xs = _coordinates("xs", xs)
    ys = xs if ys is None else _coordinates("ys", ys)
    grid = jnp.stack([x.ravel() for x in jnp.meshgrid(xs, ys)], axis=1)
    losses = _evaluate(loss_fn, params, directions, batches, grid, prepare)
    return Surface(xs, ys, losses.reshape(len(ys), len(xs)))
