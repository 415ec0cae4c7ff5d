"""What is compiled, how often, and on how many devices it runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from optax_ia import curvature
from tests.curvature.problem import (
    PROBLEMS,
    NetworkLoss,
    cross_entropy,
    flatten,
    mlp,
)
from tests.experiments.compilations import counted

MLP = PROBLEMS["cross entropy"]
KEY = jax.random.key(0)
PAIR = (mlp, cross_entropy)
NETWORK = NetworkLoss(mlp, cross_entropy)
MAKERS = {
    "hessian": curvature.hessian_operator,
    "gauss-newton": curvature.gauss_newton_operator,
    "sampled fisher": lambda *args: curvature.fisher_operator(*args, key=KEY),
    "empirical fisher": lambda *args: curvature.fisher_operator(*args, empirical=True),
    "covariance": curvature.gradient_covariance_operator,
}
over_makers = pytest.mark.parametrize("kind", MAKERS)


def _batches(sizes):
    rng = np.random.default_rng(0)
    return [
        (jnp.asarray(rng.normal(size=(n, 4))), jnp.asarray(rng.integers(0, 3, n)))
        for n in sizes
    ]


BATCHES = _batches((16, 24))
"""Those of all tests here, which so share programs."""


def plain(params, batch):
    return NETWORK.total(params, batch)


def like(seed):
    """Parameters of the network that are others for each seed."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), MLP.params)


def test_the_same_number_of_steps_is_compiled_once():
    operator = curvature.hessian_operator(plain, MLP.params, MLP.batch)
    other = like(1)
    curvature.lanczos(operator, MLP.params, 5)
    with counted() as count:
        curvature.lanczos(operator, other, 5)
    assert count.programs == 0


@over_makers
@pytest.mark.parametrize("loss", [NETWORK, PAIR], ids=["NetworkLoss", "pair"])
def test_a_second_operator_of_a_loss_is_not_compiled_again(kind, loss):
    make = MAKERS[kind]
    make(loss, like(2), BATCHES)(like(3))
    with counted() as count:
        make(loss, like(4), BATCHES)(like(5))
    assert count.programs == 0


def test_a_second_operator_of_a_function_is_not_compiled_again():
    curvature.hessian_operator(plain, like(2), MLP.batch)(like(3))
    with counted() as count:
        curvature.hessian_operator(plain, like(4), MLP.batch)(like(5))
    assert count.programs == 0


def test_batches_of_one_shape_share_a_program():
    x, y = jnp.ones((6, 4)), jnp.zeros(6, int)
    with counted() as first:
        curvature.hessian_operator(plain, MLP.params, [(x, y)] * 2)(like(1))
    with counted() as more:
        curvature.hessian_operator(plain, MLP.params, [(x, y)] * 9)(like(1))
    assert first.programs > 0
    assert more.programs == 0


@pytest.fixture(scope="module")
def mesh():
    assert jax.device_count() == 8
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def sharded_and_not(mesh):
    """Two batches on one device, and the same over eight with their parameters."""
    spread = jax.device_put(BATCHES, NamedSharding(mesh, PartitionSpec("data")))
    params = jax.device_put(MLP.params, NamedSharding(mesh, PartitionSpec()))
    return (MLP.params, BATCHES), (params, spread)


@over_makers
def test_batches_over_eight_devices_equal_one(kind, mesh):
    alone, spread = sharded_and_not(mesh)
    # labels are drawn for each batch from the same key
    expected = MAKERS[kind](NETWORK, *alone)(like(1))
    found = MAKERS[kind](NETWORK, *spread)(like(1))
    np.testing.assert_allclose(flatten(found), flatten(expected), rtol=1e-9, atol=1e-12)


def test_sharded_batches_stay_so(mesh):
    _, (params, batches) = sharded_and_not(mesh)
    seen = []

    def loss(params, batch):
        jax.debug.inspect_array_sharding(batch[0], callback=seen.append)
        return NETWORK.total(params, batch)

    curvature.hessian_operator(loss, params, batches)(like(1))
    wanted = NamedSharding(mesh, PartitionSpec("data"))
    assert seen
    assert all(found.is_equivalent_to(wanted, 2) for found in seen)


def test_estimates_over_eight_devices_equal_one(mesh):
    alone, spread = sharded_and_not(mesh)
    results = []
    for params, batches in (alone, spread):
        operator = curvature.hessian_operator(NETWORK, params, batches[:1])
        found = curvature.lanczos(operator, like(1), 5)
        trace = curvature.trace(operator, params, 3, key=KEY, method="hutch++")
        results.append((found.alpha, found.beta, trace.mean))
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


def test_first_calls_compile_a_handful_of_programs_whatever_the_tree():
    rng = np.random.default_rng(0)
    # of no other test: what those have compiled does not count. Emptying the caches
    # would do as well, but after many tests that takes ten seconds and more.
    shapes = [(102 + i, 3) for i in range(5)] + [(105 + i,) for i in range(5)]
    stretch = [jnp.asarray(rng.uniform(1, 2, shape)) for shape in shapes]
    product = jax.jit(lambda v: jax.tree.map(jnp.multiply, stretch, v))
    calls = {
        # the first vector, begin, a row, a step, its number; eigenvectors, one of
        # them, a residual
        "top": lambda: curvature.top_eigenpairs(product, stretch, 2, key=KEY),
        # the keys, a probe, an inner product, the mean
        "trace": lambda: curvature.trace(product, stretch, 4, key=KEY),
        "frobenius": lambda: curvature.frobenius_norm(product, stretch, 4, key=KEY),
        "hutch++": lambda: curvature.trace(
            product, stretch, 9, key=KEY, method="hutch++"
        ),
    }
    product(stretch)
    counts = {}
    for name, call in calls.items():
        with counted() as count:
            found = call()
        counts[name] = count.programs
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    # 190, 69, 74 and 54 for 20 leaves when the arithmetic of each was a program
    assert 0 < counts["top"] <= 8
    assert 0 < counts["trace"] <= 5
    # the norm's are the trace's, but for one of scalars
    assert counts["frobenius"] <= 1
    assert 0 < counts["hutch++"] <= 5


def test_compilations_do_not_depend_on_the_number_of_steps():
    counts = []
    # lengths of no other test; the first run compiles what no length enters
    for steps, length in ((4, 211), (5, 223), (50, 227)):
        stretch = jnp.linspace(-1.0, 1.0, length)
        product = jax.jit(lambda v, stretch=stretch: stretch * v)
        with counted() as count:
            curvature.lanczos(product, stretch, steps).eigh()
            curvature.spectral_density(product, stretch, key=KEY, num_steps=steps)
            curvature.top_eigenpairs(product, stretch, 2, key=KEY, num_steps=steps)
        counts.append(count.programs)
    assert counts[1] == counts[2] > 0
