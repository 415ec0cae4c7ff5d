"""Weight decay: the three forms by name, and masks by parameter path."""

from optax_ia.decay._decay import IndependentDecayState as IndependentDecayState
from optax_ia.decay._decay import decoupled_decay as decoupled_decay
from optax_ia.decay._decay import independent_decay as independent_decay
from optax_ia.decay._decay import l2_decay as l2_decay
from optax_ia.decay._mask import path_mask as path_mask
