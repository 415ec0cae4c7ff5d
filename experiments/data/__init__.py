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
from experiments.data._record import DatasetRecord as DatasetRecord
from experiments.data._registry import dataset_records as dataset_records
from experiments.data._registry import get_dataset_record as get_dataset_record
from experiments.data._registry import list_datasets as list_datasets
from experiments.data._registry import load_dataset as load_dataset
from experiments.data._registry import load_images as load_images
from experiments.data._registry import load_records as load_records

__all__ = [
    "Augment",
    "Batches",
    "Dataset",
    "DatasetRecord",
    "Records",
    "Source",
    "Split",
    "Transform",
    "cropped",
    "cut_out",
    "cutout",
    "dataset_records",
    "epoch_batches",
    "epoch_draws",
    "epoch_order",
    "eval_batches",
    "get_dataset_record",
    "list_datasets",
    "load_dataset",
    "load_images",
    "load_records",
    "make_records",
    "random_shift",
    "train_batches",
    "with_cutout",
]
