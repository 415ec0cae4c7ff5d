"""Sharpness-aware minimisation in float64 NumPy, over whole trees (dicts of arrays)."""

import numpy as np


def sgd(rate, *, momentum=0.0, l2=0.0):
    """SGD as the inner rule ``(t, g, w) -> w``, its decay taken at w itself."""
    buffer = {}

    def step(t, g, w):
        new = {}
        for name in w:
            total = g[name] + l2 * w[name]
            buffer[name] = momentum * buffer.get(name, 0.0) + total
            new[name] = w[name] - rate(t) * buffer[name]
        return new

    return step


def adam(rate, *, b1=0.9, b2=0.999, eps=1e-8):
    """Adam as the inner rule ``(t, g, w) -> w``."""
    first, second = {}, {}

    def step(t, g, w):
        new = {}
        for name, d in g.items():
            first[name] = b1 * first.get(name, 0.0) + (1 - b1) * d
            second[name] = b2 * second.get(name, 0.0) + (1 - b2) * d * d
            m, v = first[name] / (1 - b1**t), second[name] / (1 - b2**t)
            new[name] = w[name] - rate(t) * m / (np.sqrt(v) + eps)
        return new

    return step


def sam(w, gradient, inner, steps, *, rho=0.05, adaptive=False, eps=1e-12):
    """Foret et al., and Kwon et al. when adaptive; one norm over the whole tree.

    ``gradient(t, w)`` is the gradient of update t's own function at w, asked twice.
    """
    iterates = []
    for t in range(1, steps + 1):
        g = gradient(t, w)
        weight = {n: np.abs(d) if adaptive else np.ones_like(d) for n, d in w.items()}
        norm = np.sqrt(sum(np.sum((weight[n] * g[n]) ** 2) for n in w))
        climbed = {n: w[n] + rho * weight[n] ** 2 * g[n] / (norm + eps) for n in w}
        w = inner(t, gradient(t, climbed), w)
        iterates.append(w)
    return iterates
