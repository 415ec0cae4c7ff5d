"""The page: every method's picture and end points in one HTML file."""

import base64
import html
import string
from collections.abc import Mapping, Sequence

from experiments.configs.p2.trajectories import PAPER, STEPS, summary_of
from experiments.report._page import STYLE, make_table
from experiments.trajectories._rows import OUTCOMES, Row

_PAGE = string.Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style
</style>
</head>
<body>
<h1>$title</h1>
<p>$steps updates of each method from one start at four learning rates per function,
without noise and without decay. How a run ends: $outcomes.</p>
<h2>All methods</h2>
<p>Ends at the four rates, the smallest first.</p>
$overview
<p>Pictures: $links.</p>
$missing
$sections
<h2>Lab note of the configuration</h2>
<pre>$note</pre>
<p>Commit <code>$commit</code>. Versions: $versions.</p>
</body>
</html>
"""
)

_STYLE = (
    STYLE
    + """\
body { max-width: 66rem; }
table { font-size: 13px; }
th, td { padding: .25rem .6rem; }
th:last-child, td:last-child { text-align: left; white-space: normal; }
.paper { border-left: 4px solid #0072b2; padding: .1rem .9rem; background: #f3f8fc; }
"""
)

_MARKS = {"minimum": "●", "elsewhere": "○", "under way": "→", "diverged": "×"}

_HEADER = (
    "function",
    "rate",
    "end",
    "value",
    "to minimum",
    "outcome",
    "average's end",
    "its value",
    "to minimum",
    "state",
)


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)


def _point(x: float | None, y: float | None) -> str:
    return "–" if x is None or y is None else f"{x:.2f}, {y:.2f}"


def switched(row: Row) -> str:
    """What a method that switches to SGD did, in words.

    Args:
      row: of a run.

    Returns:
      Empty for a method that has no switch.
    """
    if row.phase is None:
        return ""
    if row.phase == 0:
        return "never switched"
    return f"switched after update {row.switch_step}"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.function,
        f"{row.learning_rate:g}",
        _point(row.x, row.y),
        _number(row.value, ".4g"),
        _number(row.distance),
        row.outcome,
        _point(row.average_x, row.average_y),
        _number(row.average_value, ".4g"),
        _number(row.average_distance),
        ", ".join(text for text in (switched(row), row.state) if text),
    )


def overview(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line per method: how its runs end.

    Args:
      rows: those of all methods, together by method and function.

    Returns:
      Name, ends on Beale, ends on Schubert, remark.
    """
    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        ends = [
            " ".join(_MARKS[row.outcome] for row in own if row.function == function)
            for function in dict.fromkeys(row.function for row in own)
        ]
        remarks = [f"the paths of {own[0].same_as}"] if own[0].same_as else []
        if own[0].phase is not None:
            switches = [row for row in own if row.phase]
            remarks.append(f"{len(switches)} of {len(own)} runs switched to SGD")
        lines.append((method, *ends, "; ".join(remarks)))
    return lines


def legend() -> str:
    """What the marks of the overview mean, on one line."""
    return "; ".join(
        f"{_MARKS[name]} {name}: {text}" for name, text in OUTCOMES.items()
    )


def _section(method: str, rows: Sequence[Row], png: bytes, steps: int) -> str:
    data = base64.b64encode(png).decode()
    text = [f'<h2 id="{html.escape(method)}">{html.escape(method)}</h2>']
    arguments = html.escape(rows[0].arguments)
    text.append(f"<p>{html.escape(summary_of(method))}")
    text.append(f"Run with <code>{arguments}</code>.</p>" if arguments else "</p>")
    if method in PAPER and steps == STEPS:
        says, found = map(html.escape, PAPER[method])
        text.append(f'<div class="paper"><p>P2: {says}</p><p>Here: {found}</p></div>')
    if rows[0].same_as:
        text.append(f"<p>Its paths are those of {html.escape(rows[0].same_as)}.</p>")
    alt = html.escape(f"Paths of {method}")
    text.append(f'<img alt="{alt}" src="data:image/png;base64,{data}">')
    cells = [_cells(row) for row in rows]
    kept = [  # the average's columns only where there is one
        i
        for i, name in enumerate(_HEADER)
        if i == 0
        or name == "outcome"
        or any(line[i] not in ("–", "") for line in cells)
    ]
    text.append(
        make_table(
            [_HEADER[i] for i in kept], [[line[i] for i in kept] for line in cells]
        )
    )
    return "\n".join(text)


def make_page(
    *,
    rows: Sequence[Row],
    pictures: Mapping[str, bytes],
    not_run: Mapping[str, str],
    steps: int,
    note: str,
    commit: str,
    versions: Mapping[str, str],
) -> str:
    """The whole page.

    Args:
      rows: those of all methods.
      pictures: method to PNG file, in the page's order.
      not_run: method to the reason why it did not run.
      steps: updates of each run.
      note: the configuration's lab note, plain text.
      commit: of the code.
      versions: of the packages.

    Returns:
      HTML with the pictures inside it.
    """
    sections = [
        _section(name, [row for row in rows if row.method == name], png, steps)
        for name, png in pictures.items()
    ]
    listed = "".join(
        f"<li>{html.escape(name)}: {html.escape(reason)}</li>"
        for name, reason in not_run.items()
    )
    links = ", ".join(
        f'<a href="#{html.escape(name)}">{html.escape(name)}</a>' for name in pictures
    )
    missing = f"<h2>Not run</h2>\n<ul>{listed}</ul>" if listed else ""
    return _PAGE.substitute(
        style=_STYLE,
        title="Paths on the Beale and the Schubert function",
        steps=steps,
        outcomes=html.escape(legend()),
        overview=make_table(("method", "Beale", "Schubert", ""), overview(rows)),
        links=links,
        missing=missing,
        sections="\n".join(sections),
        note=html.escape(note),
        commit=html.escape(commit),
        versions=html.escape(", ".join(f"{k} {v}" for k, v in versions.items())),
    )
