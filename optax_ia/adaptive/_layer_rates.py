"""A learning rate for every layer, which grows with the stable rank of its kernel."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src import checks
from optax_ia._src.arguments import Choice, Integer, Number, Unchecked, checked
from optax_ia._src.diagnostics import read_diagnostics
from optax_ia._src.paths import path_string
from optax_ia._src.rare import rarely
from optax_ia._src.scalars import bare_scalar, default_float, increment
from optax_ia._src.states import replace_state
from optax_ia.adaptive._layer_order import layers_followed
from optax_ia.explain._layer_metrics import Power, measure_kernels

_MAKERS = "optax_ia.rmsgd or optax_ia.scale_by_layer_rates"


class LayerRatesState(NamedTuple):
    """State of :func:`scale_by_layer_rates`; all of shape (), floats the default one.

    Attributes:
      step_count: number of updates done, int32.
      epoch_count: number of times that the layers were measured, int32.
      learned: whether a layer has had a stable rank above zero, bool.
      initial_rate: the learning rate given, of the last update: of all layers until one
        has learned something, and of parameters that belong to no layer.
      layer_rates: the learning rate of each layer in the last update, or set since, a
        dict by the path of its kernel.
      stable_ranks: the last stable rank of each layer, likewise.
      beta: what the next measurement uses, likewise ``zeta``, ``floor`` and ``power``.
      zeta: see :func:`scale_by_layer_rates`.
      floor: likewise.
      power: likewise, int32.
    """

    step_count: jax.Array
    epoch_count: jax.Array
    learned: jax.Array
    initial_rate: jax.Array
    layer_rates: dict[str, jax.Array]
    stable_ranks: dict[str, jax.Array]
    beta: jax.Array
    zeta: jax.Array
    floor: jax.Array
    power: jax.Array


@read_diagnostics.register
def _(state: LayerRatesState) -> dict[str, jax.Array]:
    rates = {path: bare_scalar(rate) for path, rate in state.layer_rates.items()}
    mean = bare_scalar(state.initial_rate)
    if rates:
        mean = jnp.mean(jnp.stack(list(rates.values())))
    return {
        "learning_rate": mean,
        "layer_epoch": state.epoch_count,
        **{f"learning_rate/{path}": rate for path, rate in rates.items()},
        **{f"stable_rank/{path}": rank for path, rank in state.stable_ranks.items()},
    }


def _arrays(tree: Any) -> dict[str, jax.Array]:
    return {
        path_string(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _advanced(state: LayerRatesState, kernels: dict[str, jax.Array]) -> LayerRatesState:
    """The state after a measurement of its layers' kernels."""
    ranks, rates, learned = state.stable_ranks, state.layer_rates, state.learned
    if kernels:
        found, where = measure_kernels(kernels, power=state.power)
        stable = found.stable_rank.astype(default_float())
        now = {
            path: (stable[inputs] + stable[outputs]) / 2
            for path, (inputs, outputs) in zip(kernels, where, strict=True)
        }
        # a kernel that is not finite has no rank to speak of
        now = {p: jnp.where(jnp.isfinite(s), s, ranks[p]) for p, s in now.items()}
        learned |= jnp.any(jnp.stack(list(now.values())) > 0)
        moved = {
            path: state.beta * rate + state.zeta * (now[path] - ranks[path])
            for path, rate in rates.items()
        }
        rates = {
            path: jnp.where(learned, jnp.maximum(moved[path], state.floor), rate)
            for path, rate in rates.items()
        }
        ranks = now
    return state._replace(
        epoch_count=increment(state.epoch_count),
        learned=learned,
        layer_rates=rates,
        stable_ranks=ranks,
    )


# compiled once for all calls of an update that is not compiled itself
@jax.jit
def _advanced_if(due, state, kernels):
    return rarely(due, _advanced, state, kernels)


@checked(
    beta=Number(minimum=0, below=1),
    zeta=Number(minimum=0),
    steps_per_epoch=Integer(minimum=1, optional=True),
    floor=Number(minimum=0),
    power=Choice((1, 2)),
    order=Unchecked(),
)
def scale_by_layer_rates(
    learning_rate: optax.ScalarOrSchedule = 0.03,
    beta: jax.typing.ArrayLike = 0.98,
    zeta: jax.typing.ArrayLike = 1.0,
    *,
    steps_per_epoch: jax.typing.ArrayLike | None,
    floor: jax.typing.ArrayLike = 1e-10,
    power: Power = 1,
    order: Sequence[str] | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Multiplies updates by minus a learning rate that each layer earns for itself.

    After every epoch t each kernel's noise is taken away (:func:`explain.evbmf`) and
    its stable rank :math:`s_t` measured (:func:`explain.layer_metrics`), for a
    convolution the mean of both unfoldings. Then, with :math:`s_0=0`,

    .. math::
      \eta_t = \max\bigl(\beta\eta_{t-1} + \zeta(s_t - s_{t-1}),\ \text{floor}\bigr),
      \quad u \leftarrow -\eta_t u.

    As long as no layer has a stable rank above 0, all rates stay as they were given.

    Args:
      learning_rate: the rate of all layers until one has learned something, and of
        parameters of no layer: a number >= 0, or a schedule of the number of updates
        done; once rates are earned it has no say in them.
      beta: :math:`\beta` in [0, 1): smaller ones forget earlier gains and converge
        faster to less.
      zeta: :math:`\zeta` >= 0.
      steps_per_epoch: measure before the first update of each further epoch, so that
        ``update`` needs ``params``; an integer >= 1. None: only when
        :func:`update_layer_rates` is called.
      floor: the smallest rate, >= 0.
      power: of the stable rank, 1, or 2 as in eq. 2 and theorem 1.
      order: paths of the modules in the order in which the network calls them. A
        parameter in a module without a kernel, such as a norm's scale, then takes the
        rate of the layer called before it. None goes by names: it takes that of a layer
        beside it with as many outputs whose name is most alike (``BatchNorm_1`` and
        ``Conv_1``), the last before it in natural order (``Conv_2``, ``Conv_10``).
        Static, as the names are.

    Returns:
      The transformation. Two scalars of state for each layer; see
      :func:`diagnostics` for the rates, ``"learning_rate/Conv_0/kernel"``, whose mean
      is ``"learning_rate"``.

    Raises:
      ValueError: if a concrete argument is out of its range, or ``order`` leaves out a
        module that it must name.

    Example:
      Signal grows in a kernel of noise, and the rate with it:

      >>> import jax, jax.numpy as jnp, optax_ia
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> noise = 0.1 * jax.random.normal(keys[0], (32, 64))
      >>> left = jax.random.normal(keys[1], (32, 8))
      >>> right = jax.random.normal(keys[2], (8, 64))
      >>> tx = optax_ia.scale_by_layer_rates(0.03, steps_per_epoch=1)
      >>> params = {"kernel": noise}
      >>> state = tx.init(params)
      >>> for strength in (0.0, 0.0, 0.1, 0.1, 1.0):
      ...     params = {"kernel": noise + strength * left @ right}
      ...     _, state = tx.update(params, state, params)
      ...     print(f"{state.layer_rates['kernel']:.2f}")
      0.03
      0.03
      0.20
      0.19
      0.20

    .. note::
      The released code gives the rate :math:`(\beta+1)\eta_0` after the first epoch
      whatever was measured, and later keeps each layer at its first rate until that
      layer has a stable rank. This is algorithm 1 as printed, but for the wait until
      the first layer has one, without which all rates would decay to nothing on noise.

    References:
      Hosseini, Tuli, Plataniotis, `Exploiting Explainable Metrics for Augmented SGD
      <https://arxiv.org/abs/2203.16723>`_, 2022, Algorithm 1, stage II.
    """
    if power not in (1, 2):
        raise ValueError(f"power must be 1 or 2, got {power!r}.")

    def rule(count):
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        values = {"initial_rate": rate, "beta": beta, "zeta": zeta, "floor": floor}
        # copies: what is injected is in the state of its own accord
        fixed = {n: jnp.array(v, default_float()) for n, v in values.items()}
        return fixed | {"power": jnp.array(power, jnp.int32)}

    def followed(tree):
        return layers_followed({p: x.shape for p, x in _arrays(tree).items()}, order)

    def init_fn(params):
        count = jnp.zeros([], jnp.int32)
        start = rule(count)
        layers = [path for path, own in followed(params).items() if path == own]
        return LayerRatesState(
            step_count=count,
            epoch_count=jnp.zeros([], jnp.int32),
            learned=jnp.zeros([], bool),
            # an array each: two leaves sharing one could not be donated
            layer_rates={path: jnp.array(start["initial_rate"]) for path in layers},
            stable_ranks={path: jnp.zeros([], default_float()) for path in layers},
            **start,
        )

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        now = rule(state.step_count)
        state = state._replace(
            layer_rates={
                path: jnp.where(state.learned, rate, now["initial_rate"])
                for path, rate in state.layer_rates.items()
            },
            **now,
        )
        if steps_per_epoch is not None:
            arrays = _arrays(checks.check_params("scale_by_layer_rates", params))
            kernels = {path: arrays[path] for path in state.layer_rates}
            done = state.step_count
            due = (done > 0) & (done % jnp.asarray(steps_per_epoch, jnp.int32) == 0)
            state = _advanced_if(due, state, kernels)
        follows = followed(updates)

        def scale(path, update):
            layer = follows[path_string(path)]
            rate = state.initial_rate if layer is None else state.layer_rates[layer]
            return -rate.astype(update.dtype) * update

        updates = jax.tree_util.tree_map_with_path(scale, updates)
        return updates, state._replace(step_count=increment(state.step_count))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


@functools.partial(jax.jit, static_argnames="treedef")
def _advanced_leaves(leaves, kernels, treedef):
    state = jax.tree.unflatten(treedef, leaves)
    return jax.tree.leaves(_advanced(state, kernels))


def update_layer_rates(opt_state: optax.OptState, params: Any) -> Any:
    """Measures the layers and sets their learning rates for the steps that follow.

    Call it after each epoch if ``steps_per_epoch`` is None, as for epochs of unequal
    length, or where the measurement is to be no part of the step.

    Args:
      opt_state: the state of :func:`rmsgd` or :func:`scale_by_layer_rates`, inside any
        wrapper.
      params: the parameters after that epoch; all of them, if some are masked out.

    Returns:
      The new ``opt_state``, of the same structure.

    Raises:
      ValueError: if ``opt_state`` holds no such state or several, or ``params`` lacks
        one of its layers.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> tx = optax_ia.rmsgd(0.03, steps_per_epoch=None)
      >>> params = {"kernel": jnp.diag(jnp.array([2.0, 1.0, 0, 0, 0, 0, 0, 0]))}
      >>> state = optax_ia.update_layer_rates(tx.init(params), params)
      >>> read = optax_ia.diagnostics(state)
      >>> print(f"{read['stable_rank/kernel']:.4f} {read['learning_rate']:.4f}")
      0.1875 0.2169
    """
    arrays = _arrays(params)

    def change(state):
        missing = [path for path in state.layer_rates if path not in arrays]
        if missing:
            raise ValueError(
                f"params lack layers of opt_state: {missing}; they have {list(arrays)}."
            )
        kernels = {path: jnp.asarray(arrays[path]) for path in state.layer_rates}
        # a framework may hold each scalar in a variable of its own
        leaves, treedef = jax.tree.flatten(state)
        bare = state._replace(
            **{
                name: jax.tree.map(bare_scalar, value, is_leaf=_is_scalar)
                for name, value in state._asdict().items()
            }
        )
        new = _advanced_leaves(leaves, kernels, jax.tree.structure(bare))
        return jax.tree.unflatten(treedef, new)

    return replace_state(opt_state, LayerRatesState, _MAKERS, change)


def _is_scalar(node: Any) -> bool:
    return not isinstance(node, dict)
