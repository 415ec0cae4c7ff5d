"""Table, figure and page of a GAN's run folder."""

import inspect
import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

from experiments.configs.p4 import gan as note
from experiments.files import write_atomically
from experiments.report import _page
from experiments.report._axes import log_percent, plain_axes, png
from experiments.report._curves import curves
from experiments.report._perplexity_figures import AVERAGE, ITERATE
from experiments.run_folder import RunFolder

Row = dict[str, Any]

HEADER = (
    "optimiser",
    "critic's",
    "rate",
    "critic's\nrate",
    "steps",
    "distance,\niterate",
    "distance,\naverage",
    "distance,\ndata",
    "classes,\niterate",
    "classes,\naverage",
    "critic's\nestimate",
    "s/run",
    "steps/s",
)

_ENTRIES = (
    "optimizer",
    "critic_optimizer",
    "learning_rate",
    "critic_learning_rate",
    "steps",
    "frechet_distance",
    "average_frechet_distance",
    "data_frechet_distance",
    "classes",
    "average_classes",
    "wasserstein_estimate",
    "seconds",
    "steps_per_second",
)

_HOW_TO_READ = """\
Distance: Fréchet's between samples and validation images, in the features of a small
classifier; not the FID. That of data is the training images'. Classes: how many of
them the classifier finds among the samples. The critic's estimate of the Wasserstein
distance is up to its slope, and compares within a run alone: on validation images in
the table; dotted, on training images. All samples are made of the same latent numbers,
those of the average with batch statistics estimated anew."""

# Each panel's curves: entry, colour, style, label.
_DISTANCES = (
    ("frechet_distance", ITERATE, "-", "iterate"),
    ("average_frechet_distance", AVERAGE, "-", "average"),
)
_ESTIMATES = (
    ("wasserstein_estimate", ITERATE, "-", "iterate"),
    ("average_wasserstein_estimate", AVERAGE, "-", "average"),
    ("train_wasserstein_estimate", ITERATE, ":", "iterate, training images"),
    ("average_train_wasserstein_estimate", AVERAGE, ":", "average, training images"),
)


def _draw(axes: Axes, rows: list[Row], lines: tuple[Any, ...], label: str) -> None:
    for entry, colour, style, name in lines:
        for curve in curves(rows, rows[0]["optimizer"], entry):
            shown: dict[str, Any] = {"color": colour, "linestyle": style}
            if len(curve.epochs) == 1:
                shown["marker"] = "o"
            axes.plot(curve.epochs, curve.values, label=name, **shown)
    plain_axes(axes)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def scores(rows: list[Row], results: list[Row]) -> bytes | None:
    """Fréchet distance and the critic's estimate over epochs.

    Args:
      rows: those of ``metrics.jsonl``.
      results: rows of ``results.csv``, for the distance of the training images.

    Returns:
      A PNG file; None before the first epoch's end.
    """
    if not rows:
        return None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    distance, estimate = figure.subplots(1, 2)
    _draw(distance, rows, _DISTANCES, "Fréchet distance (features of a classifier)")
    log_percent(distance)
    if results and results[0]["data_frechet_distance"]:
        floor = results[0]["data_frechet_distance"]
        distance.axhline(floor, color="grey", linestyle="--", label="training images")
    _draw(estimate, rows, _ESTIMATES, "critic's estimate of the distance")
    estimate.axhline(0, color="grey", linewidth=0.8)
    for axes in (distance, estimate):
        axes.legend(frameon=False, fontsize=9)
    return png(figure)


def newest_samples(folder: Path) -> list[tuple[str, bytes]]:
    """The grids of the last epoch that there are any of.

    Args:
      folder: the run's.

    Returns:
      Caption and PNG file, of the iterate and, where there is one, of the average.
    """
    grids = sorted((folder / "samples").glob("epoch_*.png"))
    if not grids:
        return []
    newest = grids[-1]
    epoch = int(newest.stem.removeprefix("epoch_"))
    found = [(f"Samples after epoch {epoch}", newest.read_bytes())]
    average = newest.with_name(f"average_{newest.name}")
    if average.exists():
        caption = f"Samples of the average after epoch {epoch}"
        found.append((caption, average.read_bytes()))
    return found


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write(folder: RunFolder) -> None:
    """Writes ``scores.png``, ``table.md`` and ``report.html``.

    Args:
      folder: of a run, finished or not.
    """
    results = folder.results()
    pictures = newest_samples(folder.path)
    made = scores(folder.rows(), results)
    if made is not None:
        write_atomically(folder.path / "scores.png", made)
        pictures.insert(0, ("Scores over epochs", made))
    table = [tuple(_text(row[entry]) for entry in _ENTRIES) for row in results]
    write_atomically(folder.path / "table.md", _page.markdown(HEADER, table))
    explained = _page.make_table(HEADER, table) + _page.paragraph(_HOW_TO_READ)
    page = _page.make_page(
        title=f"{folder.command}: Wasserstein GAN on {folder.config['dataset']}",
        finding=[] if results else ["Partial: go on by --resume."],
        sections=[
            ("Scores", explained),
            *((caption, _page.picture(caption, file)) for caption, file in pictures),
        ],
        description=json.loads((folder.path / "config.json").read_text()),
        note=inspect.getdoc(note) or "",
    )
    write_atomically(folder.path / "report.html", page)


def show(folder: RunFolder, console: Console) -> None:
    """Prints the scores, and where report and pictures are.

    Args:
      folder: of a run, finished or not.
      console: where to.
    """
    # Narrow enough for 80 characters; the page has rates, times and the average too.
    table = Table(title="Samples against validation images", box=None, pad_edge=False)
    names = ("optimiser", "critic's", "steps", "iterate", "average", "data", "classes")
    for place, name in enumerate((*names, "estimate")):
        table.add_column(name, justify="right" if place > 1 else "left", no_wrap=True)
    entries = (*_ENTRIES[:2], *_ENTRIES[4:9], "wasserstein_estimate")
    for row in folder.results():
        table.add_row(*(_text(row[entry]) for entry in entries))
    console.print(table)
    for line in (
        "Iterate, average, data: Fréchet distance in the features of a small "
        "classifier, not the FID.",
        f"samples: {folder.path / 'samples'}",
        f"report: {folder.path / 'report.html'}",
    ):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def write_and_show(folder: RunFolder, console: Console) -> None:
    """Both of them."""
    write(folder)
    show(folder, console)
