"""Loss, gradient and Kronecker factors of a batch, for unmodified Flax models."""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from optax_ia.flax._batches import default_inputs
from optax_ia.flax._kfac_likelihood import (
    Likelihood,
    default_labels,
    likelihood_of,
    shares,
    without_masked,
)
from optax_ia.flax._kfac_linen import linen_pass
from optax_ia.flax._kfac_nnx import nnx_pass
from optax_ia.flax._kfac_passes import (
    Captured,
    apply_of,
    capture,
    chosen_rules,
    expected_paths,
    find,
    warn_of,
)
from optax_ia.flax._step_extras import LossFn, Settings
from optax_ia.second_order._kfac_layers import MAX_DIM, KfacLayer

_SAMPLES = 0x6B666163
"""Folded into the key for the drawn labels, apart from the network's own streams."""


class KfacAux(NamedTuple):
    """What comes with the loss.

    Attributes:
      metrics: those of ``loss_fn``, a dict of scalars.
      batch_stats: Linen's batch statistics after the pass; of an NNX model None, which
        holds its own.
    """

    metrics: dict[str, Any]
    batch_stats: Any


class _Capture:
    """What Linen and NNX share: finding the layers, the key, the result."""

    def __init__(self, settings, likelihood, weights, empirical, layers, max_dim):
        self.settings = settings
        self._likelihood = likelihood
        self._weights = weights
        self._empirical = empirical
        self._layers = None if layers is None else tuple(layers)
        self._max_dim = max_dim
        self._known: dict[Any, Any] = {}
        self._warned = False

    def _rules(self, run, static, params, arguments):
        """The rules, why other layers have none, and the paths of all."""
        leaves, structure = jax.tree.flatten((params, *arguments))
        shapes = tuple(
            (jnp.shape(leaf), str(getattr(leaf, "dtype", type(leaf))))
            for leaf in leaves
        )
        known = self._known.get((static, structure, shapes))
        if known is None:
            found = find(run, params, self._max_dim, *arguments)
            rules = chosen_rules(found, self._layers)
            wanted = expected_paths(params, self._layers, self._max_dim)
            reasons = {path: found.reason(path) for path in wanted if path not in rules}
            known = rules, reasons, tuple(dict.fromkeys([*wanted, *rules]))
            self._known[static, structure, shapes] = known
        return known

    def __call__(
        self, run, params: Any, batch: Any, key: Any, *others: Any, static: Any = None
    ) -> Captured:
        """Captures a pass ``run(params, observer, batch, key, *others)``."""
        if not self._empirical and key is None:
            raise ValueError(
                "labels drawn from the model need a key: call value_and_grad(..., "
                "batch, key), or take the data's labels with empirical=True."
            )
        arguments = (batch, key, *others)
        draw = None
        if not self._empirical:
            draw = jax.random.fold_in(key, _SAMPLES)
        rules, reasons, paths = self._rules(run, static, params, arguments)
        captured = capture(
            lambda params, observer: run(params, observer, batch, key, *others),
            rules,
            self.settings,
            self._likelihood,
            params,
            batch,
            None if self._weights is None else self._weights(batch),
            draw,
        )
        lost = {
            path: "compiled by nn.jit in an earlier pass"
            for path in rules
            if path not in captured.factors
        }
        if (reasons or lost) and not self._warned:
            self._warned = True
            warn_of({**reasons, **lost})
        factors = {path: captured.factors.get(path) for path in paths}
        return captured._replace(factors=factors)


def _linen(apply_fn: Callable[..., Any], capture_pass: _Capture) -> Callable[..., Any]:
    def run(params, observer, batch, key, batch_stats):
        return linen_pass(
            capture_pass.settings, apply_fn, params, batch, key, batch_stats, observer
        )

    def value_and_grad(params, batch, key=None, batch_stats=None):
        got = capture_pass(run, params, batch, key, batch_stats)
        return (got.loss, KfacAux(got.metrics, got.left)), got.grads, got.factors

    return value_and_grad


def _nnx(capture_pass: _Capture) -> Callable[..., Any]:
    def value_and_grad(model, batch, key=None, *, wrt=nnx.Param):
        graphdef, params, others = nnx.split(model, wrt, ...)

        def run(params, observer, batch, key, others):
            del key  # an NNX model draws from its own streams
            return nnx_pass(
                capture_pass.settings, graphdef, wrt, params, others, batch, observer
            )

        variables = jax.tree.structure(params)
        got = capture_pass(
            run,
            nnx.as_pure(params),
            batch,
            key,
            nnx.as_pure(others),
            static=(graphdef, wrt),
        )
        nnx.update(model, got.left)
        # gradients as ``nnx.value_and_grad`` gives them, in their variables' types
        grads = jax.tree.unflatten(variables, jax.tree.leaves(got.grads))
        return (got.loss, KfacAux(got.metrics, None)), grads, got.factors

    return value_and_grad


def _mean_loss(likelihood, labels, weights, outputs, batch):
    """The (weighted) mean of the negative log likelihood's terms."""
    target, weight = labels(batch), None
    if weights is not None:
        weight = weights(batch)
        target = without_masked(target, weight)
    terms = likelihood.negative_log_likelihood(outputs, target)
    return jnp.sum(shares(terms, weight) * terms)


def kfac_value_and_grad(
    model: Any,
    likelihood: str | Likelihood = "categorical",
    *,
    loss_fn: LossFn | None = None,
    inputs: Callable[[Any], Any] | None = None,
    labels: Callable[[Any], Any] | None = None,
    weights: Callable[[Any], Any] | None = None,
    empirical: bool = False,
    apply_kwargs: Mapping[str, Any] | None = None,
    rngs: Collection[str] = ("dropout",),
    layers: Collection[KfacLayer] | None = None,
    max_dim: int = MAX_DIM,
) -> Callable[..., Any]:
    r"""Like ``jax.value_and_grad``, with the Kronecker factors that :func:`kfac` needs.

    No change to the model and no registration. For each layer with inputs :math:`a_r`
    in its rows :math:`r` (examples, positions, time steps, uses of a shared layer; a 1
    at the end where there is a bias) and the gradients :math:`g_r` with respect to the
    layer's outputs,

    .. math::
      A = \frac1R \sum_r a_r a_r^T,\qquad G = \sum_r g_r g_r^T,\qquad
      g = \nabla \sum_m \sqrt{p_m}\, \ell_m,

    with the terms :math:`\ell_m` of the negative log likelihood at labels drawn from
    the model, and their shares :math:`p_m` in the mean loss, 1/M without weights. So G
    of a plain Dense is the mean of its outputs' Fisher, and the Fisher of the layer's
    matrix is about :math:`A \otimes G`.

    One forward pass, one backward pass for the gradient and one for the factors, or one
    for both if ``empirical``. Batch statistics are updated once. Gradients of single
    examples are never stored; of data sharded over devices the factors are those of the
    whole batch.

    Captured are Dense, Conv (all strides, paddings, dilations and groups),
    DenseGeneral and LinearGeneral (the projections of attention) and Embed, also inside
    ``nn.remat``, ``nn.scan`` and ``nn.RNN`` with shared parameters. Other layers are
    named in a warning, once; :func:`kfac_coverage` says why.

    Args:
      model: a Linen module or its ``apply``, or an NNX model.
      likelihood: what labels are drawn from: "categorical", "bernoulli", "gaussian" or
        a :class:`Likelihood`.
      loss_fn: ``loss_fn(outputs, batch)`` gives the training loss or a pair of it and
        metrics; a mean over the likelihood's terms, or the damping changes its meaning.
        None is that mean.
      inputs: takes the model's inputs from a batch; None takes a tuple's first element,
        a mapping's "image", "inputs" or "x", and an array itself.
      labels: takes the labels from a batch, for the loss None; None takes a tuple's
        second element and a mapping's "label", "labels" or "y".
      weights: takes from a batch a number >= 0 for each term, as the mask of padded
        positions of a text; None weighs all alike.
      empirical: take the data's labels for the factors, from the gradient of the loss
        itself. Cheaper by a backward pass; not the Fisher. With weights other than 0
        and 1, G is scaled by their effective number :math:`(\sum w)^2 / \sum w^2`.
      apply_kwargs: what selects training mode. None is ``{"train": True}`` for Linen,
        and for NNX ``train()`` on a copy; pass ``{}`` for a module without that
        argument.
      rngs: names of the random streams of a Linen module.
      layers: the layers to capture, as given to the optimiser; None captures all.
      max_dim: the widest side whose factor is a matrix; wider ones keep its diagonal.

    Returns:
      A pure function to be compiled by ``jax.jit`` or ``nnx.jit``:

      - Linen: ``(params, batch, key=None, batch_stats=None)``,
      - NNX: ``(model, batch, key=None)``, whose statistics are updated in place,

      to ``(loss, aux), grads, factors``: the loss, a :class:`KfacAux`, gradients (of an
      NNX model an ``nnx.State``), and a dict of layer path to :class:`KfacFactors`,
      None for kernels without. ``key`` draws the labels and feeds the random streams.

    Raises:
      ValueError: if the likelihood is unknown; by the function, if no layer can be
        captured, labels or weights have the wrong shape, ``layers`` do not fit, or the
        key is missing.
      TypeError: if the likelihood is neither a name nor a :class:`Likelihood`.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, optax_ia.flax
      >>> model = nn.Dense(1)
      >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
      >>> params = model.init(jax.random.key(0), x)["params"]
      >>> value_and_grad = jax.jit(
      ...     optax_ia.flax.kfac_value_and_grad(model, "gaussian", apply_kwargs={})
      ... )
      >>> batch = x, jnp.ones((2, 1))
      >>> (loss, _), grads, factors = value_and_grad(params, batch, jax.random.key(1))
      >>> print(factors[""].inputs)  # the mean of (x, 1) (x, 1)^T
      [[0.5 0.  0.5]
       [0.  2.  1. ]
       [0.5 1.  1. ]]

    .. note::
      The compiled function must not stand inside a ``lax`` conditional or loop on CPU,
      where convolutions fall off the fast path: decide on the host
      (:func:`kfac_factors_due`) which of two programs to call. A kernel that the model
      also uses outside its layer (``embed.embedding.T``) is not noticed; ``attend`` is.
      Linen's ``OptimizedLSTMCell`` shows no layers; ``LSTMCell`` does, with the same
      parameters.

    References:
      Martens, Grosse, `Optimizing Neural Networks with Kronecker-factored Approximate
      Curvature <https://arxiv.org/abs/1503.05671>`_, 2015, sections 2 and 5; Grosse,
      Martens, `A Kronecker-factored Approximate Fisher Matrix for Convolution Layers
      <https://arxiv.org/abs/1602.01407>`_, 2016, section 3; Granziol et al., Explaining
      the Adaptive Generalisation Gap, 2021, section 5.1; Syrek, The Optimisation of
      Gradient Descent, section 4.5.1.
    """
    likelihood = likelihood_of(likelihood)
    if loss_fn is None:
        take = labels or default_labels
        loss_fn = functools.partial(_mean_loss, likelihood, take, weights)
    settings = Settings(
        needs=(),
        loss_fn=loss_fn,
        inputs=inputs or default_inputs,
        prepare=None,
        apply_kwargs=None if apply_kwargs is None else dict(apply_kwargs),
        rngs=tuple(rngs),
        norms=False,
    )
    capture_pass = _Capture(settings, likelihood, weights, empirical, layers, max_dim)
    if isinstance(model, nnx.Module):
        return _nnx(capture_pass)
    return _linen(apply_of(model), capture_pass)
