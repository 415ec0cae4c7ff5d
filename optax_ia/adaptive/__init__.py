"""Rules that adapt each coordinate's step to the gradient's history."""

from optax_ia.adaptive._padam import ScaleByPadamState as ScaleByPadamState
from optax_ia.adaptive._padam import padam as padam
from optax_ia.adaptive._padam import padamw as padamw
from optax_ia.adaptive._padam import scale_by_padam as scale_by_padam
