"""What Shampoo compiles to: no batched LAPACK call, and no program that hangs."""

import itertools
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_ia.second_order._shampoo import scale_by_shampoo, shampoo

SHAPES = [(40, 24), (33, 17), (3, 3, 8, 12), (17,)]


def params():
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in SHAPES]


def lapack_shapes(function, *arguments):
    """The shapes of all results of LAPACK calls in a program, which XLA keeps."""
    text = jax.jit(function).lower(*arguments).as_text()
    lines = [line for line in text.splitlines() if "custom_call @lapack" in line]
    assert lines
    return [
        tuple(map(int, dims.removesuffix("x").split("x")))
        for line in lines
        for dims in re.findall(r"tensor<([\dx]+)f32>", line.rpartition("->")[2])
    ]


RULES = {
    "whole": scale_by_shampoo(),
    "blocks": scale_by_shampoo(block_size=8),
    "alias": shampoo(precondition_every=2),
    "two of them": optax.partition(
        {"a": shampoo(block_size=8), "b": shampoo(block_size=16)},
        ["a", "b"] * (len(SHAPES) // 2),
    ),
}
# every rule is tried, one of them either way
SLOW = [("whole", False), ("alias", False), ("two of them", True)]


@pytest.mark.parametrize(
    ("rule", "batched"),
    [
        pytest.param(
            *case,
            id=f"{case[0]}-{'vmap' if case[1] else 'plain'}",
            marks=[pytest.mark.slow] if case in SLOW else [],
        )
        for case in itertools.product(RULES, (False, True))
    ],
)
def test_matrices_are_decomposed_one_by_one(rule, batched):
    tx = RULES[rule]
    grads = params()
    state, update = tx.init(grads), tx.update
    if batched:
        grads, state = jax.tree.map(lambda x: jnp.stack([x, x]), (grads, state))
        update = jax.vmap(update)
    shapes = lapack_shapes(update, grads, state, grads)
    assert any(len(shape) > 1 for shape in shapes)
    for shape in shapes:
        # LAPACK's results are (n, n) or (n,); a leading one is a stack of one
        assert np.prod(shape[:-2], initial=1) == 1, shape


HANGING = """
import sys
import jax, jax.numpy as jnp, numpy as np, optax
from optax_ia.second_order._shampoo import scale_by_shampoo

shapes = [(200, 96), (3, 3, 32, 48), (64, 40), (70, 130), (300,)]
rng = np.random.default_rng(0)
params = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]
tx = optax.chain(
    scale_by_shampoo(decay=0.9, block_size=64, grafting="sgd"), optax.scale(-0.01)
)

@jax.jit
def step(params, state, t):
    grads = jax.tree.map(lambda w: jnp.sin(w + t), params)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

state = tx.init(params)
for t in range(int(sys.argv[1])):
    params, state = step(params, state, t)
jax.block_until_ready(params)
if sys.argv[2] == "vmap":
    many = jax.tree.map(lambda x: jnp.stack([x, x]), (params, state))
    many = jax.jit(jax.vmap(step, (0, 0, None)))(*many, 0)
    jax.block_until_ready(many)
print(bool(all(jnp.isfinite(w).all() for w in params)))
"""


def finishes(steps, then=""):
    """Runs mixed sizes in a process of its own; hanging is a failure."""
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(steps), then],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "True\n", done.stderr


def test_blocks_of_many_sizes_do_not_hang():
    finishes(20)


@pytest.mark.slow  # twenty processes
def test_blocks_of_many_sizes_do_not_hang_twenty_times():
    for _ in range(20):
        finishes(10, "vmap")
