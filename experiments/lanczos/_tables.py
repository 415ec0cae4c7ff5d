"""The runs as numbers and sentences."""

import math
from collections.abc import Sequence

import numpy as np

from experiments.configs.p1.lanczos import LanczosConfig
from experiments.lanczos._runs import DESCENT, LANCZOS, Run, Task

HEADER = (
    "method",
    "damping",
    "R_est-curv,\nfirst update",
    "R_est-curv,\nlast update",
    "training\nloss",
    "training\nerror (%)",
    "test error\n(%)",
    "best test\nerror (%)",
)


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return "–" if value is None else format(scale * value, form)


def label(run: Run) -> str:
    """A run's method, as in the paper's legend."""
    if run.row["method"] == DESCENT:
        return "GD"
    scale = run.row["sharp_scale"]
    return "LOPT" if scale == 1 else f"LOPT[{scale:g}]"


def table(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """A line per run.

    Args:
      runs: the runs.

    Returns:
      Cells as :data:`HEADER`.
    """
    return [
        (
            label(run) + (", diverged" if run.diverged else ""),
            _number(run.row["damping"], "g"),
            _number(run.row["curvature_ratio"], ".3g"),
            _number(run.row["last_curvature_ratio"], ".3g"),
            _number(run.row["train_loss"], ".3g"),
            _number(run.row["train_error"], ".2f", 100),
            _number(run.row["test_error"], ".2f", 100),
            _number(run.row["best_test_error"], ".2f", 100),
        )
        for run in runs
    ]


def grid(runs: Sequence[Run], config: LanczosConfig, name: str) -> np.ndarray:
    """A column over the runs of LanczosOPT.

    Args:
      runs: the runs.
      config: the comparison.
      name: of the column.

    Returns:
      Shape ``(dampings, sharp scales)``, NaN where a run diverged.
    """
    found = {
        (run.row["damping"], run.row["sharp_scale"]): (
            math.nan if run.diverged else run.row[name]
        )
        for run in runs
        if run.row["method"] == LANCZOS
    }
    return np.array(
        [[found[d, s] for s in config.sharp_scales] for d in config.dampings]
    )


def differences(runs: Sequence[Run], config: LanczosConfig, split: str) -> np.ndarray:
    """How far each run of LanczosOPT ends above the best of them (fig. 3).

    Args:
      runs: the runs.
      config: the comparison.
      split: ``train`` or ``test``.

    Returns:
      Percentage points, ``(dampings, sharp scales)``; NaN where a run diverged.
    """
    errors = 100 * grid(runs, config, f"{split}_error")
    finite = errors[np.isfinite(errors)]
    return errors - finite.min() if finite.size else errors


def _over_damping(runs: Sequence[Run], config: LanczosConfig) -> str:
    """The errors of the first sharp scale, from the largest damping down."""
    train, test, ratio = (
        grid(runs, config, name)[::-1, 0]
        for name in ("train_error", "test_error", "curvature_ratio")
    )
    steps = [
        "diverges"
        if math.isnan(b)
        else f"ends at {100 * a:.1f} % on training and {100 * b:.1f} % on test images"
        for a, b in zip(train, test, strict=True)
    ]
    listed = "; ".join(
        f"{d:g} (R_est-curv {'–' if math.isnan(r) else f'{r:.3g}'}) {step}"
        for d, r, step in zip(config.dampings[::-1], ratio, steps, strict=True)
    )
    descent = next(run for run in runs if run.row["method"] == DESCENT).row
    name = "" if config.sharp_scales[0] == 1 else f"[{config.sharp_scales[0]:g}]"
    return (
        f"LOPT{name} with a damping of {listed}. Gradient descent at the same rate: "
        f"{100 * descent['train_error']:.1f} % and {100 * descent['test_error']:.1f} %."
    )


def _over_scale(runs: Sequence[Run], config: LanczosConfig) -> list[str]:
    """What each sharp scale costs at each damping, against the first."""
    train, test = (
        100 * (values[:, 1:] - values[:, :1])
        for values in (
            grid(runs, config, "train_error"),
            grid(runs, config, "test_error"),
        )
    )
    texts = []
    first = config.sharp_scales[0]
    for column, scale in enumerate(config.sharp_scales[1:]):
        pairs = np.stack([train[:, column], test[:, column]], axis=1)
        listed = "; ".join(
            f"{damping:g}: "
            + (
                "a run diverged"
                if np.isnan(pair).any()
                else f"{pair[0]:+.1f} and {pair[1]:+.1f}"
            )
            for damping, pair in zip(config.dampings, pairs, strict=True)
        )
        known = pairs[np.isfinite(pairs).all(axis=1)]
        worse = int((known[:, 1] > known[:, 0]).sum())
        texts.append(
            f"A sharp scale of {scale:g} instead of {first:g} changes the error on "
            f"training and test images, in points, by damping: {listed}. So slower "
            "sharp directions cost more on the test than on the training images at "
            f"{worse} of {len(known)} dampings (P1: at every one)."
        )
    return texts


def finding(runs: Sequence[Run], config: LanczosConfig, task: Task) -> list[str]:
    """What came out, in sentences.

    Args:
      runs: the runs.
      config: the comparison.
      task: for the number of images.

    Returns:
      Paragraphs: on damping, on each sharp scale but the first, and on what the
      figures can resolve.
    """
    size = len(task.test)
    best = grid(runs, config, "test_error")
    texts = [_over_damping(runs, config), *_over_scale(runs, config)]
    if np.isfinite(best).any():
        error = float(np.nanmin(best))
        deviation = 100 * math.sqrt(max(error, 1 / size) * (1 - error) / size)
        texts.append(
            f"One of the {size} test images is {100 / size:.2f} points, and the "
            f"standard error of the best test error, {100 * error:.1f} %, is "
            f"{deviation:.1f}: smaller differences say little."
        )
    return texts
