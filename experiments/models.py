"""``python -m experiments models``: the table of networks, from the zoo's records."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from experiments.cli import parse
from experiments.errors import unknown
from optax_ia import models


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Print the zoo as a Markdown table: sizes, cost, papers and reference counts."""

    pattern: str = "*"
    """Shell pattern of the names to list."""
    kind: str | None = None
    """"image", "language" or "generative"; all if not given."""
    flops: bool = True
    """Whether to count the operations of a forward pass, a second or so a network."""
    compiled: bool = False
    """Whether to count them after XLA has compiled the network, which takes longer."""


def forward_flops(name: str, *, compiled: bool = False) -> float:
    """Floating-point operations of evaluating one example, as XLA counts them.

    A multiplication and an addition count as two.

    Args:
      name: of the model.
      compiled: whether to count in the compiled program, not in the one that goes into
        the compiler. Where a compiler calls libraries, it knows of no operations there.

    Returns:
      Their number; NaN where the backend does not count.
    """
    record = models.get_model_record(name)
    model = models.create_model(name)
    variables = models.abstract_variables(name)
    example = jax.ShapeDtypeStruct((1, *record.input_shape), record.input_dtype)

    def forward(variables: Any, x: jax.Array) -> Any:
        return model.apply(variables, x, train=False)

    lowered = jax.jit(forward).lower(variables, example)
    costs: Any = (lowered.compile() if compiled else lowered).cost_analysis()
    return float((costs or {}).get("flops", jnp.nan))


def scaled(number: float) -> str:
    """A number to three digits with its prefix: ``8.22 G``."""
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:#.3g} {prefix}".replace(". ", " ")
    return f"{number:.0f}"


def table(names: Sequence[str], *, flops: bool = True, compiled: bool = False) -> str:
    """The models as a Markdown table, one row each.

    Args:
      names: of the models.
      flops: whether to count operations.
      compiled: as in :func:`forward_flops`.

    Returns:
      The table, without a final newline.
    """
    head = ["name", "what it is", "input", "parameters"]
    head += ["forward FLOPs"] if flops else []
    head += ["source", "reference count"]
    rows = [head, ["---"] * len(head)]
    for name in names:
        record = models.get_model_record(name)
        shape = "x".join(str(size) for size in record.input_shape)
        row = [f"`{name}`", record.summary, shape, f"{models.count_parameters(name):,}"]
        if flops:
            row.append(scaled(forward_flops(name, compiled=compiled)))
        reference = ""
        if record.parameters is not None:
            reference = f"{record.parameters:,} ({record.parameters_source})"
        rows.append([*row, record.paper, reference])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: Sequence[str]) -> int:
    """Prints the table.

    Args:
      arguments: what stands after the command.

    Returns:
      The exit status.

    Raises:
      ExperimentError: if no model is selected.
    """
    config = parse(Arguments, arguments, command="models")
    names = models.list_models(config.pattern, kind=config.kind)
    if not names:
        raise unknown("model", config.pattern, models.list_models(kind=config.kind))
    print(table(names, flops=config.flops, compiled=config.compiled))
    return 0
