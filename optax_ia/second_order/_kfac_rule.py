"""The rule of K-FAC: natural gradient with all of its state in opt_state."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_ia._src import checks
from optax_ia._src.arguments import Choice, Integer, Number, Unchecked, checked
from optax_ia._src.diagnostics import read_diagnostics
from optax_ia._src.rare import rarely
from optax_ia._src.scalars import bare_scalar, default_float, increment
from optax_ia._src.states import find_state
from optax_ia.second_order import _kfac_estimate as estimate
from optax_ia.second_order._kfac_layers import (
    MAX_DIM,
    KfacFactors,
    KfacLayer,
    infer_kfac_layers,
    leaves_by_path,
)
from optax_ia.second_order._kfac_match import matched_factors, present_layers


class ScaleByKfacState(NamedTuple):
    """State of :func:`scale_by_kfac`.

    Attributes:
      kfac_count: number of updates done, shape (), int32.
      num_factors: number of batches whose statistics were taken in, shape (), int32.
      factors_due: whether the next update takes statistics in, shape (), bool.
      kl_scale: what the KL clip multiplied the last step by, shape (), the default
        float; 1 without a clip.
      factors: layer path to :class:`KfacFactors`, averaged over batches, at least
        float32.
      bases: layer path to the pair of eigenbases, or of damped inverses, of its
        factors.
    """

    kfac_count: jax.Array
    num_factors: jax.Array
    factors_due: jax.Array
    kl_scale: jax.Array
    factors: dict[str, KfacFactors]
    bases: dict[str, tuple[estimate.KfacBasis, estimate.KfacBasis]]


@read_diagnostics.register
def _(state: ScaleByKfacState) -> dict[str, jax.Array]:
    return {
        "num_factors": bare_scalar(state.num_factors),
        "kl_scale": bare_scalar(state.kl_scale),
    }


def kfac_factors_due(opt_state: optax.OptState) -> jax.Array:
    """Whether the next update of :func:`scale_by_kfac` takes statistics in.

    If not, pass ``kfac_factors={}`` and save their backward pass.

    Args:
      opt_state: the state of an optimiser with :func:`scale_by_kfac`, in any wrapper.

    Returns:
      A bool array of shape ().

    Raises:
      ValueError: if ``opt_state`` holds no such state or several.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> params = {"kernel": jnp.ones((2, 1))}
      >>> tx = optax_ia.scale_by_kfac(0.1, factor_every=2)
      >>> state = tx.init(params)
      >>> factors = {"": optax_ia.KfacFactors(jnp.eye(2), jnp.eye(1))}
      >>> for given in (factors, {}, factors):
      ...     print(optax_ia.kfac_factors_due(state))
      ...     _, state = tx.update(params, state, kfac_factors=given)
      True
      False
      True
    """
    state = find_state(opt_state, ScaleByKfacState, "scale_by_kfac")
    return bare_scalar(state.factors_due)


@checked(
    factor_every=Integer(minimum=1),
    inverse_every=Integer(minimum=1),
    damping_mode=Choice(("product", "factored")),
    kl_clip=Number(above=0, optional=True),
    fallback=Choice(("damped", "gradient")),
    layers=Unchecked(),
)
def scale_by_kfac(
    damping: jax.typing.ArrayLike = 3e-2,
    decay: jax.typing.ArrayLike = 0.95,
    *,
    factor_every: jax.typing.ArrayLike = 1,
    inverse_every: jax.typing.ArrayLike = 10,
    damping_mode: str = "product",
    kl_clip: jax.typing.ArrayLike | None = None,
    learning_rate: optax.ScalarOrSchedule = 1.0,
    fallback: str = "damped",
    layers: Sequence[KfacLayer] | None = None,
    max_dim: int = MAX_DIM,
) -> optax.GradientTransformationExtraArgs:
    r"""Multiplies each layer's gradient by its damped inverse Kronecker factors.

    With :math:`A_t = E[a a^T]` of the layer's inputs and :math:`G_t = E[g g^T]` of the
    gradients at its outputs, from the batch of update t,

    .. math::
      A &\leftarrow \rho A + (1-\rho) A_t,\quad G \leftarrow \rho G + (1-\rho) G_t,
        \quad \rho = \min(\texttt{decay}, 1 - 1/n) \\
      U &= (A \otimes G + \delta I)^{-1} V
        = Q_A\big[(Q_A^T V Q_G) / (d_A d_G^T + \delta)\big] Q_G^T,

    n the number of batches taken in, V the gradient as a matrix, rows its inputs and
    the bias the last one. For one example, and for a linear layer with squared loss,
    :math:`A \otimes G` is the Fisher itself.

    Args:
      damping: :math:`\delta` > 0.
      decay: of the averages, in [0, 1); the first batches are averaged plainly.
      factor_every: updates between batches whose statistics are taken in, >= 1.
      inverse_every: updates between eigendecompositions (or inverses), >= 1, counted
        like ``factor_every`` from the first update.
      damping_mode: ``"product"`` adds the damping to the products of eigenvalues;
        ``"factored"`` takes :math:`(A + \pi\sqrt\delta I)^{-1} V
        (G + \sqrt\delta/\pi I)^{-1}` with :math:`\pi^2 = (\mathrm{tr} A/\dim A) /
        (\mathrm{tr} G/\dim G)`: Cholesky inverses, several times cheaper than
        eigenvectors, and half the products of a step; a changed damping acts from the
        next inverse on.
      kl_clip: c > 0 multiplies the step by :math:`\min(1, \sqrt{c / (\alpha^2 \sum u^T
        g)})`, with :math:`\alpha` = ``learning_rate``; None does not.
      learning_rate: the rate that will multiply the direction, a number or a schedule;
        only ``kl_clip`` reads it.
      fallback: what parameters without statistics get: ``"damped"``, the gradient over
        :math:`\delta`, as a zero Fisher gives; ``"gradient"``, the gradient itself.
      layers: the layers, as ``optax_ia.flax.kfac_layers`` gives them; None takes those
        of :func:`infer_kfac_layers`.
      max_dim: the widest side whose factor is a matrix, where layers are inferred.

    Returns:
      The transformation. ``update`` needs the extra argument ``kfac_factors``, a dict
      of layer path to :class:`KfacFactors`, averaged over the devices where the batch
      is: what ``optax_ia.flax.kfac_value_and_grad`` gives. None in place of one stands
      for a layer without statistics, and ``{}`` for all where
      :func:`kfac_factors_due` says that none are used. Factors and bases are kept at
      least in float32; the direction has the gradient's dtypes.

    Raises:
      ValueError: if a concrete argument is out of its range; by ``update``, if
        ``kfac_factors`` is missing or does not match the parameters, listing the paths.

    Example:
      Linear regression with inputs of scales 10 and 1; one step of rate 1 arrives:

      >>> import jax.numpy as jnp, optax, optax_ia
      >>> x = jnp.array([[10.0, 0.0], [10.0, 1.0], [0.0, 1.0]])
      >>> y = x @ jnp.array([[0.3], [2.0]])
      >>> params = {"kernel": jnp.zeros((2, 1))}
      >>> tx = optax_ia.scale_by_kfac(damping=1e-5)
      >>> gradient = {"kernel": x.T @ (x @ params["kernel"] - y) / 3}
      >>> factors = {"": optax_ia.KfacFactors(x.T @ x / 3, jnp.eye(1))}
      >>> step, _ = tx.update(gradient, tx.init(params), kfac_factors=factors)
      >>> bool(jnp.allclose(-step["kernel"].ravel(), jnp.array([0.3, 2.0]), rtol=1e-3))
      True

    .. note::
      A batch whose statistics are not finite is left out, and so is a root that is not
      finite. The decomposition's eigenvalues below zero count as zero. Under
      ``optax.MultiSteps`` the statistics of the last of the accumulated batches count;
      its ``gradient_transformation()`` hands on no extra arguments, so take
      ``optax.GradientTransformationExtraArgs(multi_steps.init, multi_steps.update)``.

    References:
      Martens, Grosse, `Optimizing Neural Networks with Kronecker-factored Approximate
      Curvature <https://arxiv.org/abs/1503.05671>`_, 2015, eq. 1, sec. 5 (averages) and
      6.3 (``"factored"``); Grosse, Martens, `A Kronecker-factored Approximate Fisher
      Matrix for Convolution Layers <https://arxiv.org/abs/1602.01407>`_, 2016;
      Granziol et al. 2021 (P1), sec. 5.1; P2, eq. 34 and 35.
    """
    if layers is not None:
        layers = tuple(layers)

    def described(tree):
        """The layers among the leaves of a tree, its leaves, and what it hides."""
        arrays, hidden = leaves_by_path(tree)
        found = layers
        if found is None:
            found = infer_kfac_layers(tree, max_dim=max_dim)
        return present_layers(found, arrays, hidden), arrays, hidden

    def rate_at(count):
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        return jnp.asarray(rate, default_float())

    def every(period):
        return jnp.asarray(period, jnp.int32)

    def init_fn(params):
        found, arrays, _ = described(params)
        kernels = {path: arrays[layer.leaves[0]] for path, layer in found.items()}
        factors, bases = estimate.initial(found, kernels, damping_mode, damping)
        return ScaleByKfacState(
            kfac_count=jnp.zeros([], jnp.int32),
            num_factors=jnp.zeros([], jnp.int32),
            factors_due=jnp.ones([], bool),
            kl_scale=jnp.ones([], default_float()),
            factors=factors,
            bases=bases,
        )

    def update_fn(updates, state, params=None, *, kfac_factors: Any = None, **extra):
        del params, extra
        if kfac_factors is None:
            raise ValueError(
                "kfac needs kfac_factors: call update(grads, state, params, "
                "kfac_factors=kfac_factors) with what "
                "optax_ia.flax.kfac_value_and_grad(model) captures, or let "
                "optax_ia.flax.build_train_step make the call."
            )
        checks.check_extra_args("kfac", kfac_factors=kfac_factors)
        found, arrays, hidden = described(updates)
        count, delta = state.kfac_count, jnp.asarray(damping)
        factors, num_factors = state.factors, state.num_factors
        if kfac_factors:
            batch = matched_factors(kfac_factors, found, arrays, hidden)
            factors, num_factors = rarely(
                state.factors_due,
                lambda old, new, decay: estimate.averaged(old[0], old[1], new, decay),
                (factors, num_factors),
                batch,
                jnp.asarray(decay, default_float()),
            )

        def refreshed(bases, factors, delta):
            return {
                path: estimate.refreshed(
                    layer, factors[path], bases[path], damping_mode, delta
                )
                for path, layer in found.items()
            }

        refresh = count % every(inverse_every) == 0
        bases = rarely(refresh, refreshed, state.bases, factors, delta)
        scale = 1.0 if fallback == "gradient" else 1 / delta
        direction = {
            path: (g * jnp.asarray(scale, g.dtype)) for path, g in arrays.items()
        }
        for path, layer in found.items():
            matrix = layer.to_matrix(arrays)
            matrix = matrix.astype(estimate.wide(matrix.dtype))
            natural = estimate.preconditioned(matrix, bases[path], damping_mode, delta)
            direction |= layer.from_matrix(natural, arrays)
        kl_scale = jnp.ones([], default_float())
        if kl_clip is not None:
            kl_scale = _kl_scale(direction, arrays, kl_clip, rate_at(count))
            direction = {
                path: u * kl_scale.astype(u.dtype) for path, u in direction.items()
            }
        count = increment(count)
        return jax.tree.unflatten(
            jax.tree.structure(updates), list(direction.values())
        ), ScaleByKfacState(
            kfac_count=count,
            num_factors=num_factors,
            factors_due=count % every(factor_every) == 0,
            kl_scale=kl_scale,
            factors=factors,
            bases=bases,
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _kl_scale(
    direction: Mapping[str, jax.Array],
    gradient: Mapping[str, jax.Array],
    clip: jax.typing.ArrayLike,
    rate: jax.Array,
) -> jax.Array:
    """What keeps the quadratic estimate of the step's KL divergence below a bound."""
    total = jnp.zeros([], default_float())
    for path, u in direction.items():
        dtype = jnp.promote_types(u.dtype, jnp.float32)
        product = jnp.sum(u.astype(dtype) * gradient[path].astype(dtype))
        total += product.astype(total.dtype)
    quadratic = rate**2 * total
    safe = jnp.where(quadratic > 0, quadratic, jnp.ones_like(quadratic))
    bound = jnp.sqrt(jnp.asarray(clip, safe.dtype) / safe)
    return jnp.where(quadratic > 0, jnp.minimum(bound, 1), jnp.ones_like(bound))
