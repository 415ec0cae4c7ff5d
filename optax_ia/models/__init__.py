"""The Flax model zoo: ``create_model(name)``, ``list_models()``.

Needs the ``flax`` extra.
"""

try:
    import flax.linen  # noqa: F401  (only to fail early, with advice)
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "flax":
        raise
    raise ModuleNotFoundError(
        "optax_ia.models needs Flax: pip install 'optax-ia[flax]'", name="flax"
    ) from error

from optax_ia.models._from_torch import from_torch as from_torch
from optax_ia.models._record import ModelRecord as ModelRecord
from optax_ia.models._regularised import LanguageOutput as LanguageOutput
from optax_ia.models._regularised import (
    activation_regularisation as activation_regularisation,
)
from optax_ia.models._wgan_losses import clip_weights as clip_weights
from optax_ia.models._wgan_losses import critic_loss as critic_loss
from optax_ia.models._wgan_losses import generator_loss as generator_loss
from optax_ia.models._wgan_losses import gradient_penalty as gradient_penalty
from optax_ia.models._zoo import abstract_variables as abstract_variables
from optax_ia.models._zoo import count_parameters as count_parameters
from optax_ia.models._zoo import create_model as create_model
from optax_ia.models._zoo import get_model_record as get_model_record
from optax_ia.models._zoo import list_models as list_models

__all__ = [
    "LanguageOutput",
    "ModelRecord",
    "abstract_variables",
    "activation_regularisation",
    "clip_weights",
    "count_parameters",
    "create_model",
    "critic_loss",
    "from_torch",
    "generator_loss",
    "get_model_record",
    "gradient_penalty",
    "list_models",
]
