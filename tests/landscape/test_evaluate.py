"""Losses on lines and planes, against a loop over points and batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia.flax
from optax_ia import landscape
from tests.flax import problem

SIZES = (8, 8, 3)


def make_batches(sizes=SIZES):
    rng = np.random.default_rng(1)
    return [(rng.normal(size=(n, 4)), rng.normal(size=(n, 2)) + n) for n in sizes]


def make_params():
    rng = np.random.default_rng(2)
    return {"kernel": jnp.asarray(rng.normal(size=(4, 2))), "scale": jnp.ones(())}


def loss_fn(params, batch):
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["kernel"]) * params["scale"] - y) ** 2)


def numpy_loss(params, batches):
    """The mean over all examples, at once."""
    x, y = (np.concatenate(part) for part in zip(*batches, strict=True))
    kernel, scale = np.asarray(params["kernel"]), float(params["scale"])
    return np.mean((np.tanh(x @ kernel) * scale - y) ** 2)


def moved(params, *steps):
    for coordinate, direction in steps:
        params = jax.tree.map(lambda w, d, a=coordinate: w + a * d, params, direction)
    return params


@pytest.fixture
def directions():
    return landscape.directions(make_params(), key=jax.random.key(0), ignore=None)


def test_line_against_a_loop(directions):
    coordinates = np.array([-1.5, 0.0, 0.25, 2.0])
    found = landscape.line(
        loss_fn, make_params(), directions[0], make_batches(), coordinates=coordinates
    )
    expected = [
        numpy_loss(moved(make_params(), (a, directions[0])), make_batches())
        for a in coordinates
    ]
    np.testing.assert_allclose(found.losses, expected, rtol=1e-12)
    np.testing.assert_array_equal(found.coordinates, coordinates)


def test_surface_against_a_loop(directions):
    xs, ys = np.array([-1.0, 0.0, 0.5]), np.array([0.0, 2.0])
    found = landscape.surface(
        loss_fn, make_params(), directions, make_batches(), xs=xs, ys=ys
    )
    assert found.losses.shape == (2, 3)
    for j, y in enumerate(ys):
        for i, x in enumerate(xs):
            place = moved(make_params(), (x, directions[0]), (y, directions[1]))
            expected = numpy_loss(place, make_batches())
            np.testing.assert_allclose(found.losses[j, i], expected, rtol=1e-12)


def test_coordinates_by_default(directions):
    found = landscape.surface(loss_fn, make_params(), directions, make_batches())
    assert found.losses.shape == (25, 25)
    assert (found.xs[0], found.xs[12], found.ys[-1]) == (-1, 0, 1)
    alone = landscape.line(loss_fn, make_params(), directions[0], make_batches())
    np.testing.assert_allclose(alone.losses, found.losses[12], rtol=1e-12)


def test_the_line_between_two_solutions_ends_at_both():
    a = make_params()
    b = jax.tree.map(lambda w: 0.3 - w, a)
    (step,) = landscape.between(a, b)
    found = landscape.line(loss_fn, a, step, make_batches(), coordinates=[0.0, 1.0])
    expected = [numpy_loss(a, make_batches()), numpy_loss(b, make_batches())]
    np.testing.assert_allclose(found.losses, expected, rtol=1e-12)


def test_one_program_a_batch_shape(directions):
    shapes = []

    def counted(params, batch):
        shapes.append(batch[0].shape)  # runs while tracing only
        return loss_fn(params, batch)

    for coordinates in ([0.0, 1.0, 2.0], [3.0, 4.0, 5.0]):
        landscape.line(
            counted,
            make_params(),
            directions[0],
            make_batches(),
            coordinates=coordinates,
        )
    assert sorted(shapes) == [(3, 4), (8, 4)]
    shapes.clear()

    def prepared(params, batch, statistics):
        shapes.append(batch[0].shape)
        return loss_fn(params, batch) + 0 * statistics

    landscape.surface(
        prepared,
        make_params(),
        directions,
        make_batches(),
        xs=[0.0, 1.0, 2.0],
        prepare=lambda params: params["scale"],
    )
    assert sorted(shapes) == [(3, 4), (8, 4)]


@pytest.mark.parametrize("kind", ["one", "list", "iterator", "function"])
def test_forms_of_batches(directions, kind):
    batches = make_batches((8,)) if kind == "one" else make_batches()
    forms = {
        "one": batches[0],
        "list": batches,
        "iterator": iter(batches),
        "function": lambda: iter(batches),
    }
    found = landscape.line(
        loss_fn, make_params(), directions[0], forms[kind], coordinates=[0.0]
    )
    expected = numpy_loss(make_params(), batches)
    np.testing.assert_allclose(found.losses, [expected], rtol=1e-12)


def test_parameters_keep_their_dtype(directions):
    dtypes = []

    def loss(params, batch):
        dtypes.append(params["kernel"].dtype)
        return loss_fn(params, batch)

    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), make_params())
    found = landscape.line(loss, half, directions[0], make_batches(), coordinates=[0.0])
    assert set(dtypes) == {jnp.dtype(jnp.bfloat16)}
    assert found.losses.dtype == jnp.float64


def test_losses_that_are_not_finite_stay_so():
    def loss(w, batch):
        return jnp.mean(batch) * jnp.log(w)

    found = landscape.line(
        loss, jnp.array(1.0), jnp.array(1.0), jnp.ones(3), coordinates=[-2.0, -1.0, 0.0]
    )
    assert np.isnan(found.losses[0])
    assert found.losses[1] == -np.inf
    assert found.losses[2] == 0


def test_one_batch_that_is_nan_is_that_of_its_point_alone(directions):
    batches = make_batches()
    bad = [batches[0], (batches[1][0] * np.nan, batches[1][1]), batches[2]]
    points = {"xs": [0.0, 0.5], "ys": [0.0]}
    found = landscape.surface(loss_fn, make_params(), directions, bad, **points)
    assert np.isnan(found.losses).all()

    def loss(params, batch, prepared):
        return loss_fn(params, batch) + prepared

    found = landscape.surface(
        loss,
        make_params(),
        directions,
        batches,
        prepare=lambda params: jnp.where(params["scale"] == 1, 0.0, jnp.nan),
        **points,
    )
    np.testing.assert_array_equal(np.isnan(found.losses), [[False, True]])


def test_batches_sharded_over_devices(directions):
    mesh = jax.make_mesh((8,), ("data",))
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    batches = make_batches((16, 8))
    sharded = jax.device_put(batches, sharding)
    here, there = (
        landscape.line(loss_fn, make_params(), directions[0], given).losses
        for given in (batches, sharded)
    )
    np.testing.assert_allclose(there, here, rtol=1e-12)


def test_batch_statistics_estimated_anew_or_kept():
    net, variables = problem.linen_variables()
    params, stats = variables["params"], variables["batch_stats"]
    inputs = problem.batches()
    (direction,) = landscape.directions(params, key=jax.random.key(1), num=1)
    direction = jax.tree.map(lambda d: d.astype(jnp.float32), direction)

    def loss(params, x, stats=stats):
        outputs = net.apply({"params": params, "batch_stats": stats}, x)
        return jnp.mean(jnp.asarray(outputs) ** 2)

    def prepare(params):
        fresh = optax_ia.flax.recalibrate_batch_stats(
            net.apply, {"params": params, "batch_stats": stats}, inputs
        )
        return fresh["batch_stats"]

    def kept_loss(params, x):
        return loss(params, x)

    points = [0.0, 0.5, 1.0]
    kept = landscape.line(
        kept_loss, params, direction, lambda: inputs, coordinates=points
    )
    found = landscape.line(
        loss, params, direction, lambda: inputs, coordinates=points, prepare=prepare
    )
    sizes = [len(x) for x in inputs]
    for place, kept_loss_there, fresh_loss in zip(
        points, kept.losses, found.losses, strict=True
    ):
        weights = moved(params, (np.float32(place), direction))
        for statistics, value in ((stats, kept_loss_there), (None, fresh_loss)):
            used = prepare(weights) if statistics is None else statistics
            each = [loss(weights, x, used) for x in inputs]
            expected = np.average(each, weights=sizes)
            np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert not np.allclose(kept.losses, found.losses, rtol=0.05)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batches": []}, ValueError, "at least one batch"),
        ({"directions": [make_params()]}, ValueError, "two directions, got 1"),
        ({"xs": [[0.0]]}, ValueError, "xs must be coordinates"),
        ({"ys": []}, ValueError, "ys must be coordinates"),
        ({"directions": [make_params(), {"kernel": jnp.ones(1)}]}, ValueError,
         "direction 2 must be a tree like params"),
        ({"params": {"kernel": jnp.ones((4, 2), int), "scale": jnp.ones(())}},
         TypeError, "kernel of int"),
        ({"loss_fn": lambda params, batch: batch[0]}, ValueError, "a scalar, or .loss"),
    ],
)  # fmt: skip
def test_bad_arguments(directions, change, error, message):
    arguments = {
        "loss_fn": loss_fn,
        "params": make_params(),
        "directions": directions,
        "batches": make_batches(),
        "xs": [0.0],
    }
    with pytest.raises(error, match=message):
        landscape.surface(**arguments | change)
