"""A picture of a batch, as the network sees it."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.data._dataset import Dataset, Records


def batch_figure(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
    title: str = "",
    columns: int = 8,
) -> Figure:
    """Draws the images of a batch with their labels.

    Args:
      images: float ``(batch, height, width, channels)`` with 1 or 3 channels.
      labels: int ``(batch,)``, or ``(batch, num_classes)`` of zeros and ones.
      mean: what was taken from the pixel values, per channel; without it the least
        value of the batch is black and the largest white.
      deviation: what they were divided by afterwards; goes with ``mean``.
      title: over all of them.
      columns: images in a row.

    Returns:
      The figure, to be saved.
    """
    pixels = np.asarray(images, np.float64)
    if mean is not None and deviation is not None:
        pixels = pixels * np.asarray(deviation) + np.asarray(mean)
    else:
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) / ((high - low) or 1.0)
    pixels = np.clip(pixels, 0, 1)
    columns = min(columns, len(pixels))
    rows = math.ceil(len(pixels) / columns)
    figure = Figure(figsize=(1.2 * columns, 1.35 * rows + 0.3), layout="constrained")
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axis, image, label in zip(axes, pixels, labels, strict=False):
        grey = image.shape[-1] == 1
        axis.imshow(image[..., 0] if grey else image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(_caption(label), fontsize=7, pad=2)
    for axis in axes:
        axis.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=9)
    return figure


def figure(batch: tuple[np.ndarray, ...], data: Dataset | Records) -> Figure:
    """Draws a batch of a data set, in its own colours where they are known.

    Args:
      batch: images and labels, as :func:`train_batches` gives them.
      data: where they come from.

    Returns:
      The figure, to be saved.
    """
    images, labels, *_ = batch
    known = isinstance(data, Records)
    return batch_figure(
        images,
        labels,
        mean=data.mean if known else None,
        deviation=data.deviation if known else None,
        title=data.name,
    )


def _caption(label: np.ndarray) -> str:
    """The number of a label, or those of all that hold."""
    if np.ndim(label):
        return " ".join(map(str, np.flatnonzero(label)))
    return str(int(label))
