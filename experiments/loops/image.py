"""Image classification: one task for the engine, and a run of it.

Everything a run does is a function of its configuration: initialisation, order and
augmentation come from the seed and the step, never from a state kept on the side. So
a run that goes on from a checkpoint ends in the same bits as one that never stopped.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import grain
import jax
import jax.numpy as jnp

import optax_ia
from experiments.checkpoints import Checkpoints
from experiments.configs.settings import RunConfig
from experiments.data import Split, train_batches
from experiments.errors import ExperimentError
from experiments.loops._accumulate import cut
from experiments.loops._image_data import Images, RecordsSplit, share_of
from experiments.loops._image_data import augment_of as augment_of
from experiments.loops._image_data import split_of as split_of
from experiments.loops._image_step import Totals as Totals
from experiments.loops._image_step import check_run as check_run
from experiments.loops._image_step import full_batches as full_batches
from experiments.loops._image_step import init_state as init_state
from experiments.loops._image_step import load as load
from experiments.loops._image_step import load_arrays as load_arrays
from experiments.loops._image_step import train_step as train_step
from experiments.loops._image_step import train_step_of_parts
from experiments.loops._image_step import zero_totals as zero_totals
from experiments.loops._own_start import finds_own_start, has_found_its_end
from experiments.loops.engine import (
    OnNan,
    Row,
    Task,
    Training,
    fit,
    norms_and_diagnostics,
    result_row,
    skipping,
)
from experiments.loops.evaluation import candidates, score_splits
from experiments.parallel import Placement
from optax_ia import registry
from optax_ia.flax import TrainState


@dataclasses.dataclass
class ImageTask(Task):
    """One run of one configuration, for the engine.

    Attributes:
      config: the run.
      data: the data.
      skip: leave out updates whose loss or gradient is not finite.
      placement: the devices; None for one.
    """

    config: RunConfig
    data: Images
    skip: bool = False
    placement: Placement | None = None
    score_name = "validation_accuracy"
    score_mode = "max"

    def __post_init__(self):
        config = self.config
        placement = self.placement
        devices = 1 if placement is None else placement.devices
        check_run(config, devices, skip=self.skip)
        self._needs = registry.get_record(config.optimizer).needs
        if self.data.multilabel and "kfac_factors" in self._needs:
            raise ExperimentError(
                f"{config.optimizer} samples one label an image, and those of "
                f"{config.dataset} have several; choose another optimizer"
            )
        self.label = f"{config.optimizer}, seed {config.seed}"
        self.epochs = config.epochs
        self._steps = len(self.data.train) // config.batch_size
        self._init_key, self._augment_key, self._recalibrate_key = jax.random.split(
            jax.random.key(config.seed), 3
        )
        self._full_batches = None
        if "full_gradient" in self._needs:
            self._full_batches = full_batches(config, placement)

    def epoch_steps(self, epoch: int) -> int:
        """The whole batches of the training split."""
        del epoch
        return self._steps

    def init(self) -> Training:
        """Fresh parameters, from the seed."""
        state = init_state(self.config, self.data, self._init_key, self.placement)
        totals = zero_totals()
        if self.skip:
            state = skipping(state, self._needs)
            totals["skipped"] = jnp.zeros(())
        return self._placed(Training(state, {}, totals))

    def _placed(self, tree: Any) -> Any:
        """A tree with all that was made on the host where the rest of it is."""
        return tree if self.placement is None else self.placement.place(tree)

    def batches(self) -> grain.DatasetIterator:
        """The batches of all epochs, each shuffled by itself."""
        parts = functools.partial(
            cut, accumulate=self.config.accumulate, placement=self.placement
        )
        index, count = share_of(self.placement)
        return train_batches(
            self.data,
            self.config.batch_size,
            seed=self.config.seed,
            epochs=self.epochs,
            worker_count=self.config.worker_count,
            put=None if self._plain else parts,
            process_index=index,
            process_count=count,
        )

    @property
    def _plain(self) -> bool:
        """Whether batches are neither cut nor placed."""
        return self.placement is None and self.config.accumulate == 1

    def step(self, training: Training, batch: Any, step: int) -> Training:
        """One update on an augmented batch."""
        del step  # the state counts for itself
        state, totals = train_step_of_parts(
            training.state,
            training.totals,
            self._augment_key,
            (batch,) if self._plain else batch,
            augment=augment_of(self.data),
            needs=self._needs,
            full_batches=self._full_batches,
            label_smoothing=self.config.label_smoothing,
        )
        return training.replace(state=state, totals=totals)

    def candidates(self, state: TrainState) -> dict[str, Any]:
        """Iterate and average; see :func:`experiments.loops.evaluation.candidates`."""
        return candidates(
            state,
            self.data,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            key=self._recalibrate_key,
            placement=self.placement,
        )

    def scores(
        self,
        state: TrainState,
        found: dict[str, Any],
        splits: dict[str, Split | RecordsSplit],
    ) -> Row:
        """Of candidates; see :func:`experiments.loops.evaluation.score_splits`."""
        return score_splits(state, found, splits, placement=self.placement)

    def end_epoch(
        self, training: Training, means: dict[str, float], epoch: int, step: int
    ) -> tuple[Training, Row]:
        """Evaluates on validation, tells the optimiser if it listens, makes the row."""
        state = training.state
        found = self.candidates(state)
        scores = self.scores(
            state, found, {"validation": split_of(self.data, "validation")}
        )
        if finds_own_start(state):
            accuracy = scores["average_validation_accuracy"]
            if accuracy is None:
                accuracy = scores["validation_accuracy"]
            opt_state = optax_ia.record_metric(state.opt_state, 1 - accuracy)
            state = self._placed(state.replace(opt_state=opt_state))
        row = {
            "optimizer": self.config.optimizer,
            "seed": self.config.seed,
            "epoch": epoch,
            "step": step,
            "train_loss": means["loss"],
            "train_accuracy": means["correct"],
            **scores,
            **norms_and_diagnostics(means, state.params, state.opt_state),
        }
        return training.replace(state=state), row

    def wants_stop(self, training: Training) -> bool:
        """Whether an optimiser that finds its own start has found its end."""
        state = training.state
        return has_found_its_end(state)


def run(
    config: RunConfig,
    data: Images,
    *,
    on_epoch: Callable[[Row], None],
    checkpoints: Checkpoints | None = None,
    final_splits: tuple[str, ...] = ("validation", "test"),
    on_nan: OnNan = "record",
    placement: Placement | None = None,
    **hooks: Any,
) -> Row:
    """Trains, evaluating on validation every epoch and on test once, at the end.

    Args:
      config: the run.
      data: the data.
      on_epoch: given the row of each epoch, as it ends.
      checkpoints: where to save, and to go on from if something was saved there.
      final_splits: what is evaluated at the end; tuning leaves the test set alone.
      on_nan: what a loss that is not finite does; a comparison records it.
      placement: the devices; None for one.
      **hooks: further arguments of :func:`experiments.loops.engine.fit`.

    Returns:
      The row of the run for ``results.csv``, without commit and versions.
    """
    task = ImageTask(config, data, skip=on_nan == "skip", placement=placement)
    training, fitted = fit(
        task, on_epoch=on_epoch, checkpoints=checkpoints, on_nan=on_nan, **hooks
    )
    state = training.state
    splits = {name: split_of(data, name) for name in final_splits}
    return result_row(
        config,
        fitted,
        state.opt_state,
        model=config.model,
        weight_decay=config.weight_decay,
        **task.scores(state, task.candidates(state), splits),
    )
