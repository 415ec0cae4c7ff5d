"""One forward pass and its backward passes, and finding what they can capture."""

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from optax_ia.flax._kfac_likelihood import Likelihood, shares
from optax_ia.flax._kfac_observe import Finder, Found, Observer, Tapper
from optax_ia.flax._kfac_rules import Rule
from optax_ia.flax._kfac_tap import factors_of, zero_sums
from optax_ia.flax._step_extras import Settings
from optax_ia.second_order._kfac_layers import (
    KfacFactors,
    KfacLayer,
    infer_kfac_layers,
)

Pass = Callable[[Any, Observer], tuple[Any, Any]]
"""``(params, observer)`` to the outputs and what else the pass leaves."""


def apply_of(model: Any) -> Callable[..., Any]:
    """The function of a Linen module, or the function itself."""
    return model.apply if isinstance(model, nn.Module) else model


def find(run: Callable[..., Any], params: Any, max_dim: int, *arguments: Any) -> Found:
    """What an abstract pass shows; nothing is computed.

    Args:
      run: ``(params, observer, *arguments)`` to anything.
      params: the parameters, or their shapes.
      max_dim: the widest side whose factor is a matrix.
      *arguments: trees of arrays, or of their shapes.

    Raises:
      ValueError: if no layer has a rule.
    """
    finders = []

    def observed(params, *arguments):
        finders.append(Finder(params, max_dim))
        return run(params, finders[-1], *arguments)

    jax.eval_shape(observed, params, *arguments)
    found = finders[-1].found()
    if not found.rules:
        seen = sorted(set(found.modules.values())) or ["none"]
        reasons = [f"{path}: {reason}" for path, reason in found.refused.items()]
        raise ValueError(
            "the model has no layer with Kronecker factors. The modules called are "
            f"{', '.join(seen)}{'; ' if reasons else ''}{'; '.join(reasons)}."
        )
    return found


def chosen_rules(
    found: Found, layers: Iterable[KfacLayer] | None
) -> Mapping[str, Rule]:
    """The rules of the layers asked for; None asks for all."""
    if layers is None:
        return found.rules
    chosen, wrong = {}, []
    for layer in layers:
        rule = found.rules.get(layer.path)
        if rule is None:
            continue
        here = rule.replaced_diagonals(layer)
        if here.layer != layer:
            wrong.append(f"{layer}, which is {rule.layer}")
        chosen[layer.path] = here
    if wrong:
        raise ValueError(f"layers do not fit the model: {'; '.join(wrong)}.")
    return chosen


def expected_paths(
    params: Any, layers: Iterable[KfacLayer] | None, max_dim: int
) -> list[str]:
    """The paths that the optimiser wants an entry for."""
    layers = infer_kfac_layers(params, max_dim=max_dim) if layers is None else layers
    return [layer.path for layer in layers]


def warn_of(reasons: Mapping[str, str]) -> None:
    """Names the layers that the optimiser treats by the plain gradient."""
    listed = "; ".join(f"{path or 'the root'} ({why})" for path, why in reasons.items())
    warnings.warn(
        f"no Kronecker factors for {listed}: their plain gradient is used. Passing "
        "layers=optax_ia.flax.kfac_layers(...) says that this is meant.",
        stacklevel=4,  # where the function is called
    )


class Captured(NamedTuple):
    """What the passes of one step give.

    Attributes:
      loss: the training loss.
      metrics: what came with it.
      left: what the forward pass left.
      grads: the gradient, a tree like the parameters.
      factors: layer path to factors.
    """

    loss: jax.Array
    metrics: dict[str, Any]
    left: Any
    grads: Any
    factors: dict[str, KfacFactors]


def _sampled_cotangent(
    likelihood: Likelihood, outputs: Any, key: jax.Array, weights: Any
) -> Any:
    """The gradient of sum sqrt(share) * loss over terms with drawn labels."""
    labels = likelihood.sample(key, outputs)

    def total(outputs):
        terms = likelihood.negative_log_likelihood(outputs, labels)
        return jnp.sum(jnp.sqrt(shares(terms, weights)) * terms)

    return jax.grad(total)(outputs)


def _effective_terms(likelihood: Likelihood, outputs: Any, weights: Any) -> Any:
    """The number of terms, or what weights leave of it."""

    def terms(outputs):
        labels = likelihood.sample(jax.random.key(0), outputs)
        return likelihood.negative_log_likelihood(outputs, labels)

    like = jax.eval_shape(terms, outputs)
    if weights is None:
        return like.size
    share = shares(jnp.zeros(like.shape, like.dtype), weights)
    squares = jnp.sum(jnp.square(share))
    return 1 / jnp.where(squares == 0, 1, squares)


def capture(
    run: Pass,
    rules: Mapping[str, Rule],
    settings: Settings,
    likelihood: Likelihood,
    params: Any,
    batch: Any,
    weights: Any,
    key: jax.Array | None,
) -> Captured:
    """Loss, gradient and factors by one forward and one or two backward passes.

    Both backward passes are written whole, for parameters and for factors. What is not
    used of them (the factors of the loss, the gradient of the drawn labels) the
    compiler drops.

    Args:
      run: the forward pass.
      rules: of the layers to capture.
      settings: the loss.
      likelihood: of the labels.
      params: the parameters.
      batch: for the loss.
      weights: of the terms, or None.
      key: draws the labels; None takes the loss's own gradient, the data's labels.
    """
    zeros = {path: zero_sums(rule) for path, rule in rules.items()}

    taps = []

    def forward(params, sums):
        taps.append(Tapper(rules, sums))
        return run(params, taps[-1])

    outputs, backward, left = jax.vjp(forward, params, zeros, has_aux=True)
    loss, loss_backward, metrics = jax.vjp(
        functools.partial(settings.loss_and_metrics, batch=batch), outputs, has_aux=True
    )
    grads, sums = backward(loss_backward(jnp.ones_like(loss))[0])
    if key is None:
        scale = _effective_terms(likelihood, outputs, weights)
    else:
        scale = 1.0
        _, sums = backward(_sampled_cotangent(likelihood, outputs, key, weights))
    # ``nn.jit`` may go on with what it compiled in an earlier pass, without taps
    seen = taps[-1].seen
    factors = {path: factors_of(sums[path], scale) for path in rules if path in seen}
    return Captured(loss, metrics, left, grads, factors)
