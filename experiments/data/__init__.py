"""Data sets for the experiments, by name; the default ones need no download."""

from experiments.data._augment import cutout as cutout
from experiments.data._augment import random_shift as random_shift
from experiments.data._augment import with_cutout as with_cutout
from experiments.data._dataset import Augment as Augment
from experiments.data._dataset import Dataset as Dataset
from experiments.data._dataset import Records as Records
from experiments.data._dataset import Source as Source
from experiments.data._dataset import Split as Split
from experiments.data._dataset import Transform as Transform
from experiments.data._order import epoch_batches as epoch_batches
from experiments.data._order import epoch_draws as epoch_draws
from experiments.data._order import epoch_order as epoch_order
from experiments.data._pipeline import Batches as Batches
from experiments.data._pipeline import eval_batches as eval_batches
from experiments.data._pipeline import train_batches as train_batches
from experiments.data._recipes import cropped as cropped
from experiments.data._recipes import cut_out as cut_out
from experiments.data._recipes import make_records as make_records
from experiments.data._registry import list_datasets as list_datasets
from experiments.data._registry import load_dataset as load_dataset

__all__ = [
    "Augment",
    "Batches",
    "Dataset",
    "Records",
    "Source",
    "Split",
    "Transform",
    "cropped",
    "cut_out",
    "cutout",
    "epoch_batches",
    "epoch_draws",
    "epoch_order",
    "eval_batches",
    "list_datasets",
    "load_dataset",
    "make_records",
    "random_shift",
    "train_batches",
    "with_cutout",
]
