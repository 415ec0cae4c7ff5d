"""Wrappers with the base rule of their paper: SAM, SVRG, Lookahead and an average."""

from optax_ia.combinations._combinations import adamw_ema as adamw_ema
from optax_ia.combinations._combinations import lookahead_adamw as lookahead_adamw
from optax_ia.combinations._combinations import sam_sgd as sam_sgd
from optax_ia.combinations._combinations import svrg_sgd as svrg_sgd
