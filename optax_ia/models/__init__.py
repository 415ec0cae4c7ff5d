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

from optax_ia.models._record import ModelRecord as ModelRecord
from optax_ia.models._zoo import count_parameters as count_parameters
from optax_ia.models._zoo import create_model as create_model
from optax_ia.models._zoo import get_model_record as get_model_record
from optax_ia.models._zoo import list_models as list_models
