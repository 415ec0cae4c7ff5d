"""A small source that is decoded once: what was read stays in memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.data._dataset import Source


class Kept:
    """The same records, each read from its source once in every process.

    Args:
      source: where they come from.
    """

    def __init__(self, source: Source):
        self._source = source
        self._records: list[Mapping[str, Any] | None] = [None] * len(source)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Mapping[str, Any]]:
        """Several records, of which those that lack are read together."""
        missing = [index for index in indices if self._records[index] is None]
        for index, record in zip(missing, read(self._source, missing), strict=True):
            # an array of its own: a view would keep what it is a part of
            image = np.array(record["image"])
            image.flags.writeable = False
            self._records[index] = {"image": image, "label": record["label"]}
        found = [self._records[index] for index in indices]
        return [record for record in found if record is not None]

    def __getstate__(self) -> dict[str, Any]:
        """Without what was read: a worker process reads its own share."""
        return {"_source": self._source, "_records": [None] * len(self)}


def read(source: Source, chosen: Sequence[int]) -> list[Mapping[str, Any]]:
    """Several records, all at once where the source can.

    Args:
      source: where from.
      chosen: their numbers.

    Returns:
      The records, in this order.
    """
    at_once = getattr(source, "__getitems__", None)
    if chosen and at_once is not None:
        return list(at_once(chosen))
    return [source[index] for index in chosen]
