"""Newton's method in the Krylov space of the gradient (LanczosOPT)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src import checks
from optax_ia._src.arguments import Integer, Number, checked
from optax_ia._src.diagnostics import read_diagnostics
from optax_ia._src.scalars import default_float, increment
from optax_ia.curvature import _lanczos as krylov
from optax_ia.schedules import ScaleByLearningRateState


class LanczosNewtonState(NamedTuple):
    """State of :func:`lanczos_newton`.

    Attributes:
      rate: number of updates done and the learning rate of the last one.
      largest_eigenvalue: the largest Ritz value of the last update, shape (), the
        default float; 0 before the first.
      smallest_eigenvalue: the smallest one, likewise.
    """

    rate: ScaleByLearningRateState
    largest_eigenvalue: jax.Array
    smallest_eigenvalue: jax.Array


@read_diagnostics.register
def _(state: LanczosNewtonState) -> dict[str, jax.Array]:
    return {
        "largest_eigenvalue": state.largest_eigenvalue,
        "smallest_eigenvalue": state.smallest_eigenvalue,
    }


@checked(
    num_steps=Integer(minimum=1, static=True),
    sharp_scale=Number(above=0),
    seed=Integer(minimum=0),
)
def lanczos_newton(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    damping: jax.typing.ArrayLike = 1.0,
    num_steps: int = 50,
    *,
    sharp_scale: jax.typing.ArrayLike = 1.0,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    r"""LanczosOPT: damped Newton along the sharpest directions, SGD along the others.

    Lanczos from a random vector gives k Ritz pairs :math:`(\lambda_i, \phi_i)` of the
    Hessian, the outliers first; with the gradient :math:`g` and :math:`\eta` =
    ``sharp_scale``

    .. math::
      w \leftarrow w - \alpha\Big(\sum_{i=1}^{k}
        \Big(\frac{1}{\eta\lambda_i+\delta} - \frac1\delta\Big)\phi_i\phi_i^T g
        + \frac{g}{\delta}\Big).

    The first terms are summed as :math:`\phi_i\phi_i^T g/(\eta\lambda_i+\delta)`, and
    the last takes what they leave of the gradient: the same without cancellation. With
    as many steps as parameters it is damped Newton, :math:`(H+\delta)^{-1} g`. The
    ratio of the rates of the flattest and the sharpest direction,
    :math:`1 + \lambda_1/\delta`, is set by the damping; :math:`\eta > 1` slows the
    sharp directions and leaves the flat ones.

    Args:
      learning_rate: :math:`\alpha`, a number or a schedule. Flat directions move at
        the rate :math:`\alpha/\delta`: scale it with the damping.
      damping: :math:`\delta` > 0. It must exceed the most negative eigenvalue in size,
        or the step along it explodes: 0.1 to 1 for small networks, which is why the
        default is large. A learning rate of 1 then trains perceptrons of one hidden
        layer ten times faster, and diverges on those of three. Read
        ``smallest_eigenvalue`` from :func:`diagnostics`.
      num_steps: k >= 1 products each update; cut to the number of parameters. Static.
      sharp_scale: :math:`\eta` > 0.
      seed: of the random vectors, one for each update.

    Returns:
      The transformation, with its learning rate. Its state holds no tree; an update
      holds k vectors. ``update`` needs the extra argument ``matvec``, with
      ``matvec(vector)`` the product of the Hessian at the current parameters with a
      tree like the gradients.

    Raises:
      ValueError: if a concrete argument is out of its range, or ``matvec`` is missing.

    Example:
      On a quadratic with as many steps as dimensions, one step of rate 1 arrives:

      >>> import jax.numpy as jnp, optax, optax_ia
      >>> stretch = jnp.array([100.0, 1.0])
      >>> w = jnp.array([1.0, 1.0])
      >>> tx = optax_ia.lanczos_newton(1.0, damping=1e-4, num_steps=2)
      >>> u, _ = tx.update(stretch * w, tx.init(w), w, matvec=lambda v: stretch * v)
      >>> bool(abs(optax.apply_updates(w, u)).max() < 1e-3)
      True

    .. note::
      The products stand in a loop of the compiler, so that compiling does not depend on
      their number. On CPU a convolution's product there is twenty times slower than
      outside. The authors' code adds ``sharp_scale`` to the eigenvalue's absolute value
      where the paper multiplies; this multiplies. From the gradient itself, Lanczos
      would leave nothing of it to the flat directions, which the paper leaves alone.

    References:
      Granziol, Wan, Albanie, Roberts, Explaining the Adaptive Generalisation Gap, 2021,
      eq. 9 and appendix C.1.
    """

    def rate_at(count):
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        return jnp.asarray(rate, default_float())

    def init_fn(params):
        del params
        count = jnp.zeros([], jnp.int32)
        return LanczosNewtonState(
            rate=ScaleByLearningRateState(count, rate_at(count)),
            largest_eigenvalue=jnp.zeros([], default_float()),
            smallest_eigenvalue=jnp.zeros([], default_float()),
        )

    def update_fn(updates, state, params=None, *, matvec: Any = None, **extra_args):
        del params, extra_args
        checks.check_extra_args("lanczos_newton", matvec=matvec)
        rate = rate_at(state.rate.count)
        count = increment(state.rate.count)
        counted = ScaleByLearningRateState(count, rate)
        size = sum(leaf.size for leaf in jax.tree.leaves(updates))
        if not size:
            return updates, state._replace(rate=counted)
        wide = krylov.wide(updates)
        steps = min(num_steps, size)
        key = jax.random.fold_in(jax.random.key(seed), count)
        start = krylov.random_like(key, wide)

        def body(j, iteration):
            vector = optax.tree.cast_like(krylov.row(iteration.basis, j), updates)
            fresh = jax.random.fold_in(key, j)
            return krylov.advance(iteration, matvec(vector), j, fresh)

        found = jax.lax.fori_loop(0, steps, body, krylov.begin(start, steps))
        beta = found.beta[:-1]
        matrix = jnp.diag(found.alpha) + jnp.diag(beta, 1) + jnp.diag(beta, -1)
        values, vectors = jnp.linalg.eigh(matrix)
        delta = jnp.asarray(damping, values.dtype)
        scaled = jnp.asarray(sharp_scale, values.dtype) * values
        inside = krylov.coefficients(found.basis, wide)
        weights = vectors @ ((vectors.T @ inside) / (scaled + delta))
        sharp = krylov.combine(found.basis, weights)
        # with as many steps as parameters nothing is left but rounding
        flat = optax.tree.zeros_like(wide)
        if steps < size:
            flat = krylov.orthogonalised(found.basis, wide)

        def step(g, s, f):
            newton = s + f / delta.astype(s.dtype)
            return (-rate.astype(s.dtype) * newton).astype(g.dtype)

        updates = jax.tree.map(step, updates, sharp, flat)
        return updates, LanczosNewtonState(
            rate=counted,
            largest_eigenvalue=values[-1].astype(default_float()),
            smallest_eigenvalue=values[0].astype(default_float()),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
