"""What lies between and around the solutions, and how the iterates differ."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.analyse._network import (
    AVERAGE,
    ITERATE,
    Points,
    batches_of,
    error_of,
    logits_on,
    loss_of,
)
from experiments.analyse._run import Trained
from experiments.configs.p0.analyse import AnalyseConfig
from experiments.data import Dataset
from optax_ia import explain, landscape
from optax_ia.explain import Diversity
from optax_ia.landscape import Line, Surface


def line_coordinates(config: AnalyseConfig) -> np.ndarray:
    """From iterate (0) to average (1) and half as far beyond; holds both exactly."""
    steps, beyond = config.line_steps, config.line_steps // 2
    return np.arange(-beyond, steps + beyond + 1) / steps


def lines(
    trained: Trained,
    data: Dataset,
    points: Points,
    config: AnalyseConfig,
    advance: Callable[[], None],
) -> dict[str, Line]:
    """Training loss and validation error on the line through both solutions.

    Args:
      trained: the run.
      data: its data.
      points: iterate and average.
      config: how closely.
      advance: called at each point, twice.

    Returns:
      The lines by name, ``training loss`` and ``validation error``.
    """
    start, end = (points.variables[name]["params"] for name in (ITERATE, AVERAGE))
    direction = landscape.between(start, end)[0]
    apply_fn = trained.state.apply_fn
    statistics = points.statistics(ITERATE, kept=config.statistics == "kept")

    def prepare(params):
        advance()
        return statistics(params)

    def along(function, split):
        return landscape.line(
            function,
            start,
            direction,
            batches_of(split, trained.state.batch_stats),
            coordinates=line_coordinates(config),
            prepare=prepare,
        )

    return {
        "training loss": along(loss_of(apply_fn), data.train),
        "validation error": along(error_of(apply_fn), data.validation),
    }


def surface_coordinates(config: AnalyseConfig) -> np.ndarray:
    """From edge to edge; holds 0 exactly."""
    steps = config.surface_steps
    return config.surface_reach * np.arange(-steps, steps + 1) / steps


def surface(
    name: str,
    trained: Trained,
    data: Dataset,
    points: Points,
    config: AnalyseConfig,
    advance: Callable[[], None],
) -> Surface:
    """The training loss around a solution, on filter-normalised random directions.

    Args:
      name: which of the points.
      trained: the run.
      data: its data.
      points: iterate and average.
      config: how closely.
      advance: called at each point.

    Returns:
      The losses.
    """
    params = points.variables[name]["params"]
    statistics = points.statistics(name, kept=config.statistics == "kept")

    def prepare(place):
        advance()
        return statistics(place)

    key = jax.random.fold_in(jax.random.key(config.draw_seed), 4)
    return landscape.surface(
        loss_of(trained.state.apply_fn),
        params,
        landscape.directions(params, key=key),
        batches_of(data.train, trained.state.batch_stats),
        xs=surface_coordinates(config),
        prepare=prepare,
    )


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """The collected iterates as models of their own.

    Attributes:
      epochs: at whose ends they are.
      symmetric_kl: diversity on the test inputs; None for fewer than two.
      total_variation: likewise.
      error: of the mean of their probabilities, on validation.
    """

    epochs: list[int]
    symmetric_kl: Diversity | None
    total_variation: Diversity | None
    error: float


def ensemble(trained: Trained, data: Dataset, advance: Callable[[], None]) -> Ensemble:
    """Diversity of the collected iterates, and what their predictions give together.

    Args:
      trained: the run.
      data: its data; of the test split the images alone are used.
      advance: called after each iterate.

    Returns:
      What was found.
    """
    apply_fn = trained.state.apply_fn
    on_test, on_validation = [], []
    for epoch in trained.collected:
        variables = trained.iterates[epoch - 1]
        on_test.append(logits_on(apply_fn, variables, data.test))
        on_validation.append(logits_on(apply_fn, variables, data.validation))
        advance()
    together = np.asarray(explain.ensemble_logits(np.stack(on_validation)))
    error = float(np.mean(together.argmax(-1) != data.validation.labels))
    kl = variation = None
    if len(on_test) > 1:
        stacked = np.stack(on_test)
        kl = explain.solution_diversity(stacked, "symmetric_kl")
        variation = explain.solution_diversity(stacked, "total_variation")
    return Ensemble(trained.collected, kl, variation, error)


def effective_rates(trained: Trained) -> dict[str, list[float | None]]:
    """The effective learning rate of every convolution, epoch by epoch.

    Args:
      trained: the run.

    Returns:
      Values by path; nothing for a network without batch normalisation, or a run that
      logs no learning rate.
    """
    if not jax.tree.leaves(trained.state.batch_stats):
        return {}
    found: dict[str, list[float | None]] = {}
    for row, variables in zip(trained.rows, trained.iterates, strict=True):
        rate = row.get("learning_rate")
        if rate is None:
            return {}
        kernels = _convolutions(variables["params"])
        values = explain.effective_learning_rate(kernels, rate)
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
    return found


def _convolutions(params: Any) -> dict[str, Any]:
    """Kernels of four axes, by path: normalisation follows convolutions alone."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
        if np.ndim(leaf) == 4
    }
