"""A run of a folder, made again with its iterates at the ends of epochs."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
from rich.console import Console

from experiments.checkpoints import Checkpoints
from experiments.configs.settings import RunConfig
from experiments.data import Dataset
from experiments.errors import ExperimentError
from experiments.loops import image
from experiments.loops.evaluation import has_average
from experiments.progress import LiveProgress
from experiments.run_folder import RunFolder
from optax_ia import registry
from optax_ia.averaging import averaged_params
from optax_ia.flax import TrainState

Row = dict[str, Any]
Variables = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run with everything that is looked at.

    Attributes:
      run: its configuration.
      state: at its end.
      rows: one per epoch, as in ``metrics.jsonl``.
      result: the folder's row of it.
      iterates: the variables at the end of every epoch.
      collected: the epochs, counted from 1, whose last iterates are averaged.
      average: the averaged parameters.
      averages: whether the optimiser made that average itself.
      largest_difference: between what the folder holds and what was made again, of
        the weights for a checkpoint, else of the validation loss.
      from_checkpoint: whether ``state`` is the folder's checkpoint.
    """

    run: RunConfig
    state: TrainState
    rows: list[Row]
    result: Row
    iterates: list[Variables]
    collected: list[int]
    average: Any
    averages: bool
    largest_difference: float
    from_checkpoint: bool


class _Collector(Checkpoints):
    """Keeps iterates in memory where a run would save checkpoints."""

    def __init__(self):
        self.iterates: list[Variables] = []
        self.states: list[TrainState] = []

    @property
    def latest(self) -> None:
        """Nothing to go on from."""

    def restore(self, training, batches):
        """The start, as it is."""
        return training, 0

    def due(self, step):
        """Never: only the ends of epochs are kept."""
        return False

    def end_epoch(self, step, training, batches, score, mode):
        """Keeps the end of an epoch; copied, since the next step donates it."""
        state = training.state
        kept = {"params": state.params, "batch_stats": state.batch_stats}
        self.iterates.append(jax.tree.map(np.array, kept))

    def save_last(self, step, training, batches):
        """Keeps the last state."""
        self.states.append(training.state)


def choose(folder: RunFolder, optimizer: str | None, seed: int | None) -> Row:
    """The row of the run to look at.

    Args:
      folder: of ``compare`` or ``train``.
      optimizer: whose; None takes the first that averages, else the first.
      seed: its seed; None takes the first.

    Returns:
      A row of ``results.csv``.

    Raises:
      ExperimentError: if there is no such finished run, naming those there are.
    """
    if folder.command not in ("compare", "train"):
        raise ExperimentError(
            f"{folder.path} was made by {folder.command}; analyse takes the folders of "
            "compare and train"
        )
    results = folder.results()
    if not results:
        raise ExperimentError(f"{folder.path} has no finished run; go on by --resume")
    rows = [
        row
        for row in results
        if optimizer in (None, row["optimizer"]) and seed in (None, row["seed"])
    ]
    if not rows:
        done = ", ".join(f"{row['optimizer']} {row['seed']}" for row in results)
        wanted = " ".join(str(part) for part in (optimizer, seed) if part is not None)
        raise ExperimentError(
            f"{folder.path} has no finished run of {wanted}; those there are, with "
            f"their seeds: {done}"
        )
    known = set(registry.list_optimizers())
    averaging = [
        row
        for row in rows
        if row["optimizer"] in known and registry.get_record(row["optimizer"]).averages
    ]
    return (averaging or rows)[0]


def _collected(run: RunConfig, rows: list[Row], averages: bool) -> list[int]:
    """The epochs whose last iterates the average is of."""
    if not averages:
        return list(range(run.averaging_epoch, len(rows) + 1))
    counts = [0, *(row["num_averaged"] for row in rows)]
    return [
        epoch for epoch in range(1, len(counts)) if counts[epoch] > counts[epoch - 1]
    ]


def _mean(trees: list[Any]) -> Any:
    return jax.tree.map(
        lambda *leaves: np.mean(leaves, axis=0, dtype=float).astype(leaves[0].dtype),
        *trees,
    )


def _skips(folder: RunFolder) -> bool:
    return folder.config.get("on_nan") == "skip"


def _checkpoint(folder: RunFolder, run: RunConfig, data: Dataset) -> TrainState | None:
    path = folder.path / "checkpoints"
    if not path.is_dir():
        return None
    fresh = image.ImageTask(run, data, skip=_skips(folder)).init()
    with Checkpoints(path, every=1, read_only=True) as checkpoints:
        if checkpoints.latest is None:
            return None
        return checkpoints.restore(fresh, None)[0].state


def _apart(a: Any, b: Any) -> float:
    differences = jax.tree.map(lambda x, y: float(np.max(np.abs(x - y))), a, b)
    return max(jax.tree.leaves(differences))


def train_again(
    folder: RunFolder, result: Row, data: Dataset, run: RunConfig, console: Console
) -> Trained:
    """Makes a run again, which is a function of its configuration alone.

    Args:
      folder: where it was made.
      result: its row.
      data: its data.
      run: its configuration.
      console: where progress is shown.

    Returns:
      It, ending in the folder's checkpoint where there is one.

    Raises:
      ExperimentError: if its weights are not finite.
    """
    rows: list[Row] = []
    collector = _Collector()
    with LiveProgress(console, 1) as progress:
        progress.begin(f"{run.optimizer}, seed {run.seed}, again", run.epochs)

        def on_epoch(row: Row) -> None:
            rows.append(row)
            progress.epoch(row)

        again = image.run(
            run,
            data,
            on_epoch=on_epoch,
            checkpoints=collector,
            final_splits=("validation",),
            on_nan="skip" if _skips(folder) else "record",
        )
        progress.end()
    state = collector.states[-1]
    saved = _checkpoint(folder, run, data)
    if saved is None:
        difference = abs(
            (again["validation_loss"] or 0) - (result["validation_loss"] or 0)
        )
    else:
        difference = _apart(state.params, saved.params)
        state = saved
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params)):
        raise ExperimentError(
            f"the weights of {run.optimizer}, seed {run.seed}, are not finite: there "
            "is nothing to analyse"
        )
    averages = has_average(state)
    collected = _collected(run, rows, averages)
    if averages:
        average = averaged_params(state.opt_state, state.params)
    else:
        average = _mean([collector.iterates[e - 1]["params"] for e in collected])
    return Trained(
        run=run,
        state=state,
        rows=rows,
        result=result,
        iterates=collector.iterates,
        collected=collected,
        average=average,
        averages=averages,
        largest_difference=difference,
        from_checkpoint=saved is not None,
    )


def run_of(result: Row) -> RunConfig:
    """The configuration that a row of ``results.csv`` holds."""
    return RunConfig(**json.loads(result["config"]))
