"""Optimisers that generalise, for JAX: iterate averaging and partial adaptivity.

Every method is an ``optax.GradientTransformationExtraArgs`` whose whole state lives in
``opt_state``. Transformations are flat in this namespace; Flax helpers are in
``optax_ia.flax`` and networks in ``optax_ia.models`` (both need the ``flax`` extra).
"""

from optax_ia import curvature as curvature
from optax_ia import explain as explain
from optax_ia import landscape as landscape
from optax_ia._src.diagnostics import diagnostics as diagnostics
from optax_ia._src.version import __version__ as __version__
from optax_ia.adaptive import BoundedAdamState as BoundedAdamState
from optax_ia.adaptive import ProjectedState as ProjectedState
from optax_ia.adaptive import ScaleByPadamState as ScaleByPadamState
from optax_ia.adaptive import SwitchMonitor as SwitchMonitor
from optax_ia.adaptive import SwitchToSgdState as SwitchToSgdState
from optax_ia.adaptive import adabound as adabound
from optax_ia.adaptive import adam_clip as adam_clip
from optax_ia.adaptive import adamp as adamp
from optax_ia.adaptive import padam as padam
from optax_ia.adaptive import padamw as padamw
from optax_ia.adaptive import scale_by_padam as scale_by_padam
from optax_ia.adaptive import sgdp as sgdp
from optax_ia.adaptive import swats as swats
from optax_ia.adaptive import switch_to_sgd as switch_to_sgd
from optax_ia.averaging import AutoAverageState as AutoAverageState
from optax_ia.averaging import GadamLookaheadState as GadamLookaheadState
from optax_ia.averaging import IterateAverageState as IterateAverageState
from optax_ia.averaging import LookaheadState as LookaheadState
from optax_ia.averaging import NonMonotonicState as NonMonotonicState
from optax_ia.averaging import PlateauState as PlateauState
from optax_ia.averaging import Trigger as Trigger
from optax_ia.averaging import asgd as asgd
from optax_ia.averaging import auto_average as auto_average
from optax_ia.averaging import averaged_params as averaged_params
from optax_ia.averaging import ema_average as ema_average
from optax_ia.averaging import gadam as gadam
from optax_ia.averaging import gadam_auto as gadam_auto
from optax_ia.averaging import gadam_lookahead as gadam_lookahead
from optax_ia.averaging import gadamx as gadamx
from optax_ia.averaging import lookahead as lookahead
from optax_ia.averaging import non_monotonic_trigger as non_monotonic_trigger
from optax_ia.averaging import nt_asgd as nt_asgd
from optax_ia.averaging import num_averaged as num_averaged
from optax_ia.averaging import plateau_trigger as plateau_trigger
from optax_ia.averaging import ranger as ranger
from optax_ia.averaging import record_metric as record_metric
from optax_ia.averaging import should_stop as should_stop
from optax_ia.averaging import start_averaging as start_averaging
from optax_ia.averaging import swa as swa
from optax_ia.averaging import tail_average as tail_average
from optax_ia.decay import IndependentDecayState as IndependentDecayState
from optax_ia.decay import decoupled_decay as decoupled_decay
from optax_ia.decay import independent_decay as independent_decay
from optax_ia.decay import l2_decay as l2_decay
from optax_ia.decay import path_mask as path_mask
from optax_ia.gradients import LineSearchState as LineSearchState
from optax_ia.gradients import SvrgState as SvrgState
from optax_ia.gradients import centralize as centralize
from optax_ia.gradients import sam as sam
from optax_ia.gradients import sls as sls
from optax_ia.gradients import svrg as svrg
from optax_ia.gradients import svrg_snapshot_due as svrg_snapshot_due
from optax_ia.registry import OptimizerRecord as OptimizerRecord
from optax_ia.registry import get_optimizer as get_optimizer
from optax_ia.registry import get_record as get_record
from optax_ia.registry import list_optimizers as list_optimizers
from optax_ia.schedules import ScaleByLearningRateState as ScaleByLearningRateState
from optax_ia.schedules import averaging_schedule as averaging_schedule
from optax_ia.schedules import linear_schedule as linear_schedule
from optax_ia.schedules import scale_by_learning_rate as scale_by_learning_rate
from optax_ia.schedules import step_schedule as step_schedule
from optax_ia.second_order import LanczosNewtonState as LanczosNewtonState
from optax_ia.second_order import lanczos_newton as lanczos_newton
