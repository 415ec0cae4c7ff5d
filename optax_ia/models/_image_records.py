"""The records of the image networks."""

from optax_ia.models import _vgg
from optax_ia.models._record import ModelRecord

IMAGE_RECORDS: tuple[ModelRecord, ...] = (
    ModelRecord(
        name="vgg_small",
        factory=_vgg.vgg_small,
        summary="VGG with batch normalisation, 4 convolutions, for 8x8 images.",
        input_shape=(8, 8, 1),
    ),
    ModelRecord(
        name="vgg_tiny",
        factory=_vgg.vgg_tiny,
        summary="VGG with batch normalisation, 2 narrow convolutions, for tests.",
        input_shape=(8, 8, 1),
    ),
    ModelRecord(
        name="vgg_tiny_plain",
        factory=_vgg.vgg_tiny_plain,
        summary="VGG without normalisation, 2 narrow convolutions.",
        input_shape=(8, 8, 1),
    ),
)
