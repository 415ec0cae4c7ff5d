"""What is seen of a generator: a grid of samples, and a distance in features.

The features are the 64 hidden units of a small network of scikit-learn's (pixels, one
hidden layer of rectifiers, classes), trained on the training images with their labels,
always with the same seed. The distance is Fréchet's, between two normal distributions
with the means and covariances of the features of two sets of images. It is of the kind
of the FID, and not comparable with it: other features, other images, other numbers.
"""

import dataclasses
import functools
import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from experiments.files import write_atomically
from experiments.loops._gan_images import Images

_HIDDEN = 64
_MOST_IMAGES = 10_000
_GRID = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """A classifier whose hidden units are features.

    Attributes:
      network: the classifier.
      accuracy: on the validation images.
    """

    network: MLPClassifier
    accuracy: float

    def of(self, images: np.ndarray) -> np.ndarray:
        """Features, float64 ``(images, 64)``."""
        pixels = images.reshape(len(images), -1).astype(np.float64)
        hidden = pixels @ self.network.coefs_[0] + self.network.intercepts_[0]
        return np.maximum(hidden, 0)

    def classes(self, images: np.ndarray) -> np.ndarray:
        """The class of each image, as the classifier sees it."""
        return np.asarray(self.network.predict(images.reshape(len(images), -1)))


@functools.cache
def features_of(data: Images) -> Features:
    """Trains the classifier, once for the same images."""
    train = data.train[:_MOST_IMAGES]
    network = MLPClassifier((_HIDDEN,), max_iter=60, random_state=0)
    # threads only wait for one another over products as small as these
    with warnings.catch_warnings(), threadpool_limits(1):
        # it need not have converged: a fixed number of passes makes fixed features
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(train.reshape(len(train), -1), data.labels[:_MOST_IMAGES])
    held_out = data.validation.reshape(len(data.validation), -1)
    accuracy = network.score(held_out, data.validation_labels)
    return Features(network, float(accuracy))


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    r"""The squared Fréchet distance of two normal distributions.

    .. math::
      \|m_1 - m_2\|^2 + \operatorname{tr}\big(C_1 + C_2 - 2 (C_1 C_2)^{1/2}\big)

    Args:
      first: features, ``(images, features)``, for mean and covariance.
      second: those of the other images.

    Returns:
      The distance, 0 for the same features. Estimated from few images it is too large.

    References:
      Heusel et al., `GANs Trained by a Two Time-Scale Update Rule Converge to a Local
      Nash Equilibrium <https://arxiv.org/abs/1706.08500>`_, 2017, equation 6
    """
    means = first.mean(0) - second.mean(0)
    one, other = np.cov(first.T), np.cov(second.T)
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    # the eigenvalues of C1 C2 are those of this symmetric matrix
    shared = np.linalg.eigvalsh(root @ other @ root)
    trace = np.trace(one) + np.trace(other) - 2 * np.sqrt(np.maximum(shared, 0)).sum()
    return float(means @ means + trace)


def write_grid(images: np.ndarray, path: Path) -> None:
    """Writes images side by side as a PNG, whole or not at all.

    Args:
      images: at least 100, float, ``(images, size, size, channels)``, from -1 to 1; one
        or three channels.
      path: where to; its folder is made if it is missing.
    """
    size, channels = images.shape[1], images.shape[-1]
    gap = np.pad(
        images[: _GRID**2], ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-1
    )
    rows = gap.reshape(_GRID, _GRID, size + 1, size + 1, channels)
    page = rows.swapaxes(1, 2).reshape(_GRID * (size + 1), -1, channels)
    bytes_ = np.clip(np.rint((page + 1) * 127.5), 0, 255).astype(np.uint8)
    zoom = max(1, 48 // size)
    bytes_ = bytes_.repeat(zoom, 0).repeat(zoom, 1)
    picture = Image.fromarray(bytes_[..., 0] if channels == 1 else bytes_)
    file = io.BytesIO()
    picture.save(file, "png")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, file.getvalue())
