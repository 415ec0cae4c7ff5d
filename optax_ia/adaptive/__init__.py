"""Rules that adapt each coordinate's step to the gradient's history."""

from optax_ia.adaptive._adabound import adabound as adabound
from optax_ia.adaptive._adabound import amsbound as amsbound
from optax_ia.adaptive._adam_clip import adam_clip as adam_clip
from optax_ia.adaptive._bounded import BoundedAdamState as BoundedAdamState
from optax_ia.adaptive._layer_rates import LayerRatesState as LayerRatesState
from optax_ia.adaptive._layer_rates import scale_by_layer_rates as scale_by_layer_rates
from optax_ia.adaptive._layer_rates import update_layer_rates as update_layer_rates
from optax_ia.adaptive._padam import ScaleByPadamState as ScaleByPadamState
from optax_ia.adaptive._padam import padam as padam
from optax_ia.adaptive._padam import padamw as padamw
from optax_ia.adaptive._padam import scale_by_padam as scale_by_padam
from optax_ia.adaptive._projected import adamp as adamp
from optax_ia.adaptive._projected import sgdp as sgdp
from optax_ia.adaptive._projection import ProjectedState as ProjectedState
from optax_ia.adaptive._rmsgd import rmsgd as rmsgd
from optax_ia.adaptive._swats import swats as swats
from optax_ia.adaptive._switch import SwitchToSgdState as SwitchToSgdState
from optax_ia.adaptive._switch import switch_to_sgd as switch_to_sgd
from optax_ia.adaptive._switch_monitor import SwitchMonitor as SwitchMonitor
