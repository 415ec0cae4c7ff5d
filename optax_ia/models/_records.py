"""All records of the zoo by name."""

from optax_ia.models._cifar_records import CIFAR_RECORDS
from optax_ia.models._imagenet_records import IMAGENET_RECORDS
from optax_ia.models._language_records import LANGUAGE_RECORDS
from optax_ia.models._record import ModelRecord
from optax_ia.models._small_records import SMALL_RECORDS

RECORDS: dict[str, ModelRecord] = {
    record.name: record
    for record in (
        *SMALL_RECORDS,
        *CIFAR_RECORDS,
        *IMAGENET_RECORDS,
        *LANGUAGE_RECORDS,
    )
}
