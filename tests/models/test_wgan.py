"""The Wasserstein GAN: steps of both networks, its two constraints, sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_ia import models

BATCH = 4
GENERATOR = models.create_model("wgan_generator_8", features=4)


@functools.cache
def start(norm):
    """Critic, the variables of both, data and noise."""
    critic = models.create_model("wgan_critic_8", features=4, norm=norm)

    @jax.jit
    def init(key):
        keys = jax.random.split(key, 4)
        noise = jax.random.normal(keys[0], (BATCH, 16), jnp.float32)
        real = jax.random.uniform(keys[1], (BATCH, 8, 8, 1), jnp.float32, -1, 1)
        return (
            GENERATOR.init(keys[2], noise, train=False),
            critic.init(keys[3], real, train=False),
            real,
            noise,
        )

    return critic, *init(jax.random.key(0))


def split(variables):
    variables = dict(variables)
    return variables.pop("params"), variables


def scores(critic, params, rest, images):
    """Scores of a batch, and the statistics after it."""
    if not rest:
        return critic.apply({"params": params}, images), rest
    return critic.apply({"params": params, **rest}, images, mutable=list(rest))


@functools.partial(jax.jit, static_argnums=0)
def critic_grad(critic, params, rest, real, fake, key):
    def loss_fn(params):
        of_data, after = scores(critic, params, rest, real)
        of_fakes, after = scores(critic, params, after, fake)
        loss = models.critic_loss(of_data, of_fakes)
        if not rest:
            penalty = models.gradient_penalty(
                lambda images: scores(critic, params, rest, images)[0], real, fake, key
            )
            loss = loss + 10 * penalty
        return loss, after

    return jax.value_and_grad(loss_fn, has_aux=True)(params)


@functools.partial(jax.jit, static_argnums=0)
def generator_grad(critic, params, rest, critic_variables, noise):
    def loss_fn(params):
        images, after = GENERATOR.apply(
            {"params": params, **rest}, noise, mutable=["batch_stats"]
        )
        of_fakes = critic.apply(critic_variables, images, train=False)
        return models.generator_loss(of_fakes), (images, after)

    return jax.value_and_grad(loss_fn, has_aux=True)(params)


def check_gradient(grads):
    for leaf in jax.tree.leaves(grads):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0


def moved(before, after):
    return any(
        (a != b).any()
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    )


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_steps_of_both_networks_lower_their_losses(norm):
    critic, generator_variables, critic_variables, real, noise = start(norm)
    params, rest = split(generator_variables)
    (before, (fake, after)), grads = generator_grad(
        critic, params, rest, critic_variables, noise
    )
    assert fake.shape == real.shape
    assert np.abs(fake).max() <= 1
    check_gradient(grads)
    assert moved(rest, after)
    stepped = jax.tree.map(lambda p, g: p - 0.01 * g, params, grads)
    (loss, _), _ = generator_grad(critic, stepped, rest, critic_variables, noise)
    assert loss < before

    # the critic: its weights clipped with batch normalisation, else a gradient penalty
    params, rest = split(critic_variables)
    assert bool(rest) == (norm == "batch")
    key = jax.random.key(1)
    (before, after), grads = critic_grad(critic, params, rest, real, fake, key)
    check_gradient(grads)
    assert moved(rest, after) or not rest
    optimiser = optax.sgd(1e-3)
    if rest:
        # scales begin at 1, which the clipping does not spare: so from inside the box
        params = jax.tree.map(lambda p: jnp.clip(p, -0.5, 0.5), params)
        (before, _), grads = critic_grad(critic, params, rest, real, fake, key)
        optimiser = optax.chain(optax.sgd(0.1), models.clip_weights(0.5))
    updates, _ = optimiser.update(grads, optimiser.init(params), params)
    params = optax.apply_updates(params, updates)
    (loss, _), _ = critic_grad(critic, params, rest, real, fake, key)
    assert loss < before
    if rest:
        assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(params)) <= 0.5 + 1e-7


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_clipped_weights_stay_inside(dtype):
    params = {"a": jnp.array([-0.3, 0.0, 0.2], dtype), "b": jnp.array(0.25, dtype)}
    updates = {"a": jnp.array([-1.0, 0.125, 9.0], dtype), "b": jnp.array(-9.0, dtype)}
    clip = models.clip_weights(0.25)
    got, state = clip.update(updates, clip.init(params), params)
    after = optax.apply_updates(params, got)
    np.testing.assert_allclose(
        np.asarray(after["a"], np.float32), [-0.25, 0.125, 0.25], rtol=1e-2
    )
    assert float(after["b"]) == pytest.approx(-0.25, rel=1e-2)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype(dtype)}
    assert clip.update({}, state, {})[0] == {}
    masked = optax.masked(clip, {"a": True, "b": False})
    got, _ = masked.update(updates, masked.init(params), params)
    assert float(got["b"]) == -9
    with pytest.raises(ValueError, match="limit must be > 0, got 0"):
        models.clip_weights(0)
    with pytest.raises(ValueError, match="needs the parameters"):
        clip.update(updates, state)


def test_penalty_of_a_critic_with_known_slopes():
    rng = np.random.default_rng(0)
    real, fake = (jnp.asarray(rng.normal(size=(6, 2, 3))) for _ in range(2))
    key = jax.random.key(3)

    def penalty(scale):
        return models.gradient_penalty(
            lambda x: scale * jnp.sum(x**2, (1, 2)), real, fake, key
        )

    share = np.asarray(jax.random.uniform(key, (6, 1, 1), real.dtype))
    between = share * np.asarray(real) + (1 - share) * np.asarray(fake)
    slopes = 2 * np.sqrt((between**2).sum((1, 2)))
    got, gradient = jax.value_and_grad(penalty)(0.7)
    np.testing.assert_allclose(got, np.mean((0.7 * slopes - 1) ** 2), rtol=1e-12)
    wanted = np.mean(2 * (0.7 * slopes - 1) * slopes)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-12)
    # a flat critic: the norm has no derivative there, and gets none
    got, gradient = jax.value_and_grad(penalty)(0.0)
    assert (float(got), float(gradient)) == (1, 0)
    with pytest.raises(ValueError, match=r"same shape, got \(6, 2, 3\) and \(5, 2"):
        models.gradient_penalty(lambda x: x[:, 0, 0], real, fake[:5], key)


# DCGAN_G and DCGAN_D of martinarjovsky/WassersteinGAN, counted in PyTorch; the paper
# gives none
PUBLISHED = {
    "wgan_generator": 3_576_704,
    "wgan_critic": 2_765_568,
    "wgan_generator_32": 1_068_928,
    "wgan_critic_32": 663_296,
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_sizes(name):
    assert models.count_parameters(name) == PUBLISHED[name]
    assert models.get_model_record(name).parameters == PUBLISHED[name]


@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_sizes_and_dtypes(size, dtype):
    suffix = "" if size == 64 else f"_{size}"
    for name in ("wgan_generator", "wgan_critic"):
        record = models.get_model_record(name + suffix)
        model = models.create_model(name + suffix, dtype=dtype)
        inputs = jnp.zeros((2, *record.input_shape), dtype or jnp.float32)
        variables = jax.eval_shape(
            functools.partial(model.init, train=False), jax.random.key(0), inputs
        )
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
            jnp.dtype("float32")
        }
        got = jax.eval_shape(
            functools.partial(model.apply, train=False), variables, inputs
        )
        channels = 1 if size == 8 else 3
        shape = (2, size, size, channels) if "generator" in name else (2,)
        assert (got.shape, got.dtype) == (shape, jnp.float32)


def test_wrong_attributes_are_named():
    with pytest.raises(ValueError, match="size must be a power of two, got 48"):
        models.create_model("wgan_critic", size=48)
    with pytest.raises(ValueError, match="must be one of 'batch', 'layer', 'none'"):
        models.create_model("wgan_generator", norm="group")
    critic, _, variables, *_ = start("layer")
    with pytest.raises(ValueError, match="images must be 8x8, got shape"):
        critic.apply(variables, jnp.zeros((1, 16, 16, 1)))
