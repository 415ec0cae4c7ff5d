"""The one list of methods: a frozen record each, from which everything else is made.

The contract suite, the benchmarks, the experiments' command line and the README's table
run over these records. What a method needs, and what it is excused from, is data here.
"""

import dataclasses
import difflib
import fnmatch
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

import optax

from optax_ia import _combinations, adaptive, averaging, gradients
from optax_ia.adaptive import _baselines


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
      base: the entry it wraps, against which its cost is measured; None for a rule.
      defaults: arguments that ``get_optimizer`` passes unless overridden.
      test_learning_rate: a rate at which it solves the tests' small quadratic.
      exceptions: contracts it does not keep, by name, each with the reason.
    """

    name: str
    factory: Callable[..., optax.GradientTransformationExtraArgs]
    summary: str
    paper: str
    averages: bool = False
    needs: tuple[str, ...] = ()
    base: str | None = None
    defaults: Mapping[str, Any] = _nothing()
    test_learning_rate: float = 0.1
    exceptions: Mapping[str, str] = _nothing()

    def make(self, **overrides: Any) -> optax.GradientTransformationExtraArgs:
        """Makes the transformation with ``defaults`` and ``overrides``.

        Raises:
          ValueError: if an override is no argument of the method, naming those it has.
        """
        accepted = inspect.signature(self.factory).parameters
        for name in overrides:
            if name not in accepted:
                raise ValueError(
                    f"{self.name} has no argument {name!r}; it takes "
                    + ", ".join(accepted)
                    + "."
                )
        return self.factory(**{**self.defaults, **overrides})


_RECORDS = (
    OptimizerRecord(
        name="sgd",
        factory=_baselines.sgd,
        summary="Stochastic gradient descent with momentum and L2 decay.",
        paper="P0 sec. 5",
    ),
    OptimizerRecord(
        name="adam",
        factory=_baselines.adam,
        summary="Adam with L2 decay.",
        paper="P0 sec. 3.1",
    ),
    OptimizerRecord(
        name="adamw",
        factory=_baselines.adamw,
        summary="Adam with decoupled decay.",
        paper="P0 sec. 5",
    ),
    OptimizerRecord(
        name="amsgrad",
        factory=_baselines.amsgrad,
        summary="Adam on the running maximum of the second moment, L2 decay.",
        paper="P0 Alg. 1 at p = 1/2",
    ),
    OptimizerRecord(
        name="adagrad",
        factory=_baselines.adagrad,
        summary="Adagrad with L2 decay.",
        paper="P3 eq. 1; P4 table 1",
    ),
    OptimizerRecord(
        name="rmsprop",
        factory=_baselines.rmsprop,
        summary="RMSprop with L2 decay.",
        paper="P3 sec. 1; P4 app. E.5",
    ),
    OptimizerRecord(
        name="yogi",
        factory=_baselines.yogi,
        summary="Adam whose second moment moves by steps of bounded size.",
        paper="P2 eq. 25",
    ),
    OptimizerRecord(
        name="radam",
        factory=_baselines.radam,
        summary="Adam with its early variance rectified.",
        paper="P2 sec. 4.2.2",
        test_learning_rate=0.01,  # in float32 the rectification cancels four digits
    ),
    OptimizerRecord(
        name="adabelief",
        factory=_baselines.adabelief,
        summary="Adam on the variance around the mean gradient, decoupled decay.",
        paper="P4 table 1",
    ),
    OptimizerRecord(
        name="padam",
        factory=adaptive.padam,
        summary="Partially adaptive: second moment to the power p = 1/8, L2 decay.",
        paper="P0 Alg. 1; Chen & Gu 2018",
    ),
    OptimizerRecord(
        name="padamw",
        factory=adaptive.padamw,
        summary="Padam with decoupled decay.",
        paper="P0 Alg. 1",
    ),
    OptimizerRecord(
        name="swats",
        factory=adaptive.swats,
        summary="Adam, then SGD at the rate that Adam's steps suggest.",
        paper="P3 Alg. 1",
        base="adam",
    ),
    OptimizerRecord(
        name="adam_clip",
        factory=adaptive.adam_clip,
        summary="Adam with step sizes between multiples of SGD's rate.",
        paper="P3 sec. 2, fig. 1",
    ),
    OptimizerRecord(
        name="adabound",
        factory=adaptive.adabound,
        summary="Adam with bounds that close in on SGD's rate.",
        paper="P4 table 1; Luo et al. 2019",
    ),
    OptimizerRecord(
        name="amsbound",
        factory=adaptive.adabound,
        summary="AdaBound on the running maximum of the second moment.",
        paper="P4; Luo et al. 2019, Alg. 3",
        defaults=types.MappingProxyType({"amsbound": True}),
    ),
    OptimizerRecord(
        name="adamp",
        factory=adaptive.adamp,
        summary="Adam projected off scale-invariant weights.",
        paper="P4 table 1; Heo et al. 2021",
    ),
    OptimizerRecord(
        name="sgdp",
        factory=adaptive.sgdp,
        summary="SGD with momentum projected off scale-invariant weights.",
        paper="P4 table 1; Heo et al. 2021",
    ),
    OptimizerRecord(
        name="sam",
        factory=_combinations.sam_sgd,
        summary="SGD with momentum on the gradient a step uphill.",
        paper="P4 table 1; Foret et al. 2021",
        needs=("grad_fn",),
        base="sgd",
    ),
    OptimizerRecord(
        name="sls",
        factory=gradients.sls,
        summary="SGD with a stochastic Armijo line search.",
        paper="P4 table 1; Vaswani et al. 2019",
        needs=("value", "value_fn"),
        test_learning_rate=0.7,  # 1 meets Armijo's bound on it to the last digit
        exceptions=types.MappingProxyType(
            {
                "learning_rate_diagnostics": "the search finds the rate",
                "schedule": "the search finds the rate",
                "injected_learning_rate": "it sets the first trial alone",
            }
        ),
    ),
    OptimizerRecord(
        name="svrg",
        factory=_combinations.svrg_sgd,
        summary="SGD on gradients of vanishing variance.",
        paper="P2 sec. 4.3.1, eq. 27",
        needs=("grad_fn", "full_gradient"),
    ),
    OptimizerRecord(
        name="ranger",
        factory=averaging.ranger,
        summary="RAdam on centralised gradients in Lookahead.",
        paper="P2 sec. 4.3.3",
        base="radam",
        exceptions=types.MappingProxyType(
            {"convergence": "centred gradients never see the mean of a column"}
        ),
    ),
    OptimizerRecord(
        name="lookahead",
        factory=_combinations.lookahead_adamw,
        summary="AdamW in Lookahead: every k steps halfway back to slow weights.",
        paper="P0 app. .2; Zhang et al. 2019",
        base="adamw",
    ),
    OptimizerRecord(
        name="adamw_ema",
        factory=_combinations.adamw_ema,
        summary="AdamW with an exponential moving average of the iterates.",
        paper="P0 sec. 4, app. A",
        averages=True,
        base="adamw",
    ),
    OptimizerRecord(
        name="swa",
        factory=averaging.swa,
        summary="SGD with momentum, L2 decay and a tail average.",
        paper="P0 sec. 2; Izmailov et al. 2018",
        averages=True,
        base="sgd",
    ),
    OptimizerRecord(
        name="asgd",
        factory=averaging.asgd,
        summary="Plain SGD with L2 decay and a tail average.",
        paper="P0 table 12",
        averages=True,
    ),
    OptimizerRecord(
        name="nt_asgd",
        factory=averaging.nt_asgd,
        summary="Plain SGD, averaged once a validation metric stops improving.",
        paper="P0 table 13",
        averages=True,
    ),
    OptimizerRecord(
        name="gadam",
        factory=averaging.gadam,
        summary="AdamW with a tail average.",
        paper="P0 Alg. 1, p = 1/2",
        averages=True,
        base="adamw",
    ),
    OptimizerRecord(
        name="gadamx",
        factory=averaging.gadamx,
        summary="PadamW with a tail average.",
        paper="P0 Alg. 1, p = 1/8",
        averages=True,
        base="padamw",
    ),
    OptimizerRecord(
        name="gadam_lookahead",
        factory=averaging.gadam_lookahead,
        summary="AdamW in Lookahead until averaging starts, then Gadam.",
        paper="P0 app. .2",
        averages=True,
        base="adamw",
        exceptions=types.MappingProxyType(
            {"iterates_untouched": "Lookahead ends where averaging starts"}
        ),
    ),
    OptimizerRecord(
        name="gadam_auto",
        factory=averaging.gadam_auto,
        summary="Gadam that starts averaging and stops by a validation metric.",
        paper="P0 app. A.2, table 8",
        averages=True,
        base="adamw",
    ),
)

_BY_NAME = types.MappingProxyType({record.name: record for record in _RECORDS})


def list_optimizers(pattern: str = "*") -> list[str]:
    """Names of the optimisers that ``get_optimizer`` makes.

    Args:
      pattern: a shell pattern (``fnmatch``).

    Returns:
      The matching names, in the registry's order; empty if none matches.

    Example:
      >>> import optax_ia
      >>> optax_ia.list_optimizers("gadam*")
      ['gadam', 'gadamx', 'gadam_lookahead', 'gadam_auto']
    """
    return [name for name in _BY_NAME if fnmatch.fnmatchcase(name, pattern)]


def get_record(name: str) -> OptimizerRecord:
    """The record of an optimiser.

    Args:
      name: one of :func:`list_optimizers`.

    Returns:
      The frozen record.

    Raises:
      ValueError: if there is no such name; the message lists the names there are.

    Example:
      >>> from optax_ia import registry
      >>> registry.get_record("gadamx").base
      'padamw'
    """
    try:
        return _BY_NAME[name]
    except (KeyError, TypeError):
        close = difflib.get_close_matches(str(name), _BY_NAME, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"unknown optimizer {name!r}.{hint} Known are {', '.join(_BY_NAME)}."
        ) from None


def get_optimizer(name: str, **overrides: Any) -> optax.GradientTransformationExtraArgs:
    """Makes an optimiser by name.

    Args:
      name: one of :func:`list_optimizers`.
      **overrides: arguments of the method, as ``learning_rate``, ``start`` or
        ``weight_decay``; the others keep their defaults.

    Returns:
      The transformation.

    Raises:
      ValueError: if the name or an argument is unknown (the choices are listed), or an
        argument is out of its range.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> tx = optax_ia.get_optimizer("gadamx", learning_rate=0.05, start=100)
      >>> print(optax_ia.diagnostics(tx.init(jnp.ones(2)))["learning_rate"])
      0.05
    """
    return get_record(name).make(**overrides)
