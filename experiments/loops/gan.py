"""A Wasserstein GAN: several steps of the critic, then one of the generator.

A step of the engine is one round of algorithm 1: ``critic_steps`` updates of the
critic, each on images of its own, then one update of the generator. Both networks are
trained in training mode of their batch normalisations, as published, by any optimisers
of the registry, at constant rates. The generator's average, where its optimiser keeps
one, is drawn from with batch statistics estimated anew; the critic's is not used.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optax_ia
from experiments.checkpoints import Checkpoints
from experiments.configs.p4.gan import GanConfig, GanRun, check_gan
from experiments.data import Batches, Dataset, load_dataset
from experiments.errors import ExperimentError
from experiments.loops._accumulate import check_cut
from experiments.loops._gan_evaluation import SCORES as SCORES
from experiments.loops._gan_evaluation import evaluate
from experiments.loops._gan_images import Images, RoundReader, images_of
from experiments.loops._gan_networks import GanState
from experiments.loops._gan_round import Round
from experiments.loops._gan_scores import features_of, frechet_distance, write_grid
from experiments.loops._gan_totals import add_totals, means_of_taken, zero_totals
from experiments.loops._own_start import finds_own_start, has_found_its_end
from experiments.loops.engine import (
    OnNan,
    Row,
    Task,
    Training,
    fit,
    norms_and_diagnostics,
    result_row,
)
from experiments.parallel import Placement, is_leader
from optax_ia.flax import TrainState

_LARGEST = 64


@dataclasses.dataclass
class GanTask(Task):
    """One run of one configuration, for the engine.

    Attributes:
      config: the run.
      data: the images.
      samples: where grids of samples go; None draws none.
      skip: leave out updates, of either network, whose gradient is not finite.
      placement: the devices; None for one.
      round: networks and steps.
    """

    config: GanRun
    data: Images
    samples: Path | None = None
    skip: bool = False
    placement: Placement | None = None
    score_name = "frechet_distance"
    score_mode = "min"

    def __post_init__(self):
        config, data = self.config, self.data
        check_run(config, self.placement, skip=self.skip)
        self.label = f"{config.optimizer}, seed {config.seed}"
        self.epochs = config.epochs
        self._rounds = config.epoch_steps
        if self._rounds is None:
            images = config.batch_size * config.critic_steps
            self._rounds = max(1, len(data.train) // images)
        self.round = Round(config, data, self.placement, skip=self.skip)

    def epoch_steps(self, epoch: int) -> int:
        """Rounds: steps of the generator."""
        del epoch
        assert self._rounds is not None
        return self._rounds

    def init(self) -> Training:
        """Fresh networks, from the seed."""
        state = self.round.init(self.epoch_steps(0))
        return self._placed(Training(state, {}, zero_totals(self.skip)))

    def _placed(self, tree: Any) -> Any:
        """A tree with all that was made on the host where the rest of it is."""
        return tree if self.placement is None else self.placement.place(tree)

    def batches(self) -> Batches:
        """The images of all rounds, each pass over the data shuffled by itself."""
        reader = RoundReader(self.data.train, self.config)
        return Batches(reader, self.epochs * self.epoch_steps(0), threads=0)

    def step(self, training: Training, batch: Any, step: int) -> Training:
        """One round."""
        del step  # the states count for themselves
        state, metrics = self.round(training.state, batch)
        return training.replace(
            state=state, totals=add_totals(training.totals, metrics)
        )

    def evaluate(self, state: GanState) -> tuple[Row, dict[str, Any]]:
        """Scores, and the samples that they are of."""
        return evaluate(
            state,
            self.round.generator,
            self.round.critic,
            self.data,
            latent=self.config.latent,
            batch_size=self.config.batch_size,
            placement=self.placement,
        )

    def end_epoch(
        self, training: Training, means: dict[str, float], epoch: int, step: int
    ) -> tuple[Training, Row]:
        """Draws samples, scores them, tells the optimiser if it listens."""
        state: GanState = training.state
        left_out: Row = {}
        if self.skip:
            means = means_of_taken(
                training.totals, self.epoch_steps(epoch - 1), self.config.critic_steps
            )
            left_out["critic_skipped"] = int(means["critic_skipped"])
        scores, drawn = self.evaluate(state)
        best = scores["average_frechet_distance"]
        if best is None:
            best = scores["frechet_distance"]
        if self.samples is not None and is_leader():
            for prefix, images in drawn.items():
                write_grid(images, self.samples / f"{prefix}epoch_{epoch:04d}.png")
        state = GanState(
            generator=self._told(state.generator, best),
            critic=self._told(state.critic, best),
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
            **left_out,
        }
        return training.replace(state=state), row

    def _told(self, state: TrainState, score: float) -> TrainState:
        if not finds_own_start(state):
            return state
        opt_state = optax_ia.record_metric(state.opt_state, score)
        return self._placed(state.replace(opt_state=opt_state))

    def wants_stop(self, training: Training) -> bool:
        """Whether a generator's optimiser that finds its start has found its end."""
        return has_found_its_end(training.state.generator)


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


def check_run(
    config: GanRun, placement: Placement | None = None, *, skip: bool = False
) -> None:
    """Checks that optimisers, batch and devices go together.

    Args:
      config: the run.
      placement: the devices; None for one.
      skip: whether updates that are not finite are left out.

    Raises:
      ExperimentError: naming the argument and what does not fit.
    """
    devices = 1 if placement is None else placement.devices
    for name in (config.optimizer, config.critic_optimizer):
        check_cut(name, config.batch_size, 1, devices, skip=skip)


def run(
    config: GanRun,
    data: Images,
    *,
    on_epoch: Callable[[Row], None],
    checkpoints: Checkpoints | None = None,
    samples: Path | None = None,
    on_nan: OnNan = "stop",
    placement: Placement | None = None,
    **hooks: Any,
) -> Row:
    """Trains, drawing and scoring samples every epoch.

    Args:
      config: the run.
      data: the images.
      on_epoch: given the row of each epoch, as it ends.
      checkpoints: where to save, and to go on from if something was saved there.
      samples: the folder of the grids of samples; None draws none.
      on_nan: what a loss that is not finite does, of either network.
      placement: the devices; None for one.
      **hooks: further arguments of :func:`experiments.loops.engine.fit`.

    Returns:
      The row of the run for ``results.csv``, without commit and versions.
    """
    task = GanTask(config, data, samples, skip=on_nan == "skip", placement=placement)
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
    return result_row(
        config,
        fitted,
        state.generator.opt_state,
        critic_optimizer=config.critic_optimizer,
        constraint=config.constraint,
        critic_steps=int(state.critic.step),
        critic_learning_rate=config.critic_learning_rate,
        **scores,
        data_frechet_distance=floor,
        classifier_accuracy=features.accuracy,
    )
