"""Stable rank, condition number and quality of every layer, from its weights alone."""

import functools
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optax_ia._src import checks
from optax_ia._src.paths import path_string
from optax_ia.explain import _spectrum
from optax_ia.explain._noise import Kept
from optax_ia.explain._unfoldings import (
    Unfolding,
    is_kernel,
    low_rank_spectra,
    unfoldings,
)

Power = Literal[1, 2]


class UnfoldingMetrics(NamedTuple):
    r"""What the low-rank part of one matrix is like; all of shape ().

    Attributes:
      rank: number of singular values above the noise, int32. 0: nothing was learned
        yet, and the rest is 0. 1: the condition is 0 and the quality is at its largest
        for want of a second value, not for being good.
      stable_rank: s, in [0, 1].
      condition: :math:`\kappa` in [0, 1], 0 if all values are equal.
      quality: q in [0, pi/2].
      sigma2: the noise variance.
    """

    rank: jax.Array
    stable_rank: jax.Array
    condition: jax.Array
    quality: jax.Array
    sigma2: jax.Array


class LayerMetrics(NamedTuple):
    """Metrics of one kernel, or a stack of them; of a matrix both are the same.

    Attributes:
      inputs: of the unfolding whose one side are the input channels.
      outputs: of that whose one side are the output channels.
    """

    inputs: UnfoldingMetrics
    outputs: UnfoldingMetrics

    @property
    def stable_rank(self) -> jax.Array:
        """The mean of both stable ranks, which :func:`optax_ia.rmsgd` takes."""
        return (self.inputs.stable_rank + self.outputs.stable_rank) / 2

    @property
    def condition(self) -> jax.Array:
        """The mean of the conditions of those that have a rank; 0 if none has."""
        counted = jnp.stack([one.rank > 0 for one in self])
        total = jnp.sum(jnp.stack([one.condition for one in self]), axis=0)
        return total / jnp.maximum(jnp.sum(counted, axis=0), 1)

    @property
    def quality(self) -> jax.Array:
        """The root mean square of the qualities of those that have a rank."""
        return _root_mean_square([self.inputs, self.outputs])


def _metrics(kept: Kept, length: Any, power: Any) -> UnfoldingMetrics:
    first = kept.values[0]
    there = kept.rank > 0
    relative = kept.values / jnp.where(first == 0, 1, first)
    weights = jnp.where(power == 2, jnp.square(relative), relative)
    stable = jnp.sum(weights) / length
    last = relative[jnp.maximum(kept.rank - 1, 0)]
    # what is not finite has no rank, but no metrics either
    condition = jnp.where(there, jnp.maximum(1 - last, 0), 0 * first)
    quality = jnp.where(there, jnp.arctan2(stable, condition), 0 * first)
    return UnfoldingMetrics(kept.rank, stable, condition, quality, kept.sigma2)


@functools.partial(jax.jit, static_argnames=("chosen", "method"))
def _measure(
    kernels: tuple[jax.Array, ...],
    sigma2: Any,
    power: Any,
    *,
    chosen: tuple[Unfolding, ...],
    method: _spectrum.Method,
) -> UnfoldingMetrics:
    """Metrics of all unfoldings, each field a vector."""
    stacks, order = [], []
    for places, kept in low_rank_spectra(kernels, chosen, sigma2=sigma2, method=method):
        lengths = np.array([chosen[place].shorter for place in places])
        each = jax.vmap(functools.partial(_metrics, power=power))
        stacks.append(each(kept, lengths))
        order += places
    back = np.argsort(order)

    def join(*columns: jax.Array) -> jax.Array:
        widest = jnp.result_type(*columns)
        return jnp.concatenate([column.astype(widest) for column in columns])[back]

    return jax.tree.map(join, *stacks)


def measure_kernels(
    kernels: Mapping[str, jax.Array],
    *,
    power: Any = 1,
    method: _spectrum.Method = "gram",
    sigma2: Any = None,
) -> tuple[UnfoldingMetrics, list[tuple[int, int]]]:
    """Metrics of kernels by path, none empty, each of two axes or more.

    Args:
      kernels: at least one.
      power: 1 or 2, which may be traced.
      method: as in :func:`layer_metrics`.
      sigma2: likewise.

    Returns:
      Those of all unfoldings, each field a vector, and for each kernel the places of
      its unfoldings of inputs and outputs.
    """
    chosen: list[Unfolding] = []
    where = []
    for place, (path, kernel) in enumerate(kernels.items()):
        own = unfoldings(path, kernel.shape, place)
        where.append((len(chosen), len(chosen) + len(own) - 1))
        chosen += own
    found = _measure(
        tuple(kernels.values()),
        sigma2,
        power,
        chosen=tuple(chosen),
        method=method,
    )
    return found, where


def layer_metrics(
    params: Any,
    *,
    power: Power = 1,
    sigma2: jax.typing.ArrayLike | None = None,
    method: _spectrum.Method = "gram",
    pattern: str | None = None,
) -> dict[str, LayerMetrics]:
    r"""How well every layer has learned, from the low-rank part of its kernel.

    A kernel (h, w, in, out) is unfolded to (in, h w out) and to (h w in, out), a matrix
    stays one, and :func:`evbmf` takes the noise away. Of the singular values
    :math:`d_1\ge\dots\ge d_{n'}` that are left, n the shorter side,

    .. math::
      s = \frac{1}{n}\sum_{i=1}^{n'} \Bigl(\frac{d_i}{d_1}\Bigr)^p,\quad
      \kappa = 1 - \frac{d_{n'}}{d_1},\quad q = \arctan\frac{s}{\kappa}.

    Args:
      params: the weights, a tree of arrays: of Linen, or an NNX state of parameters.
      power: p, 1 as in all code that its authors released, or 2 as in eq. 2.
      sigma2: the noise variance of all kernels, >= 0; 0 takes nothing away. None
        estimates that of each unfolding.
      method: where singular values come from, as in :func:`evbmf`. Static.
      pattern: a regular expression, searched in paths such as ``"Conv_0/kernel"``:
        which arrays of two or more axes are kernels; None takes all but those whose
        name is ``bias`` or ``scale``.

    Returns:
      Metrics by path: scalars in float32 or wider, the same structure whatever the
      values, so that they can be logged every epoch and stacked by ``lax.scan``.
      ``metrics[path].stable_rank`` and ``.quality`` are those of both unfoldings.

    Raises:
      ValueError: if no array counts, listing paths, or an argument is out of its range.

    Example:
      A layer that learned two directions, beside one that learned nothing:

      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import explain
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> left = jax.random.normal(keys[0], (32, 2))
      >>> right = jax.random.normal(keys[1], (2, 64))
      >>> noise = 0.1 * jax.random.normal(keys[2], (32, 64))
      >>> params = {"a": {"kernel": left @ right + noise}, "b": {"kernel": noise}}
      >>> metrics = explain.layer_metrics(params)
      >>> for path, layer in metrics.items():
      ...     print(path, layer.outputs.rank, f"{layer.stable_rank:.3f}")
      a/kernel 2 0.047
      b/kernel 0 0.000

    .. note::
      The released code divides by the number of rows where this divides by the shorter
      side, and reports :math:`d_1/d_{n'}`. Where a kernel of attention has its heads on
      an axis of its own (``query``, ``key``, ``value``, ``out``), they count as one
      axis with the features beside them.

    References:
      Hosseini, Tuli, Plataniotis, `Exploiting Explainable Metrics for Augmented SGD
      <https://arxiv.org/abs/2203.16723>`_, 2022, eq. 2 to 4.
    """
    if power not in (1, 2):
        raise ValueError(f"power must be 1 or 2, got {power!r}.")
    checks.check_choice("method", method, _spectrum.METHODS)
    if sigma2 is not None:
        checks.check_number("sigma2", sigma2, minimum=0)
    leaves = [
        (path_string(path), jnp.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    chosen = {
        path: leaf
        for path, leaf in leaves
        if (
            is_kernel(path, leaf.shape)
            if pattern is None
            else leaf.ndim >= 2 and leaf.size and re.search(pattern, path)
        )
    }
    if not chosen:
        wanted = "" if pattern is None else f" and matches {pattern!r}"
        raise ValueError(
            f"no array has two axes{wanted}; there are {[path for path, _ in leaves]}."
        )
    found, where = measure_kernels(chosen, power=power, sigma2=sigma2, method=method)
    columns = [list(column) for column in found]
    each = [UnfoldingMetrics(*values) for values in zip(*columns, strict=True)]
    return {
        path: LayerMetrics(each[inputs], each[outputs])
        for path, (inputs, outputs) in zip(chosen, where, strict=True)
    }


def _root_mean_square(every: list[UnfoldingMetrics], min_rank: Any = 1) -> jax.Array:
    quality = jnp.stack([metrics.quality for metrics in every])
    counted = jnp.stack([metrics.rank for metrics in every]) >= min_rank
    # what is not finite has no rank, and must show
    squares = jnp.where(counted | jnp.isnan(quality), jnp.square(quality), 0)
    # over the unfoldings alone: there may be an axis of epochs
    total, count = jnp.sum(squares, axis=0), jnp.sum(counted, axis=0)
    return jnp.sqrt(total / jnp.maximum(count, 1))


def network_quality(
    params: Any,
    *,
    power: Power = 1,
    sigma2: jax.typing.ArrayLike | None = None,
    method: _spectrum.Method = "gram",
    pattern: str | None = None,
    min_rank: jax.typing.ArrayLike = 1,
) -> jax.Array:
    r"""The quality of a network, a measure of how well it will generalise.

    .. math::
      Q = \sqrt{\frac{1}{N}\sum_{j=1}^N q_j^2}

    over the N unfoldings of all kernels (:func:`layer_metrics`) that have a rank: one
    of rank 0 has learned nothing yet and is left out.

    Args:
      params: the weights, a tree of arrays, or what :func:`layer_metrics` gave of them,
        which then decides the rest.
      power: as in :func:`layer_metrics`.
      sigma2: likewise.
      method: likewise. Static.
      pattern: likewise.
      min_rank: the smallest rank that counts, >= 1. A rank of 1 has the quality
        :math:`\pi/2` by definition, and Q jumps when an unfolding of a small network
        comes to it: 2 leaves such unfoldings out.

    Returns:
      Q in [0, pi/2], shape (); 0 if nothing has a rank, NaN if a kernel is not finite.

    Raises:
      ValueError: if no array counts, listing paths, or an argument is out of its range.

    Example:
      Orthogonal rows are the best there is:

      >>> import jax.numpy as jnp
      >>> from optax_ia import explain
      >>> params = {"kernel": jnp.eye(4, 8)}
      >>> print(f"{explain.network_quality(params, sigma2=0):.4f}")
      1.5708

    References:
      Hosseini, Tuli, Plataniotis, `Exploiting Explainable Metrics for Augmented SGD
      <https://arxiv.org/abs/2203.16723>`_, 2022, eq. 5.
    """
    checks.check_integer("min_rank", min_rank, minimum=1)
    if isinstance(params, Mapping) and any(
        isinstance(value, LayerMetrics) for value in params.values()
    ):
        metrics = params
    else:
        metrics = layer_metrics(
            params, power=power, sigma2=sigma2, method=method, pattern=pattern
        )
    every = [one for layer in metrics.values() for one in layer]
    return _root_mean_square(every, min_rank)
