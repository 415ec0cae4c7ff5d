"""Reads the inner state of :func:`switch_to_sgd`, and refuses what it cannot follow."""

from typing import Any

import optax
import optax.contrib

from optax_ia._src.diagnostics import diagnostics
from optax_ia._src.states import find_states
from optax_ia.schedules import ScaleByLearningRateState


def recorded_rates(inner_state: optax.OptState) -> list[Any]:
    """The learning rates that the inner state records."""
    recorded = find_states(inner_state, ScaleByLearningRateState)
    if recorded:
        return [state.current_learning_rate for state in recorded]
    return [
        state.hyperparams["learning_rate"]
        for state in find_states(inner_state, optax.InjectStatefulHyperparamsState)
        if "learning_rate" in state.hyperparams
    ]


def refuse_schedule(inner_state: optax.OptState) -> None:
    """Raises if the inner learning rate may change and its state does not record it."""
    rates = recorded_rates(inner_state)
    injected = find_states(inner_state, optax.InjectStatefulHyperparamsState)
    if find_states(inner_state, optax.ScaleByScheduleState):
        reason = "an optax schedule, whose state does not hold the learning rate"
    elif len(rates) > 1:
        reason = f"{len(rates)} learning rates"
    elif not rates and any(state.hyperparams_states for state in injected):
        reason = "an injected schedule, and no hyperparameter named 'learning_rate'"
    else:
        return
    raise ValueError(
        f"the state of inner has {reason}, so SGD could not follow the schedule after "
        "the switch. Pass switch_to_sgd(inner, learning_rate=...): the schedule, or a "
        "number if the learning rate of inner is constant."
    )


def refuse_wrappers(inner_state: optax.OptState) -> None:
    """Raises if the inner optimiser relies on its updates being applied."""
    reported = diagnostics(inner_state)
    plateau = find_states(inner_state, optax.contrib.ReduceLROnPlateauState)
    if "num_averaged" in reported:
        found = "an average of the iterates, which SGD's would be missing from"
        remedy = "optax_ia.tail_average"
    elif "sync_count" in reported:
        found = "Lookahead, whose steps back are no estimate of SGD's learning rate"
        remedy = "optax_ia.lookahead"
    elif plateau:
        found = "reduce_on_plateau, whose scale SGD would not follow"
        remedy = "optax.contrib.reduce_on_plateau"
    else:
        return
    raise ValueError(
        f"inner contains {found}. Put {remedy} around or after switch_to_sgd instead "
        "of inside it."
    )
