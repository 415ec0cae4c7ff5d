"""What the contract suite runs over: every registry record, and chains of components.

Nothing here knows an optimiser by name: what a case is asked, what it is given and what
it is excused from comes from its record.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import optax_ia
from optax_ia import registry

START, EVERY = 2, 2
"""When the averages of the cases that keep one begin, and how often they collect."""

PERIODS = ("snapshot_every",)
"""Arguments set to EVERY: at their defaults nothing would happen in a short run."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One transformation under test.

    Attributes:
      name: the registry name, or that of a chain.
      factory: makes the transformation; the arguments below fit it.
      arguments: those the contract fixes (the start of averaging, test settings).
      averages: whether ``averaged_params`` reads something from its state.
      needs: the extra arguments that ``update`` cannot do without.
      static: arguments that cannot be traced.
      exceptions: contract name to the reason why it does not apply.
    """

    name: str
    factory: Callable[..., optax.GradientTransformation]
    arguments: Mapping[str, Any]
    averages: bool
    exceptions: Mapping[str, str]
    needs: tuple[str, ...] = ()
    static: tuple[str, ...] = ()

    def make(self, **overrides):
        """The transformation; what it needs and is not given is supplied."""
        return self.supplied_factory(**{**self.arguments, **overrides})

    def make_bare(self, **overrides):
        """The transformation as a user has it."""
        return self.factory(**{**self.arguments, **overrides})

    @property
    def supplied_factory(self):
        """The factory, with the same arguments, of transformations as ``make`` gives.

        A gradient that comes without the loss it is of is taken for that of the
        quadratic of unit curvature, as the suite's problem is one.
        """

        @functools.wraps(self.factory)
        def factory(*arguments, **named):
            tx = optax.with_extra_args_support(self.factory(*arguments, **named))

            def update(updates, state, params=None, **extra_args):
                given = local_quadratic(updates, params)
                chosen = {name: given[name] for name in self.needs}
                return tx.update(updates, state, params, **{**chosen, **extra_args})

            return optax.GradientTransformationExtraArgs(tx.init, update)

        return factory

    def init(self, tx, params):
        """The first state, averaging from update 1 if it waits to be told to start."""
        state = tx.init(params)
        if self.averages and "start" not in self.parameters:
            state = optax_ia.start_averaging(state)
        return state

    def argument(self, name):
        """The value of one argument of the factory."""
        return self.arguments.get(name, self.parameters[name].default)

    def collected(self, steps):
        """The updates up to ``steps`` that the case averages."""
        first = self.argument("start") if "start" in self.parameters else 1
        return list(range(first, steps + 1, self.argument("every")))

    @property
    def parameters(self):
        """The factory's parameters, for the contracts about arguments."""
        return inspect.signature(self.factory).parameters


def local_quadratic(grads, params):
    """All extra arguments there are, of the unit quadratic with a given gradient."""

    grads, params = jax.tree.map(jnp.asarray, (grads, params))

    def wide(tree):
        return jax.tree.map(
            lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree
        )

    def kernel_shape(layer):
        names = (*filter(None, layer.path.split("/")), layer.kernel)
        return functools.reduce(lambda tree, name: tree[name], names, grads).shape

    def grad_fn(where):
        moved = optax.tree.add(wide(grads), optax.tree.sub(wide(where), wide(params)))
        return optax.tree.cast_like(moved, grads)

    def value_fn(where):
        moved = optax.tree.sub(wide(where), wide(params))
        parts = jax.tree.map(
            lambda g, d: jnp.sum(g * d + d * d / 2), wide(grads), moved
        )
        return sum(jax.tree.leaves(parts), jnp.zeros([]))

    return {
        "value": jnp.zeros([]),
        "grad_fn": grad_fn,
        "value_fn": value_fn,
        "full_gradient": grads,
        "matvec": lambda vector: vector,
        "kfac_factors": {
            layer.path: optax_ia.KfacFactors(
                *(jnp.eye(size) for size in layer.sizes(kernel_shape(layer)))
            )
            for layer in optax_ia.infer_kfac_layers(grads)
        },
    }


def _registry_case(name):
    record = registry.get_record(name)
    parameters = inspect.signature(record.factory).parameters
    arguments = {"learning_rate": record.test_learning_rate}
    if record.averages and "start" in parameters:
        arguments["start"] = START
    if record.averages and "every" in parameters:
        arguments["every"] = EVERY
    arguments |= {period: EVERY for period in PERIODS if period in parameters}
    return Case(
        name=name,
        factory=record.factory,
        arguments={**record.defaults, **arguments},
        averages=record.averages,
        exceptions=record.exceptions,
        needs=record.needs,
        static=record.static,
    )


def _chain_cases():
    """Components on plain SGD, each with one numeric argument to inject."""

    def tail_average(learning_rate=0.1, start=START, every=EVERY):
        return optax.chain(
            optax_ia.scale_by_learning_rate(learning_rate),
            optax_ia.tail_average(start, every),
        )

    def ema_average(learning_rate=0.1, decay=0.9, start=START, every=EVERY):
        return optax.chain(
            optax_ia.scale_by_learning_rate(learning_rate),
            optax_ia.ema_average(decay, start=start, every=every),
        )

    def centralize(learning_rate=0.1):
        return optax.chain(
            optax_ia.centralize(), optax_ia.scale_by_learning_rate(learning_rate)
        )

    def l2_decay(learning_rate=0.1, weight_decay=0.01):
        return optax.chain(
            optax_ia.l2_decay(weight_decay),
            optax_ia.scale_by_learning_rate(learning_rate),
        )

    def decoupled_decay(learning_rate=0.1, weight_decay=0.01):
        return optax.chain(
            optax_ia.decoupled_decay(weight_decay),
            optax_ia.scale_by_learning_rate(learning_rate),
        )

    def independent_decay(learning_rate=0.1, weight_decay=0.001):
        return optax.chain(
            optax_ia.scale_by_learning_rate(learning_rate),
            optax_ia.independent_decay(weight_decay),
        )

    def lookahead_sgd(learning_rate=0.1, sync_period=2, slow_step_size=0.5):
        sgd = optax_ia.scale_by_learning_rate(learning_rate)
        return optax_ia.lookahead(sgd, sync_period, slow_step_size)

    def averaged_lookahead(learning_rate=0.1, start=START, every=EVERY):
        momentum = optax.chain(
            optax.trace(0.9), optax_ia.scale_by_learning_rate(learning_rate)
        )
        return optax.chain(
            optax_ia.lookahead(momentum, 2), optax_ia.tail_average(start, every)
        )

    def switched(learning_rate=0.1, b1=0.9, switch_at=2):
        adam = optax.chain(
            optax.scale_by_adam(), optax_ia.scale_by_learning_rate(learning_rate)
        )
        return optax_ia.switch_to_sgd(adam, b1, switch_at=switch_at)

    def switched_by_leaf(learning_rate=0.1, b2=0.9, tol=0.1):
        padam = optax_ia.padam(learning_rate)
        return optax_ia.switch_to_sgd(padam, 0.5, b2, tol=tol, scope="leaf")

    def adaptive_sam_of_adam(learning_rate=0.1, rho=0.05):
        return optax_ia.sam(optax_ia.swats(learning_rate), rho, adaptive=True)

    def svrg_with_momentum(learning_rate=0.1, snapshot_every=2):
        momentum = optax.chain(
            optax.trace(0.5), optax_ia.scale_by_learning_rate(learning_rate)
        )
        return optax_ia.svrg(momentum, snapshot_every)

    unconverged = {"convergence": "centred gradients never see the mean of a column"}
    wanting = {
        "grad_fn": (adaptive_sam_of_adam, svrg_with_momentum),
        "full_gradient": (svrg_with_momentum,),
    }
    for factory in (
        tail_average,
        ema_average,
        centralize,
        l2_decay,
        decoupled_decay,
        independent_decay,
        lookahead_sgd,
        averaged_lookahead,
        switched,
        switched_by_leaf,
        adaptive_sam_of_adam,
        svrg_with_momentum,
    ):
        yield Case(
            name=f"chain:{factory.__name__}",
            factory=factory,
            arguments={},
            averages="start" in inspect.signature(factory).parameters,
            exceptions=unconverged if factory is centralize else {},
            needs=tuple(
                name
                for name in ("grad_fn", "full_gradient")
                if factory in wanting.get(name, ())
            ),
        )


_COVERED = ("chain:tail_average", "chain:l2_decay", "chain:decoupled_decay")
"""Chains whose parts stand in a record as they are: run with the slow tests."""

CASES = (*map(_registry_case, optax_ia.list_optimizers()), *_chain_cases())


def over_cases(contract, *, averages=False, needs=False):
    """Parametrises a test over the cases that the contract ``contract`` binds.

    Args:
      contract: the name under which a record may hold an exception.
      averages: only the cases that keep an average.
      needs: only the cases that need extra arguments.

    Returns:
      The mark, with argument name ``case``.
    """
    chosen = [
        pytest.param(
            case,
            id=case.name,
            marks=[pytest.mark.slow] if case.name in _COVERED else [],
        )
        for case in CASES
        if contract not in case.exceptions
        and (case.averages or not averages)
        and (case.needs or not needs)
    ]
    return pytest.mark.parametrize("case", chosen)
