"""Small, odd and grey images through every network of images, abstractly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from optax_ia import models
from optax_ia.models._sizes import least_size
from optax_ia.models._zoo import get_model_record

NAMES = [
    name
    for name in models.list_models(kind="image")
    if len(get_model_record(name).input_shape) == 3
]
FAST = {
    *("vgg16", "resnet20", "densenet121", "inception_v3", "mobilenet_v2", "lenet"),
    *("shufflenet_v2_x1_0", "efficientnet_b0", "vgg_small", "vgg_tiny"),
}
every_network = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
        for name in NAMES
    ],
)


@functools.cache
def network(name):
    return models.create_model(name)


def shapes(name, height, width, channels=3):
    """Abstract variables and outputs."""
    images = jax.ShapeDtypeStruct((2, height, width, channels), jnp.float32)
    return jax.eval_shape(
        lambda x: network(name).init_with_output(jax.random.key(0), x, train=False),
        images,
    )


def test_the_fast_names_exist():
    assert len(FAST & set(NAMES)) >= 6


@every_network
def test_the_least_size_is_exact_and_named(name):
    channels = get_model_record(name).input_shape[-1]
    least = least_size(network(name), channels)
    assert least is not None
    assert least <= max(get_model_record(name).input_shape[:2])
    outputs, variables = shapes(name, least, least, channels)
    assert all(0 not in leaf.shape for leaf in jax.tree.leaves((outputs, variables)))
    if least > 1:
        named = f"at least {least} x {least}, got {least - 1} x {least}|aux=False"
        with pytest.raises(ValueError, match=named):
            shapes(name, least - 1, least, channels)


@every_network
@pytest.mark.parametrize("channels", [1, 3])
def test_odd_sizes_give_outputs_of_the_same_shape(name, channels):
    height, width, _ = get_model_record(name).input_shape
    (outputs, _), (odd, variables) = (
        shapes(name, h, w, channels) for h, w in ((height, width), (height + 1, width))
    )
    assert jax.tree.map(jnp.shape, outputs) == jax.tree.map(jnp.shape, odd)
    assert all(0 not in leaf.shape for leaf in jax.tree.leaves(variables))


@every_network
def test_images_without_a_batch_axis_are_refused(name):
    module = network(name)
    image = jax.ShapeDtypeStruct(get_model_record(name).input_shape, jnp.float32)
    if type(module).__name__ in ("MLP", "LogisticRegression", "Autoencoder"):
        return  # they flatten whatever they get
    with pytest.raises(ValueError, match=r"\(batch, height, width, channels\), got"):
        jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), image)


@pytest.mark.parametrize("name", ["vgg_tiny", "resnet20", "lenet"])
def test_a_batch_over_eight_devices_gives_the_same_outputs(name):
    module = network(name)
    shape = (8, *get_model_record(name).input_shape)
    images = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    apply = jax.jit(functools.partial(module.apply, train=False))
    variables = jax.jit(functools.partial(module.init, train=False))(
        jax.random.key(0), images
    )
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_allclose(
        apply(variables, spread), apply(variables, images), rtol=1e-5, atol=1e-5
    )
