"""Ten float64 steps of AdamP and SGDP on gradients that do and do not point outwards.

The gradients are made in NumPy from the iterates of whichever run asks for them: with
no radial part in any output channel, with none in the whole tensor only, and as they
come; "mixed" takes the three in turn.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from tests.reference import projected
from tests.reference.problem import STEPS, assert_close, constant

_RNG = np.random.default_rng(3)
SHAPES = {"bias": (4,), "dense": (5, 4), "kernel": (3, 3, 2, 4), "scale": ()}
PARAMS = {n: _RNG.normal(size=s) for n, s in SHAPES.items()}
RAW = {n: _RNG.normal(size=(STEPS, *s)) for n, s in SHAPES.items()}
KINDS = ("channel", "layer", "none")
every_kind = pytest.mark.parametrize("kind", [*KINDS, "mixed"])


def _without_radial_part(g, w, axes):
    inner = np.sum(g * w, axis=axes, keepdims=True)
    return g - w * inner / np.sum(w * w, axis=axes, keepdims=True)


def gradient(name, kind, channel_axis=-1):
    """The gradient of one leaf, of one kind or of each kind in turn."""

    def function(t, w):
        now = KINDS[(t - 1) % 3] if kind == "mixed" else kind
        # Far from a right angle in every view, so that nothing fires by chance.
        g = RAW[name][t - 1] + 2 * w
        if w.ndim < 2 or now == "none":
            return g
        axes = list(range(w.ndim))
        if now == "channel":
            axes.pop(channel_axis)
        else:
            # Channels that point outwards and inwards cancel over the layer.
            sign = np.where(np.arange(w.shape[channel_axis]) % 2, 1.0, -1.0)
            shape = [1] * w.ndim
            shape[channel_axis] = -1
            g = g + 5 * sign.reshape(shape) * w
        return _without_radial_part(g, w, tuple(axes))

    return function


def expected_run(rule, rate, kind, channel_axis=-1, **options):
    """A reference rule on every leaf."""
    return {
        n: rule(
            w,
            gradient(n, kind, channel_axis),
            rate,
            STEPS,
            channel_axis=channel_axis,
            **options,
        )
        for n, w in PARAMS.items()
    }


def library_run(tx, kind, channel_axis=-1):
    """The iterates of a transformation on the same gradients."""
    params: Any = jax.tree.map(jnp.asarray, PARAMS)
    state = tx.init(params)
    update = jax.jit(tx.update)
    iterates = {n: [] for n in params}
    for t in range(1, STEPS + 1):
        grads = {
            n: jnp.asarray(gradient(n, kind, channel_axis)(t, np.asarray(w)))
            for n, w in params.items()
        }
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        for n, w in params.items():
            iterates[n].append(np.asarray(w))
    return iterates


def fires(kind, t, name, channel_axis=-1):
    """Which views the reference would project at the initial parameters."""
    w, g = PARAMS[name], gradient(name, kind, channel_axis)(t, PARAMS[name])
    found = []
    axes = list(range(w.ndim))
    rows = [a for a in axes if a != axes[channel_axis]]
    for view, over in (("channel", tuple(rows)), ("layer", tuple(axes))):
        norms = np.sqrt((w * w).sum(over) * (g * g).sum(over))
        cosine = np.abs((w * g).sum(over)) / norms
        length = np.prod([w.shape[a] for a in over])
        if cosine.max() < 0.1 / np.sqrt(length):
            found.append(view)
    return found


@pytest.mark.parametrize("name", ["dense", "kernel"])
@pytest.mark.parametrize("channel_axis", [-1, 0])
def test_the_gradients_are_of_the_kind_that_they_say(name, channel_axis):
    for t in range(1, STEPS + 1):
        # A sum of rows at right angles is at a right angle: the order of views counts.
        assert fires("channel", t, name, channel_axis) == ["channel", "layer"]
        assert fires("layer", t, name, channel_axis) == ["layer"]
        assert fires("none", t, name, channel_axis) == []


@every_kind
@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_adamp(kind, weight_decay):
    tx = optax_ia.adamp(0.05, weight_decay=weight_decay)
    expected = expected_run(
        projected.adamp, constant(0.05), kind, decoupled=weight_decay
    )
    assert_close(library_run(tx, kind), expected)


@every_kind
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_sgdp(kind, nesterov, weight_decay):
    tx = optax_ia.sgdp(0.05, nesterov=nesterov, weight_decay=weight_decay)
    expected = expected_run(
        projected.sgdp,
        constant(0.05),
        kind,
        nesterov=nesterov,
        decoupled=weight_decay,
    )
    assert_close(library_run(tx, kind), expected)


@every_kind
def test_every_number_of_adamp_is_used_and_the_decay_follows_the_schedule(kind):
    options: dict[str, Any] = {
        "b1": 0.8,
        "b2": 0.9,
        "eps": 1e-2,
        "delta": 0.3,
        "wd_ratio": 0.5,
    }
    tx = optax_ia.adamp(lambda count: 0.1 / (2 + count), weight_decay=0.3, **options)
    expected = expected_run(
        projected.adamp, lambda t: 0.1 / (1 + t), kind, decoupled=0.3, **options
    )
    assert_close(library_run(tx, kind), expected)


@every_kind
def test_every_number_of_sgdp_is_used_and_the_decay_follows_the_schedule(kind):
    options: dict[str, Any] = {
        "momentum": 0.6,
        "eps": 1e-2,
        "delta": 0.3,
        "wd_ratio": 0.5,
    }
    tx = optax_ia.sgdp(lambda count: 0.1 / (2 + count), weight_decay=0.3, **options)
    expected = expected_run(
        projected.sgdp, lambda t: 0.1 / (1 + t), kind, decoupled=0.3, **options
    )
    assert_close(library_run(tx, kind), expected)


@pytest.mark.parametrize("rule", ["adamp", "sgdp"])
def test_mask_leaves_the_bias_and_the_scale_undecayed(rule):
    mask = {"bias": False, "dense": True, "kernel": True, "scale": False}
    tx = getattr(optax_ia, rule)(0.05, weight_decay=0.5, mask=mask)
    reference = getattr(projected, rule)
    decayed = expected_run(reference, constant(0.05), "mixed", decoupled=0.5)
    plain = expected_run(reference, constant(0.05), "mixed")
    expected = {n: decayed[n] if mask[n] else plain[n] for n in PARAMS}
    assert_close(library_run(tx, "mixed"), expected)
