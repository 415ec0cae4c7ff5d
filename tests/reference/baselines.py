"""The baselines' rules as Optax computes them, in float64 NumPy, on one array."""

import numpy as np

from tests.reference.ranger import radam_step


def yogi(w, gradient, rate, steps, *, b1=0.9, b2=0.999, eps=1e-3, initial=1e-6):
    """Zaheer et al.: both moments start at 1e-6 and are bias-corrected all the same."""
    m = v = np.full_like(w, initial)
    iterates = []
    for t in range(1, steps + 1):
        g = gradient(t, w)
        m = b1 * m + (1 - b1) * g
        v = v - (1 - b2) * np.sign(v - g**2) * g**2
        step = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        w = w - rate(t) * step
        iterates.append(w)
    return iterates


def radam(w, gradient, rate, steps, **options):
    """Liu et al.; the iterates of :func:`tests.reference.ranger.radam_step`."""
    step = radam_step(gradient, rate, **options)
    iterates = []
    for t in range(1, steps + 1):
        w = step(t, w)
        iterates.append(w)
    return iterates


def adabelief(
    w,
    gradient,
    rate,
    steps,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-16,
    eps_root=1e-16,
    decoupled=0.0,
):
    """Zhuang et al.: ``eps_root`` is added to the variance that is carried on."""
    m = s = np.zeros_like(w)
    iterates = []
    for t in range(1, steps + 1):
        g = gradient(t, w)
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 + eps_root
        step = m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + eps)
        w = w - rate(t) * (step + decoupled * w)
        iterates.append(w)
    return iterates


def adagrad(w, gradient, rate, steps, *, initial_accumulator_value=0.0, eps=1e-20):
    """Duchi et al.: eps stands under the root of the sum."""
    total = np.full_like(w, initial_accumulator_value)
    iterates = []
    for t in range(1, steps + 1):
        g = gradient(t, w)
        total = total + g**2
        w = w - rate(t) * g / np.sqrt(total + eps)
        iterates.append(w)
    return iterates


def rmsprop(w, gradient, rate, steps, *, decay=0.99, eps=1e-8):
    """Tieleman and Hinton: nothing corrected, eps beside the root."""
    second = np.zeros_like(w)
    iterates = []
    for t in range(1, steps + 1):
        g = gradient(t, w)
        second = decay * second + (1 - decay) * g**2
        w = w - rate(t) * g / (np.sqrt(second) + eps)
        iterates.append(w)
    return iterates


def with_l2(rule, weight_decay):
    """A rule whose gradients have had ``weight_decay`` times w added to them."""

    def decayed(w, gradient, *args, **options):
        return rule(
            w, lambda t, at: gradient(t, at) + weight_decay * at, *args, **options
        )

    return decayed
