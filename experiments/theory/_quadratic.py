"""The noisy quadratic of P0 section 4, and runs of it by the library's own averages."""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import optax_ia

Point = Literal["last", "tail", "ema"]
POINTS: tuple[Point, ...] = ("last", "tail", "ema")


@dataclasses.dataclass(frozen=True)
class Quadratic:
    """A loss ``w' H w / 2`` with diagonal H, descended along noisy gradients.

    Each update is ``w <- w - alpha * C^-1 (H w + eps)``, with eps normal, independent
    over updates and coordinates, of variance ``noise**2 / batch_size``.

    Attributes:
      parameters: P, the number of coordinates.
      batch_size: B.
      steps: n, the number of updates; all n iterates are averaged.
      learning_rate: alpha.
      decay: rho of the exponential moving average.
      noise: sigma, the deviation of one sample's gradient.
      initial: the value of every coordinate of w_0.
      lowest: the smallest eigenvalue of H; they are spaced evenly in their logarithm.
      highest: the largest.
      preconditioner: q in C = H^q; 0 is plain SGD.
    """

    parameters: int = 128
    batch_size: int = 8
    steps: int = 1000
    learning_rate: float = 0.5
    decay: float = 0.9
    noise: float = 1.0
    initial: float = 1.0
    lowest: float = 0.1
    highest: float = 1.0
    preconditioner: float = 0.0

    @property
    def eigenvalues(self) -> np.ndarray:
        """The eigenvalues of H, shape (P,)."""
        return np.geomspace(self.lowest, self.highest, self.parameters)

    @property
    def scale(self) -> np.ndarray:
        """The diagonal of C, shape (P,)."""
        return self.eigenvalues**self.preconditioner

    @property
    def variance(self) -> float:
        """The variance of one coordinate of a gradient: sigma^2 / B."""
        return self.noise**2 / self.batch_size

    @property
    def contraction(self) -> np.ndarray:
        """phi, what one update leaves of each coordinate without noise, shape (P,)."""
        return 1 - self.learning_rate * self.eigenvalues / self.scale

    def weights(self, point: Point) -> np.ndarray:
        """The weights of w_1 .. w_n in one of the three points, shape (n,)."""
        n, rho = self.steps, self.decay
        if point == "last":
            return np.eye(1, n, n - 1)[0]
        if point == "tail":
            return np.full(n, 1 / n)
        powers = rho ** np.arange(n - 1, -1, -1.0)
        return powers / powers.sum()


@functools.partial(jax.jit, static_argnames=("steps", "seeds"))
def _run(problem: dict[str, jax.Array], key: jax.Array, *, steps: int, seeds: int):
    precondition = optax.stateless(
        lambda gradient, _: jax.tree.map(lambda g: g / problem["scale"], gradient)
    )
    sgd = optax.chain(precondition, optax.sgd(problem["learning_rate"]))
    optimizers = {
        "tail": optax.chain(sgd, optax_ia.tail_average(1)),
        "ema": optax.chain(sgd, optax_ia.ema_average(problem["decay"])),
    }

    def update(carry, key):
        initial = problem["initial"]
        noise = jax.random.normal(key, initial.shape, initial.dtype)
        noise *= problem["deviation"]

        def one(name):
            params, state = carry[name]
            gradient = problem["eigenvalues"] * params + noise
            updates, state = optimizers[name].update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        return {name: one(name) for name in optimizers}, None

    def one_seed(key):
        initial = problem["initial"]
        carry = {name: (initial, tx.init(initial)) for name, tx in optimizers.items()}
        carry, _ = lax.scan(update, carry, jax.random.split(key, steps))
        points = {
            name: optax_ia.averaged_params(state, params)
            for name, (params, state) in carry.items()
        }
        return {"last": carry["tail"][0], **points}

    return jax.vmap(one_seed)(jax.random.split(key, seeds))


def simulate(
    problem: Quadratic, key: jax.Array, *, seeds: int
) -> dict[Point, np.ndarray]:
    """Runs the quadratic from several seeds.

    The averages are those of ``optax.chain(optax.sgd, optax_ia.tail_average)`` and of
    the same with ``optax_ia.ema_average``; both chains see the same noise.

    Args:
      problem: what to run.
      key: the random key that all seeds are split from.
      seeds: number of independent runs.

    Returns:
      For each point its coordinates, shape (seeds, P), float64.
    """
    arrays = {
        "eigenvalues": problem.eigenvalues,
        "scale": problem.scale,
        "initial": np.full(problem.parameters, problem.initial),
        "learning_rate": problem.learning_rate,
        "decay": problem.decay,
        "deviation": np.sqrt(problem.variance),
    }
    arrays = {name: jnp.asarray(a, jnp.float32) for name, a in arrays.items()}
    points = _run(arrays, key, steps=problem.steps, seeds=seeds)
    return {name: np.asarray(points[name], np.float64) for name in POINTS}
