"""SWATS, its general form and Adam-Clip in float64 NumPy, over whole trees.

A tree is a dict of arrays. ``gradient(k, w)`` is asked for the gradients of update k
(1-based) at w and ``rate(k)`` for its learning rate. An inner rule is a function
``(k, g, w) -> p`` that holds its own moments and returns the step with its sign.
"""

import numpy as np


def _leafwise(rule):
    """An inner rule over trees from a constructor of rules over one array."""
    rules = {}

    def step(k, g, w):
        for name in g:
            rules.setdefault(name, rule())
        return {name: rules[name](k, g[name], w[name]) for name in g}

    return step


def adam(rate, *, b1=0.9, b2=0.999, eps=1e-8, decoupled=0.0):
    """Adam with eps beside the corrected root, and AdamW's decay."""

    def rule():
        moments = [0.0, 0.0]

        def step(k, g, w):
            moments[0] = b1 * moments[0] + (1 - b1) * g
            moments[1] = b2 * moments[1] + (1 - b2) * g * g
            m, v = moments[0] / (1 - b1**k), moments[1] / (1 - b2**k)
            return -rate(k) * (m / (np.sqrt(v) + eps) + decoupled * w)

        return step

    return _leafwise(rule)


def swats_adam(rate, *, b1=0.9, b2=0.999, eps=1e-9):
    """Equation 2: eps beside the root that is not corrected."""

    def rule():
        moments = [0.0, 0.0]

        def step(k, g, w):
            del w
            moments[0] = b1 * moments[0] + (1 - b1) * g
            moments[1] = b2 * moments[1] + (1 - b2) * g**2
            factor = np.sqrt(1 - b2**k) / (1 - b1**k)
            return -rate(k) * factor * moments[0] / (np.sqrt(moments[1]) + eps)

        return step

    return _leafwise(rule)


def rmsprop(rate, *, decay=0.9, eps=1e-8):
    """RMSprop as Optax has it: eps under the root, nothing corrected."""

    def rule():
        second = [0.0]

        def step(k, g, w):
            del w
            second[0] = decay * second[0] + (1 - decay) * g * g
            return -rate(k) * g / np.sqrt(second[0] + eps)

        return step

    return _leafwise(rule)


def adagrad(rate, *, initial=0.1, eps=1e-7):
    """Adagrad as Optax has it: the sum starts at 0.1."""

    def rule():
        total = [initial]

        def step(k, g, w):
            del w
            total[0] = total[0] + g * g
            return -rate(k) * g / np.sqrt(total[0] + eps)

        return step

    return _leafwise(rule)


def padam(rate, *, b1=0.9, b2=0.999, eps=1e-8, partial=0.125):
    """Padam with AMSGrad's maximum over the corrected second moment."""

    def rule():
        moments = [0.0, 0.0, 0.0]

        def step(k, g, w):
            del w
            moments[0] = b1 * moments[0] + (1 - b1) * g
            moments[1] = b2 * moments[1] + (1 - b2) * g * g
            moments[2] = np.maximum(moments[2], moments[1] / (1 - b2**k))
            m = moments[0] / (1 - b1**k)
            return -rate(k) * m / (np.sqrt(moments[2]) + eps) ** (2 * partial)

        return step

    return _leafwise(rule)


def _dot(a, b):
    return sum(np.sum(a[name] * b[name]) for name in a)


def switch_to_sgd(
    w,
    gradient,
    inner,
    rate,
    steps,
    *,
    b1=0.9,
    b2=0.999,
    tol=1e-9,
    rtol=0.0,
    relative=False,
    switch_at=None,
    sgd_learning_rate=None,
    l2=0.0,
):
    """Algorithm 1 around any inner rule; the iterates and a log after each update.

    The rule's departures from the paper: no switch while the estimate is not positive,
    the schedule goes on after the switch, and the step or the rate of the switch may be
    given. With ``relative`` the algorithm runs on the estimates divided by the learning
    rate, counts the estimates rather than the updates, and multiplies what it found by
    the learning rate of the switch. Applied to one leaf at a time it is the switch per
    tensor.
    """
    lam, lambda_hat, estimates, switched = 0.0, 0.0, 0, 0
    velocity = {name: np.zeros_like(leaf) for name, leaf in w.items()}
    known = dict.fromkeys(("gamma", "lambda_hat", "sgd_learning_rate"), 0.0)
    iterates, log = [], []
    for k in range(1, steps + 1):
        g = {n: d + l2 * w[n] for n, d in gradient(k, w).items()}
        if switched:
            velocity = {n: b1 * v + g[n] for n, v in velocity.items()}
            size = (1 - b1) * known["sgd_learning_rate"]
            if sgd_learning_rate is not None:
                size = sgd_learning_rate
            size = size * rate(k) / rate(switched)
            w = {n: w[n] - size * v for n, v in velocity.items()}
        else:
            p = inner(k, g, w)
            w = {n: w[n] + d for n, d in p.items()}
            projection = _dot(p, g)
            unit = rate(k) if relative else 1.0
            fires = False
            if projection != 0:
                estimates += 1
                known["gamma"] = _dot(p, p) / -projection
                monitored = known["gamma"] / unit
                lam = b2 * lam + (1 - b2) * monitored
            age = estimates if relative else k
            if age and unit:
                lambda_hat = lam / (1 - b2**age)
                known["lambda_hat"] = lambda_hat * unit
            if projection != 0:
                settled = abs(lambda_hat - monitored) < tol + rtol * lambda_hat
                fires = age > 1 and settled and lambda_hat > 0
            if switch_at is not None:
                fires = k == switch_at
            if fires:
                switched = k
                known["sgd_learning_rate"] = known["lambda_hat"]
                if sgd_learning_rate is not None:
                    known["sgd_learning_rate"] = sgd_learning_rate
        iterates.append(w)
        log.append({**known, "phase": int(switched > 0), "switch_step": switched})
    return iterates, log


def adam_clip(
    w,
    gradient,
    rate,
    sgd_rate,
    steps,
    *,
    lower=1.0,
    upper=np.inf,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    l2=0.0,
):
    """Adam-(p, q)-Clip on one array: its rates held between p and q times SGD's."""
    m = v = np.zeros_like(w)
    iterates = []
    for t in range(1, steps + 1):
        g = gradient(t, w) + l2 * w
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        own = np.sqrt(1 - b2**t) / (1 - b1**t) * rate(t) / (np.sqrt(v) + eps)
        w = w - np.clip(own, lower * sgd_rate(t), upper * sgd_rate(t)) * m
        iterates.append(w)
    return iterates
