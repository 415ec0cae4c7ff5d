"""Scaling by the learning rate, with the current rate kept for read-outs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.arguments import checked
from optax_ia._src.diagnostics import read_diagnostics
from optax_ia._src.scalars import default_float, increment


class ScaleByLearningRateState(NamedTuple):
    """State of :func:`scale_by_learning_rate`.

    Attributes:
      count: number of updates done, shape (), int32.
      current_learning_rate: the rate of the last update (before the first one, the
        rate it will use), shape (), the default float dtype.
    """

    count: jax.Array
    current_learning_rate: jax.Array


@read_diagnostics.register
def _(state: ScaleByLearningRateState) -> dict[str, jax.Array]:
    return {"learning_rate": state.current_learning_rate}


@checked(complex_params=True)
def scale_by_learning_rate(
    learning_rate: optax.ScalarOrSchedule,
) -> optax.GradientTransformationExtraArgs:
    r"""Multiplies updates by minus the learning rate and keeps it in the state.

    .. math::
      u_t \leftarrow -\alpha_{t}\, u_t

    Does what ``optax.scale_by_learning_rate`` does; the state also holds the current
    rate, so that :func:`diagnostics` can report it from ``opt_state`` alone.

    Args:
      learning_rate: a number >= 0, an array, or a schedule: a function of the number of
        updates done so far (0 at the first).

    Returns:
      The transformation. Updates keep their dtype.

    Raises:
      ValueError: if a concrete ``learning_rate`` is negative.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> tx = optax_ia.scale_by_learning_rate(lambda count: 0.5 / (1 + count))
      >>> state = tx.init(jnp.zeros(1))
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.ones(1), state)
      ...     print(updates, optax_ia.diagnostics(state)["learning_rate"])
      [-0.5] 0.5
      [-0.25] 0.25
    """

    def rate_at(count):
        return learning_rate(count) if callable(learning_rate) else learning_rate

    def recorded(rate):
        return jnp.asarray(rate, default_float())

    def init_fn(params):
        del params
        count = jnp.zeros([], jnp.int32)
        return ScaleByLearningRateState(count, recorded(rate_at(count)))

    def update_fn(updates, state, params=None, **extra_args):
        del params, extra_args
        rate = rate_at(state.count)
        updates = jax.tree.map(lambda u: -jnp.asarray(rate, u.dtype) * u, updates)
        count = increment(state.count)
        return updates, ScaleByLearningRateState(count, recorded(rate))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
