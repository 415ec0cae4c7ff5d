"""Drawing from a generator and its average, and scoring what was drawn."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

import optax_ia
from experiments.loops._gan_images import Images
from experiments.loops._gan_networks import (
    GanState,
    apply_network,
    put_together,
    variables_of,
)
from experiments.loops._gan_scores import features_of, frechet_distance
from experiments.loops.engine import Row
from experiments.parallel import Placement
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


def _as_the_leader_has_it(scores: Row) -> Row:
    """The first process's numbers, in all of them.

    NumPy may round otherwise on another host, and what an optimiser is told and when a
    checkpoint is the best must be the same everywhere.
    """
    if jax.process_count() == 1:
        return scores
    known = {name: value for name, value in scores.items() if value is not None}
    # as bits: JAX would make them float32
    bits = np.array(list(known.values()), np.float64).view(np.int32)
    said = np.asarray(multihost_utils.broadcast_one_to_all(bits)).view(np.float64)
    kinds = [type(value) for value in known.values()]
    told = [kind(value) for kind, value in zip(kinds, said, strict=True)]
    return scores | dict(zip(known, told, strict=True))


def candidates(
    state: TrainState,
    generator: nn.Module,
    *,
    latent: int,
    batch_size: int,
    placement: Placement | None = None,
) -> dict[str, Any]:
    """The generator's variables, and the average's once something was averaged.

    Args:
      state: the generator's.
      generator: the module.
      latent: numbers that an image is made of.
      batch_size: images a batch, for the batch statistics.
      placement: the devices; None for one.

    Returns:
      ``""`` to the iterate's variables, and ``"average_"`` to the average's, with batch
      statistics estimated anew.
    """
    # Waited for: programs that talk over the devices, none of which waits for another,
    # can wait for ever for threads of a host whose CPU is several devices.
    found = {"": jax.block_until_ready(put_together(variables_of(state), placement))}
    if optax_ia.diagnostics(state.opt_state).get("num_averaged", 0) > 0:
        key = jax.random.key(_SAMPLE_KEY + 1)
        noises: Any = (
            jax.random.normal(
                jax.random.fold_in(key, number), (batch_size, latent), jnp.float32
            )
            for number in range(_RECALIBRATION_BATCHES)
        )
        if placement is not None:
            noises = (placement.whole(np.asarray(noise)) for noise in noises)
        average = optax_ia.averaged_params(state.opt_state, state.params)
        found["average_"] = recalibrate_batch_stats(
            generator.apply,
            put_together(
                {"params": average, "batch_stats": state.batch_stats}, placement
            ),
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
    placement: Placement | None = None,
) -> tuple[Row, dict[str, np.ndarray]]:
    """Scores of iterate and average against the validation images.

    Where several processes train together, each must call it.

    Args:
      state: of a run.
      generator: the module.
      critic: the module.
      data: the images.
      latent: numbers that an image is made of.
      batch_size: images a batch, for the average's batch statistics.
      placement: the devices; None for one.

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
    of_critic = put_together(variables_of(state.critic), placement)

    def mean_score(images: np.ndarray) -> float:
        scores = apply_network(critic, of_critic, images, placement)
        return float(scores.astype(np.float64).mean())

    of_train = mean_score(data.train[:count])
    of_held_out = mean_score(data.validation)
    found = candidates(
        state.generator,
        generator,
        latent=latent,
        batch_size=batch_size,
        placement=placement,
    )
    row: Row = {}
    drawn = {}
    for prefix in ("", "average_"):
        row |= dict.fromkeys([f"{prefix}{name}" for name in SCORES])
    for prefix, variables in found.items():
        images = apply_network(generator, variables, noise, placement)
        drawn[prefix] = images
        of_fake = mean_score(images)
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
    return _as_the_leader_has_it(row), drawn
