"""Every cell with every seed: training, errors, and the Hessian's spectral norm."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console

import optax_ia
from experiments import environment
from experiments.configs.p1.damping import DampingConfig
from experiments.configs.settings import RunConfig, TaskConfig, fields_of
from experiments.damping._cells import Cell, cells
from experiments.data import Dataset, epoch_batches
from experiments.loops import image
from experiments.loops.evaluation import evaluate
from experiments.progress import LiveProgress
from experiments.run_folder import RunFolder, write_csv
from optax_ia import curvature, registry
from optax_ia.flax import TrainState

Row = dict[str, Any]

COLUMNS = (
    "method",
    "learning_rate",
    "damping",
    "weight_decay",
    "seed",
    "dataset",
    "model",
    "epochs",
    "steps",
    "spectral_norm",
    "residual",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "test_loss",
    "test_accuracy",
    "seconds",
    "commit",
)

_DAMPING = {"adam": "eps", "adamw": "eps", "kfac": "damping"}
"""What each method calls the damping."""


@functools.cache
def _optimizer(method: str, steps: int) -> optax.GradientTransformationExtraArgs:
    """The method under P1's schedule, its numbers in its state.

    So all cells of a method share one compiled step, K-FAC's too: its damping is read
    at every update, and nothing that its state begins with depends on it.
    """

    def build(learning_rate, weight_decay, damping=None):
        named = {} if damping is None else {_DAMPING[method]: damping}
        return optax_ia.get_optimizer(
            method, learning_rate=learning_rate, weight_decay=weight_decay, **named
        )

    numbers = {"learning_rate": 1.0, "weight_decay": 1.0}
    if method in _DAMPING:
        numbers["damping"] = 1.0
    rule = optax.inject_hyperparams(build)(**numbers)
    schedule = optax_ia.linear_schedule(1.0, steps)
    # decoupled decay stands inside the rule, and so falls with the rate as well
    return optax.chain(rule, optax.scale_by_schedule(schedule))


def initial_state(
    cell: Cell, config: DampingConfig, data: Dataset, seed: int
) -> TrainState:
    """The state that a run starts from.

    Args:
      cell: which.
      config: the comparison.
      data: the data.
      seed: of the weights.

    Returns:
      The state; its optimiser is the same object for all cells of a method.
    """
    key, _, _ = jax.random.split(jax.random.key(seed), 3)
    shared = RunConfig(**fields_of(config.task, TaskConfig), seed=seed)
    fresh = image.init_state(shared, data, key)
    steps = config.epochs * (len(data.train) // config.batch_size)
    state = TrainState.create(
        apply_fn=fresh.apply_fn,
        params=fresh.params,
        tx=_optimizer(cell.method, steps),
        batch_stats=fresh.batch_stats,
    )
    opt_state: Any = state.opt_state  # of a chain, a tuple
    rule, rest = opt_state
    numbers = {
        name: jnp.asarray(getattr(cell, name), old.dtype)
        for name, old in rule.hyperparams.items()
    }
    return state.replace(opt_state=(rule._replace(hyperparams=numbers), rest))


@functools.cache
def _loss_of(apply_fn: Callable[..., Any]) -> Callable[[Any, Any], jax.Array]:
    """The training loss of the network as it is evaluated, for the Hessian."""

    def loss(params, batch):
        variables = {"params": params, "batch_stats": batch["statistics"]}
        logits = apply_fn(variables, batch["images"], train=False)
        labels = batch["labels"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    return loss


def spectral_norm(
    state: TrainState, data: Dataset, num_steps: int, key: jax.Array
) -> tuple[float | None, float | None]:
    """The Hessian's eigenvalue of largest magnitude over all training images.

    Args:
      state: a trained network; batch normalisation keeps its running statistics.
      data: the data; the images are not augmented.
      num_steps: of Lanczos.
      key: draws its first vector.

    Returns:
      The absolute eigenvalue and the norm of its residual; None for a network whose
      weights are not finite.
    """
    leaves = jax.tree.leaves((state.params, state.batch_stats))
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in leaves):
        return None, None
    batch = {
        "images": data.train.images,
        "labels": data.train.labels,
        "statistics": state.batch_stats,
    }
    loss = _loss_of(state.apply_fn)
    operator = curvature.hessian_operator(loss, state.params, batch)
    found = curvature.top_eigenpairs(
        operator, state.params, 1, key=key, num_steps=num_steps
    )
    return abs(float(found.eigenvalues[0])), float(found.residuals[0])


def run(
    cell: Cell,
    config: DampingConfig,
    data: Dataset,
    *,
    seed: int,
    on_epoch: Callable[[Row], None],
) -> Row:
    """Trains one cell and measures where it ends.

    Args:
      cell: which.
      config: the comparison.
      data: the data.
      seed: of initialisation, order and augmentation.
      on_epoch: given the row of each epoch, as it ends.

    Returns:
      The row of ``results.csv``, by :data:`COLUMNS`; None where a loss is not finite.
    """
    began = time.perf_counter()
    state = initial_state(cell, config, data, seed)
    # the keys of image.run, whose runs these are, with a damping of choice
    _, augment_key, lanczos_key = jax.random.split(jax.random.key(seed), 3)
    needs = registry.get_record(cell.method).needs
    every = len(data.train) // config.batch_size
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
        row: Row = {"epoch": epoch + 1, "step": (epoch + 1) * every}
        row["train_loss"] = _finite(float(totals["loss"]) / every)
        row["train_accuracy"] = float(totals["correct"]) / every
        row |= {"validation_loss": _finite(loss), "validation_accuracy": accuracy}
        on_epoch(row)
    result: Row = dataclasses.asdict(cell)
    result |= {"seed": seed, "dataset": config.dataset, "model": config.model}
    result |= {"epochs": config.epochs, "steps": config.epochs * every}
    result["spectral_norm"], result["residual"] = (
        None if value is None else float(f"{value:.4g}")
        for value in spectral_norm(state, data, config.num_steps, lanczos_key)
    )
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    for name in ("train", "validation", "test"):
        loss, accuracy = evaluate(state.apply_fn, variables, getattr(data, name))
        result |= {f"{name}_loss": _finite(loss), f"{name}_accuracy": accuracy}
    result["seconds"] = round(time.perf_counter() - began, 2)
    result["commit"] = environment.commit()
    return {name: result[name] for name in COLUMNS}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def run_all(
    config: DampingConfig, data: Dataset, folder: RunFolder, console: Console
) -> tuple[list[Row], list[Row]]:
    """Trains every cell with every seed, seed by seed.

    Writes ``metrics.jsonl`` (a row per epoch) and ``results.csv`` (a row per run, after
    each).

    Args:
      config: the comparison.
      data: the data.
      folder: where to.
      console: where progress is shown.

    Returns:
      The rows of ``results.csv`` and those of the epochs.
    """
    rows: list[Row] = []
    epochs: list[Row] = []
    chosen = cells(config)
    with LiveProgress(console, len(chosen) * len(config.seeds)) as progress:
        for seed in config.seeds:
            for cell in chosen:
                progress.begin(f"{cell.label}, seed {seed}", config.epochs)
                named = {**dataclasses.asdict(cell), "seed": seed}

                def on_epoch(row: Row, named: Row = named) -> None:
                    epochs.append({**named, **row})
                    folder.log(epochs[-1])
                    progress.epoch(row | {"average_validation_accuracy": None})

                rows.append(run(cell, config, data, seed=seed, on_epoch=on_epoch))
                write_csv(folder.path / "results.csv", COLUMNS, rows)
                progress.end()
    return rows, epochs
