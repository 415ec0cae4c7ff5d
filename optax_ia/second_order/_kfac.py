"""K-FAC for use: the rule with momentum, decoupled decay and a learning rate."""

from collections.abc import Sequence

import jax
import optax

from optax_ia._src.arguments import Choice, Integer, Number, Unchecked, checked
from optax_ia._src.types import Mask
from optax_ia.decay import decoupled_decay
from optax_ia.schedules import scale_by_learning_rate
from optax_ia.second_order._kfac_layers import MAX_DIM, KfacLayer
from optax_ia.second_order._kfac_rule import scale_by_kfac


@checked(
    momentum=Number(minimum=0, below=1, optional=True),
    factor_every=Integer(minimum=1),
    inverse_every=Integer(minimum=1),
    damping_mode=Choice(("product", "factored")),
    kl_clip=Number(above=0, optional=True),
    fallback=Choice(("damped", "gradient")),
    layers=Unchecked(),
)
def kfac(
    learning_rate: optax.ScalarOrSchedule = 1e-2,
    damping: jax.typing.ArrayLike = 3e-2,
    *,
    momentum: jax.typing.ArrayLike | None = 0.9,
    nesterov: bool = False,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
    decay: jax.typing.ArrayLike = 0.95,
    factor_every: jax.typing.ArrayLike = 1,
    inverse_every: jax.typing.ArrayLike = 10,
    damping_mode: str = "product",
    kl_clip: jax.typing.ArrayLike | None = None,
    fallback: str = "damped",
    layers: Sequence[KfacLayer] | None = None,
    max_dim: int = MAX_DIM,
) -> optax.GradientTransformationExtraArgs:
    r"""K-FAC: :func:`scale_by_kfac` with momentum, decoupled decay and learning rate.

    .. math::
      v \leftarrow \mu v + U,\qquad w \leftarrow w - \alpha (v + \lambda w),

    U the preconditioned gradient. What bounds a step along flat directions is
    :math:`\alpha/\delta`: with :math:`\kappa = \delta/\alpha` fixed, lowering both
    raises the ratio of the rates of flat and sharp directions,
    :math:`1 + \lambda_1/\delta`, and hurts generalisation before it hurts training.

    Args:
      learning_rate: :math:`\alpha`, a number or a schedule.
      damping: :math:`\delta` > 0; start at three times the learning rate.
      momentum: :math:`\mu` in [0, 1); None without.
      nesterov: whether the momentum is Nesterov's.
      weight_decay: :math:`\lambda`, decoupled, multiplied by the learning rate.
      mask: which parameters decay, as in ``optax.add_decayed_weights``.
      decay: of the averages of the factors.
      factor_every: updates between batches whose statistics are taken in.
      inverse_every: updates between eigendecompositions.
      damping_mode: ``"product"`` or ``"factored"``.
      kl_clip: bound on the quadratic estimate of the step's KL divergence, the learning
        rate included and momentum left out; None for none.
      fallback: what parameters without statistics get.
      layers: the layers; None takes those that names and shapes tell.
      max_dim: the widest side whose factor is a matrix, where layers are inferred.

    Returns:
      The transformation; ``update`` needs ``kfac_factors``, as :func:`scale_by_kfac`
      says, and ``params`` if there is decay.

    Raises:
      ValueError: as :func:`scale_by_kfac`, or if ``momentum`` or ``weight_decay`` is
        out of its range.

    Example:
      A network, its statistics, and the optimiser; the model knows nothing of it:

      >>> import flax.linen as nn, jax, jax.numpy as jnp, optax, optax_ia, optax_ia.flax
      >>> x = jax.random.normal(jax.random.key(0), (64, 8))
      >>> y = jnp.argmax(x[:, :3], axis=1)
      >>> model = nn.Sequential([nn.Dense(16), nn.tanh, nn.Dense(3)])
      >>> params = model.init(jax.random.key(1), x)["params"]
      >>> value_and_grad = jax.jit(
      ...     optax_ia.flax.kfac_value_and_grad(model, apply_kwargs={})
      ... )
      >>> tx = optax_ia.kfac(0.1, damping=0.1)
      >>> state = tx.init(params)
      >>> for key in jax.random.split(jax.random.key(2), 20):
      ...     (loss, _), grads, factors = value_and_grad(params, (x, y), key)
      ...     updates, state = tx.update(grads, state, params, kfac_factors=factors)
      ...     params = optax.apply_updates(params, updates)
      >>> bool(loss < 0.1)
      True

    References:
      Martens, Grosse, `Optimizing Neural Networks with Kronecker-factored Approximate
      Curvature <https://arxiv.org/abs/1503.05671>`_, 2015; Granziol et al. 2021 (P1),
      sec. 5.1.
    """
    natural = scale_by_kfac(
        damping,
        decay,
        factor_every=factor_every,
        inverse_every=inverse_every,
        damping_mode=damping_mode,
        kl_clip=kl_clip,
        learning_rate=learning_rate,
        fallback=fallback,
        layers=layers,
        max_dim=max_dim,
    )
    return optax.chain(
        natural,
        optax.identity() if momentum is None else optax.trace(momentum, nesterov),
        decoupled_decay(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
