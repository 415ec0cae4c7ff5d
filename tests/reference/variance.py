"""Stochastic variance reduced gradients in float64 NumPy, on one array."""

import numpy as np


def svrg(w, gradient, order, full, steps, *, snapshot_every, rate, momentum=0.0):
    """Equation 27 of the survey; the iterates and the gradients that were used.

    ``gradient(i, w)`` is the gradient of summand i, ``order[t - 1]`` the summand of
    update t, and ``full(t, w)`` the gradient over all of them, or a large batch, for
    the snapshot that is taken before update t.
    """
    buffer = np.zeros_like(w)
    snapshot = mean = None
    iterates, used = [], []
    for t in range(1, steps + 1):
        if (t - 1) % snapshot_every == 0:
            snapshot, mean = w, full(t, w)
        i = order[t - 1]
        g = gradient(i, w) - (gradient(i, snapshot) - mean)
        buffer = momentum * buffer + g
        w = w - rate(t) * buffer
        iterates.append(w)
        used.append(g)
    return iterates, used
