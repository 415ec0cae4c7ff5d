"""What the contract suite runs over: every registry record, and chains of components.

Nothing here knows an optimiser by name: what a case is asked and what it is excused
from comes from its record.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import optax
import pytest

import optax_ia
from optax_ia import registry

START, EVERY = 2, 2
"""When the averages of the cases that keep one begin, and how often they collect."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One transformation under test.

    Attributes:
      name: the registry name, or that of a chain.
      factory: makes the transformation; the arguments below fit it.
      arguments: those the contract fixes (the start of averaging, test settings).
      averages: whether ``averaged_params`` reads something from its state.
      exceptions: contract name to the reason why it does not apply.
    """

    name: str
    factory: Callable[..., optax.GradientTransformation]
    arguments: Mapping[str, Any]
    averages: bool
    exceptions: Mapping[str, str]

    def make(self, **overrides):
        """The transformation, always with extra arguments."""
        tx = self.factory(**{**self.arguments, **overrides})
        return optax.with_extra_args_support(tx)

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


def _registry_case(name):
    record = registry.get_record(name)
    parameters = inspect.signature(record.factory).parameters
    arguments = {"learning_rate": record.test_learning_rate}
    if record.averages and "start" in parameters:
        arguments["start"] = START
    if record.averages and "every" in parameters:
        arguments["every"] = EVERY
    return Case(
        name=name,
        factory=record.factory,
        arguments={**record.defaults, **arguments},
        averages=record.averages,
        exceptions=record.exceptions,
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

    unconverged = {"convergence": "centred gradients never see the mean of a column"}
    for factory in (
        tail_average,
        ema_average,
        centralize,
        l2_decay,
        decoupled_decay,
        independent_decay,
        lookahead_sgd,
        averaged_lookahead,
    ):
        yield Case(
            name=f"chain:{factory.__name__}",
            factory=factory,
            arguments={},
            averages="start" in inspect.signature(factory).parameters,
            exceptions=unconverged if factory is centralize else {},
        )


CASES = (*map(_registry_case, optax_ia.list_optimizers()), *_chain_cases())


def over_cases(contract, *, averages=False):
    """Parametrises a test over the cases that the contract ``contract`` binds.

    Args:
      contract: the name under which a record may hold an exception.
      averages: only the cases that keep an average.

    Returns:
      The mark, with argument name ``case``.
    """
    chosen = [
        pytest.param(case, id=case.name)
        for case in CASES
        if contract not in case.exceptions and (case.averages or not averages)
    ]
    return pytest.mark.parametrize("case", chosen)
