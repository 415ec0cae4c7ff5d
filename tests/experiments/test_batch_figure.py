"""The picture of a batch: its images where they belong, in their own colours."""

import io

import numpy as np
import PIL.Image

from experiments import data
from experiments.data._figure import batch_figure, figure


def drawn(found):
    """The image and the caption of each panel that has one."""
    axes = [axis for axis in found.axes if axis.images]
    return [(axis.images[0].get_array(), axis.get_title()) for axis in axes]


def test_pixels_are_those_before_normalisation():
    pixels = np.random.default_rng(0).random((11, 4, 5, 3))
    mean, deviation = (0.5, 0.2, 0.1), (0.3, 0.2, 0.4)
    images = (pixels - mean) / deviation
    found = batch_figure(images, np.arange(11), mean=mean, deviation=deviation)
    panels = drawn(found)
    assert len(panels) == 11
    for number, (image, caption) in enumerate(panels):
        np.testing.assert_allclose(image, pixels[number])
        assert caption == str(number)


def test_grey_images_and_several_labels():
    images = np.linspace(-1, 3, 2 * 4).reshape(2, 2, 2, 1)
    labels = np.array([[1, 0, 1], [0, 0, 0]], np.float32)
    (first, caption), (second, none) = drawn(batch_figure(images, labels))
    assert first.shape == (2, 2)
    assert (first.min(), second.max()) == (0, 1)
    assert (caption, none) == ("0 2", "")


def test_a_batch_of_digits_becomes_a_file():
    digits = data.load_dataset("digits")
    batch = next(data.train_batches(digits, 9, seed=0, epochs=1))
    buffer = io.BytesIO()
    figure(batch, digits).savefig(buffer, format="png", dpi=50)
    picture = np.asarray(PIL.Image.open(buffer).convert("L"))
    # black and white digits on white paper
    assert picture.min() < 20
    assert picture.max() == 255
    assert figure(batch, digits).get_suptitle() == "digits"


def test_one_image_alone():
    (panel,) = drawn(batch_figure(np.zeros((1, 3, 3, 1)), np.array([4])))
    assert panel[1] == "4"
    np.testing.assert_array_equal(panel[0], np.zeros((3, 3)))
