"""A page of any sections: one HTML file that needs nothing but itself."""

import base64
import html
import json
import string
from collections.abc import Sequence
from typing import Any

STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .55rem; text-align: right; vertical-align: top;
         border-bottom: 1px solid #ddd; white-space: pre; }
th { font-weight: 600; border-bottom: 2px solid #888; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; }
.note { background: #fff4e5; border-left: 4px solid #d55e00; padding: .5rem .9rem; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: 13px; }
"""
"""What every page looks like."""

_PAGE = string.Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<h1>$title</h1>
$finding
$sections
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


def paragraph(text: str, *, kind: str = "") -> str:
    """A paragraph of plain text.

    Args:
      text: what it says.
      kind: a class of the page's style, such as ``note``.

    Returns:
      HTML.
    """
    opening = f'<p class="{kind}">' if kind else "<p>"
    return f"{opening}{html.escape(text)}</p>"


def picture(caption: str, png: bytes) -> str:
    """A figure, inside the page.

    Args:
      caption: what is read where it is not seen.
      png: a PNG file.

    Returns:
      HTML.
    """
    data = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'


def make_page(
    *,
    title: str,
    finding: Sequence[str],
    sections: Sequence[tuple[str, str]],
    description: dict[str, Any],
    note: str,
) -> str:
    """The whole page.

    Args:
      title: its heading.
      finding: what came out, in sentences that stand on top, one paragraph each.
      sections: heading and HTML of each.
      description: the folder's ``config.json``.
      note: the configuration's lab note, plain text.

    Returns:
      HTML.
    """
    versions = ", ".join(f"{k} {v}" for k, v in description["versions"].items())
    return _PAGE.substitute(
        style=STYLE,
        title=html.escape(title),
        finding="\n".join(paragraph(text, kind="note") for text in finding),
        sections="\n".join(
            f"<h2>{html.escape(heading)}</h2>\n{body}" for heading, body in sections
        ),
        command=html.escape(description["command"]),
        commit=html.escape(description["commit"]),
        config=html.escape(json.dumps(description["config"], indent=2)),
        versions=html.escape(versions),
        note=html.escape(note),
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table as Markdown.

    Args:
      header: the columns' names.
      rows: their cells; line breaks in them become spaces.

    Returns:
      One line per row, each ended by a line break.
    """
    lines = [header, ("---",) * len(header), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("\n", " ") for cell in line) + " |\n"
        for line in lines
    )
