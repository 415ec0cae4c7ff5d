"""The records of the language and the generative models."""

from optax_ia.models._record import ModelRecord

LANGUAGE_RECORDS: tuple[ModelRecord, ...] = ()
