"""Data sets of TensorFlow Datasets, downloaded and written without TensorFlow.

The builders that TFDS has define features, versions and checksums; its download manager
fetches; what is replaced is how the published archives are read, which TFDS leaves to
TensorFlow. The keys and ids of examples are TFDS's, so that the order of the records
and their contents are those of a directory that TFDS prepared itself.
"""

from experiments.data.prepare._archive import Archive as Archive
from experiments.data.prepare._prepare import PREPARATIONS as PREPARATIONS
from experiments.data.prepare._prepare import Prepared as Prepared
from experiments.data.prepare._prepare import prepare as prepare

__all__ = ["PREPARATIONS", "Archive", "Prepared", "prepare"]
