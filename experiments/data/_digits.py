"""Scikit-learn's handwritten digits: 1797 real scans of 8x8 pixels, 10 classes.

They come inside scikit-learn, so nothing is downloaded. Split, once and for all
(seed 0, stratified by class): half for training (897), a quarter for validation
(450), a quarter for test (450). So one digit of the test set is 0.22 percentage
points. The file does not say who wrote which digit: a writer's digits stand on both
sides of the split, which makes the task easier than reading a stranger's hand.

Reference: Alpaydin and Kaynak, `Optical Recognition of Handwritten Digits
<https://doi.org/10.24432/C50P49>`_, UCI Machine Learning Repository, 1998.
"""

import numpy as np
from numpy.typing import ArrayLike

from experiments.data._augment import random_shift
from experiments.data._dataset import Dataset, Split

_SPLIT_SEED = 0
_HELD_OUT = 450


def digits() -> Dataset:
    """Loads, splits and normalises; mean and deviation are of the training split."""
    # it takes most of a second, in every worker process too
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw, labels = load_digits(return_X_y=True)
    images = np.asarray(raw, np.float32).reshape(-1, 8, 8, 1)
    labels = np.asarray(labels, np.int32)
    rest, test = train_test_split(
        np.arange(len(labels)),
        test_size=_HELD_OUT,
        stratify=labels,
        random_state=_SPLIT_SEED,
    )
    train, validation = train_test_split(
        rest,
        test_size=_HELD_OUT,
        stratify=labels[rest],
        random_state=_SPLIT_SEED,
    )
    mean = images[train].mean(dtype=np.float64)
    deviation = images[train].std(dtype=np.float64)
    images = ((images - mean) / deviation).astype(np.float32)

    def split(chosen: ArrayLike) -> Split:
        return Split(images[np.asarray(chosen)], labels[np.asarray(chosen)])

    return Dataset(
        name="digits",
        num_classes=10,
        train=split(train),
        validation=split(validation),
        test=split(test),
        augment=random_shift,
    )
