"""Rules that use curvature beyond a diagonal."""

from optax_ia.second_order._kfac import kfac as kfac
from optax_ia.second_order._kfac_layers import KfacFactors as KfacFactors
from optax_ia.second_order._kfac_layers import KfacLayer as KfacLayer
from optax_ia.second_order._kfac_layers import infer_kfac_layers as infer_kfac_layers
from optax_ia.second_order._kfac_rule import ScaleByKfacState as ScaleByKfacState
from optax_ia.second_order._kfac_rule import kfac_factors_due as kfac_factors_due
from optax_ia.second_order._kfac_rule import scale_by_kfac as scale_by_kfac
from optax_ia.second_order._lanczos_newton import (
    LanczosNewtonState as LanczosNewtonState,
)
from optax_ia.second_order._lanczos_newton import lanczos_newton as lanczos_newton
from optax_ia.second_order._shampoo import ScaleByShampooState as ScaleByShampooState
from optax_ia.second_order._shampoo import scale_by_shampoo as scale_by_shampoo
from optax_ia.second_order._shampoo import shampoo as shampoo
