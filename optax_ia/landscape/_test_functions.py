"""The two functions of the plane on which P2 compares optimisers."""

import jax
import jax.numpy as jnp


def _coordinates(name: str, x: jax.typing.ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The two coordinates, each of shape (...)."""
    x = jnp.asarray(x)
    if x.ndim == 0 or x.shape[-1] != 2:
        raise ValueError(f"{name} takes x of shape (..., 2), got {x.shape}.")
    return x[..., 0], x[..., 1]


def beale(x: jax.typing.ArrayLike) -> jax.Array:
    r"""Beale's function: one minimum at the end of a long flat valley.

    With :math:`x` = (x, y),

    .. math::
      f(x, y) = (1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2.

    Its one minimum is :math:`f(3, 0.5) = 0`, where the Hessian's eigenvalues are 0.301
    and 48.98. The other two critical points are saddles: (0, 1), of value 14.203125,
    and (0.10053794, -2.64451359), of value 9.864512285. There is no other local
    minimum, but a second valley: towards :math:`x \to -\infty`, with
    :math:`x (1 - y) \to 111/112`, along which the function falls for ever, from 1.077
    at x = -2 by 0.762 at x = -4.5 to its limit, 0.4520.

    Args:
      x: the points, shape (..., 2).

    Returns:
      The values, shape (...), in the dtype of ``x``.

    Raises:
      ValueError: if the last axis of ``x`` is not of length 2.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import landscape
      >>> print(landscape.beale(jnp.array([[3.0, 0.5], [0.0, 1.0], [0.0, 0.0]])))
      [ 0.       14.203125 14.203125]
      >>> w, gradient = jnp.array([1.0, 1.0]), jax.jit(jax.grad(landscape.beale))
      >>> for _ in range(1000):  # gradient descent
      ...     w -= 0.02 * gradient(w)
      >>> print(f"{w[0]:.2f} {w[1]:.2f}")
      3.00 0.50

    References:
      Syrek, The Optimisation of Gradient Descent, equation 20.
    """
    a, b = _coordinates("beale", x)
    first = 1.5 - a + a * b
    second = 2.25 - a + a * b**2
    third = 2.625 - a + a * b**3
    return first**2 + second**2 + third**2


def schubert(x: jax.typing.ArrayLike) -> jax.Array:
    r"""The Schubert function as P2 prints it: steep hills and pits, periodic.

    With :math:`x` = (x, y),

    .. math::
      f(x, y) = s(x)\, s(y), \qquad s(z) = \sum_{j=1}^{5} \cos((j+1) z + j).

    It repeats every :math:`2\pi` in both coordinates. In each period :math:`s` has one
    highest point, a = -0.7782119590110459 with s(a) = 4.727196643403711, and one
    lowest, b = -1.471368938279414 with s(b) = -3.8279696054655994. So the least value
    is s(a) s(b) = -18.095565070008413, taken at (a, b), at (b, a) and at what lies
    multiples of :math:`2\pi` from them. Every other pit is a local minimum only; the
    deepest of these has the value -7.2945855.

    Args:
      x: the points, shape (..., 2).

    Returns:
      The values, shape (...), in the dtype of ``x``.

    Raises:
      ValueError: if the last axis of ``x`` is not of length 2.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import landscape
      >>> best = jnp.array([-0.7782119590110459, -1.471368938279414])
      >>> print(f"{landscape.schubert(best):.4f}")
      -18.0956
      >>> w, gradient = best + 0.1, jax.jit(jax.grad(landscape.schubert))
      >>> for _ in range(50):  # gradient descent
      ...     w -= 2e-3 * gradient(w)
      >>> print(f"{jnp.linalg.norm(w - best):.4f}")
      0.0000

    .. note::
      P2 prints no factor before the cosines, and none is here. The function usually
      known by this name has the factor j there and the least value -186.73.

    References:
      Syrek, The Optimisation of Gradient Descent, equation 21.
    """
    a, b = _coordinates("schubert", x)

    def factor(z):
        return sum((jnp.cos((j + 1) * z + j) for j in range(1, 6)), jnp.zeros_like(z))

    return factor(a) * factor(b)
