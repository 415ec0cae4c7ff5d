"""The kinds of arguments: each checks a value and gives it back.

A kind raises TypeError for a value of another type and ValueError for one out of its
bounds; the message names the argument, the bound and the value. Python, NumPy and JAX
scalars are checked; a traced value passes, since its value is not known.
"""

import dataclasses
import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from optax_ia._src.masks import checked_mask

LARGEST = int(jnp.iinfo(jnp.int32).max)
"""The largest count: states keep counters in int32."""


def _is_traced(value: Any) -> bool:
    """Whether a value is not known: traced, or an array with parts on other hosts."""
    if isinstance(value, Tracer):
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
      static: whether it fixes shapes, so that a known value becomes a Python integer.
    """

    minimum: int
    optional: bool = False
    static: bool = False

    def __call__(self, name: str, value: Any) -> Any:
        """The value, if it is allowed."""
        if value is None and self.optional:
            return value
        known = _scalar(name, value, "a whole number")
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
            is_array = isinstance(value, (np.ndarray, np.generic, jax.Array))
            dtype = None if value is None or is_array else jnp.dtype(value)
        except TypeError:
            dtype = None
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            got = _shown(value) if dtype is None else dtype.name
            raise ValueError(f"{name} must be a floating point dtype, got {got}.")
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
