"""EVBMF, the layers' metrics and RMSGD, transcribed from their papers to NumPy.

Nakajima, Sugiyama, Babacan, Tomioka, 2013, and P4 eq. 2 to 5 and Algorithm 1.
"""

import numpy as np
from scipy import optimize


def tau(x, alpha):
    """The relative size of a kept value."""
    return 0.5 * (x - (1 + alpha) + np.sqrt((x - (1 + alpha)) ** 2 - 4 * alpha))


def limit(alpha):
    """The threshold on s^2 / (M sigma^2)."""
    tau_bar = 2.5129 * np.sqrt(alpha)
    return (1 + tau_bar) * (1 + alpha / tau_bar)


def free_energy(sigma2, s, rows, columns):
    """The objective as printed, H = L, so that there is no residual."""
    alpha = rows / columns
    x = s**2 / (columns * sigma2)
    noise, signal = x[x <= limit(alpha)], x[x > limit(alpha)]
    t = tau(signal, alpha)
    return (
        np.sum(noise - np.log(noise))
        + np.sum(signal - t)
        + np.sum(np.log((t + 1) / signal))
        + alpha * np.sum(np.log(t / alpha + 1))
    )


def shrink(s, sigma2, rows, columns):
    """The values that are kept, shrunk."""
    kept = s[s > np.sqrt(columns * sigma2 * limit(rows / columns))]
    middle = 1 - (rows + columns) * sigma2 / kept**2
    root = np.sqrt(middle**2 - 4 * rows * columns * sigma2**2 / kept**4)
    return kept / 2 * (middle + root)


def noise_variance(s, rows, columns, points=800):
    """By brute force: a fine grid, SciPy in its best cells, a root of the derivative.

    At a minimum sigma^2 = (sum s^2 - sum s d) / (L M).
    """
    e = min(int(np.ceil(rows / (1 + rows / columns))) - 1, rows - 1)
    x_bar = limit(rows / columns)
    low = max(s[e] ** 2 / (columns * x_bar), np.mean(s[e:] ** 2) / columns)
    high = np.sum(s**2) / (rows * columns)
    if high <= low * (1 + 1e-12):
        return low

    def energy(log):
        return free_energy(np.exp(log), s, rows, columns)

    def excess(log):
        sigma2 = np.exp(log)
        d = shrink(s, sigma2, rows, columns)
        return sigma2 - (np.sum(s**2) - np.sum(s[: len(d)] * d)) / (rows * columns)

    grid = np.linspace(np.log(low), np.log(high), points)
    cross = np.log(s**2 / (columns * x_bar))
    near = np.concatenate([cross - 1e-7, cross + 1e-7])
    near = near[(near > grid[0]) & (near < grid[-1])]
    grid = np.sort(np.concatenate([grid, near]))
    energies = np.array([energy(log) for log in grid])
    padded = np.concatenate([[np.inf], energies, [np.inf]])
    lowest = (energies <= padded[:-2]) & (energies <= padded[2:])
    best = []
    for i in np.argsort(np.where(lowest, energies, np.inf))[: min(6, lowest.sum())]:
        left, right = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
        found = optimize.minimize_scalar(
            energy, bounds=(left, right), method="bounded", options={"xatol": 1e-12}
        )
        best += [(found.fun, found.x), (energies[i], grid[i])]
    log = min(best)[1]
    # SciPy compares values of the objective, which know half the digits
    for width in (1e-3, 1e-4, 1e-5, 1e-6):
        left, right = max(grid[0], log - width), min(grid[-1], log + width)
        crossed = np.any((cross > left) & (cross < right))
        if not crossed and excess(left) < 0 < excess(right):
            log = optimize.brentq(excess, left, right, xtol=1e-15, rtol=1e-14)
            break
    return np.exp(log)


def evbmf(matrix, sigma2=None):
    """Shrunk singular values that are kept, and the noise variance."""
    rows, columns = sorted(matrix.shape)
    s = np.linalg.svd(matrix, compute_uv=False)
    if sigma2 is None:
        sigma2 = noise_variance(s, rows, columns)
    return shrink(s, sigma2, rows, columns), sigma2


def stable_rank(d, length, power=1):
    """P4 eq. 2, or with the first powers that its code has."""
    return np.sum((d / d[0]) ** power) / length if len(d) else 0.0


def condition(d):
    """P4 eq. 3."""
    return 1 - d[-1] / d[0] if len(d) else 0.0


def quality(d, length, power=1):
    """P4 eq. 4; None without a rank."""
    if not len(d):
        return None
    return np.arctan2(stable_rank(d, length, power), condition(d))


def unfold(kernel):
    """The matrices of inputs and outputs of a kernel (..., in, out)."""
    inputs = np.moveaxis(kernel, -2, 0).reshape(kernel.shape[-2], -1)
    outputs = np.moveaxis(kernel, -1, 0).reshape(kernel.shape[-1], -1)
    return inputs, outputs


def layer_stable_rank(kernel, power=1):
    """The mean of both unfoldings."""
    ranks = [
        stable_rank(evbmf(matrix)[0], min(matrix.shape), power)
        for matrix in unfold(kernel)
    ]
    return sum(ranks) / 2


def rmsgd(
    params,
    gradients,
    follows,
    *,
    epochs,
    steps,
    learning_rate=0.03,
    momentum=0.9,
    beta=0.98,
    zeta=1.0,
    floor=1e-10,
    weight_decay=0.0,
    power=1,
):
    """P4 Algorithm 1 on a list of gradients.

    Args:
      params: arrays by name.
      gradients: such dictionaries, one for each step.
      follows: the layer, the name of an array, whose rate each array takes.
      epochs: their number.
      steps: of an epoch.
      learning_rate: at first.
      momentum: of the steps.
      beta: of the rates.
      zeta: multiplies the gain of stable rank.
      floor: of the rates.
      weight_decay: L2.
      power: of the stable rank.

    Returns:
      Parameters after each step, and rates after each epoch.
    """
    w = {name: value.copy() for name, value in params.items()}
    v = {name: np.zeros_like(value) for name, value in params.items()}
    rate = dict.fromkeys(set(follows.values()), learning_rate)
    last = dict.fromkeys(rate, 0.0)
    learned, iterates, rates = False, [], []
    for epoch in range(epochs):
        for step in range(steps):
            for name in w:
                g = gradients[epoch * steps + step][name] + weight_decay * w[name]
                v[name] = momentum * v[name] - rate[follows[name]] * g
                w[name] = w[name] + v[name]
            iterates.append({name: value.copy() for name, value in w.items()})
        now = {layer: layer_stable_rank(w[layer], power) for layer in rate}
        learned = learned or any(value > 0 for value in now.values())
        if learned:
            for layer in rate:
                gain = now[layer] - last[layer]
                rate[layer] = max(beta * rate[layer] + zeta * gain, floor)
        last = now
        rates.append(dict(rate))
    return iterates, rates
