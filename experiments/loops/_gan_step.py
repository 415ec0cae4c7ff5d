"""One update of the critic, and one of the generator, by any optimisers.

Each network's loss is written as the loss of that network alone, everything else it
needs being part of the batch: images and the generator's variables for the critic, the
critic's variables for the generator. So both are trained by the same step as every
other network, which hands any optimiser what it needs.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.loops._gan_networks import put_together
from experiments.parallel import Placement
from optax_ia import models
from optax_ia.flax import Likelihood, build_train_step

Variables = dict[str, Any]


class Judged(nn.Module):
    """A critic below a name of its own, so that no layer of a generator shares one.

    Attributes:
      critic: the network.
    """

    critic: nn.Module

    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """The critic's scores."""
        return self.critic(images, train)


def _outputs(module: nn.Module, variables: Variables, *arguments: Any) -> Any:
    """In training mode; and the variables with the batch statistics that it leaves."""
    if not jax.tree.leaves(variables.get("batch_stats", {})):
        return module.apply({"params": variables["params"]}, *arguments), variables
    outputs, left = module.apply(variables, *arguments, mutable=["batch_stats"])
    return outputs, {**variables, **left}


@functools.cache
def critic_apply(
    critic: nn.Module, penalised: bool, placement: Placement | None = None
) -> Callable[..., Any]:
    """What the critic's step takes for the network's ``apply``.

    Args:
      critic: the module.
      penalised: whether the penalty of its slope is wanted.
      placement: the devices; None for one.

    Returns:
      A function of variables and a batch to ``"real"`` and ``"fake"`` scores and the
      ``"penalty"``. As published, data and generated images pass through batch
      normalisation apart, data first.
    """

    def apply(variables, batch, *, train=True, mutable=(), rngs=None):
        del train, rngs
        variables = put_together(variables, placement)
        real, fake = batch["real"], batch["fake"]
        of_real, left = _outputs(critic, variables, real, True)
        of_fake, left = _outputs(critic, left, fake, True)
        outputs = {
            "real": of_real,
            "fake": of_fake,
            "penalty": jnp.zeros((), jnp.float32),
        }
        if penalised:
            outputs["penalty"] = models.gradient_penalty(
                lambda images: _outputs(critic, variables, images, True)[0],
                real,
                fake,
                batch["key"],
            )
        if mutable:
            return outputs, {"batch_stats": left["batch_stats"]}
        return outputs

    return apply


@functools.cache
def generator_apply(
    generator: nn.Module, critic: nn.Module, placement: Placement | None = None
) -> Callable[..., Any]:
    """What the generator's step takes for the network's ``apply``.

    Args:
      generator: the module.
      critic: the module that judges, in training mode; its statistics do not change.
      placement: the devices; None for one.

    Returns:
      A function of the generator's variables and a batch to scores, ``(batch, 1)``.
    """
    judge = Judged(critic)

    def apply(variables, batch, *, train=True, mutable=(), rngs=None):
        del train, rngs
        variables = put_together(variables, placement)
        images, left = _outputs(generator, variables, batch["noise"], True)
        nested = {
            kind: {"critic": tree}
            for kind, tree in put_together(batch["critic"], placement).items()
            if tree
        }
        scores, _ = _outputs(judge, nested, images, True)
        if mutable:
            return scores[:, None], {"batch_stats": left["batch_stats"]}
        return scores[:, None]

    return apply


def _scores(outputs: dict[str, jax.Array]) -> jax.Array:
    return jnp.concatenate([outputs["real"], outputs["fake"]])


def _noisy(key: jax.Array, scores: jax.Array) -> jax.Array:
    return scores + jax.random.normal(key, scores.shape, scores.dtype)


_UNIT_SCORES = Likelihood(
    "gaussian scores",
    lambda outputs, labels: 0.5 * jnp.square(_scores(outputs) - labels),
    lambda key, outputs: _noisy(key, _scores(outputs)),
)
"""For K-FAC: scores are no likelihood's; their Gauss-Newton matrix has unit weight."""


def _noise(
    key: jax.Array, shape: tuple[int, int], placement: Placement | None
) -> jax.Array:
    """Standard normal numbers, a row an image, the same on any devices.

    The rows are cut as a batch is: else every device would generate all images.
    """
    noise = jax.random.normal(key, shape, jnp.float32)
    if placement is None:
        return noise
    return jax.lax.with_sharding_constraint(noise, placement.by_rows)


def _itself(batch: Any) -> Any:
    return batch


def _step(
    prepare: Callable[..., Any],
    loss_fn: Callable[..., Any],
    likelihood: Any,
    needs: tuple[str, ...],
    layers: Any,
    full_batches: Any,
) -> Callable[..., Any]:
    """What the steps of both networks have in common."""
    return build_train_step(
        needs,
        loss_fn,
        inputs=_itself,
        prepare=prepare,
        rngs=(),
        full_batches=full_batches,
        kfac=None if layers is None else {"likelihood": likelihood, "layers": layers},
        norms=True,
    )


@functools.cache
def critic_step(
    generator: nn.Module,
    latent: int,
    penalty: float | None,
    needs: tuple[str, ...],
    layers: Any,
    full_batches: Any,
    placement: Placement | None = None,
) -> Callable[..., Any]:
    """The critic's step, on ``{"real": ..., "generator": variables, "number": 0}``.

    Args:
      generator: the module that makes the other images.
      latent: numbers that an image is made of.
      penalty: the weight of the gradient penalty; None: without.
      needs: the extra arguments that the optimiser needs.
      layers: for K-FAC.
      full_batches: for SVRG.
      placement: the devices; None for one.

    Returns:
      ``(state, batch, key)`` to state and metrics. Latent numbers follow from the key,
      the state's step, and the number, which tells several batches of a step apart.
    """

    def prepare(key, batch):
        key = jax.random.fold_in(key, batch["number"])
        noise_key, penalty_key = jax.random.split(key)
        noise = _noise(noise_key, (len(batch["real"]), latent), placement)
        maker = put_together(batch["generator"], placement)
        fake, _ = _outputs(generator, maker, noise, True)
        return {"real": batch["real"], "fake": fake, "key": penalty_key}

    def loss_fn(outputs, batch):
        del batch
        distance = -models.critic_loss(outputs["real"], outputs["fake"])
        loss = -distance + (penalty or 0.0) * outputs["penalty"]
        return loss, {"distance": distance, "penalty": outputs["penalty"]}

    return _step(prepare, loss_fn, _UNIT_SCORES, needs, layers, full_batches)


@functools.cache
def generator_step(
    batch_size: int,
    latent: int,
    needs: tuple[str, ...],
    layers: Any,
    full_batches: Any,
    placement: Placement | None = None,
) -> Callable[..., Any]:
    """The generator's step, on ``{"critic": variables, "number": 0}``.

    Args:
      batch_size: images to generate.
      latent: numbers that an image is made of.
      needs: the extra arguments that the optimiser needs.
      layers: for K-FAC.
      full_batches: for SVRG.
      placement: the devices; None for one.

    Returns:
      As :func:`critic_step`.
    """

    def prepare(key, batch):
        key = jax.random.fold_in(key, batch["number"])
        noise = _noise(key, (batch_size, latent), placement)
        return {"critic": batch["critic"], "noise": noise}

    def loss_fn(scores, batch):
        del batch
        return models.generator_loss(scores[:, 0])

    return _step(prepare, loss_fn, "gaussian", needs, layers, full_batches)
