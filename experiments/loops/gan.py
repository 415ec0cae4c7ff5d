"""A Wasserstein GAN: several steps of the critic, then one of the generator.

A step of the engine is one round of algorithm 1: ``critic_steps`` updates of the
critic, each on images of its own, then one update of the generator. Both networks are
trained in training mode of their batch normalisations, as published, by any optimisers
of the registry, at constant rates. The generator's average, where its optimiser keeps
one, is drawn from with batch statistics estimated anew; the critic's is not used.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import optax_ia
from experiments.checkpoints import Checkpoints
from experiments.configs.p4.gan import GanConfig, GanRun, check_gan
from experiments.data import Batches, Dataset, load_dataset
from experiments.errors import ExperimentError
from experiments.loops import _gan_step as steps
from experiments.loops._gan_evaluation import SCORES as SCORES
from experiments.loops._gan_evaluation import evaluate
from experiments.loops._gan_images import Images, RoundReader, images_of
from experiments.loops._gan_networks import (
    GanState,
    init_variables,
    networks,
    variables_of,
)
from experiments.loops._gan_optimizer import build_optimizer
from experiments.loops._gan_scores import features_of, frechet_distance, write_grid
from experiments.loops.engine import (
    OnNan,
    Row,
    Task,
    Training,
    fit,
    norms_and_diagnostics,
    without_nan,
)
from optax_ia import registry
from optax_ia.flax import TrainState, kfac_layers

_LARGEST = 64
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


@functools.partial(jax.jit, donate_argnums=0)
def _add(
    totals: dict[str, jax.Array], of_critic: list[dict[str, Any]], of_generator: Any
) -> dict[str, jax.Array]:
    """Means over the critic's steps; the generator's as they are."""
    mean = {
        name: sum(metrics[name] for metrics in of_critic) / len(of_critic)
        for name in of_critic[0]
    }
    new = {
        "loss": mean["loss"],
        "distance": mean["distance"],
        "penalty": mean["penalty"],
        "critic_gradient_norm": mean["gradient_norm"],
        "critic_update_norm": mean["update_norm"],
        "generator_loss": of_generator["loss"],
        "gradient_norm": of_generator["gradient_norm"],
        "update_norm": of_generator["update_norm"],
    }
    return {name: total + new[name] for name, total in totals.items()}


@dataclasses.dataclass
class GanTask(Task):
    """One run of one configuration, for the engine.

    Attributes:
      config: the run.
      data: the images.
      samples: where grids of samples go; None draws none.
    """

    config: GanRun
    data: Images
    samples: Path | None = None
    score_name = "frechet_distance"
    score_mode = "min"

    def __post_init__(self):
        config, data = self.config, self.data
        self.label = f"{config.optimizer}, seed {config.seed}"
        self.epochs = config.epochs
        self._rounds = config.epoch_steps
        if self._rounds is None:
            images = config.batch_size * config.critic_steps
            self._rounds = max(1, len(data.train) // images)
        self._generator, self._critic = networks(
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
        self._critic_apply = steps.critic_apply(self._critic, penalised)
        self._generator_apply = steps.generator_apply(self._generator, self._critic)
        needs = registry.get_record(config.critic_optimizer).needs
        self._critic_layers = self._layers(needs, critic=True)
        self._critic_step = steps.critic_step(
            self._generator,
            config.latent,
            config.penalty if penalised else None,
            needs,
            self._critic_layers,
            self._critic_batches if "full_gradient" in needs else None,
        )
        needs = registry.get_record(config.optimizer).needs
        self._generator_layers = self._layers(needs, critic=False)
        self._generator_step = steps.generator_step(
            config.batch_size,
            config.latent,
            needs,
            self._generator_layers,
            self._generator_batches if "full_gradient" in needs else None,
        )

    def _variables(self) -> tuple[Any, Any]:
        """Fresh variables of generator and critic."""
        noise = jnp.zeros((1, self.config.latent), jnp.float32)
        return (
            init_variables(self._generator, self._init_keys[0], noise),
            init_variables(self._critic, self._init_keys[1], self.data.train[:1]),
        )

    def _layers(self, needs: tuple[str, ...], *, critic: bool) -> Any:
        """The layers that K-FAC has factors of; not transposed convolutions."""
        if "kfac_factors" not in needs:
            return None
        of_generator, of_critic = jax.eval_shape(self._variables)
        images = jax.ShapeDtypeStruct(self.data.train[:2].shape, jnp.float32)
        if critic:
            batch = {"real": images, "fake": images, "key": jax.random.key(0)}
            apply, variables = self._critic_apply, of_critic
        else:
            noise = jax.ShapeDtypeStruct((2, self.config.latent), jnp.float32)
            batch = {"critic": of_critic, "noise": noise}
            apply, variables = self._generator_apply, of_generator
        return kfac_layers(apply, variables, batch, inputs=lambda batch: batch, rngs=())

    def _critic_batches(self) -> Iterator[Any]:
        """All training images, for SVRG, against the generator as it is now."""
        state, size = self._current, self.config.batch_size
        assert state is not None
        for number in range(len(self.data.train) // size):
            yield {
                "real": self.data.train[number * size : (number + 1) * size],
                "generator": variables_of(state.generator),
                "number": number,
            }

    def _generator_batches(self) -> Iterator[Any]:
        """As many latent numbers as there are images, before the critic as it is."""
        state = self._current
        assert state is not None
        for number in range(len(self.data.train) // self.config.batch_size):
            yield {"critic": variables_of(state.critic), "number": number}

    def epoch_steps(self, epoch: int) -> int:
        """Rounds: steps of the generator."""
        del epoch
        assert self._rounds is not None
        return self._rounds

    def init(self) -> Training:
        """Fresh networks, from the seed."""
        shared = dataclasses.replace(self.config, seed=0)
        rounds = self.epoch_steps(0)
        of_generator, of_critic = self._variables()
        state = GanState(
            generator=TrainState.create(
                apply_fn=self._generator_apply,
                params=of_generator["params"],
                batch_stats=of_generator.get("batch_stats", {}),
                tx=build_optimizer(shared, rounds, self._generator_layers, False),
            ),
            critic=TrainState.create(
                apply_fn=self._critic_apply,
                params=of_critic["params"],
                batch_stats=of_critic.get("batch_stats", {}),
                tx=build_optimizer(shared, rounds, self._critic_layers, True),
            ),
        )
        totals = {name: jnp.zeros((), jnp.float32) for name in _TOTALS}
        return Training(state, {}, totals)

    def batches(self) -> Batches:
        """The images of all rounds, each pass over the data shuffled by itself."""
        reader = RoundReader(self.data.train, self.config)
        return Batches(reader, self.epochs * self.epoch_steps(0), threads=0)

    def step(self, training: Training, batch: Any, step: int) -> Training:
        """One round."""
        del step  # the states count for themselves
        state: GanState = training.state
        of_critic = []
        for real in batch:
            self._current = state
            inputs = {"real": real, "generator": variables_of(state.generator)}
            critic, metrics = self._critic_step(
                state.critic, inputs | {"number": 0}, self._critic_key
            )
            state = GanState(state.generator, critic)
            of_critic.append(metrics)
        self._current = state
        inputs = {"critic": variables_of(state.critic), "number": 0}
        generator, metrics = self._generator_step(
            state.generator, inputs, self._generator_key
        )
        self._current = None
        state = GanState(generator, state.critic)
        return training.replace(
            state=state, totals=_add(training.totals, of_critic, metrics)
        )

    def evaluate(self, state: GanState) -> tuple[Row, dict[str, Any]]:
        """Scores, and the samples that they are of."""
        return evaluate(
            state,
            self._generator,
            self._critic,
            self.data,
            latent=self.config.latent,
            batch_size=self.config.batch_size,
        )

    def end_epoch(
        self, training: Training, means: dict[str, float], epoch: int, step: int
    ) -> tuple[Training, Row]:
        """Draws samples, scores them, tells the optimiser if it listens."""
        state: GanState = training.state
        scores, drawn = self.evaluate(state)
        best = scores["average_frechet_distance"]
        if best is None:
            best = scores["frechet_distance"]
        if self.samples is not None:
            for prefix, images in drawn.items():
                write_grid(images, self.samples / f"{prefix}epoch_{epoch:04d}.png")
        state = GanState(
            generator=_told(state.generator, best), critic=_told(state.critic, best)
        )
        row = {
            "optimizer": self.config.optimizer,
            "seed": self.config.seed,
            "epoch": epoch,
            "step": step,
            "critic_step": int(state.critic.step),
            "train_loss": means["loss"],
            "train_distance": means["distance"],
            "train_penalty": means["penalty"],
            "generator_loss": means["generator_loss"],
            **scores,
            "critic_gradient_norm": means["critic_gradient_norm"],
            "critic_update_norm": means["critic_update_norm"],
            **norms_and_diagnostics(
                means, state.generator.params, state.generator.opt_state
            ),
        }
        return training.replace(state=state), row

    def wants_stop(self, training: Training) -> bool:
        """Whether a generator's optimiser that finds its start has found its end."""
        state = training.state.generator
        return _listens(state) and bool(optax_ia.should_stop(state.opt_state))


def _listens(state: TrainState) -> bool:
    """Whether an optimiser wants a validation metric, to start and to stop."""
    return "averaging_phase" in optax_ia.diagnostics(state.opt_state)


def _told(state: TrainState, score: float) -> TrainState:
    if not _listens(state):
        return state
    return state.replace(opt_state=optax_ia.record_metric(state.opt_state, score))


def load(config: GanConfig) -> Images:
    """Checks a task before anything is computed, and loads its images.

    Args:
      config: the task.

    Returns:
      The images, filled up to the next power of two.

    Raises:
      ExperimentError: if a number is out of bounds, or the images do not fit.
    """
    check_gan(config)
    data = load_dataset(config.dataset)
    if not isinstance(data, Dataset):
        raise ExperimentError(
            f"--dataset must fit in memory for a GAN, got {config.dataset}"
        )
    height, width, channels = data.train.images.shape[1:]
    if max(height, width) > _LARGEST or channels not in (1, 3):
        raise ExperimentError(
            f"--dataset must have images of at most {_LARGEST} pixels a side and 1 or "
            f"3 channels, got {config.dataset} with {height}x{width}x{channels}"
        )
    if config.batch_size > len(data.train):
        raise ExperimentError(
            f"--batch-size must be at most {len(data.train)} (the training images of "
            f"{config.dataset}), got {config.batch_size}"
        )
    size = max(8, 1 << (max(height, width) - 1).bit_length())
    return images_of(data, size)


def run(
    config: GanRun,
    data: Images,
    *,
    on_epoch: Callable[[Row], None],
    checkpoints: Checkpoints | None = None,
    samples: Path | None = None,
    on_nan: OnNan = "stop",
    **hooks: Any,
) -> Row:
    """Trains, drawing and scoring samples every epoch.

    Args:
      config: the run.
      data: the images.
      on_epoch: given the row of each epoch, as it ends.
      checkpoints: where to save, and to go on from if something was saved there.
      samples: the folder of the grids of samples; None draws none.
      on_nan: what a loss that is not finite does.
      **hooks: further arguments of :func:`experiments.loops.engine.fit`.

    Returns:
      The row of the run for ``results.csv``, without commit and versions.
    """
    began = time.perf_counter()
    task = GanTask(config, data, samples)
    training, fitted = fit(
        task, on_epoch=on_epoch, checkpoints=checkpoints, on_nan=on_nan, **hooks
    )
    state: GanState = training.state
    scores, _ = task.evaluate(state)
    features = features_of(data)
    count = len(data.validation)
    floor = frechet_distance(
        features.of(data.train[:count]), features.of(data.validation)
    )
    rate = fitted.steps_per_second
    counts = optax_ia.diagnostics(state.generator.opt_state)
    return without_nan(
        {
            "optimizer": config.optimizer,
            "critic_optimizer": config.critic_optimizer,
            "seed": config.seed,
            "dataset": config.dataset,
            "constraint": config.constraint,
            "epochs": fitted.epoch,
            "steps": fitted.step,
            "critic_steps": int(state.critic.step),
            "learning_rate": config.learning_rate,
            "critic_learning_rate": config.critic_learning_rate,
            "num_averaged": int(counts.get("num_averaged", 0)),
            **scores,
            "data_frechet_distance": floor,
            "classifier_accuracy": features.accuracy,
            "seconds": round(time.perf_counter() - began, 3),
            "compile_seconds": round(fitted.compile_seconds, 3),
            "steps_per_second": None if rate is None else round(rate, 2),
            "resumed_from_step": fitted.first_step,
            "config": config.to_json(),
        }
    )
