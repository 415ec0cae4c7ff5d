"""AdaBound and AMSBound in float64 NumPy, on one array."""

import numpy as np


def adabound(
    w,
    gradient,
    rate,
    steps,
    *,
    final_learning_rate=0.1,
    gamma=1e-3,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    amsbound=False,
    l2=0.0,
    base=None,
):
    """Luo et al. as released: no 1/sqrt(t), both bounds follow the schedule.

    The released code scales the bounds by the first learning rate; ``base`` is another
    learning rate to scale them by.
    """
    base = rate(1) if base is None else base
    m, v, v_max = (np.zeros_like(w) for _ in range(3))
    iterates = []
    for t in range(1, steps + 1):
        g = gradient(t, w) + l2 * w
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        v_max = np.maximum(v_max, v)
        root = np.sqrt(v_max if amsbound else v) + eps
        own = rate(t) * np.sqrt(1 - b2**t) / (1 - b1**t) / root
        final = final_learning_rate * rate(t) / base
        lower = final * (1 - 1 / (gamma * t + 1))
        upper = final * (1 + 1 / (gamma * t))
        w = w - np.minimum(np.maximum(own, lower), upper) * m
        iterates.append(w)
    return iterates
