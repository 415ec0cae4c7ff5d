"""Optimisers that find by the validation metric when to average, and when to stop."""

import optax_ia
from optax_ia.flax import TrainState


def finds_own_start(state: TrainState) -> bool:
    """Whether the optimiser wants the validation metric, to start and to stop.

    Args:
      state: of the run.
    """
    return "averaging_phase" in optax_ia.diagnostics(state.opt_state)


def has_found_its_end(state: TrainState) -> bool:
    """Whether such an optimiser says that the run is over.

    Args:
      state: of the run.
    """
    return finds_own_start(state) and bool(optax_ia.should_stop(state.opt_state))
