"""What is said of one method: a frozen record."""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any

import optax


def _nothing() -> Any:
    return dataclasses.field(
        default_factory=lambda: types.MappingProxyType({}), hash=False
    )


@dataclasses.dataclass(frozen=True)
class OptimizerRecord:
    """One method.

    Attributes:
      name: what ``get_optimizer`` calls it.
      factory: makes the transformation; every argument has a default, here or in
        ``defaults``.
      summary: one line on what it does.
      paper: where it comes from.
      averages: whether its state holds an average that ``averaged_params`` reads.
      needs: the extra arguments its ``update`` cannot do without; empty if gradients
        are enough.
      own_rate: whether the rate given is only where it begins, and the method finds the
        rest: no schedule is for it.
      base: the entry it wraps, against which its cost is measured; None for a rule.
      defaults: arguments that ``get_optimizer`` passes unless overridden.
      static: numbers among its arguments that fix shapes: under
        ``optax.inject_hyperparams`` name them in ``static_args``.
      test_learning_rate: a rate at which it solves the tests' small quadratic.
      exceptions: contracts it does not keep, by name, each with the reason.
    """

    name: str
    factory: Callable[..., optax.GradientTransformationExtraArgs]
    summary: str
    paper: str
    averages: bool = False
    needs: tuple[str, ...] = ()
    own_rate: bool = False
    base: str | None = None
    defaults: Mapping[str, Any] = _nothing()
    static: tuple[str, ...] = ()
    test_learning_rate: float = 0.1
    exceptions: Mapping[str, str] = _nothing()

    def make(self, **overrides: Any) -> optax.GradientTransformationExtraArgs:
        """Makes the transformation with ``defaults`` and ``overrides``.

        Raises:
          TypeError: if an override is no argument of the method, naming those it has.
        """
        return self.factory(**{**self.defaults, **overrides})
