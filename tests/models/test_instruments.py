"""The networks under a mesh and under the library's instruments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import optax_ia.flax
from optax_ia import curvature, explain, models
from optax_ia.models import _inception
from tests.models.test_training import (
    KEY,
    TINY,
    compiled,
    evaluate,
    initial,
    inputs,
    network,
    over_networks,
    some,
    step,
)

NORMALISED = [
    name for name in TINY if not name.startswith(("mlp", "lenet", "auto", "vgg"))
]


@over_networks
def test_kfac_takes_every_kernel(name):
    model = network(name)
    images, labels = inputs(name)
    run = functools.partial(initial.__wrapped__, model)
    params, stats = jax.eval_shape(run, KEY, images)
    batch = {"image": images, "label": labels}
    variables = {"params": params, "batch_stats": stats}
    coverage = optax_ia.flax.kfac_coverage(model, variables, batch)
    kernels = [row for row in coverage if row.path.endswith("kernel")]
    assert {row.treatment for row in kernels} == {"kronecker"}
    others = {row.treatment for row in coverage} - {"kronecker"}
    assert others <= {"gradient: no rule for BatchNorm"}


@over_networks
def test_layer_metrics_take_every_kernel(name):
    model = network(name)
    run = functools.partial(initial.__wrapped__, model)
    params, _ = jax.eval_shape(run, KEY, inputs(name)[0])

    def qualities(params):
        metrics = explain.layer_metrics(params)
        return {path: row.quality for path, row in metrics.items()}

    metrics = jax.eval_shape(qualities, params)
    shapes = jax.tree_util.tree_leaves_with_path(params)
    kernels = ["/".join(key.key for key in path) for path, leaf in shapes]
    assert set(metrics) == {path for path in kernels if path.endswith("kernel")}
    assert all(row.shape == () for row in metrics.values())


@pytest.mark.parametrize("name", some(["resnet_tiny"], NORMALISED))
def test_kfac_capture_leaves_the_gradient_alone(name):
    model = network(name)
    images, labels = inputs(name)
    params, stats = initial(model, KEY, images)
    value_and_grad = optax_ia.flax.kfac_value_and_grad(model, empirical=True)
    capture = compiled(lambda *args, model: value_and_grad(*args))
    (loss, aux), grads, factors = capture(
        params, (images, labels), KEY, stats, model=model
    )
    drop = jax.random.split(KEY)[0]
    if not any(getattr(model, rate, 0) for rate in ("dropout", "stochastic_depth")):
        plain = step(model, params, stats, drop, images, labels)
        assert loss == pytest.approx(float(plain["loss"]), rel=1e-5)
        largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(plain["grads"]))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * largest),
            *(grads, plain["grads"]),
        )
    assert jax.tree.structure(aux.batch_stats) == jax.tree.structure(stats)
    captured = {path: pair for path, pair in factors.items() if pair is not None}
    assert "head" in captured
    for pair in captured.values():
        assert np.isfinite(pair.inputs).all()
        assert np.isfinite(pair.outputs).all()


@pytest.mark.parametrize("name", some(["resnet_tiny"], NORMALISED))
def test_a_batch_over_eight_devices_trains_as_on_one(name):
    model = network(name)
    images, labels = inputs(name)
    params, stats = initial(model, KEY, images)
    drop = jax.random.split(KEY)[0]
    alone = step(model, params, stats, drop, images, labels)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    placed = jax.device_put((params, stats, drop), whole)
    spread = step(model, *placed, *jax.device_put((images, labels), split))
    assert spread["logits"].sharding.is_equivalent_to(split, 2)
    assert spread["loss"] == pytest.approx(float(alone["loss"]), rel=1e-5)
    for kind in ("grads", "batch_stats"):
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(alone[kind])]
        largest = max(np.abs(leaf).max() for leaf in leaves)
        jax.tree.map(
            lambda a, b, largest=largest: np.testing.assert_allclose(
                a, b, atol=1e-4 * largest
            ),
            *(spread[kind], alone[kind]),
        )


@pytest.mark.parametrize("name", some(["resnet_tiny"], NORMALISED))
def test_recalibrated_statistics_are_those_of_the_data(name):
    """After it evaluation on the one batch is what training computed, undropped."""
    model = network(name)
    for rate in ("dropout", "stochastic_depth"):
        if hasattr(model, rate):
            model = model.clone(**{rate: 0.0})
    images, labels = inputs(name)
    params, stats = initial(model, KEY, images)
    trained = step(model, params, stats, KEY, images, labels)
    new = optax_ia.flax.recalibrate_batch_stats(
        model, {"params": params, "batch_stats": stats}, [images]
    )
    got = evaluate(model, params, new["batch_stats"], images)
    size = np.abs(trained["logits"]).max()
    np.testing.assert_allclose(got, trained["logits"], atol=1e-4 * size)


@pytest.mark.parametrize(
    "name", some(["vgg_tiny"], [n for n in TINY if n != "autoencoder_tiny"])
)
def test_hessian_products(name):
    """Symmetric, and the change of the gradient along the vector."""
    # smooth, or a difference of gradients would meet the ReLU's corner
    model = network(name, act=jax.nn.softplus, dtype=jnp.float64)
    images, labels = inputs(name, batch=4)
    params, stats = initial(model, KEY, images)
    widen = functools.partial(jax.tree.map, lambda x: x.astype(float))
    params, stats, images = widen(params), widen(stats), images.astype(float)

    def loss_fn(params, batch):
        logits = model.apply(
            {"params": params, "batch_stats": batch["stats"]},
            batch["image"][0],
            train=False,
        )
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, batch["label"][0]
        ).mean()

    batch = {"image": images[None], "label": labels[None]}
    batch["stats"] = jax.tree.map(lambda x: x, stats)
    operator = curvature.hessian_operator(loss_fn, params, lambda: [batch])
    keys = jax.random.split(KEY)
    u, v = (optax.tree.random_like(key, params) for key in keys)
    product = operator(v)
    left, right = optax.tree.vdot(u, product), optax.tree.vdot(v, operator(u))
    assert left == pytest.approx(float(right), rel=1e-6)
    gradient = compiled(lambda p, b, model: jax.grad(loss_fn)(p, b))
    step_size = 1e-5
    ends = [
        gradient(optax.tree.add_scale(params, sign * step_size, v), batch, model=model)
        for sign in (1, -1)
    ]
    along = optax.tree.vdot(u, optax.tree.sub(*ends)) / (2 * step_size)
    assert left == pytest.approx(float(along), rel=1e-4)


def test_inception_s_auxiliary_logits():
    """In train mode alone, stored beside the statistics, with their own gradient."""
    # of the layers before the head those that it needs: one halves, it reads the other
    mixed = (("mixed_6a", _inception.mixed_b()), ("mixed_6e", _inception.mixed_c(192)))
    model = models.create_model("inception_v3", num_classes=4, mixed=mixed)
    images = jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32)

    def train(key, x):
        variables = model.init(key, x, train=False)
        logits, new = model.apply(
            variables,
            x,
            train=True,
            mutable=["batch_stats", "auxiliary"],
            rngs={"dropout": key},
        )
        evaluated, none = model.apply(variables, x, train=False, mutable=["auxiliary"])
        return logits, new, evaluated, none

    logits, new, evaluated, none = jax.eval_shape(train, KEY, images)
    assert set(new) == {"batch_stats", "auxiliary"}
    (auxiliary,) = new["auxiliary"]["logits"]
    assert logits.shape == auxiliary.shape == evaluated.shape == (2, 4)
    assert auxiliary.dtype == jnp.float32
    assert none == {}
