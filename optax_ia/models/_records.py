"""All records of the zoo by name."""

from optax_ia.models._image_records import IMAGE_RECORDS
from optax_ia.models._language_records import LANGUAGE_RECORDS
from optax_ia.models._record import ModelRecord

RECORDS: dict[str, ModelRecord] = {
    record.name: record for record in (*IMAGE_RECORDS, *LANGUAGE_RECORDS)
}
