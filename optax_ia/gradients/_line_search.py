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
"""A trial grows no further: its square is still a number in float32."""


class LineSearchState(NamedTuple):
    """State of :func:`sls`.

    Attributes:
      step_size: the last step size accepted, shape (), the default float; before the
        first update what the reset rule makes the first trial of.
      num_trials: step sizes tried in the last update, shape (), int32.
      accepted_step_size: the step size of the last update, 0 if none was accepted.
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

    With the loss :math:`f_i` of the batch and its gradient :math:`g`, the step size is
    multiplied by :math:`\beta` until

    .. math::
      f_i(w - \eta g) \le f_i(w) - c\,\eta\,\|g\|^2,

    beginning with :math:`\eta_0` in the first update and with
    :math:`\eta_{t-1}\gamma^{1/n}` in the others, n the updates of an epoch.

    Args:
      learning_rate: :math:`\eta_0` > 0, the first step size tried. No schedule: the
        search finds the rate.
      c: the decrease asked for, in (0, 1); 0.1 for networks, 1/2 for convex losses.
      beta: what a step size that fails is multiplied by, in (0, 1).
      gamma: growth of the trial step size over an epoch, >= 1.
      steps_per_epoch: n >= 1.
      max_backtracking_steps: trials after the first, >= 1. If the last one fails too,
        it is taken nevertheless, unless its loss is not finite: then nothing moves.
        Static.

    Returns:
      The transformation, with its learning rate; it has no tree of state. ``update``
      needs ``params`` and the extra arguments ``value``, the loss at ``params``, and
      ``value_fn``, with ``value_fn(params)`` the loss on the same batch with the same
      random keys. :func:`diagnostics` gives the step size taken as ``learning_rate``
      and ``num_trials``, the losses it took.

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
        # The search's own dtype: at least float32, whatever the parameters have; the
        # loss sees them rounded as they will be.
        wide = jax.tree.map(
            lambda g: g.astype(jnp.promote_types(g.dtype, jnp.float32)), updates
        )
        # of its own state it reads the last step size alone
        given: Any = search.init(jnp.zeros([], default_float()))
        given = given._replace(learning_rate=state.step_size)
        searched: Any = search.update(
            optax.tree.scale(-1, wide),
            given,
            params,
            value=jnp.asarray(value, default_float()),
            grad=wide,
            value_fn=lambda trial: jnp.asarray(
                value_fn(optax.tree.cast_like(trial, params)), default_float()
            ),
        )
        steps, found = searched
        accepted = jnp.asarray(found.learning_rate, default_float())
        return optax.tree.cast_like(steps, updates), LineSearchState(
            # no finite loss was found: nothing moves, and the next search begins again;
            # a zero gradient accepts anything, which is no reason to grow
            step_size=jnp.where(
                (accepted > 0) & (optax.tree.norm(wide) > 0), accepted, state.step_size
            ),
            num_trials=jnp.asarray(found.info.num_linesearch_steps, jnp.int32),
            accepted_step_size=accepted,
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
