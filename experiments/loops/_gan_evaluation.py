"""Drawing from a generator and its average, and scoring what was drawn."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import optax_ia
from experiments.loops._gan_images import Images
from experiments.loops._gan_networks import GanState, apply_network, variables_of
from experiments.loops._gan_scores import features_of, frechet_distance
from experiments.loops.engine import Row
from optax_ia.flax import TrainState, recalibrate_batch_stats

_SAMPLE_KEY = 0
"""Samples come from the same latent numbers in every epoch of every run."""
_RECALIBRATION_BATCHES = 16
_FEWEST_SAMPLES = 512
SCORES = (
    "wasserstein_estimate",
    "train_wasserstein_estimate",
    "frechet_distance",
    "classes",
)


def _mean_score(critic: nn.Module, variables: Any, images: np.ndarray) -> float:
    return float(
        np.asarray(apply_network(critic, variables, images), np.float64).mean()
    )


def candidates(
    state: TrainState, generator: nn.Module, *, latent: int, batch_size: int
) -> dict[str, Any]:
    """The generator's variables, and the average's once something was averaged.

    Args:
      state: the generator's.
      generator: the module.
      latent: numbers that an image is made of.
      batch_size: images a batch, for the batch statistics.

    Returns:
      ``""`` to the iterate's variables, and ``"average_"`` to the average's, with batch
      statistics estimated anew.
    """
    found = {"": variables_of(state)}
    if optax_ia.diagnostics(state.opt_state).get("num_averaged", 0) > 0:
        key = jax.random.key(_SAMPLE_KEY + 1)
        noises = (
            jax.random.normal(
                jax.random.fold_in(key, number), (batch_size, latent), jnp.float32
            )
            for number in range(_RECALIBRATION_BATCHES)
        )
        average = optax_ia.averaged_params(state.opt_state, state.params)
        found["average_"] = recalibrate_batch_stats(
            generator.apply,
            {"params": average, "batch_stats": state.batch_stats},
            noises,
        )
    return found


def evaluate(
    state: GanState,
    generator: nn.Module,
    critic: nn.Module,
    data: Images,
    *,
    latent: int,
    batch_size: int,
) -> tuple[Row, dict[str, np.ndarray]]:
    """Scores of iterate and average against the validation images.

    Args:
      state: of a run.
      generator: the module.
      critic: the module.
      data: the images.
      latent: numbers that an image is made of.
      batch_size: images a batch, for the average's batch statistics.

    Returns:
      - the critic's estimate of the Wasserstein distance, on training and on
        validation images, up to its slope: comparable within a run alone;
      - Fréchet distances, and in how many classes there are samples;
      and the samples of each.
    """
    features = features_of(data)
    count = max(_FEWEST_SAMPLES, len(data.validation))
    key = jax.random.key(_SAMPLE_KEY)
    noise = jax.random.normal(key, (count, latent), jnp.float32)
    of_critic = variables_of(state.critic)
    of_train = _mean_score(critic, of_critic, data.train[:count])
    of_held_out = _mean_score(critic, of_critic, data.validation)
    found = candidates(state.generator, generator, latent=latent, batch_size=batch_size)
    row: Row = {}
    drawn = {}
    for prefix in ("", "average_"):
        row |= dict.fromkeys([f"{prefix}{name}" for name in SCORES])
    for prefix, variables in found.items():
        images = np.asarray(apply_network(generator, variables, noise))
        drawn[prefix] = images
        of_fake = _mean_score(critic, of_critic, images)
        row[f"{prefix}wasserstein_estimate"] = of_held_out - of_fake
        row[f"{prefix}train_wasserstein_estimate"] = of_train - of_fake
        finite = bool(np.isfinite(images).all())
        row[f"{prefix}frechet_distance"] = (
            frechet_distance(features.of(images), features.of(data.validation))
            if finite
            else float("nan")
        )
        row[f"{prefix}classes"] = (
            len(np.unique(features.classes(images))) if finite else 0
        )
    return row, drawn
