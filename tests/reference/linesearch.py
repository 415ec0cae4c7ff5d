"""Stochastic Armijo line search in float64 NumPy, over whole trees: dicts of arrays."""

import numpy as np


def sls(
    w,
    value,
    gradient,
    steps,
    *,
    learning_rate=1.0,
    c=0.1,
    beta=0.9,
    gamma=2.0,
    steps_per_epoch=1,
):
    """Vaswani et al., its own loop; the iterates, the rates and the backtracks.

    ``value(t, w)`` and ``gradient(t, w)`` are those of update t's own function. The
    first trial is ``learning_rate``; a later one gamma**(1 / steps_per_epoch) times
    the rate that the update before it settled on, which may exceed the first.
    """
    iterates, rates, backtracks = [], [], []
    eta = learning_rate
    for t in range(1, steps + 1):
        if t > 1:
            eta = eta * gamma ** (1 / steps_per_epoch)
        here, g = value(t, w), gradient(t, w)
        decrease = sum(np.sum(d * d) for d in g.values())
        shrunk = 0
        while value(t, {n: w[n] - eta * g[n] for n in w}) > here - c * eta * decrease:
            eta, shrunk = eta * beta, shrunk + 1
        w = {n: w[n] - eta * g[n] for n in w}
        iterates.append(w)
        rates.append(eta)
        backtracks.append(shrunk)
    return iterates, rates, backtracks
