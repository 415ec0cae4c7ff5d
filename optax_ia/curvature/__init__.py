"""Curvature of a loss: matrix-vector products, Lanczos, spectra, traces."""

from optax_ia.curvature._bulk import BulkFit as BulkFit
from optax_ia.curvature._bulk import fit_bulk as fit_bulk
from optax_ia.curvature._density import SpectralDensity as SpectralDensity
from optax_ia.curvature._density import spectral_density as spectral_density
from optax_ia.curvature._eigenpairs import Eigenpairs as Eigenpairs
from optax_ia.curvature._eigenpairs import spectral_norm as spectral_norm
from optax_ia.curvature._eigenpairs import top_eigenpairs as top_eigenpairs
from optax_ia.curvature._lanczos import LanczosResult as LanczosResult
from optax_ia.curvature._lanczos import lanczos as lanczos
from optax_ia.curvature._loss import NetworkLoss as NetworkLoss
from optax_ia.curvature._operator import Operator as Operator
from optax_ia.curvature._products import fisher_operator as fisher_operator
from optax_ia.curvature._products import gauss_newton_operator as gauss_newton_operator
from optax_ia.curvature._products import (
    gradient_covariance_operator as gradient_covariance_operator,
)
from optax_ia.curvature._products import hessian_operator as hessian_operator
from optax_ia.curvature._theory import curvature_ratio as curvature_ratio
from optax_ia.curvature._theory import eigenvector_overlap as eigenvector_overlap
from optax_ia.curvature._theory import mp_edge as mp_edge
from optax_ia.curvature._theory import semicircle_edge as semicircle_edge
from optax_ia.curvature._theory import shrinkage as shrinkage
from optax_ia.curvature._trace import Estimate as Estimate
from optax_ia.curvature._trace import frobenius_norm as frobenius_norm
from optax_ia.curvature._trace import trace as trace
