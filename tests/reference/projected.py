"""AdamP and SGDP of Heo et al. in float64 NumPy, on one array."""

import numpy as np


def project(w, g, step, *, delta, wd_ratio, eps, channel_axis):
    """The step without its radial part, and what the decay is multiplied by.

    Each output channel is a row first, the whole tensor second; the first view in
    which every row's |cos(g, w)| is under delta / sqrt(row length) is projected.
    """
    if w.ndim < 2:
        return step, 1.0
    everything = tuple(range(w.ndim))
    channel = everything[channel_axis]
    for axes in (tuple(a for a in everything if a != channel), everything):

        def inner(a, b, axes=axes):
            return np.sum(a * b, axis=axes, keepdims=True)

        length = np.prod([w.shape[a] for a in axes])
        norms = np.sqrt(inner(w, w)) * np.sqrt(inner(g, g))
        cosine = np.abs(inner(g, w)) / np.maximum(norms, eps)
        if cosine.max() < delta / np.sqrt(length):
            unit = w / (np.sqrt(inner(w, w)) + eps)
            return step - unit * inner(unit, step), wd_ratio
    return step, 1.0


def adamp(
    w,
    gradient,
    rate,
    steps,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    delta=0.1,
    wd_ratio=0.1,
    nesterov=False,
    decoupled=0.0,
    channel_axis=-1,
):
    """AdamP; the first moment that is kept is not projected."""
    m = v = np.zeros_like(w)
    iterates = []
    for t in range(1, steps + 1):
        g = gradient(t, w)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        ahead = b1 * m + (1 - b1) * g if nesterov else m
        step = ahead / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        step, ratio = project(
            w,
            g,
            step,
            delta=delta,
            wd_ratio=wd_ratio,
            eps=eps,
            channel_axis=channel_axis,
        )
        w = w - rate(t) * (decoupled * ratio * w + step)
        iterates.append(w)
    return iterates


def sgdp(
    w,
    gradient,
    rate,
    steps,
    *,
    momentum=0.9,
    nesterov=False,
    delta=0.1,
    wd_ratio=0.1,
    eps=1e-8,
    decoupled=0.0,
    channel_axis=-1,
):
    """SGDP; its decay is divided by 1 - momentum, as the steps' sum is."""
    buffer = np.zeros_like(w)
    iterates = []
    for t in range(1, steps + 1):
        g = gradient(t, w)
        buffer = momentum * buffer + g
        step, ratio = project(
            w,
            g,
            g + momentum * buffer if nesterov else buffer,
            delta=delta,
            wd_ratio=wd_ratio,
            eps=eps,
            channel_axis=channel_axis,
        )
        w = w - rate(t) * (decoupled * ratio / (1 - momentum) * w + step)
        iterates.append(w)
    return iterates
