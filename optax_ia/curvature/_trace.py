"""Trace and Frobenius norm from products with random vectors."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia._src import checks
from optax_ia.curvature._lanczos import vdot
from optax_ia.curvature._operator import Operator, check_real, flattened, unflattened


class Estimate(NamedTuple):
    """A stochastic estimate.

    Attributes:
      mean: shape ().
      standard_error: of the mean over the probes, shape (); NaN for a single probe.
    """

    mean: jax.Array
    standard_error: jax.Array


def rademacher_like(key: jax.Array, tree: Any) -> Any:
    """A tree of random signs with the shapes and dtypes of another."""
    leaves, treedef = jax.tree.flatten(tree)
    # one draw for all: a generator for each leaf takes seconds to compile
    sizes = [math.prod(jnp.shape(leaf)) for leaf in leaves]
    flat = jax.random.rademacher(key, (sum(sizes),), jnp.int8)
    ends = list(itertools.accumulate(sizes))
    return treedef.unflatten(
        flat[end - size : end].reshape(jnp.shape(leaf)).astype(jnp.result_type(leaf))
        for size, end, leaf in zip(sizes, ends, leaves, strict=True)
    )


@jax.jit
def _probe(keys: jax.Array, index: jax.Array, tree: Any) -> tuple[Any, jax.Array]:
    return rademacher_like(keys[index], tree), keys[index]


def probes(key: jax.Array, count: int, tree: Any) -> Iterator[tuple[Any, jax.Array]]:
    """Trees of random signs like another, each with the key it was drawn by."""
    keys = jax.random.split(key, count)
    for index in range(count):
        yield _probe(keys, jnp.asarray(index), tree)


_dot = jax.jit(vdot)


@jax.jit
def _estimate(samples: list[Any], dimension: jax.typing.ArrayLike) -> Estimate:
    """The mean of samples, over a number of parameters."""
    values = jnp.stack(samples)
    values = values / jnp.asarray(dimension, values.dtype)
    count = values.shape[0]
    spread = jnp.std(values, ddof=1) if count > 1 else jnp.full([], jnp.nan)
    return Estimate(values.mean(), (spread / count**0.5).astype(values.dtype))


def trace(
    operator: Any,
    params: Any,
    num_probes: int,
    *,
    key: jax.Array,
    method: Literal["hutchinson", "hutch++"] = "hutchinson",
    per_parameter: bool = False,
) -> Estimate:
    r"""The trace of an operator, estimated from products with random signs.

    Hutchinson's estimate is the mean of :math:`z^T A z`; its variance is
    :math:`2 (\|A\|_F^2 - \sum_i A_{ii}^2) / n`. Hutch++ spends a third of the products
    on a basis Q of the range, takes :math:`\mathrm{tr}(Q^T A Q)` exactly and estimates
    the rest: better where few eigenvalues make up the trace, and it keeps
    ``num_probes`` / 3 vectors in memory.

    Args:
      operator: an :class:`Operator`, or a function of trees.
      params: a tree of the vectors' shapes.
      num_probes: n >= 1 products; at least 3 for Hutch++.
      key: draws the vectors.
      method: which estimate.
      per_parameter: divide by P, which gives the mean eigenvalue: what P0's tables 9
        and 15 call the trace, and what networks of different size share.

    Returns:
      An :class:`Estimate`. Its standard error is that of the random part. If a product
      holds NaN, so does the estimate, mean and error.

    Raises:
      ValueError: if an argument is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import curvature
      >>> stretch = jnp.arange(1.0, 5.0)
      >>> found = curvature.trace(
      ...     lambda v: stretch * v, stretch, 4, key=jax.random.key(0)
      ... )
      >>> print(found.mean, found.standard_error)  # a diagonal matrix has no variance
      10.0 0.0
      >>> print(curvature.trace(
      ...     lambda v: stretch * v, stretch, 4, key=jax.random.key(0),
      ...     per_parameter=True,
      ... ).mean)
      2.5

    References:
      Hutchinson, A Stochastic Estimator of the Trace of the Influence Matrix, 1990;
      Meyer, Musco, Musco, Woodruff, `Hutch++ <https://arxiv.org/abs/2010.09649>`_,
      2021, Algorithm 1.
    """
    operator = Operator(operator, check_real(params))
    checks.check_choice("method", method, ("hutchinson", "hutch++"))
    least = 3 if method == "hutch++" else 1
    checks.check_integer("num_probes", num_probes, minimum=least)
    drawn = (probe for probe, _ in probes(key, num_probes, params))
    over = float(operator.dimension) if per_parameter else 1.0
    if method == "hutchinson":
        return _estimate([_dot(probe, operator(probe)) for probe in drawn], over)
    return _hutch_plus_plus(operator, params, drawn, num_probes, over)


def _hutch_plus_plus(
    operator: Operator, params: Any, drawn: Iterator[Any], num_probes: int, over: float
) -> Estimate:
    third = min(num_probes // 3, operator.dimension)
    first = itertools.islice(drawn, third)
    sketch = [flattened(operator(probe)) for probe in first]
    q = np.linalg.qr(np.stack(sketch, axis=1))[0]

    def product(flat):
        return flattened(operator(unflattened(flat, params)))

    exact = sum(float(column @ product(column)) for column in q.T)
    rest = []
    # another third went into the products with q
    for drawn_probe in itertools.islice(drawn, third, None):
        probe = flattened(drawn_probe)
        probe = probe - q @ (q.T @ probe)
        rest.append(jnp.asarray(probe @ product(probe)))
    found = _estimate(rest, over)
    return Estimate(found.mean + exact / over, found.standard_error)


def frobenius_norm(
    operator: Any,
    params: Any,
    num_probes: int,
    *,
    key: jax.Array,
    per_parameter: bool = False,
) -> Estimate:
    r"""The Frobenius norm, the root of the mean of :math:`\|A z\|^2`.

    Args:
      operator: an :class:`Operator`, or a function of trees.
      params: a tree of the vectors' shapes.
      num_probes: products with vectors of random signs, >= 1.
      key: draws the vectors.
      per_parameter: give the mean squared eigenvalue :math:`\|A\|_F^2 / P` instead,
        no root: what P0's tables 9 and 15 call the Frobenius norm.

    Returns:
      An :class:`Estimate`; its standard error is carried over to the root. If
      a product holds NaN, so does the estimate, mean and error.

    Raises:
      ValueError: if ``num_probes`` is no integer >= 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import curvature
      >>> stretch = jnp.array([3.0, 4.0])
      >>> print(curvature.frobenius_norm(
      ...     lambda v: stretch * v, stretch, 2, key=jax.random.key(0)
      ... ).mean)
      5.0
      >>> print(curvature.frobenius_norm(
      ...     lambda v: stretch * v, stretch, 2, key=jax.random.key(0),
      ...     per_parameter=True,
      ... ).mean)
      12.5

    .. note::
      P0 does not say what it divides. With 15 million parameters its numbers, as
      :math:`\|A\|_F / P`, would mean norms far above the trace, which a matrix with
      hardly any negative eigenvalues cannot have; as the mean square they are possible.
    """
    operator = Operator(operator, check_real(params))
    checks.check_integer("num_probes", num_probes, minimum=1)
    samples = []
    for probe, _ in probes(key, num_probes, params):
        value = operator(probe)
        samples.append(_dot(value, value))
    if per_parameter:
        return _estimate(samples, float(operator.dimension))
    return _root(_estimate(samples, 1.0))


@jax.jit
def _root(squared: Estimate) -> Estimate:
    """The root of an estimate, its error carried over."""
    norm = jnp.sqrt(squared.mean)
    return Estimate(norm, squared.standard_error / jnp.where(norm > 0, 2 * norm, 1))
