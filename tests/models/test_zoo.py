"""Every model of the zoo: shapes, parameter counts, statistics, errors."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia import models

# Counted by hand: 9*in*out per convolution, 2*out per normalisation, the head.
PARAMETERS = {
    "vgg_small": 9 * (16 + 16 * 16 + 16 * 32 + 32 * 32)
    + 2 * (16 + 16 + 32 + 32)
    + 2 * 2 * 32 * 10
    + 10,
    "vgg_tiny": 9 * (4 + 4 * 8) + 2 * (4 + 8) + 2 * 2 * 8 * 10 + 10,
    # a bias per channel in place of the normalisation's two numbers
    "vgg_tiny_plain": 9 * (4 + 4 * 8) + (4 + 8) + 2 * 2 * 8 * 10 + 10,
}


def test_every_model_has_a_count():
    assert sorted(PARAMETERS) == models.list_models()


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_shapes_and_parameter_count(name):
    model = models.create_model(name)
    images = jnp.zeros((3, 8, 8, 1), jnp.float32)
    variables = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), images
    )
    normalised = "plain" not in name
    assert set(variables) == {"params", *(["batch_stats"] if normalised else [])}
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count == PARAMETERS[name]
    logits = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=False), variables, images
    )
    assert logits.shape == (3, 10)
    assert logits.dtype == jnp.float32


def test_batch_statistics_move_in_train_mode_only():
    model = models.create_model("vgg_tiny", num_classes=4)
    images = jax.random.normal(jax.random.key(1), (6, 8, 8, 1), jnp.float32)

    @jax.jit
    def train(key, images):
        variables = model.init(key, images, train=False)
        after = model.apply(variables, images, train=True, mutable=["batch_stats"])[1]
        return variables, after, model.apply(variables, images, train=False)

    variables, after, logits = train(jax.random.key(0), images)
    # flax momentum 0.9 keeps nine tenths of the old mean (zero) and adds a tenth.
    kernel = variables["params"]["ConvBlock_0"]["Conv_0"]["kernel"]
    pre = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    got = after["batch_stats"]["ConvBlock_0"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(got, 0.1 * pre.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    assert logits.shape == (6, 4)


def test_without_normalisation_an_image_does_not_depend_on_its_batch():
    model = models.create_model("vgg_tiny_plain", num_classes=4)
    images = jax.random.normal(jax.random.key(1), (6, 8, 8, 1), jnp.float32)
    variables = model.init(jax.random.key(0), images)
    logits = model.apply(variables, images, train=True)
    alone = model.apply(variables, images[:2], train=False)
    np.testing.assert_allclose(logits[:2], alone, rtol=1e-5, atol=1e-6)
    # He's variance, 2 over the inputs of a unit: 9 times 4 here
    kernel = variables["params"]["ConvBlock_1"]["Conv_0"]["kernel"]
    assert kernel.var() == pytest.approx(2 / 36, rel=0.3)
    assert jax.tree.leaves(variables["params"]["ConvBlock_1"]["Conv_0"]["bias"])


def test_patterns_and_unknown_name():
    assert models.list_models("*tiny") == ["vgg_tiny"]
    with pytest.raises(ValueError, match="unknown model 'resnet'.*vgg_small, vgg_tiny"):
        models.create_model("resnet")
    assert models.get_model_record("vgg_small").summary


def test_missing_flax_names_the_command():
    code = "import sys; sys.modules['flax'] = None; import optax_ia.models"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "pip install 'optax-ia[flax]'" in done.stderr.splitlines()[-1]
