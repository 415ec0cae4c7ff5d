"""The losses of a Wasserstein GAN, and two ways to bound its critic's slope."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from optax_ia._src.checks import check_number, check_params


def critic_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """The critic's loss, the mean score of generated images less that of data.

    Its negative estimates the Wasserstein distance, up to the critic's slope.

    Args:
      real: scores of data, (batch,).
      fake: scores of generated images, (batch,).

    Returns:
      A scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import models
      >>> print(models.critic_loss(jnp.array([3.0, 5.0]), jnp.array([1.0, 0.0])))
      -3.5

    References:
      Arjovsky et al., `Wasserstein GAN <https://arxiv.org/abs/1701.07875>`_, 2017,
      algorithm 1
    """
    return jnp.mean(fake) - jnp.mean(real)


def generator_loss(fake: jax.Array) -> jax.Array:
    """The generator's loss, the mean score of its images with the other sign.

    Args:
      fake: scores of generated images, (batch,).

    Returns:
      A scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from optax_ia import models
      >>> print(models.generator_loss(jnp.array([1.0, 0.0])))
      -0.5

    References:
      Arjovsky et al., `Wasserstein GAN <https://arxiv.org/abs/1701.07875>`_, 2017,
      algorithm 1
    """
    return -jnp.mean(fake)


def gradient_penalty(
    critic: Callable[[jax.Array], jax.Array],
    real: jax.Array,
    fake: jax.Array,
    key: jax.Array,
    *,
    slope: float = 1.0,
) -> jax.Array:
    r"""How far the critic's slope is from 1 between data and generated images.

    .. math::
      \operatorname{mean}\big(\|\nabla_x f(x)\| - 1\big)^2, \qquad
      x = u\, \text{real} + (1 - u)\, \text{fake}, \quad u \sim U(0, 1)

    with one u for each pair. To be added to the critic's loss, times 10 as published,
    in place of :func:`clip_weights`.

    Args:
      critic: images to scores, each by itself: no batch normalisation.
      real: data, (batch, ...).
      fake: as many generated images.
      key: draws u.
      slope: the wanted one; may be traced.

    Returns:
      A scalar.

    Raises:
      ValueError: if the shapes differ.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optax_ia import models
      >>> steep = lambda images: 3.0 * images[:, 0]  # slope 3 everywhere
      >>> real, fake = jnp.ones((2, 4)), jnp.zeros((2, 4))
      >>> print(models.gradient_penalty(steep, real, fake, jax.random.key(0)))
      4.0

    References:
      Gulrajani et al., `Improved Training of Wasserstein GANs
      <https://arxiv.org/abs/1704.00028>`_, 2017, algorithm 1
    """
    if real.shape != fake.shape:
        raise ValueError(
            f"real and fake must have the same shape, got {real.shape} and "
            f"{fake.shape}."
        )
    shape = (len(real), *[1] * (real.ndim - 1))
    share = jax.random.uniform(key, shape, real.dtype)
    between = share * real + (1 - share) * fake
    # of the sum, since no score depends on another image: no convolution is batched
    gradients = jax.grad(lambda images: jnp.sum(critic(images)))(between)
    norms = optax.safe_norm(gradients.reshape(len(real), -1), 0.0, axis=1)
    return jnp.mean(jnp.square(norms - slope))


def clip_weights(limit: float = 0.01) -> optax.GradientTransformationExtraArgs:
    """Keeps every parameter between ``-limit`` and ``limit``: the critic's constraint.

    To stand after the learning rate, and before an average of the iterates, which then
    sees the clipped ones. Takes scales and biases too, as the paper's code; restrict it
    by ``optax.masked``.

    Args:
      limit: the bound; may be traced.

    Returns:
      A transformation without state; its ``update`` needs the parameters. The sum of
      parameter and update may miss the bound by a rounding.

    Raises:
      ValueError: if ``limit`` is not positive.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from optax_ia import models
      >>> optimiser = optax.chain(optax.sgd(0.1), models.clip_weights(0.5))
      >>> params = jnp.array([0.25, -0.25])
      >>> grads = jnp.array([-5.0, 1.0])
      >>> updates, _ = optimiser.update(grads, optimiser.init(params), params)
      >>> print(optax.apply_updates(params, updates))
      [ 0.5  -0.35]

    References:
      Arjovsky et al., `Wasserstein GAN <https://arxiv.org/abs/1701.07875>`_, 2017,
      algorithm 1
    """
    check_number("limit", limit, above=0)

    def init_fn(params):
        del params
        return optax.EmptyState()

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        params = check_params("clip_weights", params)

        def step(update, param):
            inside = jnp.clip(param + update, -limit, limit)
            return (inside - param).astype(update.dtype)

        return jax.tree.map(step, updates, params), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
