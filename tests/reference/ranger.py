"""RAdam, its centralised gradient and Ranger in float64 NumPy, on one array."""

import numpy as np

from tests.reference import averaging


def centralized(g):
    """The gradient less its mean over every axis but the last, for kernels."""
    if g.ndim < 2:
        return g
    return g - g.mean(axis=tuple(range(g.ndim - 1)), keepdims=True)


def radam_step(
    gradient, rate, *, b1=0.9, b2=0.999, eps=1e-8, decoupled=0.0, threshold=5.0
):
    """Liu et al. as a stateful ``step(t, w) -> w``: rectified from rho_t >= 5 on."""
    moments = {"m": 0.0, "v": 0.0}
    rho_inf = 2 / (1 - b2) - 1

    def step(t, w):
        g = gradient(t, w)
        moments["m"] = b1 * moments["m"] + (1 - b1) * g
        moments["v"] = b2 * moments["v"] + (1 - b2) * g * g
        d = moments["m"] / (1 - b1**t)
        rho = rho_inf - 2 * t * b2**t / (1 - b2**t)
        if rho >= threshold:
            numerator = (rho - 4) * (rho - 2) * rho_inf
            rectifier = np.sqrt(numerator / ((rho_inf - 4) * (rho_inf - 2) * rho))
            d = rectifier * d / (np.sqrt(moments["v"] / (1 - b2**t)) + eps)
        return w - rate(t) * (d + decoupled * w)

    return step


def ranger(
    w,
    gradient,
    rate,
    steps,
    *,
    b1=0.95,
    b2=0.999,
    eps=1e-5,
    sync_period=6,
    slow_step_size=0.5,
    decoupled=0.0,
):
    """Centralised gradients, RAdam, and Lookahead over both."""
    inner = radam_step(
        lambda t, at: centralized(gradient(t, at)),
        rate,
        b1=b1,
        b2=b2,
        eps=eps,
        decoupled=decoupled,
    )
    return averaging.lookahead(
        inner, w, steps, sync_period=sync_period, slow_step_size=slow_step_size
    )
