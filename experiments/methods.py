"""``python -m experiments methods``: the table of methods, from the registry."""

import dataclasses
from collections.abc import Sequence

import optax_ia
from experiments.cli import parse


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Print the README's table of methods, as Markdown, from the registry."""

    pattern: str = "*"
    """Shell pattern of the names to list."""


def table(pattern: str = "*") -> str:
    """The methods as a Markdown table, one row per registry entry.

    Args:
      pattern: of the names to list.

    Returns:
      The table, without a final newline.
    """
    rows = ["| name | what it does | source | averages |", "|---|---|---|---|"]
    for name in optax_ia.list_optimizers(pattern):
        record = optax_ia.get_record(name)
        averages = "yes" if record.averages else ""
        rows.append(f"| `{name}` | {record.summary} | {record.paper} | {averages} |")
    return "\n".join(rows)


def main(arguments: Sequence[str]) -> int:
    """Prints the table.

    Args:
      arguments: what stands after the command.

    Returns:
      The exit status.
    """
    config = parse(Arguments, arguments, command="methods")
    print(table(config.pattern))
    return 0
