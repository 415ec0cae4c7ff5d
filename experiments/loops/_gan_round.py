"""One round of a GAN: the critic's steps on images of their own, then the other's."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from experiments.configs.p4.gan import GanRun
from experiments.loops import _gan_step as steps
from experiments.loops._gan_images import Images
from experiments.loops._gan_networks import (
    GanState,
    init_variables,
    networks,
    variables_of,
)
from experiments.loops._gan_optimizer import build_optimizer
from optax_ia import registry
from optax_ia.flax import TrainState, kfac_layers

Metrics = dict[str, jax.Array]

_TOTALS = (
    "loss",
    "distance",
    "penalty",
    "generator_loss",
    "critic_gradient_norm",
    "critic_update_norm",
    "gradient_norm",
    "update_norm",
)


def zero_totals() -> Metrics:
    """The sums of an epoch at its start."""
    return {name: jnp.zeros((), jnp.float32) for name in _TOTALS}


@functools.partial(jax.jit, donate_argnums=0)
def add_totals(totals: Metrics, new: Metrics) -> Metrics:
    """The sums of an epoch with the metrics of a round; ``totals`` are donated."""
    return {name: total + new[name] for name, total in totals.items()}


@jax.jit
def _means(of_critic: list[Metrics], of_generator: Metrics) -> Metrics:
    """Means over the critic's steps; the generator's as they are."""
    mean = {
        name: jnp.stack([metrics[name] for metrics in of_critic]).mean()
        for name in of_critic[0]
    }
    return {
        "loss": mean["loss"],
        "distance": mean["distance"],
        "penalty": mean["penalty"],
        "critic_gradient_norm": mean["gradient_norm"],
        "critic_update_norm": mean["update_norm"],
        "generator_loss": of_generator["loss"],
        "gradient_norm": of_generator["gradient_norm"],
        "update_norm": of_generator["update_norm"],
    }


class Round:
    """Networks and steps of a run.

    Attributes:
      generator: the module.
      critic: the module.
      generator_apply: what the generator's step takes for its ``apply``.
      critic_apply: the same of the critic's.
      generator_layers: those with Kronecker factors, if K-FAC trains the generator.
      critic_layers: the same of the critic.
      generator_step: ``(state, batch, key)`` to state and metrics.
      critic_step: the same of the critic.
    """

    def __init__(self, config: GanRun, data: Images):
        """Builds both steps; nothing is computed.

        Args:
          config: the run.
          data: the images.
        """
        self._config, self._data = config, data
        self.generator, self.critic = networks(
            data.size,
            data.channels,
            config.features,
            config.extra_layers,
            config.constraint,
        )
        keys = jax.random.split(jax.random.key(config.seed), 4)
        self._init_keys, self._critic_key, self._generator_key = keys[:2], *keys[2:]
        self._current: GanState | None = None
        penalised = config.constraint == "penalty"
        self.critic_apply = steps.critic_apply(self.critic, penalised)
        self.generator_apply = steps.generator_apply(self.generator, self.critic)
        needs = registry.get_record(config.critic_optimizer).needs
        self.critic_layers = self._kfac_layers(needs, critic=True)
        self.critic_step = steps.critic_step(
            self.generator,
            config.latent,
            config.penalty if penalised else None,
            needs,
            self.critic_layers,
            self._critic_batches if "full_gradient" in needs else None,
        )
        needs = registry.get_record(config.optimizer).needs
        self.generator_layers = self._kfac_layers(needs, critic=False)
        self.generator_step = steps.generator_step(
            config.batch_size,
            config.latent,
            needs,
            self.generator_layers,
            self._generator_batches if "full_gradient" in needs else None,
        )

    def _variables(self) -> tuple[Any, Any]:
        """Fresh variables of generator and critic."""
        noise = jnp.zeros((1, self._config.latent), jnp.float32)
        return (
            init_variables(self.generator, self._init_keys[0], noise),
            init_variables(self.critic, self._init_keys[1], self._data.train[:1]),
        )

    def _kfac_layers(self, needs: tuple[str, ...], *, critic: bool) -> Any:
        """The layers that K-FAC has factors of; not transposed convolutions."""
        if "kfac_factors" not in needs:
            return None
        of_generator, of_critic = jax.eval_shape(self._variables)
        images = jax.ShapeDtypeStruct(self._data.train[:2].shape, jnp.float32)
        if critic:
            batch = {"real": images, "fake": images, "key": jax.random.key(0)}
            apply, variables = self.critic_apply, of_critic
        else:
            noise = jax.ShapeDtypeStruct((2, self._config.latent), jnp.float32)
            batch = {"critic": of_critic, "noise": noise}
            apply, variables = self.generator_apply, of_generator
        return kfac_layers(apply, variables, batch, inputs=lambda batch: batch, rngs=())

    def _critic_batches(self) -> Iterator[Any]:
        """All training images, for SVRG, against the generator as it is now."""
        state, size = self._current, self._config.batch_size
        assert state is not None
        for number in range(len(self._data.train) // size):
            yield {
                "real": self._data.train[number * size : (number + 1) * size],
                "generator": variables_of(state.generator),
                "number": number,
            }

    def _generator_batches(self) -> Iterator[Any]:
        """As many latent numbers as there are images, before the critic as it is."""
        state = self._current
        assert state is not None
        for number in range(len(self._data.train) // self._config.batch_size):
            yield {"critic": variables_of(state.critic), "number": number}

    def init(self, epoch_steps: int) -> GanState:
        """Fresh networks, from the seed.

        Args:
          epoch_steps: rounds of an epoch.

        Returns:
          The state.
        """
        shared = dataclasses.replace(self._config, seed=0)
        of_generator, of_critic = self._variables()
        return GanState(
            generator=TrainState.create(
                apply_fn=self.generator_apply,
                params=of_generator["params"],
                batch_stats=of_generator.get("batch_stats", {}),
                tx=build_optimizer(shared, epoch_steps, self.generator_layers, False),
            ),
            critic=TrainState.create(
                apply_fn=self.critic_apply,
                params=of_critic["params"],
                batch_stats=of_critic.get("batch_stats", {}),
                tx=build_optimizer(shared, epoch_steps, self.critic_layers, True),
            ),
        )

    def __call__(
        self, state: GanState, batch: Iterable[Any]
    ) -> tuple[GanState, Metrics]:
        """One round.

        Args:
          state: donated: not to be used afterwards.
          batch: the images of each step of the critic.

        Returns:
          The state after it, and its metrics.
        """
        of_critic = []
        for real in batch:
            self._current = state
            inputs = {"real": real, "generator": variables_of(state.generator)}
            critic, metrics = self.critic_step(
                state.critic, inputs | {"number": 0}, self._critic_key
            )
            state = GanState(state.generator, critic)
            of_critic.append(metrics)
        self._current = state
        inputs = {"critic": variables_of(state.critic), "number": 0}
        generator, metrics = self.generator_step(
            state.generator, inputs, self._generator_key
        )
        self._current = None
        return GanState(generator, state.critic), _means(of_critic, metrics)
