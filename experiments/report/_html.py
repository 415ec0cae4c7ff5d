"""The report: one HTML file that needs nothing but itself."""

import base64
import html
import json
import string
from collections.abc import Sequence
from typing import Any

_PAGE = string.Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; vertical-align: top;
         border-bottom: 1px solid #ddd; white-space: pre; }
th { font-weight: 600; border-bottom: 2px solid #888; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; }
.note { background: #fff4e5; border-left: 4px solid #d55e00; padding: .5rem .9rem; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: 13px; }
</style>
</head>
<body>
<h1>$title</h1>
$notice
<h2>Test accuracy</h2>
$table
<p>Mean ± sample deviation over seeds, and below it the 95 % bootstrap interval of the
mean, which resamples seeds only: the test set is the same in all of them, and for a
handful of seeds the interval is too narrow. The test set was evaluated once per run, at
its end. Rates and decays were chosen on validation, for the optimisers without
averaging; those with it took over their base's. The two columns on the right are what
the paper reports for VGG-16 on its own tasks; they are no target for this one.
Seconds include evaluation every epoch and, in a process's first run of an optimiser,
compilation; steps per second are of training alone.</p>
$figures
<h2>What was run</h2>
<p>Command <code>$command</code>, commit <code>$commit</code>.</p>
<pre>$config</pre>
<p>Versions: $versions.</p>
<h2>Lab note of the configuration</h2>
<pre>$note</pre>
</body>
</html>
"""
)


def make_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; line breaks in cells stay.

    Args:
      header: the columns' names.
      rows: their cells.

    Returns:
      HTML.
    """
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def make_page(
    *,
    title: str,
    notice: str | None,
    table: str,
    figures: dict[str, bytes],
    description: dict[str, Any],
    note: str,
) -> str:
    """The whole page.

    Args:
      title: its heading.
      notice: a warning to stand on top, such as that the run is not finished.
      table: HTML, from :func:`make_table`.
      figures: caption to PNG file, in order.
      description: the folder's ``config.json``.
      note: the configuration's lab note, plain text.

    Returns:
      HTML with the figures inside it.
    """
    pictures = []
    for caption, png in figures.items():
        data = base64.b64encode(png).decode()
        text = html.escape(caption)
        pictures.append(
            f'<h2>{text}</h2>\n<img alt="{text}" src="data:image/png;base64,{data}">'
        )
    versions = ", ".join(f"{k} {v}" for k, v in description["versions"].items())
    return _PAGE.substitute(
        title=html.escape(title),
        notice=f'<p class="note">{html.escape(notice)}</p>' if notice else "",
        table=table,
        figures="\n".join(pictures),
        command=html.escape(description["command"]),
        commit=html.escape(description["commit"]),
        config=html.escape(json.dumps(description["config"], indent=2)),
        versions=html.escape(versions),
        note=html.escape(note),
    )
