"""One round of a GAN: the critic's steps on images of their own, then the other's."""

import dataclasses
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
from experiments.loops._gan_totals import RoundMetrics
from experiments.loops._skip import skipping
from experiments.parallel import Placement, apply_in_place, in_place
from optax_ia import registry
from optax_ia.flax import TrainState, kfac_layers


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

    def __init__(
        self,
        config: GanRun,
        data: Images,
        placement: Placement | None = None,
        *,
        skip: bool = False,
    ):
        """Builds both steps; nothing is computed.

        Args:
          config: the run.
          data: the images.
          placement: the devices; None for one.
          skip: leave out updates whose gradient is not finite.
        """
        self._config, self._data = config, data
        self._placement, self._skip = placement, skip
        self.generator, self.critic = networks(
            data.size,
            data.channels,
            config.features,
            config.extra_layers,
            config.constraint,
            config.precision,
        )
        keys = jax.random.split(jax.random.key(config.seed), 4)
        self._init_keys, self._critic_key, self._generator_key = keys[:2], *keys[2:]
        self._current: GanState | None = None
        penalised = config.constraint == "penalty"
        self.critic_apply = steps.critic_apply(self.critic, penalised, placement)
        self.generator_apply = steps.generator_apply(
            self.generator, self.critic, placement
        )
        self._critic_needs = registry.get_record(config.critic_optimizer).needs
        self._generator_needs = registry.get_record(config.optimizer).needs
        needs = self._critic_needs
        self.critic_layers = self._kfac_layers(needs, critic=True)
        self.critic_step = steps.critic_step(
            self.generator,
            config.latent,
            config.penalty if penalised else None,
            needs,
            self.critic_layers,
            self._critic_batches if "full_gradient" in needs else None,
            placement,
        )
        needs = self._generator_needs
        self.generator_layers = self._kfac_layers(needs, critic=False)
        self.generator_step = steps.generator_step(
            config.batch_size,
            config.latent,
            needs,
            self.generator_layers,
            self._generator_batches if "full_gradient" in needs else None,
            placement,
        )

    def _variables(self, keys: jax.Array) -> tuple[Any, Any]:
        """Fresh variables of generator and critic."""
        noise = jnp.zeros((1, self._config.latent), jnp.float32)
        return (
            init_variables(self.generator, keys[0], noise),
            init_variables(self.critic, keys[1], self._data.train[:1]),
        )

    def _kfac_layers(self, needs: tuple[str, ...], *, critic: bool) -> Any:
        """The layers that K-FAC has factors of; not transposed convolutions."""
        if "kfac_factors" not in needs:
            return None
        of_generator, of_critic = jax.eval_shape(self._variables, self._init_keys)
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
                "real": self._put(self._data.train[number * size :][:size]),
                "generator": variables_of(state.generator),
                "number": number,
            }

    def _generator_batches(self) -> Iterator[Any]:
        """As many latent numbers as there are images, before the critic as it is."""
        state = self._current
        assert state is not None
        for number in range(len(self._data.train) // self._config.batch_size):
            yield {"critic": variables_of(state.critic), "number": number}

    def _put(self, images: Any) -> Any:
        """A batch that this host holds whole, cut over the devices."""
        return images if self._placement is None else self._placement.whole(images)

    def _create(self, variables: Any, epoch_steps: int, *, critic: bool) -> TrainState:
        """A fresh state of one of the networks."""
        if critic:
            needs, layers = self._critic_needs, self.critic_layers
            apply_fn = self.critic_apply
        else:
            needs, layers = self._generator_needs, self.generator_layers
            apply_fn = self.generator_apply
        shared = dataclasses.replace(self._config, seed=0)
        tx = build_optimizer(shared, epoch_steps, layers, critic)
        if self._placement is not None:
            tx = in_place(tx, self._placement)
            apply_fn = apply_in_place(apply_fn, self._placement)
        state = TrainState.create(
            apply_fn=apply_fn,
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            tx=tx,
        )
        return skipping(state, needs) if self._skip else state

    def init(self, epoch_steps: int) -> GanState:
        """Fresh networks, from the seed.

        Args:
          epoch_steps: rounds of an epoch.

        Returns:
          The state. No device holds more than its part at any time.

        Raises:
          ExperimentError: if updates of an optimiser cannot be left out.
        """

        def begin(keys: jax.Array) -> GanState:
            of_generator, of_critic = self._variables(keys)
            return GanState(
                generator=self._create(of_generator, epoch_steps, critic=False),
                critic=self._create(of_critic, epoch_steps, critic=True),
            )

        if self._placement is None:
            return begin(self._init_keys)
        shapes = jax.eval_shape(begin, self._init_keys)
        there = self._placement.shardings(shapes)
        return jax.jit(begin, out_shardings=there)(self._init_keys)

    def __call__(
        self, state: GanState, batch: Iterable[Any]
    ) -> tuple[GanState, RoundMetrics]:
        """One round.

        Args:
          state: donated: not to be used afterwards.
          batch: the images of each step of the critic, in this host's memory.

        Returns:
          The state after it, and its metrics, for :func:`add_totals`.
        """
        of_critic = []
        for real in batch:
            self._current = state
            inputs = {
                "real": self._put(real),
                "generator": variables_of(state.generator),
            }
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
        return GanState(generator, state.critic), (of_critic, metrics)
