"""Averages of iterates, what starts them, and the optimisers built on them."""

from optax_ia.averaging._asgd import asgd as asgd
from optax_ia.averaging._asgd import nt_asgd as nt_asgd
from optax_ia.averaging._auto import AutoAverageState as AutoAverageState
from optax_ia.averaging._auto import auto_average as auto_average
from optax_ia.averaging._auto import record_metric as record_metric
from optax_ia.averaging._auto import should_stop as should_stop
from optax_ia.averaging._average import ema_average as ema_average
from optax_ia.averaging._average import tail_average as tail_average
from optax_ia.averaging._checkpoints import average_checkpoints as average_checkpoints
from optax_ia.averaging._gadam import gadam as gadam
from optax_ia.averaging._gadam import gadamx as gadamx
from optax_ia.averaging._gadam_auto import gadam_auto as gadam_auto
from optax_ia.averaging._gadam_lookahead import (
    GadamLookaheadState as GadamLookaheadState,
)
from optax_ia.averaging._gadam_lookahead import gadam_lookahead as gadam_lookahead
from optax_ia.averaging._iterate import IterateAverageState as IterateAverageState
from optax_ia.averaging._lookahead import LookaheadState as LookaheadState
from optax_ia.averaging._lookahead import lookahead as lookahead
from optax_ia.averaging._ranger import ranger as ranger
from optax_ia.averaging._readout import averaged_params as averaged_params
from optax_ia.averaging._readout import num_averaged as num_averaged
from optax_ia.averaging._readout import start_averaging as start_averaging
from optax_ia.averaging._swa import swa as swa
from optax_ia.averaging._triggers import NonMonotonicState as NonMonotonicState
from optax_ia.averaging._triggers import PlateauState as PlateauState
from optax_ia.averaging._triggers import Trigger as Trigger
from optax_ia.averaging._triggers import non_monotonic_trigger as non_monotonic_trigger
from optax_ia.averaging._triggers import plateau_trigger as plateau_trigger
from optax_ia.averaging._window import WindowAverageState as WindowAverageState
from optax_ia.averaging._window import window_average as window_average
from optax_ia.averaging._with_average import with_auto_average as with_auto_average
from optax_ia.averaging._with_average import with_average as with_average
from optax_ia.averaging._with_average import with_ema_average as with_ema_average
from optax_ia.averaging._with_average import with_window_average as with_window_average
