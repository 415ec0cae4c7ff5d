"""Blocks over eight devices: the same numbers, an eighth of the work on each."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from optax_ia.second_order import _inverse_root
from optax_ia.second_order._shampoo import scale_by_shampoo, shampoo

DEVICES = 8
SHAPES = {"conv": (3, 3, 4, 12), "dense": (20, 12), "bias": (12,), "scale": ()}
STEPS = 5


@pytest.fixture(scope="module")
def mesh():
    assert jax.device_count() == DEVICES
    auto = jax.sharding.AxisType.Auto
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(auto, auto))


def params():
    rng = np.random.default_rng(0)
    return {n: jnp.asarray(rng.normal(size=s)) for n, s in SHAPES.items()}


def step_of(tx):
    def step(params, state, t):
        grads = jax.tree.map(lambda w: jnp.sin(w + t), params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))


def run(tx, params):
    step, state = step_of(tx), tx.init(params)
    for t in range(STEPS):
        params, state = step(params, state, t)
    return params, state


RULES = {
    "sum": lambda sharding: optax.chain(
        scale_by_shampoo(block_size=6, merge_axes=True, sharding=sharding),
        optax.scale(-0.1),
    ),
    "diagonal": lambda sharding: optax.chain(
        scale_by_shampoo(block_size=4, max_dim=10, sharding=sharding),
        optax.scale(-0.1),
    ),
    "alias": lambda sharding: shampoo(
        0.1, block_size=6, precondition_every=2, statistics_every=2, sharding=sharding
    ),
}
SPECS = [PartitionSpec(("data", "model")), PartitionSpec("data")]
# every rule, either split and either layout of the parameters
FAST = [
    ("sum", SPECS[1], False),
    ("diagonal", SPECS[0], True),
    ("alias", SPECS[0], False),
]


@functools.cache
def on_one_device(rule):
    return run(RULES[rule](None), params())[0]


@pytest.mark.parametrize(
    ("rule", "spec", "split"),
    [
        pytest.param(
            *case,
            id=f"{case[0]}-{case[1]}-{'split' if case[2] else 'whole'}",
            marks=[] if case in FAST else [pytest.mark.slow],
        )
        for case in itertools.product(RULES, SPECS, (False, True))
    ],
)
def test_equal_to_one_device_and_each_holds_its_share(rule, spec, split, mesh):
    sharding = NamedSharding(mesh, spec)
    shards = np.prod([mesh.shape[axis] for axis in np.ravel(spec[0])])
    where = {
        name: NamedSharding(
            mesh,
            PartitionSpec(*[None] * (len(shape) - 1), "data" if split else None)
            if shape
            else PartitionSpec(),
        )
        for name, shape in SHAPES.items()
    }
    expected = on_one_device(rule)
    found, state = run(RULES[rule](sharding), jax.device_put(params(), where))
    for name, want in expected.items():
        np.testing.assert_allclose(found[name], want, rtol=1e-9, atol=1e-12)
    first = RULES[rule](sharding).init(params())
    for leaf in jax.tree.leaves((state[0].stacks, first[0].stacks)):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
        held = {shard.data.shape[0] for shard in leaf.addressable_shards}
        assert held == {leaf.shape[0] // shards}


def test_blocks_of_all_tensors_share_a_stack(mesh):
    """What is padded is less than a block for each device and shape."""
    sharding = NamedSharding(mesh, SPECS[0])
    tx = scale_by_shampoo(block_size=6, merge_axes=True, sharding=sharding)
    state = tx.init(params())
    # 6 x 6 of the convolution (6 x 2 blocks), 5 x 6 of the dense (4 x 2), 6, and 1
    shapes = sorted(
        tuple(statistic.shape for statistic in stack.statistics)
        for stack in state.stacks
    )
    assert shapes == [
        ((8, 1, 1),),
        ((8, 5, 5), (8, 6, 6)),
        ((8, 6, 6),),
        ((16, 6, 6), (16, 6, 6)),
    ]


def test_each_root_is_computed_once(mesh, monkeypatch):
    """Decompositions counted as they run, on all devices together."""
    sizes = []
    plain = _inverse_root._eigh_alone

    def counting(matrix):
        jax.debug.callback(lambda m: sizes.append(m.shape[-1]), matrix)
        return plain(matrix)

    monkeypatch.setattr(_inverse_root, "_eigh_alone", counting)
    tx = scale_by_shampoo(
        block_size=6, merge_axes=True, sharding=NamedSharding(mesh, SPECS[0])
    )
    grads = jax.device_put(params(), NamedSharding(mesh, PartitionSpec()))
    jax.block_until_ready(jax.jit(tx.update)(grads, tx.init(grads)))
    jax.effects_barrier()
    assert sorted(sizes) == sorted([1] * 8 + [5] * 8 + [6] * (8 + 8 + 16 + 16))


def test_no_stack_is_whole_on_a_device(mesh):
    """The compiled program gathers preconditioned gradients, never a statistic."""
    tx = shampoo(
        0.1, block_size=6, precondition_every=2, sharding=NamedSharding(mesh, SPECS[0])
    )
    where = NamedSharding(mesh, PartitionSpec())
    grads = jax.device_put(params(), where)
    state = tx.init(grads)
    text = jax.jit(tx.update).lower(grads, state, grads).compile().as_text()
    gathered = re.findall(r"f64\[([\d,]*)\]\S* all-gather\(", text)
    # gradients as matrices and norms of blocks; statistics have three axes
    assert "96,6" in gathered
    assert max(shape.count(",") for shape in gathered) == 1
    assert "f64[16,6,6]" not in text


@pytest.mark.parametrize("spec", [PartitionSpec(), PartitionSpec(None, "data")])
def test_a_sharding_must_split_the_first_axis_alone(spec, mesh):
    with pytest.raises(ValueError, match="sharding must split the first axis alone"):
        scale_by_shampoo(sharding=NamedSharding(mesh, spec))
