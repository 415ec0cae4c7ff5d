"""Flax helpers: training state and step, averaged evaluation, BatchNorm, K-FAC.

For Linen and for NNX; needs the ``flax`` extra.
"""

try:
    import flax as _flax  # noqa: F401  (only to say what is missing)
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "optax_ia.flax needs Flax: pip install 'optax-ia[flax]'"
    ) from error

from optax_ia.flax._kfac_capture import KfacAux as KfacAux
from optax_ia.flax._kfac_capture import kfac_value_and_grad as kfac_value_and_grad
from optax_ia.flax._kfac_coverage import KfacCoverage as KfacCoverage
from optax_ia.flax._kfac_coverage import ParameterTreatment as ParameterTreatment
from optax_ia.flax._kfac_coverage import kfac_coverage as kfac_coverage
from optax_ia.flax._kfac_coverage import kfac_layers as kfac_layers
from optax_ia.flax._kfac_likelihood import Likelihood as Likelihood
from optax_ia.flax._nnx import averaged_model as averaged_model
from optax_ia.flax._recalibrate import (
    recalibrate_batch_stats as recalibrate_batch_stats,
)
from optax_ia.flax._train_state import TrainState as TrainState
from optax_ia.flax._train_step import build_train_step as build_train_step
