"""The convex problem: softmax regression on digits, and its minimum."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.data import load_dataset
from experiments.errors import ExperimentError

_NEWTON_STEPS = 30
_NORM = 1e-12
"""Gradient norm at which Newton's steps have arrived: half its square over the
smallest eigenvalue is what is left of the loss, far below float64's rounding."""


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Multinomial logistic regression; the penalty is on every weight, bias too.

    Attributes:
      features: a row per example, the last entry 1, float64 ``(examples, features)``.
      labels: int32 ``(examples,)``.
      num_classes: of the labels.
      l2: lambda in ``lambda / 2 * |w|^2``.
    """

    features: np.ndarray
    labels: np.ndarray
    num_classes: int
    l2: float

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def start(self) -> np.ndarray:
        """Weights of zero, ``(features, classes)``."""
        return np.zeros((self.features.shape[1], self.num_classes))

    def loss(self, weights: jax.Array, chosen: jax.Array | None = None) -> jax.Array:
        """The mean cross-entropy and the penalty.

        Args:
          weights: ``(features, classes)``.
          chosen: indices of examples; None takes all.

        Returns:
          A scalar.
        """
        features, labels = jnp.asarray(self.features), jnp.asarray(self.labels)
        if chosen is not None:
            features, labels = features[chosen], labels[chosen]
        losses = optax.softmax_cross_entropy_with_integer_labels(
            features @ weights, labels
        )
        return losses.mean() + self.l2 / 2 * jnp.sum(weights**2)


def load(l2: float) -> Problem:
    """The training split of scikit-learn's digits.

    Args:
      l2: the penalty's factor.

    Returns:
      The problem.
    """
    data = load_dataset("digits")
    pixels = data.train.images.reshape(len(data.train), -1).astype(np.float64)
    features = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)
    return Problem(features, data.train.labels, data.num_classes, l2)


@dataclasses.dataclass(frozen=True, eq=False)
class Minimum:
    """Where the loss is least.

    Attributes:
      weights: float64 ``(features, classes)``.
      value: the loss there.
      gradient_norm: what is left of the gradient.
      smallest: the Hessian's smallest eigenvalue there.
      largest: its largest.
    """

    weights: np.ndarray
    value: float
    gradient_norm: float
    smallest: float
    largest: float


def minimise(problem: Problem) -> Minimum:
    """Finds the minimum by Newton's method in float64.

    Args:
      problem: strongly convex.

    Returns:
      The minimum, to rounding.

    Raises:
      ExperimentError: if the whole steps, which are not searched along, do not arrive.
    """
    with jax.enable_x64(True):
        derivatives = jax.jit(jax.value_and_grad(problem.loss))
        curvature = jax.jit(jax.hessian(problem.loss))
        weights = problem.start
        for _ in range(_NEWTON_STEPS):
            value, gradient = map(np.asarray, derivatives(weights))
            norm = np.linalg.norm(gradient).item()
            if not norm > _NORM:
                break
            hessian = np.asarray(curvature(weights)).reshape(weights.size, -1)
            try:
                step = np.linalg.solve(hessian, gradient.ravel())
            except np.linalg.LinAlgError:
                norm = np.nan
                break
            weights = weights - step.reshape(weights.shape)
        else:
            norm = np.nan
        if not norm <= _NORM:
            raise ExperimentError(
                "Newton's method did not find the minimum; choose a larger --l2, got "
                f"{problem.l2}"
            )
        hessian = np.asarray(curvature(weights)).reshape(weights.size, -1)
        smallest, *_, largest = np.linalg.eigvalsh(hessian).tolist()
    return Minimum(weights, value.item(), norm, smallest, largest)
