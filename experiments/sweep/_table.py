"""``sweep.csv`` with a row for each run, ``table.md`` and the table on the console."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.console import table_console
from experiments.csv_files import write_csv
from experiments.files import write_atomically
from experiments.report import _page
from experiments.statistics import Summary
from experiments.sweep._config import SweepConfig
from experiments.sweep._failures import Errors, describe, is_diverged
from experiments.sweep._flags import shown
from experiments.sweep._folder import THEN, Result, SweepFolder
from experiments.sweep._plan import Run
from experiments.sweep._scores import Line, Score, best, find_score, make_line

_HOW_TO_READ = (
    "Mean ± sample deviation over seeds and the 95 % bootstrap interval of the mean, "
    "which resamples seeds only: for a handful of them it is too narrow. Scores of the "
    "average where the optimiser makes one. **best** is the best row of all, *best of* "
    "that of an optimiser, among those that have all their seeds."
)
_ON_SPLITS = (
    "Rows are chosen on validation; the test score to report is the chosen row's, not "
    "the highest there is."
)


def write_runs(folder: SweepFolder, runs: Sequence[Run], errors: Errors) -> None:
    """Writes ``sweep.csv``.

    Args:
      folder: the sweep's.
      runs: all runs.
      errors: of those that failed, by their id.
    """
    flags = list(dict.fromkeys(name for run in runs for name in run.setting.flags))
    rows: list[dict[str, object]] = []
    columns: dict[str, None] = {}
    for run in runs:
        result = folder.result(run) or {}
        columns |= dict.fromkeys(result)
        error = errors.get(run.id)
        state: str = folder.state(run)
        if error is not None:
            state = "diverged" if is_diverged(error) else "failed"
        row: dict[str, object] = {
            "run": folder.run_path(run).name,
            "state": state,
            "error": error,
            "setting": run.setting.label,
        }
        for name in flags:
            if name in run.setting.flags:
                row[_column(name)] = shown(run.setting.flags[name])
        rows.append(row | {"optimizer": run.optimizer, "seed": run.seed} | result)
    header = ("run", "state", "error", "setting", *map(_column, flags))
    header += ("optimizer", "seed", *columns)
    write_csv(folder.table, tuple(dict.fromkeys(header)), rows, THEN)


def _column(flag: str) -> str:
    """Flags keep their dashes: results have columns of the same names."""
    return "--" + flag.replace("_", "-")


def make_table(
    config: SweepConfig, folder: SweepFolder, runs: Sequence[Run], errors: Errors
) -> tuple[list[Line], Score | None]:
    """The lines of the table, in the order of the configuration.

    Args:
      config: the sweep.
      folder: its folder.
      runs: all runs.
      errors: of those that failed.

    Returns:
      Lines and what they compare, None as long as no run is finished.
    """
    results = {run.id: folder.result(run) for run in runs}
    columns: dict[str, None] = {}
    for result in results.values():
        columns |= dict.fromkeys(result or {})
    score = find_score(list(columns), config) if columns else None
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.setting.label, run.optimizer), []).append(run)
    lines = []
    for own in groups.values():
        found: list[Result | None] = [results[run.id] for run in own]
        diverged = sum(is_diverged(errors.get(run.id)) for run in own)
        setting, optimizer = own[0].setting, own[0].optimizer
        lines.append(make_line(setting, optimizer, found, score, diverged=diverged))
    return lines, score


def header(score: Score | None) -> tuple[str, ...]:
    """The names of the columns."""
    unit = " %" if score and score.percent else ""
    name = score.name.replace("_", " ") if score else "score"
    scores = (f"validation\n{name}{unit}", f"test\n{name}{unit}")
    if score and not score.splits:
        scores = (f"{name}{unit}",)
    return ("setting", "optimiser", "seeds", "model", *scores, "s/run", "chosen")


def cells(line: Line, score: Score | None, chosen: str) -> tuple[str, ...]:
    """A line as text.

    Args:
      line: the line.
      score: how numbers are shown.
      chosen: what stands in the last column.

    Returns:
      The cells in the order of :func:`header`.
    """
    seeds = str(line.finished)
    if line.finished < line.planned:
        seeds += f" of {line.planned}"
        seeds += f", {line.diverged} diverged" * bool(line.diverged)
    elif not line.complete:
        seeds += ", not all finite"
    summaries = [line.validation, line.test]
    if score and not score.splits:
        summaries = [line.validation]
    return (
        line.setting.label or "–",
        line.optimizer,
        seeds,
        line.model or "–",
        *(_over_seeds(summary, score) for summary in summaries),
        "–" if line.seconds is None else f"{line.seconds:.1f}",
        chosen,
    )


def _over_seeds(summary: Summary | None, score: Score | None) -> str:
    if summary is None or score is None:
        return "–"
    mean, std, low, high = (
        score.text(value, summary.mean)
        for value in (summary.mean, summary.std, summary.low, summary.high)
    )
    return mean if summary.count == 1 else f"{mean} ± {std}\n[{low}, {high}]"


def marks(lines: Sequence[Line], score: Score | None) -> dict[int, str]:
    """Which lines are chosen: the best of all, and of each optimiser if it has several.

    Args:
      lines: all lines.
      score: what they compare.

    Returns:
      Number of the line to what is said of it.
    """
    if score is None:
        return {}
    found: dict[int, str] = {}
    for optimizer in dict.fromkeys(line.optimizer for line in lines):
        own = [line for line in lines if line.optimizer == optimizer]
        top = best(own, score) if len(own) > 1 else None
        if top is not None:
            found[lines.index(top)] = f"best of {optimizer}"
    top = best(lines, score) if len(lines) > 1 else None
    if top is not None:
        found[lines.index(top)] = "best"
    return found


def verdict(lines: Sequence[Line], score: Score | None) -> list[str]:
    """What was chosen, and its test score, in sentences."""
    if score is None:
        return ["No run is finished."]
    chosen = marks(lines, score)
    if len(lines) > 1 and not chosen:
        return ["No row has all its seeds, so that none is chosen."]
    unit = " %" if score.percent else ""
    sentences = []
    for number in sorted(chosen, key=lambda number: chosen[number] != "best"):
        line = lines[number]
        label = ", ".join(filter(None, (line.optimizer, line.setting.label)))
        validation, test = (
            _over_seeds(summary, score).replace("\n", " ")
            for summary in (line.validation, line.test)
        )
        values = f"{validation}{unit}"
        if score.splits:
            values = f"validation {values}, test {test}{unit}"
        what = "Best" if chosen[number] == "best" else f"Best of {line.optimizer}"
        sentences.append(f"{what} by {score.chosen_by}: {label}: {values}.")
    return sentences


def write(
    config: SweepConfig, folder: SweepFolder, runs: Sequence[Run], errors: Errors
) -> None:
    """Writes ``table.md``.

    Args:
      config: the sweep.
      folder: its folder.
      runs: all runs.
      errors: of those that failed.
    """
    lines, score = make_table(config, folder, runs, errors)
    chosen = marks(lines, score)
    rows = []
    for number, line in enumerate(lines):
        mark = chosen.get(number, "")
        emphasis = {"": "", "best": "**"}.get(mark, "*")
        rows.append(cells(line, score, f"{emphasis}{mark}{emphasis}"))
    paragraphs = [*verdict(lines, score), _HOW_TO_READ]
    if score and score.splits:
        paragraphs[-1] += f" {_ON_SPLITS}"
    said = [
        f"- {run.label}: {describe(errors[run.id])}" for run in runs if run.id in errors
    ]
    if said:
        paragraphs += ["Without a result:", "\n".join(said)]
    text = "\n\n".join(paragraphs)
    table = _page.markdown(header(score), rows)
    page = f"# {config.name}\n\n{table}\n{text}\n"
    write_atomically(folder.path / "table.md", page, THEN)


def show(
    config: SweepConfig,
    folder: SweepFolder,
    runs: Sequence[Run],
    errors: Errors,
    console: Console,
) -> None:
    """Prints the table and what was chosen.

    Args:
      config: the sweep.
      folder: its folder.
      runs: all runs.
      errors: of those that failed.
      console: where to.
    """
    lines, score = make_table(config, folder, runs, errors)
    chosen = marks(lines, score)
    table = Table(*header(score), box=None, pad_edge=False)
    for number, line in enumerate(lines):
        row = cells(line, score, chosen.get(number, ""))
        table.add_row(*map(Text, row))  # brackets in it are no markup
    table_console().print(table)
    for sentence in verdict(lines, score):
        console.print(sentence, soft_wrap=True, markup=False, highlight=False)
