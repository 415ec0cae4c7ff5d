"""Learning rates: the schedules that Optax lacks, and the rate kept in the state."""

from optax_ia.schedules._learning_rate import (
    ScaleByLearningRateState as ScaleByLearningRateState,
)
from optax_ia.schedules._learning_rate import (
    scale_by_learning_rate as scale_by_learning_rate,
)
from optax_ia.schedules._schedules import averaging_schedule as averaging_schedule
from optax_ia.schedules._schedules import linear_schedule as linear_schedule
from optax_ia.schedules._schedules import step_schedule as step_schedule
