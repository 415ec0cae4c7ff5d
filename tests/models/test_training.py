"""The tiny network of every family trains as it should."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_ia import models

KEY = jax.random.key(3)
TINY = [*models.list_models("*tiny*", kind="image"), "autoencoder_tiny"]
CLASSES = 3

# Between them they have batch statistics and none, both kinds of dropout, and biases
# without effect; every further network is a large program.
FAST = (
    *("autoencoder_tiny", "efficientnet_tiny", "lenet_tiny", "mlp_tiny"),
    "resnet_tiny",
)


def some(fast, among):
    """The names, all but a few for runs by hand: every one is a compilation."""
    return [
        name if name in fast else pytest.param(name, marks=pytest.mark.slow)
        for name in among
    ]


over_networks = pytest.mark.parametrize("name", some(FAST, TINY))

# Added to a channel of which batch normalisation then takes the mean away, by way of
# nothing but 1x1 convolutions, poolings and sums: these change nothing in train mode,
# in the published networks as in the tiny ones.
WITHOUT_EFFECT = {
    "mobilenet_tiny": r"stage.*/project/norm/bias",
    # that of the last block is dropped example by example
    "efficientnet_tiny": r"stage.*_block1/project/norm/bias",
    "shufflenet_tiny": r"stage.*/(left1|right2)/norm/bias",
    "pyramidnet_tiny": r"stem_norm/bias|stage.*/norm3/bias",
}


def paths(tree):
    return {
        "/".join(key.key for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def shifted(params, key):
    """With biases other than 0, where a scale before a ReLU would have no effect."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten(
        leaf + 0.1 * jax.random.normal(k, leaf.shape, leaf.dtype) * (leaf.ndim == 1)
        for k, leaf in zip(keys, leaves, strict=True)
    )


# These programs run once: compiling them with all optimisations takes twice as long.
compiled = functools.partial(
    jax.jit,
    static_argnames="model",
    compiler_options={"xla_backend_optimization_level": 0},
)


@compiled
def initial(model, key, images):
    variables = model.init(key, images, train=False)
    return shifted(variables["params"], key), variables.get("batch_stats", {})


@compiled
def step(model, params, stats, drop, images, labels):
    """Loss, gradients and all else of one optimiser step."""

    def forward(params):
        logits, new = model.apply(
            {"params": params, "batch_stats": stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": drop},
        )
        if labels is None:
            targets = jax.nn.sigmoid(images)
            losses = optax.sigmoid_binary_cross_entropy(logits, targets)
        else:
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (logits, new.get("batch_stats", {}))

    (loss, (logits, new)), grads = jax.value_and_grad(forward, has_aux=True)(params)
    optimizer = optax.adam(1e-3)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    return {
        "loss": loss,
        "grads": grads,
        "logits": logits,
        "batch_stats": new,
        "params": optax.apply_updates(params, updates),
    }


@compiled
def evaluate(model, params, stats, images):
    return model.apply({"params": params, "batch_stats": stats}, images, train=False)


def has_dropout(model):
    return any(getattr(model, rate, 0) for rate in ("dropout", "stochastic_depth"))


def inputs(name, batch=8):
    record = models.get_model_record(name)
    images = jax.random.normal(KEY, (batch, *record.input_shape), jnp.float32)
    labels = jax.random.randint(jax.random.key(5), (batch,), 0, CLASSES)
    return images, labels if record.kind == "image" else None


def network(name, **options):
    if name.startswith("autoencoder"):
        return models.create_model(name, dropout=0.1, **options)
    return models.create_model(name, num_classes=CLASSES, **options)


@functools.cache
def trained(name):
    """The model, and what a step, the next and one with other dropout give."""
    model = network(name)
    images, labels = inputs(name)
    params, stats = initial(model, KEY, images)
    drops = jax.random.split(KEY)
    first = step(model, params, stats, drops[0], images, labels)
    second = step(model, first["params"], stats, drops[0], images, labels)
    other = step(model, params, stats, drops[1], images, labels)
    return model, params, stats, first, second, other


@over_networks
def test_one_step_lowers_the_loss(name):
    *_, first, second, _ = trained(name)
    assert np.isfinite(first["loss"])
    assert second["loss"] < first["loss"]


@over_networks
def test_every_parameter_has_a_gradient(name):
    grads = paths(trained(name)[3]["grads"])
    useless = re.compile(WITHOUT_EFFECT.get(name, "none"))
    largest = max(np.abs(grad).max() for grad in grads.values())
    seen = set()
    for path, grad in grads.items():
        assert np.isfinite(grad).all(), path
        size = np.abs(grad).max() / largest
        if useless.fullmatch(path):
            seen.add(path)
            assert size < 1e-5, path
        else:
            assert size > 1e-5, path
    assert bool(seen) == (name in WITHOUT_EFFECT)


@over_networks
def test_batch_statistics_move(name):
    _, _, stats, first, *_ = trained(name)
    old, new = paths(stats), paths(first["batch_stats"])
    assert old.keys() == new.keys()
    assert bool(old) == (
        not name.startswith(("mlp", "lenet", "auto", "vgg_tiny_plain"))
    )
    for path, before in old.items():
        assert np.isfinite(new[path]).all(), path
        assert (new[path] != before).any(), path


@over_networks
def test_evaluation_is_deterministic_and_dropout_keyed(name):
    model, params, stats, first, _, other = trained(name)
    images, labels = inputs(name)
    again = step(model, params, stats, jax.random.split(KEY)[0], images, labels)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    differ = (np.asarray(first["logits"]) != np.asarray(other["logits"])).any()
    assert differ == has_dropout(model)
    evaluated = evaluate(model, params, first["batch_stats"], images)
    assert evaluated.dtype == np.float32
    assert np.isfinite(evaluated).all()
    np.testing.assert_array_equal(
        evaluated, evaluate(model, params, first["batch_stats"], images)
    )


def test_some_families_drop():
    dropping = {name for name in TINY if has_dropout(network(name))}
    assert dropping == {
        *("wide_resnet_tiny", "mobilenet_tiny", "efficientnet_tiny"),
        *("inception_tiny", "autoencoder_tiny"),
    }


def test_bfloat16_is_near_float32():
    _, params, stats, wide, *_ = trained("resnet_tiny")
    model = network("resnet_tiny", dtype=jnp.bfloat16)
    batch = (KEY, *inputs("resnet_tiny"))
    narrow = step(model, params, stats, *batch)
    assert narrow["logits"].dtype == np.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(narrow["grads"])} == {
        jnp.dtype("float32")
    }
    assert step(model, narrow["params"], stats, *batch)["loss"] < narrow["loss"]
    size = np.abs(wide["logits"]).max()
    np.testing.assert_allclose(narrow["logits"], wide["logits"], atol=0.05 * size)
    assert (np.asarray(narrow["logits"]) != np.asarray(wide["logits"])).any()
