"""SGD with a stochastic Armijo line search."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src import checks
from optax_ia._src.arguments import Integer, Number, checked
from optax_ia._src.diagnostics import read_diagnostics
from optax_ia._src.scalars import default_float

_LARGEST = 1e18
"""The largest trial step size: its square is still finite in float32."""


class LineSearchState(NamedTuple):
    """State of :func:`sls`.

    Attributes:
      step_size: the last step size accepted, shape (), the default float; before the
        first update, the first trial divided by the growth factor.
      num_trials: step sizes tried in the last update, shape (), int32.
      accepted_step_size: the step size of the last update, 0 if nothing moved.
    """

    step_size: jax.Array
    num_trials: jax.Array
    accepted_step_size: jax.Array


@read_diagnostics.register
def _(state: LineSearchState) -> dict[str, jax.Array]:
    return {
        "learning_rate": state.accepted_step_size,
        "num_trials": state.num_trials,
    }


@checked(
    learning_rate=Number(
        above=0, no_schedule="the line search of sls finds the step size"
    ),
    c=Number(above=0, below=1),
    beta=Number(above=0, below=1),
    gamma=Number(minimum=1),
    max_backtracking_steps=Integer(minimum=1),
)
def sls(
    learning_rate: jax.typing.ArrayLike = 1.0,
    c: jax.typing.ArrayLike = 0.1,
    beta: jax.typing.ArrayLike = 0.9,
    gamma: jax.typing.ArrayLike = 2.0,
    *,
    steps_per_epoch: jax.typing.ArrayLike = 1,
    max_backtracking_steps: int = 100,
) -> optax.GradientTransformationExtraArgs:
    r"""SGD whose step size is searched anew on every batch.

    With the loss :math:`f_i` of the batch and its gradient :math:`g`, the search
    multiplies the step size by :math:`\beta` until

    .. math::
      f_i(w - \eta g) \le f_i(w) - c\,\eta\,\|g\|^2,

    starting from :math:`\eta_0` in the first update and from
    :math:`\eta_{t-1}\gamma^{1/n}` in the others, with n updates an epoch.

    A batch whose loss or squared gradient norm is not finite, or whose gradient is
    zero, moves nothing. It costs one evaluation of the loss, and the next search starts
    as if the update had not happened.

    Args:
      learning_rate: :math:`\eta_0` > 0, the first step size tried; not a schedule.
      c: the required decrease, in (0, 1); 0.1 for networks, 1/2 for convex losses.
      beta: the factor applied to a step size that fails, in (0, 1).
      gamma: growth of the trial step size over an epoch, >= 1.
      steps_per_epoch: n >= 1.
      max_backtracking_steps: trials after the first, >= 1. If the last one fails too,
        the update uses it, unless its loss is not finite: then nothing moves. Static.

    Returns:
      The transformation, with the learning rate applied; its state is three scalars.
      ``update`` needs ``params`` and the extra arguments ``value``, the loss at
      ``params``, and ``value_fn``, with ``value_fn(params)`` the loss on the same batch
      with the same random keys. :func:`diagnostics` reports the step size of the last
      update as ``learning_rate`` and the number of loss evaluations as ``num_trials``.

    Raises:
      ValueError: if a concrete argument is out of its range, or ``value``, ``value_fn``
        or ``params`` is missing.

    Example:
      On a quadratic of curvature 100 the search comes down from 1 to below 0.02:

      >>> import jax, jax.numpy as jnp, optax, optax_ia
      >>> loss = lambda w: 50.0 * jnp.sum(w**2)
      >>> tx = optax_ia.sls()
      >>> w = jnp.array([1.0])
      >>> state = tx.init(w)
      >>> value, grads = jax.value_and_grad(loss)(w)
      >>> u, state = tx.update(grads, state, w, value=value, value_fn=loss)
      >>> print(f"{optax_ia.diagnostics(state)['learning_rate']:.4f}")
      0.0164
      >>> print(optax_ia.diagnostics(state)["num_trials"])
      40

    .. note::
      The authors' code multiplies by :math:`\gamma^{1/n}` before the first trial too;
      the paper's Algorithm 2 begins with :math:`\eta_0`, as here.

    References:
      Vaswani et al., `Painless Stochastic Gradient: Interpolation, Line-Search, and
      Convergence Rates <https://arxiv.org/abs/1905.09997>`_, 2019, Algorithms 1 and 2
      (option 2); the search is ``optax.scale_by_backtracking_linesearch``.
    """

    def growth():
        return jnp.asarray(gamma, default_float()) ** (
            1 / jnp.asarray(steps_per_epoch, default_float())
        )

    def init_fn(params):
        del params
        first = jnp.asarray(learning_rate, default_float())
        return LineSearchState(
            step_size=first / growth(),
            num_trials=jnp.zeros([], jnp.int32),
            accepted_step_size=jnp.array(first, copy=True),
        )

    def update_fn(
        updates,
        state,
        params=None,
        *,
        value: Any = None,
        value_fn: Any = None,
        **extra_args,
    ):
        del extra_args
        params = checks.check_params("sls", params)
        checks.check_extra_args("sls", value=value, value_fn=value_fn)
        search = optax.scale_by_backtracking_linesearch(
            max_backtracking_steps,
            slope_rtol=c,
            decrease_factor=beta,
            increase_factor=growth(),
            max_learning_rate=_LARGEST,
        )
        # The search runs in at least float32, and the loss sees the trial parameters
        # rounded to their own dtype.
        wide = jax.tree.map(
            lambda g: g.astype(jnp.promote_types(g.dtype, jnp.float32)), updates
        )
        norm = optax.tree.norm(wide, squared=True)
        value = jnp.asarray(value, default_float())
        usable = jnp.isfinite(value) & jnp.isfinite(norm) & (norm > 0)
        # Otherwise search along zero on a constant loss, which ends at the first trial.
        wide = jax.tree.map(lambda g: jnp.where(usable, g, 0), wide)

        def trial_value(trial):
            found = value_fn(optax.tree.cast_like(trial, params))
            return jnp.where(usable, jnp.asarray(found, default_float()), 0)

        # The search reads only the last step size from its state.
        given: Any = search.init(jnp.zeros([], default_float()))
        given = given._replace(learning_rate=state.step_size)
        searched: Any = search.update(
            optax.tree.scale(-1, wide),
            given,
            params,
            value=jnp.where(usable, value, 0),
            grad=wide,
            value_fn=trial_value,
        )
        steps, found = searched
        accepted = jnp.asarray(found.learning_rate, default_float())
        accepted = jnp.where(usable, accepted, 0)
        return optax.tree.cast_like(steps, updates), LineSearchState(
            step_size=jnp.where(accepted > 0, accepted, state.step_size),
            num_trials=jnp.asarray(found.info.num_linesearch_steps, jnp.int32),
            accepted_step_size=accepted,
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
