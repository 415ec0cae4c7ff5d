"""Averages, Lookahead and triggers in plain NumPy and Python lists."""

import numpy as np


def collected(steps, start, every):
    """The update counts t <= steps whose iterates a tail average collects."""
    return [t for t in range(1, steps + 1) if t >= start and (t - start) % every == 0]


def tail_mean(iterates, start, every=1):
    """Plain mean of the collected iterates; ``iterates[t - 1]`` follows update t."""
    chosen = [iterates[t - 1] for t in collected(len(iterates), start, every)]
    return np.mean(chosen, axis=0)


def debiased_ema(iterates, decay, start=0, every=1):
    """Weighted mean of the collected iterates with weights decay**age."""
    chosen = [iterates[t - 1] for t in collected(len(iterates), start, every)]
    weights = np.array([decay**age for age in reversed(range(len(chosen)))])
    return np.tensordot(weights / weights.sum(), np.stack(chosen), axes=1)


def lookahead(inner_step, w, steps, *, sync_period=5, slow_step_size=0.5, stop=None):
    """Lookahead around ``inner_step(t, w) -> w``; the fast weights after each update.

    The slow weights begin at ``w`` and move at steps k, 2k, ...; updates t >= ``stop``
    are the inner optimiser's own.
    """
    slow = w
    iterates = []
    for t in range(1, steps + 1):
        w = inner_step(t, w)
        if t % sync_period == 0 and (stop is None or t < stop):
            slow = slow + slow_step_size * (w - slow)
            w = slow
        iterates.append(w)
    return iterates


def adam_step(gradient, rate, *, b1=0.9, b2=0.999, eps=1e-8, decoupled=0.0):
    """AdamW as a stateful ``step(t, w) -> w`` for :func:`lookahead`."""
    moments = {"m": 0.0, "v": 0.0}

    def step(t, w):
        g = gradient(t, w)
        moments["m"] = b1 * moments["m"] + (1 - b1) * g
        moments["v"] = b2 * moments["v"] + (1 - b2) * g * g
        m_hat = moments["m"] / (1 - b1**t)
        v_hat = moments["v"] / (1 - b2**t)
        return w - rate(t) * (m_hat / (np.sqrt(v_hat) + eps) + decoupled * w)

    return step


def non_monotonic(values, n=5, mode="min"):
    """Whether NT-ASGD's trigger has fired after each value (it stays fired)."""
    logs, fired, history = [], False, []
    for value in values:
        v = value if mode == "min" else -value
        if len(logs) > n and v > min(logs[:-n]):
            fired = True
        logs.append(v)
        history.append(fired)
    return history


def plateau(values, patience=10, mode="min"):
    """Whether ``patience`` evaluations in a row have brought no new best value."""
    best, bad, fired, history = np.inf, 0, False, []
    for value in values:
        v = value if mode == "min" else -value
        if v < best:
            best, bad = v, 0
        else:
            bad += 1
        fired = fired or bad >= patience
        history.append(fired)
    return history
