"""Each step of augmentation beside an independent calculation."""

import pickle

import numpy as np
import PIL.Image
import pytest

from experiments.data import _recipes as recipes
from experiments.data import _transforms as transforms
from experiments.errors import ExperimentError

IMAGE = np.random.default_rng(0).integers(0, 256, (8, 10, 3)).astype(np.uint8)


def draws(step, image=IMAGE, count=300):
    return [step(image, np.random.default_rng(seed)) for seed in range(count)]


def places(found, padded, size):
    """Where in a padded image a crop comes from."""
    rows, columns = (length - size + 1 for length in padded.shape[:2])
    return [
        (top, left)
        for top in range(rows)
        for left in range(columns)
        if (padded[top : top + size, left : left + size] == found).all()
    ]


@pytest.mark.parametrize(("size", "padding"), [(8, 4), (5, 0), (8, 0), (11, 2)])
def test_random_crop_is_a_part_of_the_padded_image(size, padding):
    padded = np.zeros((8 + 2 * padding, 10 + 2 * padding, 3), np.uint8)
    padded[padding : padding + 8, padding : padding + 10] = IMAGE
    seen = set()
    for found in draws(transforms.RandomCrop(size, padding), count=1500):
        assert found.shape == (size, size, 3)
        assert found.dtype == np.uint8
        (place,) = places(found, padded, size)
        seen.add(place)
    # every place is possible
    rows, columns = 8 + 2 * padding - size + 1, 10 + 2 * padding - size + 1
    assert len(seen) == rows * columns


def test_crop_larger_than_the_image():
    for step in (transforms.RandomCrop(13, 2), transforms.CentreCrop(9)):
        with pytest.raises(ValueError, match=r"crop of \d+ does not fit .* 8x10"):
            step(IMAGE, np.random.default_rng(0))


def test_centre_crop():
    found = transforms.CentreCrop(4)(IMAGE, np.random.default_rng(0))
    np.testing.assert_array_equal(found, IMAGE[2:6, 3:7])


@pytest.mark.parametrize(
    ("length", "size", "first"), [(7, 4, 2), (9, 4, 2), (11, 4, 4), (383, 224, 80)]
)
def test_half_a_pixel_is_rounded_as_by_torchvision(length, size, first):
    """What ``torchvision.transforms.functional.center_crop`` of 0.29.1 cuts out."""
    ramp = np.arange(length * length).reshape(length, length, 1)
    found = transforms.CentreCrop(size)(ramp, np.random.default_rng(0))
    place = slice(first, first + size)
    np.testing.assert_array_equal(found, ramp[place, place])


@pytest.mark.parametrize(
    ("step", "axis"), [(transforms.HorizontalFlip(), 1), (transforms.VerticalFlip(), 0)]
)
def test_flips_are_of_every_other_image(step, axis):
    flipped = np.flip(IMAGE, axis)
    turned = 0
    for found in draws(step, count=1000):
        same = (found == IMAGE).all()
        assert same or (found == flipped).all()
        turned += not same
    assert 440 < turned < 560  # four deviations


def test_normalise():
    mean, deviation = (0.5, 0.25, 0.1), (0.2, 0.3, 0.4)
    found = transforms.Normalise(mean, deviation)(IMAGE, np.random.default_rng(0))
    assert found.dtype == np.float32
    expected = (IMAGE.astype(np.float64) / 255 - mean) / deviation
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_cutout_hides_one_square_with_its_centre_inside():
    image = np.ones((8, 10, 3), np.float32)
    seen = np.zeros((8, 10))
    sizes = set()
    for found in draws(transforms.Cutout(4), image, count=2000):
        hidden = found[..., 0] == 0
        assert (found == ~hidden[..., None]).all()
        rows, columns = np.nonzero(hidden.any(1))[0], np.nonzero(hidden.any(0))[0]
        assert hidden.sum() == len(rows) * len(columns)
        assert np.ptp(rows) == len(rows) - 1
        assert np.ptp(columns) == len(columns) - 1
        sizes.add((len(rows), len(columns)))
        seen += hidden
    assert {height for height, _ in sizes} == {2, 3, 4}
    assert {width for _, width in sizes} == {2, 3, 4}
    # a pixel is hidden if the centre is one of the 4 x 4 about it: 16 of 80 places
    assert abs(seen[4, 5] / 2000 - 16 / 80) < 0.04
    assert abs(seen[0, 0] / 2000 - 9 / 80) < 0.03
    assert (image == 1).all()


def test_resized_crop_has_the_published_distribution():
    """Area uniform, log of the ratio uniform, where no draw is refused."""
    step = transforms.RandomResizedCrop(16, scale=(0.1, 0.3))
    boxes = np.array(
        [step.box(400, 600, np.random.default_rng(seed)) for seed in range(4000)]
    )
    top, left, rows, columns = boxes.T
    assert ((top >= 0) & (left >= 0)).all()
    assert ((top + rows <= 400) & (left + columns <= 600)).all()
    area = rows * columns / (400 * 600)
    share = np.sort((area - 0.1) / 0.2)
    logarithm = np.log(columns / rows)
    ratio = np.sort((logarithm / np.log(4 / 3) + 1) / 2)
    even = (np.arange(4000) + 0.5) / 4000
    # Kolmogorov and Smirnov's distance, at a level of 1 in 1000
    for values in (share, ratio):
        assert np.abs(values - even).max() < 1.95 / np.sqrt(4000) + 0.005
    where = np.sort(top / (400 - rows + 1))
    assert np.abs(where - even).max() < 1.95 / np.sqrt(4000) + 0.005


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10)), (9, 10, (0, 0, 9, 10))],
)
def test_resized_crop_that_never_fits(height, width, expected):
    step = transforms.RandomResizedCrop(4, scale=(50.0, 60.0))
    assert step.box(height, width, np.random.default_rng(0)) == expected


def test_resized_crop_resizes_what_it_drew():
    step = transforms.RandomResizedCrop(6)
    top, left, rows, columns = step.box(8, 10, np.random.default_rng(7))
    part = PIL.Image.fromarray(IMAGE).crop((left, top, left + columns, top + rows))
    expected = np.asarray(part.resize((6, 6), PIL.Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(step(IMAGE, np.random.default_rng(7)), expected)


def test_resizing_by_halves_weighs_as_a_triangle_does():
    ramp = np.repeat(np.arange(0, 64, 4, dtype=np.uint8)[None, :, None], 4, 0)
    found = transforms.resized(ramp, (2, 8))
    assert found.shape == (2, 8, 1)
    # away from the border a ramp stays one: the mean of its two pixels
    np.testing.assert_array_equal(found[0, 1:-1, 0], np.arange(2, 64, 8)[1:-1])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((30, 40), (12, 16)), ((40, 30), (16, 12)), ((7, 9), (12, 15))],
)
def test_the_shorter_side_is_resized(shape, expected):
    image = np.full((*shape, 3), 7, np.uint8)
    found = transforms.ResizeShorter(12)(image, np.random.default_rng(0))
    np.testing.assert_array_equal(found, np.full((*expected, 3), 7))


class Images:
    """Random images of one size."""

    def __init__(self, size=7, shape=(32, 32, 3)):
        rng = np.random.default_rng(size)
        self.images = rng.integers(0, 256, (size, *shape)).astype(np.uint8)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": index % 2}


def made(name, shape=(32, 32, 3), stored=None):
    return recipes.make_records(
        name,
        num_classes=2,
        image_shape=shape,
        train=Images(7, stored or shape),
        validation=Images(3, stored or shape),
        test=Images(4, stored or shape),
    )


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_every_recipe_gives_the_shape_it_promises(name):
    large = name in ("imagenette", "imagenet2012", "mhist")
    shape = {"tiny_imagenet": (64, 64, 3), "adp": (272, 272, 3)}.get(name, (32, 32, 3))
    if large:
        shape = (224, 224, 3)
    stored = (250, 300, 3) if "imagenet" in name and large else shape
    data = made(name, shape, stored)
    for transform in (data.train_transform, data.eval_transform):
        transform = pickle.loads(pickle.dumps(transform))
        found = transform(data.train[0]["image"], np.random.default_rng(0))
        assert found.shape == data.image_shape
        assert found.dtype == np.float32


def test_statistics_are_those_of_the_training_images():
    data = made("adp")
    pixels = Images(7, (32, 32, 3)).images.reshape(-1, 3) / 255
    np.testing.assert_allclose(data.mean, pixels.mean(0))
    np.testing.assert_allclose(data.deviation, pixels.std(0))
    some = recipes.channel_statistics(Images(10), limit=4)
    chosen = Images(10).images[[0, 2, 5, 7]].reshape(-1, 3) / 255
    np.testing.assert_allclose(some, (chosen.mean(0), chosen.std(0)))


def test_published_statistics():
    data = made("cifar10")
    np.testing.assert_allclose(data.mean, (0.4914, 0.4824, 0.4467), atol=1e-4)
    np.testing.assert_allclose(data.deviation, (0.2471, 0.2435, 0.2616), atol=1e-4)
    assert made("imagenette", (224, 224, 3)).mean == (0.485, 0.456, 0.406)


def test_a_constant_channel_is_not_divided_by_zero():
    source = Images(3)
    source.images[..., 1] = 9
    mean, deviation = recipes.channel_statistics(source)
    assert mean[1] == 9 / 255
    assert deviation[1] == 1


def test_evaluation_draws_nothing():
    data = made("cifar10")
    image = data.test[1]["image"]
    generator = np.random.default_rng(0)
    before = generator.bit_generator.state
    found = data.eval_transform(image, generator)
    assert generator.bit_generator.state == before
    expected = (image / 255 - data.mean) / data.deviation
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_p1_crops_28_of_32_and_the_middle_when_measuring():
    data = recipes.cropped(made("cifar10"), 28)
    assert data.image_shape == (28, 28, 3)
    image = data.train[0]["image"]
    expected = (image[2:30, 2:30] / 255 - data.mean) / data.deviation
    found = data.eval_transform(image, np.random.default_rng(0))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    seen = set()
    for seed in range(200):
        crop = data.train_transform(image, np.random.default_rng(seed))
        pixels = np.rint((crop * data.deviation + np.array(data.mean)) * 255)
        straight = places(pixels.astype(np.uint8), image, 28)
        turned = places(pixels[:, ::-1].astype(np.uint8), image, 28)
        assert len(straight) + len(turned) == 1
        seen.add((bool(turned), *(straight or turned)[0]))
    assert len(seen) > 45  # of 2 x 5 x 5
    with pytest.raises(ExperimentError, match="--crop must be between 1 and 32 .* 33"):
        recipes.cropped(made("cifar10"), 33)


def test_a_crop_of_what_is_resized_is_a_resized_crop():
    data = recipes.cropped(made("imagenette", (224, 224, 3), (40, 60, 3)), 28)
    assert data.image_shape == (28, 28, 3)
    image = data.train[0]["image"]

    def normalised(image):
        return (np.asarray(image) / 255 - data.mean) / data.deviation

    # 256 : 224 = 32 : 28
    whole = PIL.Image.fromarray(image).resize((48, 32), PIL.Image.Resampling.BILINEAR)
    expected = normalised(whole.crop((10, 2, 38, 30)))
    found = data.eval_transform(image, np.random.default_rng(0))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for seed in range(4):
        generator = np.random.default_rng(seed)
        drawn = transforms.RandomResizedCrop(28)(image, generator)
        expected = normalised(transforms.HorizontalFlip()(drawn, generator))
        found = data.train_transform(image, np.random.default_rng(seed))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_cutout_comes_last():
    data = made("cifar10")
    assert recipes.cut_out(data, 0) is data
    both = recipes.cut_out(data, 16)
    image = data.train[0]["image"]
    before = data.train_transform(image, np.random.default_rng(5))
    after = both.train_transform(image, np.random.default_rng(5))
    hidden = (after == 0).all(-1)
    assert 64 <= hidden.sum() <= 256
    np.testing.assert_array_equal(after[~hidden], before[~hidden])
    assert both.eval_transform is data.eval_transform
