"""What theory says of the three points: as P0 prints it, and as derived here."""

import numpy as np

from experiments.theory._quadratic import Point, Quadratic


def moments(problem: Quadratic, point: Point) -> tuple[np.ndarray, np.ndarray]:
    r"""Mean and variance of each coordinate of a point, exact for every n.

    With :math:`\varphi_j = 1 - \alpha\lambda_j/c_j` an iterate is

    .. math::
      w_{k,j} = \varphi_j^k w_{0,j}
        - \tfrac{\alpha}{c_j} \sum_{i=1}^{k} \varphi_j^{k-i} \epsilon_{i,j}

    (eq. 4), so that a point :math:`\sum_k a_k w_k` has the mean
    :math:`w_{0,j} \sum_k a_k \varphi_j^k` and, :math:`\epsilon_i` entering it with
    :math:`s_{i,j} = \sum_{k \ge i} a_k \varphi_j^{k-i}`, the variance
    :math:`\frac{\alpha^2\sigma^2}{c_j^2 B} \sum_i s_{i,j}^2`.

    For large n these variances tend to (:func:`limit_variance`)

    .. math::
      \frac{\alpha\sigma^2}{c B\lambda(2-\alpha\lambda/c)}, \qquad
      \frac{\sigma^2}{B n \lambda^2}, \qquad
      \frac{1-\rho}{1+\rho}\,\frac{1+\rho\varphi}{1-\rho\varphi}\,
      \frac{\alpha\sigma^2}{c B\lambda(2-\alpha\lambda/c)}

    for the last iterate, the tail mean and the moving average.

    Args:
      problem: the quadratic.
      point: which point.

    Returns:
      The mean and the variance, both of shape (P,).
    """
    weights, phi = problem.weights(point), problem.contraction
    tail = np.zeros_like(phi)  # s_i, from the last update back to the first
    total = np.zeros_like(phi)
    for weight in weights[::-1]:
        tail = weight + phi * tail
        total += tail**2
    mean = problem.initial * phi * tail  # s_1 = sum_k a_k phi^(k-1)
    step = problem.learning_rate / problem.scale
    return mean, step**2 * problem.variance * total


def limit_variance(problem: Quadratic, point: Point) -> np.ndarray:
    """The variance of each coordinate for large n, shape (P,); see :func:`moments`."""
    alpha, rho, c = problem.learning_rate, problem.decay, problem.scale
    lam, phi = problem.eigenvalues, problem.contraction
    if point == "tail":
        return problem.variance / (problem.steps * lam**2)
    last = alpha * problem.variance / (c * lam * (2 - alpha * lam / c))
    if point == "last":
        return last
    return (1 - rho) / (1 + rho) * (1 + rho * phi) / (1 - rho * phi) * last


def derived_square(problem: Quadratic, point: Point) -> float:
    """The expected squared norm (eq. 14) by :func:`moments`."""
    mean, variance = moments(problem, point)
    return float(np.sum(mean**2 + variance))


def printed_square(problem: Quadratic, point: Point) -> float:
    r"""The expected squared norm as P0 prints it: Theorem 1, and eq. 7 for the EMA.

    Args:
      problem: the quadratic, without preconditioner.
      point: which point.

    Returns:
      The radicand of Theorem 1; for the EMA, mean squared plus variance of the
      distribution in appendix A, added up over the coordinates.

    .. note::
      Three things in the printed formulas differ from :func:`moments`.

      The variance of the average is printed
      :math:`\frac{P\alpha\sigma^2}{Bn}\langle\lambda^{-2}\rangle`. Its
      :math:`\alpha` is superfluous: the long-run variance of the autoregression
      :math:`w_{k+1} = \varphi w_k - \alpha\epsilon_k` is
      :math:`\alpha^2\sigma^2 / (B(1-\varphi)^2) = \sigma^2 / (B\lambda^2)`, and the
      paper's own eq. 6 has no :math:`\alpha` either. The two agree at
      :math:`\alpha = 1` only.

      The EMA's factor :math:`\frac{1-\rho}{1+\rho}` is that of independent iterates,
      which these are at :math:`\alpha\lambda = 1` only. Consecutive iterates correlate
      by :math:`\varphi = 1-\alpha\lambda`, which multiplies the variance by
      :math:`\frac{1+\rho\varphi}{1-\rho\varphi}`: a small learning rate leaves the EMA
      with nearly all of the last iterate's noise.

      The EMA's variance is printed with :math:`\alpha\sigma^2\kappa/\lambda` as that of
      the iterate, where Theorem 1 has :math:`\alpha\sigma^2/(\lambda(2-\alpha\lambda))`
      (again equal at :math:`\alpha\lambda = 1`), and without B; the :math:`\sigma^2`
      of eq. 7 is read here as the variance of the minibatch gradient.
    """
    n, alpha, rho = problem.steps, problem.learning_rate, problem.decay
    lam, phi, w0 = problem.eigenvalues, problem.contraction, problem.initial
    noise = problem.variance
    if point == "last":
        bias = w0**2 * np.exp(-2 * n * alpha * lam)
        variance = alpha * noise / (lam * (2 - alpha * lam))
    elif point == "tail":
        bias = w0**2 / (lam * n * alpha) ** 2
        variance = alpha * noise / (n * lam**2)
    else:
        # phi^(n+1) (1 - (rho/phi)^(n-1)) / (phi - rho), as a sum: no 0/0 at phi = rho
        ages = np.arange(n - 1)
        geometric = np.sum(phi[:, None] ** ages * rho ** ages[::-1], axis=1)
        bias = ((1 - rho) * w0 * phi**2 * geometric) ** 2
        kappa = 1 - phi ** (n - 2)
        variance = (1 - rho) / (1 + rho) * alpha * noise * kappa / lam
    return float(np.sum(bias + variance))


def derived_loss(problem: Quadratic, point: Point) -> float:
    """The expected loss above the minimum, exact for every n, by :func:`moments`."""
    mean, variance = moments(problem, point)
    return float(np.sum(problem.eigenvalues * (mean**2 + variance)) / 2)


def printed_regret(problem: Quadratic, point: Point) -> float:
    r"""The bound of table 1 on the expected loss, for n to infinity.

    Args:
      problem: the quadratic, with or without preconditioner C (the paper's B).
      point: ``"last"`` or ``"tail"``.

    Returns:
      The bound, with :math:`\Sigma_g = \frac{\sigma^2}{B} I`; for the average with a
      preconditioner the whole minimum of eq. 8, which table 1 cuts off.

    .. note::
      With a preconditioner neither printed bound holds as it stands.

      For the average, eq. 8 has :math:`\mathrm{Tr}(C^{-1}\Sigma_g)/(n+1)` where eq. 9
      has :math:`\mathrm{Tr}(H^{-1}\Sigma_g)/(n+1)`. Only the latter bounds the exact
      :math:`\frac{1}{2n}\mathrm{Tr}(H^{-1}\Sigma_g)`, which does not depend on C, as
      the text below eq. 8 says itself. See :func:`corrected_regret`.

      For the last iterate, :math:`\frac{\alpha}{4}\mathrm{Tr}(C^{-1}\Sigma_g)` is the
      limit of small steps; the exact value is
      :math:`\frac{\alpha}{4}\mathrm{Tr}((C-\frac{\alpha}{2}H)^{-1}\Sigma_g)`, which is
      larger and, for C = I, is what table 1 prints in its other column.
    """
    alpha, lam, c = problem.learning_rate, problem.eigenvalues, problem.scale
    noise, n = problem.variance, problem.steps
    if problem.preconditioner == 0:
        if point == "tail":
            return float(np.sum(noise / lam) / (2 * n + 2))
        return float(alpha / 4 * np.sum(noise / (1 - alpha / 2 * lam)))
    trace = float(np.sum(noise / c))
    if point == "tail":
        return min(trace / (n + 1), alpha / 2 * trace)
    return alpha / 4 * trace


def corrected_regret(problem: Quadratic, point: Point) -> float:
    r"""The bound that holds: eq. 9 for the average, exact for the last iterate.

    Args:
      problem: the quadratic, with or without preconditioner C.
      point: ``"last"`` or ``"tail"``.

    Returns:
      For the average eq. 9, initial distance included; for the last iterate
      :math:`\frac{\alpha}{4}\mathrm{Tr}((C-\frac{\alpha}{2}H)^{-1}\Sigma_g)` and the
      loss that is left of the initial one.
    """
    alpha, lam, c = problem.learning_rate, problem.eigenvalues, problem.scale
    noise, n, w0 = problem.variance, problem.steps, problem.initial
    if point == "last":
        left = np.sum(lam * (problem.contraction**n * w0) ** 2) / 2
        return float(alpha / 4 * np.sum(noise / (c - alpha / 2 * lam)) + left)
    noisy = min(np.sum(noise / lam) / (n + 1), alpha / 2 * np.sum(noise / c))
    distance = min(
        np.sum((c * w0) ** 2 / lam) / ((n + 1) * alpha) ** 2,
        np.sum(c * w0**2) / ((n + 1) * alpha),
        3 * np.sum(lam * w0**2) / 2,
    )
    return float(noisy + distance)
