"""Wrappers with the base rule of their paper: SAM, SVRG, Lookahead and an average."""

import jax
import optax

from optax_ia import averaging, baselines, gradients
from optax_ia._src.arguments import checked
from optax_ia._src.types import Mask
from optax_ia.decay import l2_decay
from optax_ia.schedules import scale_by_learning_rate


@checked(complex_params=True)
def lookahead_adamw(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    sync_period: int = 5,
    slow_step_size: float = 0.5,
    *,
    stop: int | None = None,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamW in Lookahead.

    :func:`lookahead` around :func:`adamw`: every ``sync_period`` steps the parameters
    go back part of the way to the slow weights.

    Args:
      learning_rate: :math:`\alpha` >= 0, a number or a schedule of the update count.
      sync_period: inner steps between synchronisations, >= 1.
      slow_step_size: how far the slow weights move towards the parameters, in [0, 1].
      stop: the update from which there are no more synchronisations, >= 0; None for
        never.
      weight_decay: :math:`\lambda` >= 0, decoupled, times the learning rate; a
        number or a schedule.
      mask: which parameters decay, a tree of bools, a function of the parameters or a
        pattern of paths (:func:`path_mask`). None decays all.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not of the type above.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.lookahead_adamw(0.1, sync_period=2, weight_decay=0.0)
      >>> w = jnp.array([1.0])
      >>> state = tx.init(w)
      >>> for _ in range(2):  # 0.9; halfway from 1 to 0.8
      ...     updates, state = tx.update(jnp.array([1.0]), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> print(f"{w[0]:.3f}")
      0.900

    References:
      Zhang, Lucas, Hinton, Ba, `Lookahead Optimizer: k steps forward, 1 step back
      <https://arxiv.org/abs/1907.08610>`_, 2019; Granziol et al. 2021, the appendix
      "Gadam and Lookahead".
    """
    inner = baselines.adamw(learning_rate, weight_decay=weight_decay, mask=mask)
    return averaging.lookahead(inner, sync_period, slow_step_size, stop=stop)


@checked(complex_params=True)
def adamw_ema(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    decay: float = 0.999,
    *,
    start: int | None = 0,
    every: int = 1,
    debias: bool = True,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdamW with an exponential moving average of its iterates.

    :func:`adamw`, averaged by :func:`ema_average`; read the average with
    :func:`averaged_params`.

    Args:
      learning_rate: :math:`\alpha` >= 0, a number or a schedule of the update count.
      decay: decay of the average, in [0, 1).
      start: the first update averaged, >= 0; None waits for :func:`start_averaging`.
      every: collect each ``every``-th iterate, >= 1.
      debias: see :func:`ema_average`. Static.
      weight_decay: :math:`\lambda` >= 0, decoupled, times the learning rate; a
        number or a schedule.
      mask: which parameters decay, a tree of bools, a function of the parameters or a
        pattern of paths (:func:`path_mask`). None decays all.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not of the type above.

    Example:
      >>> import jax.numpy as jnp, optax, optax_ia
      >>> tx = optax_ia.adamw_ema(0.1, decay=0.5, weight_decay=0.0)
      >>> w = jnp.array([1.0])
      >>> state = tx.init(w)
      >>> for _ in range(2):  # 0.9, 0.8
      ...     updates, state = tx.update(jnp.array([1.0]), state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> average = optax_ia.averaged_params(state, w)
      >>> print(f"{average[0]:.4f}")  # (0.25 * 0.9 + 0.5 * 0.8) / 0.75
      0.8333

    References:
      Granziol, Wan, Albanie, Roberts, Beyond SGD: Iterate Averaged Adaptive Gradient
      Methods, 2021, section 4 and appendix A.
    """
    return optax.chain(
        baselines.adamw(learning_rate, weight_decay=weight_decay, mask=mask),
        averaging.ema_average(decay, start=start, debias=debias, every=every),
    )


@checked()
def sam_sgd(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    rho: jax.typing.ArrayLike = 0.05,
    adaptive: bool = False,
    *,
    momentum: jax.typing.ArrayLike = 0.9,
    nesterov: bool = False,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Sharpness-aware minimisation around SGD with momentum and L2 decay.

    :func:`sam` around :func:`sgd`. ``update`` needs the extra argument ``grad_fn``;
    ``optax_ia.flax.build_train_step`` supplies it.

    Args:
      learning_rate: :math:`\alpha` >= 0, a number or a schedule of the update count.
      rho: radius of the neighbourhood, >= 0.
      adaptive: a neighbourhood in units of each weight (ASAM). Static.
      momentum: momentum of SGD, in [0, 1).
      nesterov: use Nesterov's form. Static.
      weight_decay: :math:`\lambda` >= 0, added to the gradient (L2); a number or a
        schedule.
      mask: which parameters decay, a tree of bools, a function of the parameters or a
        pattern of paths (:func:`path_mask`). None decays all.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not of the type above.

    Example:
      >>> import jax, jax.numpy as jnp, optax_ia
      >>> grad_fn = jax.grad(lambda w: jnp.sum(w**2) / 2)
      >>> tx = optax_ia.sam_sgd(0.1, rho=0.5)
      >>> w = jnp.array([1.0])
      >>> updates, _ = tx.update(grad_fn(w), tx.init(w), w, grad_fn=grad_fn)
      >>> print(updates)  # the gradient at 1 + 0.5
      [-0.15]

    References:
      Foret, Kleiner, Mobahi, Neyshabur, `Sharpness-Aware Minimization for Efficiently
      Improving Generalization <https://arxiv.org/abs/2010.01412>`_, 2021, Algorithm 1.
    """
    inner = baselines.sgd(
        learning_rate,
        momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        mask=mask,
    )
    return gradients.sam(inner, rho, adaptive)


@checked(complex_params=True)
def svrg_sgd(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    snapshot_every: jax.typing.ArrayLike = 100,
    *,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SVRG around plain SGD with L2 decay.

    :func:`svrg` around SGD. ``update`` needs the extra arguments ``grad_fn`` and
    ``full_gradient``; ``optax_ia.flax.build_train_step`` supplies them.

    Args:
      learning_rate: :math:`\alpha` >= 0, a number or a schedule of the update count.
      snapshot_every: updates between snapshots, >= 1.
      weight_decay: :math:`\lambda` >= 0, added to the gradient (L2); a number or a
        schedule.
      mask: which parameters decay, a tree of bools, a function of the parameters or a
        pattern of paths (:func:`path_mask`). None decays all.

    Returns:
      The transformation; ``update`` needs ``params``.

    Raises:
      ValueError: if an argument is out of its range.
      TypeError: if an argument is not of the type above.

    Example:
      >>> import jax.numpy as jnp, optax_ia
      >>> tx = optax_ia.svrg_sgd(0.1, snapshot_every=2)
      >>> w = jnp.array([1.0])
      >>> batch_grad = lambda w: 3 * w
      >>> updates, _ = tx.update(
      ...     batch_grad(w), tx.init(w), w, grad_fn=batch_grad, full_gradient=2 * w
      ... )
      >>> print(updates)  # at the snapshot the full gradient is left
      [-0.2]

    References:
      Johnson, Zhang, `Accelerating Stochastic Gradient Descent using Predictive
      Variance Reduction <https://papers.nips.cc/paper/4937>`_, 2013.
    """
    inner = optax.chain(
        l2_decay(weight_decay, mask), scale_by_learning_rate(learning_rate)
    )
    return gradients.svrg(inner, snapshot_every)
