"""The schema of arguments: what every public factory accepts, in one table.

``ARGUMENTS`` gives the kind and the bounds of each argument name that several factories
share. :func:`checked` decorates a factory: it looks every argument up by name (a
factory overrides an entry by a keyword), checks the call, and makes the state of the
transformation that comes out independent of the dtypes it is called with (see
:mod:`optax_ia._src.uniform`). An argument without an entry is an error at import, so no
factory can forget one.

Values that are known when the factory is called are checked: Python, NumPy and JAX
scalars. A traced value passes, since its value is not known.
"""

import dataclasses
import difflib
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_ia._src.masks import checked_mask
from optax_ia._src.required import REQUIRED, is_required
from optax_ia._src.uniform import uniform

LARGEST = int(jnp.iinfo(jnp.int32).max)
"""The largest count: states keep counters in int32."""


def _is_traced(value: Any) -> bool:
    """Whether a value is not known: traced, or an array with parts on other hosts."""
    if isinstance(value, jax.core.Tracer):
        return True
    return isinstance(value, jax.Array) and not value.is_fully_addressable


def _scalar(name: str, value: Any, kind: str) -> Any:
    """A known real scalar as a Python number; None if the value is traced."""
    if _is_traced(value):
        return None
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be {kind}, got the bool {value!r}.")
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        if value.ndim:
            raise TypeError(
                f"{name} must be {kind}, got an array of shape {value.shape}."
            )
        value = np.asarray(value)
        if value.dtype == bool:
            raise TypeError(f"{name} must be {kind}, got a bool array.")
        if not jnp.issubdtype(value.dtype, jnp.number) or jnp.issubdtype(
            value.dtype, jnp.complexfloating
        ):
            raise TypeError(f"{name} must be {kind}, got dtype {value.dtype}.")
        integral = jnp.issubdtype(value.dtype, jnp.integer)
        return int(value) if integral else float(value)
    if isinstance(value, numbers.Real):
        return value
    raise TypeError(f"{name} must be {kind}, got {_shown(value)}.")


def _shown(value: Any) -> str:
    """A value for a message, cut to one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite real number, or a schedule where ``schedule`` allows one.

    Attributes:
      minimum: the least value allowed.
      above: all values must be greater.
      maximum: the largest value allowed.
      below: all values must be less.
      schedule: whether a function of the update count is allowed.
      optional: whether None is allowed.
      infinite: whether infinity is allowed.
      no_schedule: the advice for a user who passed a schedule where none is allowed.
    """

    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    schedule: bool = False
    optional: bool = False
    infinite: bool = False
    no_schedule: str = "for a schedule wrap the optimiser in optax.inject_hyperparams"

    def __call__(self, name: str, value: Any) -> Any:
        """The value, if it is allowed."""
        if value is None and self.optional:
            return value
        if callable(value) and not isinstance(value, jax.Array):
            if self.schedule and not isinstance(value, type):
                return value
            raise TypeError(
                f"{name} must be a number, got the function {_shown(value)}; "
                f"{self.no_schedule}."
            )
        kind = "a number or a schedule" if self.schedule else "a number"
        known = _scalar(name, value, kind)
        if known is not None:
            self._check_bounds(name, known)
        return value

    def _check_bounds(self, name: str, value: Any) -> None:
        for limit, holds, symbol in (
            (self.minimum, lambda x, m: x >= m, ">="),
            (self.above, lambda x, m: x > m, ">"),
            (self.maximum, lambda x, m: x <= m, "<="),
            (self.below, lambda x, m: x < m, "<"),
        ):
            if limit is not None and not holds(value, limit):  # also False for NaN
                raise ValueError(f"{name} must be {symbol} {limit}, got {value!r}.")
        if math.isnan(value) or (math.isinf(value) and not self.infinite):
            raise ValueError(f"{name} must be finite, got {value!r}.")


@dataclasses.dataclass(frozen=True)
class Integer:
    """A whole number that fits in int32.

    Attributes:
      minimum: the least value allowed.
      optional: whether None is allowed.
      static: whether it fixes shapes or programs, so that it must be a Python integer.
    """

    minimum: int
    optional: bool = False
    static: bool = False

    def __call__(self, name: str, value: Any) -> Any:
        """The value, if it is allowed."""
        if value is None and self.optional:
            return value
        kind = "a whole number"
        if self.static and isinstance(value, jax.core.Tracer):
            raise TypeError(
                f"{name} fixes shapes, so it cannot be traced; under "
                f"optax.inject_hyperparams name it in static_args."
            )
        known = _scalar(name, value, kind)
        if known is None:
            return value
        if math.isnan(known) or math.isinf(known) or known != int(known):
            raise ValueError(f"{name} must be a whole number, got {known!r}.")
        if known < self.minimum:
            raise ValueError(f"{name} must be >= {self.minimum}, got {known!r}.")
        if known > LARGEST:
            raise ValueError(f"{name} must be <= {LARGEST}, got {known!r}.")
        return int(known) if self.static else value


@dataclasses.dataclass(frozen=True)
class Flag:
    """A Python bool: it chooses a program, so that it cannot be traced."""

    def __call__(self, name: str, value: Any) -> Any:
        """The value, if it is a bool."""
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} must be True or False, got {_shown(value)}.")
        return bool(value)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of a few values.

    Attributes:
      choices: the values.
      optional: whether None is allowed.
    """

    choices: tuple[Any, ...]
    optional: bool = False

    def __call__(self, name: str, value: Any) -> Any:
        """The value, if it is one of the choices."""
        if value is None and self.optional:
            return value
        same = [c for c in self.choices if type(c) is type(value) and c == value]
        if not same:
            listed = ", ".join(repr(choice) for choice in self.choices)
            none = " or None" if self.optional else ""
            raise ValueError(
                f"{name} must be one of {listed}{none}, got {_shown(value)}."
            )
        return value


@dataclasses.dataclass(frozen=True)
class Dtype:
    """A floating point dtype, or its name.

    Attributes:
      optional: whether None is allowed.
    """

    optional: bool = True

    def __call__(self, name: str, value: Any) -> Any:
        """The value, if it names a floating point dtype."""
        if value is None and self.optional:
            return value
        try:
            dtype = jnp.dtype(value) if value is not None else None
        except TypeError:
            dtype = None
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            raise ValueError(
                f"{name} must be a floating point dtype such as 'float32', got "
                f"{_shown(value)}."
            )
        return value


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimiser: anything with ``init`` and ``update``.

    Attributes:
      instead: the factory for a user who passed a learning rate.
    """

    instead: str = ""

    def __call__(self, name: str, value: Any) -> Any:
        """The value, if it is an optimiser."""
        if isinstance(value, type) or not (
            callable(getattr(value, "init", None))
            and callable(getattr(value, "update", None))
        ):
            hint = ""
            if self.instead:
                hint = f" For a learning rate alone use optax_ia.{self.instead}."
            raise TypeError(
                f"{name} must be an optimiser (an optax.GradientTransformation), got "
                f"{_shown(value)}.{hint}"
            )
        return value


@dataclasses.dataclass(frozen=True)
class MaskArgument:
    """A mask of parameters; see :func:`optax_ia._src.masks.checked_mask`."""

    def __call__(self, name: str, value: Any) -> Any:
        """The mask as a function that checks its result, or None."""
        return checked_mask(name, value)


@dataclasses.dataclass(frozen=True)
class Unchecked:
    """An argument that the factory checks itself."""

    def __call__(self, name: str, value: Any) -> Any:
        """The value."""
        del name
        return value


Kind = Number | Integer | Flag | Choice | Dtype | Optimizer | MaskArgument | Unchecked

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
            for argument, kind in kinds.items():
                value = bound.arguments[argument]
                if value is REQUIRED:
                    raise TypeError(is_required(name, argument))
                bound.arguments[argument] = kind(argument, value)  # pyright: ignore
            made = function(*bound.args, **bound.kwargs)
            if isinstance(made, optax.GradientTransformation):
                return uniform(made, name, complex_params)  # pyright: ignore
            return made

        wrapper.arguments = kinds  # pyright: ignore
        return wrapper

    return decorate
