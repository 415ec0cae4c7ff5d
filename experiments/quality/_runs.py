"""The grid: networks trained, layers measured as they go, errors at the end."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import jax
from rich.console import Console

import optax_ia
from experiments import environment
from experiments.configs.p4 import digits
from experiments.configs.p4.quality import QualityConfig
from experiments.configs.settings import RunConfig, TaskConfig, fields_of
from experiments.data import Dataset, epoch_batches
from experiments.loops import image
from experiments.loops.evaluation import evaluate
from experiments.optimizers import rates_of
from experiments.progress import LiveProgress
from experiments.run_folder import RunFolder, write_csv
from optax_ia import explain, registry
from optax_ia.flax import TrainState

Row = dict[str, Any]

COLUMNS = (
    "optimizer",
    "width",
    "seed",
    "dataset",
    "model",
    "epochs",
    "learning_rate",
    "weight_decay",
    "quality",
    "num_layers",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "test_loss",
    "test_accuracy",
    "accuracy_gap",
    "loss_gap",
    "seconds",
    "commit",
)

LAYER_COLUMNS = (
    "optimizer",
    "width",
    "seed",
    "epoch",
    "layer",
    "stable_rank",
    "condition",
    "quality",
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the weights say at the end of an epoch.

    Attributes:
      epoch: counted from 1; 0 is before training.
      layers: metrics by path.
      quality: Q; None if all layers are noise.
      diagnostics: of the optimiser, which may have rates of layers.
    """

    epoch: int
    layers: dict[str, explain.LayerMetrics]
    quality: float | None
    diagnostics: dict[str, Any]

    def rows(self) -> list[Row]:
        """A row for each layer: means over unfoldings of some rank, None without."""
        rows = []
        for path, layer in self.layers.items():
            own = [one for one in layer if one.rank > 0]
            row: Row = {"epoch": self.epoch, "layer": path}
            for name in ("stable_rank", "condition", "quality"):
                values = [float(getattr(one, name)) for one in own]
                row[name] = _finite(sum(values) / len(values)) if own else None
            rows.append(row)
        return rows


@jax.jit
def _measure(params: Any) -> tuple[dict[str, explain.LayerMetrics], jax.Array]:
    """The metrics of all layers, and Q."""
    metrics = explain.layer_metrics(params)
    return metrics, explain.network_quality(metrics)


def _measured(epoch: int, state: TrainState) -> Measured:
    seen = (_measure(state.params), optax_ia.diagnostics(state.opt_state))
    (layers, quality), diagnostics = jax.device_get(seen)
    learned = any(one.rank > 0 for layer in layers.values() for one in layer)
    known = _finite(float(quality)) if learned else None
    return Measured(epoch, layers, known, diagnostics)


def run(
    name: str,
    config: QualityConfig,
    data: Dataset,
    *,
    width: int,
    seed: int,
    on_epoch: Callable[[Row, Measured], None],
) -> Row:
    """Trains one network and measures where it ends.

    Args:
      name: the optimiser.
      config: the grid.
      data: the data, with the augmentation of the task.
      width: of the network.
      seed: of initialisation, order and augmentation.
      on_epoch: given the row of each epoch and what was measured, as it ends; at
        first, with an empty row, that of the weights before training.

    Returns:
      The row of ``results.csv``, by :data:`COLUMNS`; None where a loss is not finite.
    """
    began = time.perf_counter()
    learning_rate, weight_decay = rates_of(name, digits.RATES)
    task = fields_of(config.task(width), TaskConfig)
    whole = RunConfig(
        **task,
        optimizer=name,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        seed=seed,
    )
    # the keys of image.run, whose runs these are
    init_key, augment_key, _ = jax.random.split(jax.random.key(seed), 3)
    state = image.init_state(whole, data, init_key)
    needs = registry.get_record(name).needs
    every = len(data.train) // config.batch_size
    on_epoch({}, _measured(0, state))
    for epoch in range(config.epochs):
        totals = image.zero_totals()
        for images, labels in epoch_batches(
            data.train, config.batch_size, seed=seed, epoch=epoch
        ):
            state, totals = image.train_step(
                state,
                totals,
                augment_key,
                images,
                labels,
                augment=data.augment,
                needs=needs,
            )
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        loss, accuracy = evaluate(state.apply_fn, variables, data.validation)
        measured = _measured(epoch + 1, state)
        row: Row = {
            "epoch": epoch + 1,
            "train_loss": _finite(float(totals["loss"]) / every),
            "train_accuracy": float(totals["correct"]) / every,
            "validation_loss": _finite(loss),
            "validation_accuracy": accuracy,
            "quality": measured.quality,
        }
        on_epoch(row, measured)
    result: Row = {"optimizer": name, "width": width, "seed": seed}
    result |= {"dataset": config.dataset, "model": config.model}
    result |= {"epochs": config.epochs, "learning_rate": learning_rate}
    result |= {"weight_decay": weight_decay, "quality": measured.quality}
    learned = [row for row in measured.rows() if row["quality"] is not None]
    result["num_layers"] = len(learned)
    for split in ("train", "validation", "test"):
        loss, accuracy = evaluate(state.apply_fn, variables, getattr(data, split))
        result |= {f"{split}_loss": _finite(loss), f"{split}_accuracy": accuracy}
    result["accuracy_gap"] = result["train_accuracy"] - result["test_accuracy"]
    losses = result["test_loss"], result["train_loss"]
    result["loss_gap"] = None if None in losses else losses[0] - losses[1]
    result["seconds"] = round(time.perf_counter() - began, 2)
    result["commit"] = environment.commit()
    return {column: result[column] for column in COLUMNS}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def run_all(
    config: QualityConfig, data: Dataset, folder: RunFolder, console: Console
) -> tuple[list[Row], list[Row], dict[str, list[Measured]]]:
    """Trains the whole grid, seed by seed.

    Writes ``metrics.jsonl`` (a row per epoch), ``results.csv`` (a row per run, after
    each) and ``layers.csv`` (a row per epoch and layer).

    Args:
      config: the grid.
      data: the data.
      folder: where to.
      console: where progress is shown.

    Returns:
      The rows of ``results.csv``, those of ``layers.csv``, and by optimiser what was
      measured of the widest network with the first seed.
    """
    rows: list[Row] = []
    layers: list[Row] = []
    shown: dict[str, list[Measured]] = {}
    cells = [(width, name) for width in config.widths for name in config.optimizers]
    with LiveProgress(console, len(cells) * len(config.seeds)) as progress:
        for seed in config.seeds:
            for width, name in cells:
                label = f"{name}, width {width}, seed {seed}"
                progress.begin(label, config.epochs)
                named: Row = {"optimizer": name, "width": width, "seed": seed}

                def on_epoch(row: Row, measured: Measured, named: Row = named) -> None:
                    layers.extend({**named, **layer} for layer in measured.rows())
                    chosen = (max(config.widths), config.seeds[0])
                    if (named["width"], named["seed"]) == chosen:
                        shown.setdefault(named["optimizer"], []).append(measured)
                    if row:
                        folder.log({**named, **row})
                        progress.epoch(row | {"average_validation_accuracy": None})

                rows.append(
                    run(name, config, data, width=width, seed=seed, on_epoch=on_epoch)
                )
                write_csv(folder.path / "results.csv", COLUMNS, rows)
                write_csv(folder.path / "layers.csv", LAYER_COLUMNS, layers)
                progress.end()
    return rows, layers, shown
