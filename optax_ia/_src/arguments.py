"""The schema of arguments: what every public factory accepts, in one table.

``ARGUMENTS`` gives the kind and the bounds of each argument name that several factories
share. :func:`checked` decorates a factory: it looks every argument up by name (a
factory overrides an entry by a keyword), checks the call, and makes the state of the
transformation that comes out independent of the dtypes it is called with (see
:mod:`optax_ia._src.uniform`). An argument without an entry is an error at import, so no
factory can forget one.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import optax

from optax_ia._src.kinds import Choice as Choice
from optax_ia._src.kinds import Dtype as Dtype
from optax_ia._src.kinds import Flag as Flag
from optax_ia._src.kinds import Integer as Integer
from optax_ia._src.kinds import Kind as Kind
from optax_ia._src.kinds import MaskArgument as MaskArgument
from optax_ia._src.kinds import Number as Number
from optax_ia._src.kinds import Optimizer as Optimizer
from optax_ia._src.kinds import Unchecked as Unchecked
from optax_ia._src.required import REQUIRED, is_required
from optax_ia._src.uniform import uniform

_UNIT = Number(minimum=0, below=1)
_RATE = Number(minimum=0, schedule=True)
_COUNT = Integer(minimum=1)

ARGUMENTS: Mapping[str, Kind] = {
    "learning_rate": _RATE,
    "weight_decay": _RATE,
    "mask": MaskArgument(),
    "b1": _UNIT,
    "b2": _UNIT,
    "momentum": _UNIT,
    "decay": _UNIT,
    "nesterov": Flag(),
    "eps": Number(minimum=0),
    "eps_root": Number(minimum=0),
    "mu_dtype": Dtype(),
    "partial": Number(minimum=0, maximum=0.5),
    "amsgrad": Flag(),
    "correction": Choice(("power", "sqrt")),
    # averaging
    "start": Integer(minimum=0, optional=True),
    "every": _COUNT,
    "dtype": Dtype(optional=False),
    "accumulator_dtype": Dtype(optional=False),
    "debias": Flag(),
    "patience": _COUNT,
    "mode": Choice(("min", "max")),
    "window": Integer(minimum=1, static=True),
    "sync_period": _COUNT,
    "slow_step_size": Number(minimum=0, maximum=1),
    "stop": Integer(minimum=0, optional=True),
    # wrappers
    "inner": Optimizer(),
    "optimizer": Optimizer(),
    "rho": Number(minimum=0),
    "adaptive": Flag(),
    "snapshot_every": _COUNT,
    "steps_per_epoch": _COUNT,
    # switch
    "tol": Number(above=0),
    "rtol": Number(minimum=0),
    "monitor": Choice(("gamma", "relative"), optional=True),
    "scope": Choice(("global", "leaf")),
    "switch_at": Integer(minimum=1, optional=True),
    "sgd_learning_rate": Number(above=0, optional=True),
    # projection
    "delta": Number(minimum=0),
    "wd_ratio": Number(minimum=0),
    # second order
    "damping": Number(above=0),
    "max_dim": Integer(minimum=1, static=True),
}
"""Kind and bounds of the arguments that factories share, by name."""

P = ParamSpec("P")
R = TypeVar("R")


def _bind(
    signature: inspect.Signature,
    function: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> inspect.BoundArguments:
    """The arguments of a call by name, or a TypeError that says what is wrong."""
    unknown = [name for name in kwargs if name not in signature.parameters]
    if unknown:
        known = list(signature.parameters)
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise TypeError(
            f"{function} has no argument {unknown[0]!r}.{hint} It takes "
            f"{', '.join(known)}."
        )
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(
            f"{function}: {error}; its arguments are {', '.join(signature.parameters)}."
        ) from None
    bound.apply_defaults()
    return bound


def checked(
    *, complex_params: bool = False, **overrides: Kind
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a public factory with the check of its arguments.

    Args:
      complex_params: whether the transformation is right for complex parameters; if not
        they are refused, by the factory's name.
      **overrides: the kind of an argument where the table's does not fit.

    Returns:
      The decorator. The decorated factory has the attribute ``arguments``, the kind of
      each argument by name.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        name = function.__name__
        unused = set(overrides) - set(signature.parameters)
        kinds = {
            argument: overrides.get(argument) or ARGUMENTS.get(argument)
            for argument in signature.parameters
        }
        missing = [argument for argument, kind in kinds.items() if kind is None]
        if missing or unused:
            raise TypeError(
                f"{name}: no kind for {missing}, and no argument for {sorted(unused)}."
            )

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = _bind(signature, name, args, kwargs)
            absent = [a for a in kinds if bound.arguments[a] is REQUIRED]
            for argument, kind in kinds.items():
                if argument not in absent:
                    value = bound.arguments[argument]
                    bound.arguments[argument] = kind(argument, value)  # pyright: ignore
            if absent:
                raise TypeError(is_required(name, absent[0]))
            made = function(*bound.args, **bound.kwargs)
            if isinstance(made, optax.GradientTransformation):
                return uniform(made, name, complex_params)  # pyright: ignore
            return made

        wrapper.arguments = kinds  # pyright: ignore
        return wrapper

    return decorate
