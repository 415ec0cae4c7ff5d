"""Rules that use curvature beyond a diagonal."""

from optax_ia.second_order._lanczos_newton import (
    LanczosNewtonState as LanczosNewtonState,
)
from optax_ia.second_order._lanczos_newton import lanczos_newton as lanczos_newton
