"""A run's network as functions of parameters and batches, with their statistics."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.analyse._run import Trained
from experiments.data import Dataset, Split, epoch_batches
from optax_ia.flax import recalibrate_batch_stats

_BATCH = 512

Batch = tuple[Any, Any, Any]
"""Images, labels, batch statistics: these too are data, so one program serves all."""


@functools.cache
def loss_of(apply_fn: Callable[..., Any]) -> Callable[..., jax.Array]:
    """The mean cross entropy in evaluation mode, the same object for one network.

    Args:
      apply_fn: the model's ``apply``.

    Returns:
      ``(params, batch)`` to the loss; as a third argument it takes statistics that
      stand for those of the batch.
    """

    def loss(params, batch, prepared=None):
        logits, labels = _logits(apply_fn, params, batch, prepared)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    return loss


@functools.cache
def error_of(apply_fn: Callable[..., Any]) -> Callable[..., jax.Array]:
    """The share of wrong answers, as :func:`loss_of` gives the loss."""

    def error(params, batch, prepared=None):
        logits, labels = _logits(apply_fn, params, batch, prepared)
        return jnp.mean(logits.argmax(-1) != labels, dtype=jnp.float32)

    return error


def _logits(apply_fn, params, batch: Batch, prepared):
    images, labels, stats = batch
    stats = stats if prepared is None else prepared
    variables = {"params": params, "batch_stats": stats}
    return apply_fn(variables, images, train=False), labels


def batches_of(split: Split, stats: Any) -> list[Batch]:
    """A split in few batches of nearly one size, each with the same statistics."""
    count = -(-len(split) // _BATCH)
    parts = np.array_split(np.arange(len(split)), count)
    return [(split.images[part], split.labels[part], stats) for part in parts]


@dataclasses.dataclass(frozen=True)
class Points:
    """The two points that are compared, and how statistics are estimated anywhere.

    Attributes:
      variables: parameters and statistics by name, ``last iterate`` and ``average``.
      prepare: parameters to statistics estimated for them.
    """

    variables: dict[str, dict[str, Any]]
    prepare: Callable[[Any], Any]

    def statistics(self, name: str, *, kept: bool) -> Callable[[Any], Any]:
        """What gives statistics near one of the points.

        Args:
          name: of the point.
          kept: whether to give that point's own everywhere, rather than estimates.

        Returns:
          A function of parameters.
        """
        own = self.variables[name]["batch_stats"]
        return (lambda params: own) if kept else self.prepare


ITERATE, AVERAGE = "last iterate", "average"


def points_of(trained: Trained, data: Dataset) -> Points:
    """The last iterate with its running statistics, the average with fresh ones.

    Fresh ones are of one pass over the training data, augmented and in batches as in
    training: the same that the run's own evaluations take.

    Args:
      trained: the run.
      data: its data.

    Returns:
      The points.
    """
    run, state = trained.run, trained.state
    key = jax.random.split(jax.random.key(run.seed), 3)[2]
    batches = [
        data.augment(jax.random.fold_in(key, number), images)
        for number, (images, _) in enumerate(
            epoch_batches(data.train, run.batch_size, seed=run.seed, epoch=0)
        )
    ]

    def prepare(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        if not jax.tree.leaves(state.batch_stats):
            return {}
        fresh = recalibrate_batch_stats(
            state.apply_fn, variables, batches, rngs={"dropout": key}
        )
        return fresh["batch_stats"]

    average = trained.average
    return Points(
        variables={
            ITERATE: {"params": state.params, "batch_stats": state.batch_stats},
            AVERAGE: {"params": average, "batch_stats": prepare(average)},
        },
        prepare=prepare,
    )


@functools.partial(jax.jit, static_argnames="apply_fn")
def _predict(apply_fn, variables, images):
    return apply_fn(variables, images, train=False)


def logits_on(apply_fn: Callable[..., Any], variables: Any, split: Split) -> np.ndarray:
    """All logits on a split, shape (examples, classes)."""
    parts = [
        np.asarray(_predict(apply_fn, variables, images))
        for images, _, _ in batches_of(split, None)
    ]
    return np.concatenate(parts)
