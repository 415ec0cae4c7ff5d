"""What random matrix theory says about an estimated curvature."""

import math

import jax
import jax.numpy as jnp

from optax_ia._src import checks


def curvature_ratio(
    lambda_1: jax.typing.ArrayLike,
    lambda_p: jax.typing.ArrayLike,
    damping: jax.typing.ArrayLike,
) -> jax.Array:
    r"""How much faster a damped second-order step moves where the loss is flattest.

    .. math::
      \mathcal R_{\text{est-curv}} = 1 + \frac{\lambda_1 - \lambda_P}{\delta}

    the step's rate :math:`\alpha/(\lambda + \delta)` at :math:`\lambda_P` over that at
    :math:`\lambda_1`, for :math:`\lambda_P \ll \delta`. It is 1 for gradient descent;
    P1 finds that generalisation suffers as it grows.

    Args:
      lambda_1: the largest eigenvalue of the curvature estimate.
      lambda_p: the smallest; 0 for most networks.
      damping: :math:`\delta` > 0, what the method adds to the eigenvalues; for Adam its
        ``eps``, with the eigenvalues of its own preconditioner.

    Returns:
      The ratio, an array of the arguments' shape.

    Raises:
      ValueError: if ``damping`` is not above 0.

    Example:
      >>> from optax_ia import curvature
      >>> print(curvature.curvature_ratio(10.0, 0.0, damping=0.1))
      101.0

    References:
      Granziol, Wan, Albanie, Roberts, Explaining the Adaptive Generalisation
      Gap, 2021, section 3.1.
    """
    checks.check_number("damping", damping, above=0)
    gap = jnp.asarray(lambda_1) - jnp.asarray(lambda_p)
    return 1 + gap / damping


def shrinkage(damping: jax.typing.ArrayLike) -> tuple[jax.Array, jax.Array]:
    r"""Damping read as a smaller learning rate and a shrunk curvature.

    .. math::
      \frac{1}{\lambda + \delta} = \frac{1}{\kappa (\beta\lambda + (1 - \beta))},
      \qquad \beta = \frac{1}{1 + \delta},\quad \kappa = \frac{1}{\beta}

    so a damping of :math:`\delta` is the learning rate :math:`\alpha/(1+\delta)` on the
    estimate :math:`\beta H + (1-\beta) I`, drawn towards the identity.

    Args:
      damping: :math:`\delta` >= 0.

    Returns:
      ``(kappa, beta)``.

    Raises:
      ValueError: if ``damping`` is negative.

    Example:
      >>> from optax_ia import curvature
      >>> kappa, beta = curvature.shrinkage(3.0)
      >>> print(kappa, beta, kappa * (beta * 5.0 + (1 - beta)))  # 5 + 3
      4.0 0.25 8.0

    References:
      Granziol, Wan, Albanie, Roberts, Explaining the Adaptive Generalisation
      Gap, 2021, equation 8.
    """
    checks.check_number("damping", damping, minimum=0)
    kappa = 1 + jnp.asarray(damping, jnp.result_type(float))
    return kappa, 1 / kappa


def mp_edge(sigma: float, ratio: float) -> tuple[float, float]:
    r"""Edges of the Marchenko-Pastur law, the spectrum of a noise covariance.

    For X of shape (P, B) with independent entries of mean 0 and standard deviation
    :math:`\sigma`, the eigenvalues of :math:`X X^T / B` fill, as P and B grow,

    .. math::
      \sigma^2 (1 \pm \sqrt{P/B})^2,

    with a share 1 - B/P at zero beside it where P > B.

    Args:
      sigma: standard deviation of an entry, >= 0.
      ratio: P/B > 0, parameters over samples.

    Returns:
      The lower and the upper edge of the continuous part.

    Raises:
      ValueError: if an argument is out of its range.

    Example:
      >>> import numpy as np
      >>> from optax_ia import curvature
      >>> noise = np.random.default_rng(0).normal(size=(200, 800))
      >>> values = np.linalg.eigvalsh(noise @ noise.T / 800)
      >>> print(curvature.mp_edge(1.0, 200 / 800))
      (0.25, 2.25)
      >>> print(f"{values[0]:.2f} {values[-1]:.2f}")
      0.26 2.22

    References:
      Marchenko, Pastur, Distribution of Eigenvalues for Some Sets of Random Matrices,
      1967.
    """
    checks.check_number("sigma", sigma, minimum=0)
    checks.check_number("ratio", ratio, above=0)
    root = math.sqrt(ratio)
    return sigma**2 * (1 - root) ** 2, sigma**2 * (1 + root) ** 2


def semicircle_edge(
    sigma: float, num_params: int = 1, batch_size: int = 1
) -> tuple[float, float]:
    r"""Edges of Wigner's semicircle, the spectrum of a symmetric noise matrix.

    .. math::
      \pm 2 \sigma \sqrt{P / B}

    for the mean of B symmetric matrices of size P whose entries have mean 0 and
    standard deviation :math:`\sigma`, independent up to the symmetry.

    Args:
      sigma: standard deviation of an entry of one sample's matrix, >= 0. With the
        other arguments left at 1, that of the eigenvalues.
      num_params: P >= 1.
      batch_size: B >= 1.

    Returns:
      The lower and the upper edge.

    Raises:
      ValueError: if an argument is out of its range.

    Example:
      >>> import numpy as np
      >>> from optax_ia import curvature
      >>> noise = np.random.default_rng(0).normal(size=(400, 400))
      >>> values = np.linalg.eigvalsh((noise + noise.T) / 2**0.5)
      >>> print(curvature.semicircle_edge(1.0, 400))
      (-40.0, 40.0)
      >>> print(f"{values[0]:.1f} {values[-1]:.1f}")
      -39.1 39.5

    References:
      Wigner, On the Distribution of the Roots of Certain Symmetric Matrices, 1958;
      Granziol et al., Explaining the Adaptive Generalisation Gap, 2021, Theorem 4.
    """
    checks.check_number("sigma", sigma, minimum=0)
    checks.check_number("num_params", num_params, minimum=1)
    checks.check_number("batch_size", batch_size, minimum=1)
    edge = 2 * sigma * math.sqrt(num_params / batch_size)
    return -edge, edge


def eigenvector_overlap(
    eigenvalue: jax.typing.ArrayLike,
    num_params: float,
    batch_size: float,
    sigma: jax.typing.ArrayLike,
    *,
    observed: bool = False,
) -> jax.Array:
    r"""How well a batch's eigenvector points along the true one.

    .. math::
      |\hat\phi_i^T \phi_i|^2 = 1 - \frac{P \sigma^2}{B \lambda_i^2}
      \quad\text{if } |\lambda_i| > \sqrt{P/B}\,\sigma, \quad\text{else } 0

    in the limit of large P, for a batch Hessian that is the true one, of few
    eigenvalues other than 0, plus a symmetric noise matrix: sharp directions are
    estimated better than flat ones.

    Args:
      eigenvalue: :math:`\lambda_i`, of the true Hessian; any shape.
      num_params: P > 0.
      batch_size: B > 0.
      sigma: standard deviation of an element of one sample's Hessian, >= 0.
      observed: the eigenvalue is the batch Hessian's own, :math:`\lambda +
        P\sigma^2/(B\lambda)`, which is what one can measure; then :math:`\lambda` is
        solved for first, and the overlap is 0 within the semicircle's edges.

    Returns:
      The squared inner product of the unit eigenvectors, shape of ``eigenvalue``.

    Raises:
      ValueError: if an argument is out of its range.

    Example:
      >>> import numpy as np
      >>> from optax_ia import curvature
      >>> size, spike = 400, 60.0
      >>> noise = np.random.default_rng(0).normal(size=(size, size))
      >>> batch = (noise + noise.T) / 2**0.5
      >>> batch[0, 0] += spike  # the true eigenvector is the first unit vector
      >>> found = np.linalg.eigh(batch)[1][0, -1] ** 2
      >>> print(f"{found:.2f} {curvature.eigenvector_overlap(spike, size, 1, 1.0):.2f}")
      0.89 0.89

    .. note::
      The formula holds as P1 prints it in Theorems 1 and 5, with :math:`\lambda` an
      eigenvalue of the true Hessian and :math:`\sigma` of a single sample's element, so
      that the batch's noise has variance :math:`\sigma^2/B` and its semicircle ends at
      :math:`2\sigma\sqrt{P/B}`, twice the threshold. Lemma 6, its case of a scaled
      matrix, prints the threshold :math:`\lambda_1 > 2\sigma_\epsilon`: that is the
      edge, the condition on the batch's eigenvalue; on the true one it is
      :math:`\lambda_1 > \sigma_\epsilon`. Against the empirical Hessian of N samples,
      from which the batch is drawn, 1/B stands for 1/B - 1/N: pass B N/(N - B) as
      ``batch_size``. It is not the overlap of a covariance (gradient covariance,
      empirical Fisher), whose noise is multiplicative: there, with unit noise and
      spike :math:`\ell`, it is :math:`(1 - q/(\ell-1)^2)/(1 + q/(\ell-1))`, q = P/B.

    References:
      Granziol et al., Explaining the Adaptive Generalisation Gap, 2021, Theorem 1;
      Benaych-Georges, Nadakuditi, `The Eigenvalues and Eigenvectors of Finite, Low Rank
      Perturbations of Large Random Matrices <https://arxiv.org/abs/0910.2120>`_, 2011.
    """
    checks.check_number("num_params", num_params, above=0)
    checks.check_number("batch_size", batch_size, above=0)
    checks.check_number("sigma", sigma, minimum=0)
    size = jnp.abs(jnp.asarray(eigenvalue, jnp.result_type(float)))
    noise = num_params / batch_size * jnp.square(sigma)
    if observed:
        beyond = jnp.square(size) - 4 * noise
        outside = beyond > 0
        size = (size + jnp.sqrt(jnp.where(outside, beyond, 0))) / 2
    else:
        outside = jnp.square(size) > noise
    squared = jnp.where(outside, jnp.square(size), 1)
    return jnp.where(outside, 1 - noise / squared, 0)
