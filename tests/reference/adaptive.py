"""Partially adaptive rules in float64 NumPy, from Algorithm 1 and the released code.

Every rule works on one array and returns the list of its iterates. ``gradient(t, w)``
is asked for the gradient of update t (1-based) at w; ``rate(t)`` for its learning
rate.
"""

import numpy as np


def _direction(m, v, v_max, t, *, b1, b2, eps, eps_root, partial, amsgrad, correction):
    """The direction of update t, and the maximum that the next one starts from."""
    if correction == "power":
        m_hat = m / (1 - b1**t)
        v_hat = v / (1 - b2**t)
        if amsgrad:
            v_max = np.maximum(v_max, v_hat)
            v_hat = v_max
        return m_hat / (np.sqrt(v_hat + eps_root) + eps) ** (2 * partial), v_max
    if amsgrad:
        v_max = np.maximum(v_max, v)
        v = v_max
    factor = np.sqrt(1 - b2**t) / (1 - b1**t)
    return factor * m / (np.sqrt(v + eps_root) + eps) ** (2 * partial), v_max


def padam_family(
    w,
    gradient,
    rate,
    steps,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    partial=0.125,
    amsgrad=True,
    correction="power",
    l2=0.0,
    decoupled=0.0,
    independent=0.0,
):
    """Padam with any of the three decays; the iterates after each update."""
    m, v, v_max = (np.zeros_like(w) for _ in range(3))
    iterates = []
    for t in range(1, steps + 1):
        g = gradient(t, w) + l2 * w
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        d, v_max = _direction(
            m,
            v,
            v_max,
            t,
            b1=b1,
            b2=b2,
            eps=eps,
            eps_root=eps_root,
            partial=partial,
            amsgrad=amsgrad,
            correction=correction,
        )
        w = w - rate(t) * (d + decoupled * w) - independent * w
        iterates.append(w)
    return iterates


def sgd(
    w,
    gradient,
    rate,
    steps,
    *,
    momentum=0.0,
    nesterov=False,
    l2=0.0,
    decoupled=0.0,
    independent=0.0,
):
    """SGD with heavy-ball or Nesterov momentum; the iterates after each update."""
    buffer = np.zeros_like(w)
    iterates = []
    for t in range(1, steps + 1):
        g = gradient(t, w) + l2 * w
        buffer = momentum * buffer + g
        step = g + momentum * buffer if nesterov else buffer
        w = w - rate(t) * (step + decoupled * w) - independent * w
        iterates.append(w)
    return iterates
