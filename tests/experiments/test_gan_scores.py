"""What is seen of a GAN: distances in features of a classifier, grids of samples."""

import numpy as np
import scipy.linalg
from PIL import Image

from experiments.loops import _gan_scores as gan_scores
from tests.experiments.tiny_gan import digits


def test_frechet_distance_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(200, 3)), rng.normal(size=(300, 3)) * 2 + 1
    assert abs(gan_scores.frechet_distance(one, one)) < 1e-12
    shifted = gan_scores.frechet_distance(one, one + [3.0, 0.0, 4.0])
    np.testing.assert_allclose(shifted, 25.0)
    np.testing.assert_allclose(  # (1 - 2)^2 of each of three variances
        gan_scores.frechet_distance(one, 2 * one - one.mean(0)),
        np.var(one, 0, ddof=1).sum(),
    )
    covariances = np.cov(one.T), np.cov(other.T)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    wanted = np.sum((one.mean(0) - other.mean(0)) ** 2)
    wanted += np.trace(covariances[0] + covariances[1] - 2 * root)
    np.testing.assert_allclose(gan_scores.frechet_distance(one, other), wanted)


def test_the_classifier_is_fixed_and_knows_digits():
    features = gan_scores.features_of(digits())
    assert features.accuracy > 0.9
    held_out = digits().validation
    hidden = features.of(held_out)
    assert hidden.shape == (450, 64)
    assert (hidden >= 0).all()
    network = features.network  # its own answer, from the features alone
    logits = hidden @ network.coefs_[1] + network.intercepts_[1]
    np.testing.assert_array_equal(logits.argmax(1), features.classes(held_out))
    again = gan_scores.features_of.__wrapped__(digits())
    np.testing.assert_array_equal(again.of(held_out), hidden)


def test_a_grid_is_a_picture_of_the_samples(tmp_path):
    images = np.full((120, 8, 8, 1), -1, np.float32)
    images[0], images[11, 2, 3] = 1, 0
    path = tmp_path / "samples" / "epoch_0001.png"
    gan_scores.write_grid(images, path)
    assert list(path.parent.iterdir()) == [path]
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (540, 540)  # ten of 8 + 1, six times as large
    pixels = pixels[::6, ::6]
    assert (pixels[:8, :8] == 255).all()
    assert pixels[9 + 2, 9 + 3] == 128  # the second of the second row
    assert (pixels > 0).sum() == 65
    gan_scores.write_grid(np.ones((100, 32, 32, 3)), path)
    with Image.open(path) as picture:
        assert picture.mode == "RGB"
