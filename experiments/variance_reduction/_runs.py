"""What is compared, and a run of it: the gap to the minimum, epoch by epoch."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import optax_ia
from experiments.configs.p2.variance_reduction import VarianceReductionConfig
from experiments.data import epoch_order
from experiments.variance_reduction._problem import Minimum, Problem

Row = dict[str, Any]

COLUMNS = ("method", "seed", "epoch", "passes", "gap")


@dataclasses.dataclass(frozen=True)
class Method:
    """One of the methods, with what a run of it costs.

    Attributes:
      name: in the CSV file.
      label: in figure and table.
      examples: in the whole of the training data.
      batch_size: of a step.
      snapshot_size: examples that a snapshot's gradient is taken over; 0 without SVRG.
      snapshot_every: updates between snapshots; 0 without SVRG.
      decays: whether the rate does.
    """

    name: str
    label: str
    examples: int
    batch_size: int
    snapshot_size: int = 0
    snapshot_every: int = 0
    decays: bool = False

    @property
    def steps(self) -> int:
        """Updates per epoch; the examples left over are others in each."""
        return self.examples // self.batch_size

    def passes(self, epochs: int) -> float:
        """Gradients of single examples per example of the data.

        Args:
          epochs: that are done.

        Returns:
          Two per example of a step of SVRG, and those of its snapshots.
        """
        steps = epochs * self.steps
        if not self.snapshot_every:
            return steps * self.batch_size / self.examples
        snapshots = math.ceil(steps / self.snapshot_every)
        gradients = 2 * steps * self.batch_size + snapshots * self.snapshot_size
        return gradients / self.examples

    def epochs(self, passes: float) -> int:
        """The epochs that a number of passes is enough for."""
        epochs = 0
        while self.passes(epochs + 1) <= passes:
            epochs += 1
        return epochs

    def optimizer(
        self, config: VarianceReductionConfig
    ) -> optax.GradientTransformationExtraArgs:
        """The optimiser.

        Args:
          config: for the rate.

        Returns:
          SGD, alone or inside :func:`optax_ia.svrg`.
        """
        rate = config.learning_rate
        decay = rate * config.l2

        def inverse_time(count):
            return rate / (1 + decay * count)

        sgd = optax.sgd(inverse_time if self.decays else rate)
        if self.snapshot_every:
            return optax_ia.svrg(sgd, self.snapshot_every)
        return optax.with_extra_args_support(sgd)


def methods(config: VarianceReductionConfig, examples: int) -> tuple[Method, ...]:
    """The methods of a comparison.

    Args:
      config: the comparison.
      examples: in the training data.

    Returns:
      In the order of the table.
    """
    size = config.batch_size
    steps = examples // size
    large = max(1, round(config.large_batch * examples))
    share, often = f"{config.large_batch:.0%}", steps // config.often

    def svrg(name: str, label: str, snapshot_size: int, every: int) -> Method:
        return Method(name, label, examples, size, snapshot_size, every)

    return (
        Method("sgd", "SGD, the same rate", examples, size),
        Method("sgd_decay", "SGD, decaying rate", examples, size, decays=True),
        svrg("svrg", "SVRG, full gradient", examples, steps),
        svrg("svrg_large", f"SVRG, {share} every {steps} steps", large, steps),
        svrg("svrg_large_often", f"SVRG, {share} every {often} steps", large, often),
    )


def _batches(method: Method, epochs: int, seed: int) -> np.ndarray:
    """Indices ``(epochs, steps, batch_size)``, without replacement in an epoch."""
    used = method.steps * method.batch_size
    orders = [
        epoch_order(method.examples, seed=seed, epoch=epoch)[:used]
        for epoch in range(epochs)
    ]
    return np.array(orders).reshape(epochs, method.steps, method.batch_size)


def runner(
    problem: Problem,
    minimum: Minimum,
    method: Method,
    config: VarianceReductionConfig,
) -> Callable[[int], list[Row]]:
    """Compiles a method's run, once for all seeds.

    Args:
      problem: what is minimised.
      minimum: its minimum.
      method: how.
      config: the comparison.

    Returns:
      A function from the seed to the rows of a run, by :data:`COLUMNS`, that of the
      start first; ``gap`` is None once the run has diverged.
    """
    tx = method.optimizer(config)
    gradient = jax.grad(problem.loss)
    epochs = method.epochs(config.passes)

    def snapshot_gradient(weights, key):
        if method.snapshot_size == method.examples:
            return gradient(weights)
        shape = (method.snapshot_size,)
        chosen = jax.random.choice(key, method.examples, shape, replace=False)
        return gradient(weights, chosen)

    def update(carry: Any, chosen: Any) -> tuple[Any, None]:
        weights, state, key = carry
        key, snapshot_key = jax.random.split(key)
        extra = {}
        if method.snapshot_every:
            extra["grad_fn"] = lambda point: gradient(point, chosen)
            extra["full_gradient"] = lax.cond(
                optax_ia.svrg_snapshot_due(state),
                snapshot_gradient,
                lambda weights, _: jnp.zeros_like(weights),
                weights,
                snapshot_key,
            )
        updates, state = tx.update(gradient(weights, chosen), state, weights, **extra)
        return (optax.apply_updates(weights, updates), state, key), None

    def epoch(carry, batches):
        carry, _ = lax.scan(update, carry, batches)
        return carry, problem.loss(carry[0])

    @jax.jit
    def losses(batches, key):
        weights = jnp.asarray(problem.start)
        carry = (weights, tx.init(weights), key)
        _, after = lax.scan(epoch, carry, batches)
        return jnp.append(problem.loss(weights), after)

    def run(seed: int) -> list[Row]:
        with jax.enable_x64(True):
            batches = _batches(method, epochs, seed)
            gaps = np.asarray(losses(batches, jax.random.key(seed))) - minimum.value
        return [
            {
                "method": method.name,
                "seed": seed,
                "epoch": number,
                "passes": round(method.passes(number), 4),
                "gap": float(f"{gap:.4g}") if np.isfinite(gap) else None,
            }
            for number, gap in enumerate(gaps)
        ]

    return run
