"""Cutting tensors into blocks and stacking the blocks of several."""

import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia.second_order import _shampoo_blocks
from optax_ia.second_order._shampoo_blocks import Blocking, stacks_of

WHOLE = {
    "block_size": None,
    "max_dim": 100,
    "merge_axes": False,
    "diagonal_vectors": False,
}


@pytest.mark.parametrize(
    ("shape", "options", "counts", "sizes"),
    [
        ((), {}, (1,), (1,)),
        ((7,), {"block_size": 3}, (3,), (3,)),
        ((7, 6), {"block_size": 4}, (2, 2), (4, 3)),
        ((147, 64), {"block_size": 128, "max_dim": 999}, (2, 1), (74, 64)),
        ((3, 3, 8, 5), {"merge_axes": True}, (1, 1), (72, 5)),
        ((3, 3, 8, 5), {"merge_axes": True, "block_size": 12}, (6, 1), (12, 5)),
        ((30, 5), {"block_size": 4, "max_dim": 20}, (1, 2), (30, 3)),
        ((5, 2, 3), {"block_size": 2}, (3, 1, 2), (2, 2, 2)),
        ((7,), {"block_size": 3, "diagonal_vectors": True}, (1,), (7,)),
    ],
)
def test_cuts_are_few_and_even_and_joined_again(shape, options, counts, sizes):
    blocking = Blocking.of(shape, **{**WHOLE, **options})
    assert (blocking.counts, blocking.sizes) == (counts, sizes)
    tensor = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    blocks = blocking.cut(blocking.view(tensor))
    assert blocks.shape == (blocking.num_blocks, *sizes)
    found = blocking.unview(blocking.join(blocks), shape)
    np.testing.assert_array_equal(found, tensor)
    # padding is zero, and nothing is there twice
    np.testing.assert_allclose(jnp.sum(blocks**2), jnp.sum(tensor**2), rtol=1e-12)


def test_a_block_is_a_piece_of_the_tensor():
    tensor = jnp.arange(24.0).reshape(4, 6)
    blocks = Blocking.of((4, 6), **{**WHOLE, "block_size": 3}).cut(tensor)
    assert blocks.shape == (4, 2, 3)
    np.testing.assert_array_equal(blocks[3], tensor[2:, 3:])


def members(stacks):
    return [[member.number for member in stack.members] for stack in stacks]


def assert_gathered_and_scattered(stacks, shapes):
    rng = np.random.default_rng(0)
    leaves = [jnp.asarray(rng.normal(size=shape)) for shape in shapes]
    found = {}
    for stack in stacks:
        gathered = stack.gather(leaves, jnp.float32)
        assert gathered.shape == stack.blocking.padded
        assert gathered.dtype == jnp.float32
        blocks = stack.blocking.cut(gathered)
        assert blocks.shape == stack.shape
        found |= stack.scatter(gathered)
        squares = (blocks**2).sum(tuple(range(1, blocks.ndim)))
        for number, total in stack.totals(squares).items():
            np.testing.assert_allclose(total, (leaves[number] ** 2).sum(), rtol=1e-5)
    for number, tensor in found.items():
        np.testing.assert_allclose(tensor, leaves[number], rtol=1e-6)
    assert sorted(found) == [i for i, shape in enumerate(shapes) if 0 not in shape]


def test_small_tensors_share_a_stack_and_large_ones_have_their_own(monkeypatch):
    monkeypatch.setattr(_shampoo_blocks, "SMALL", 32)
    shapes = [(8, 4), (4, 4), (4,), (0, 4), (4, 7), (8, 4), ()]
    stacks = stacks_of(shapes, **{**WHOLE, "block_size": 4}, shards=None)
    assert members(stacks) == [[0], [1, 4], [2], [5], [6]]
    assert [stack.blocking.num_blocks for stack in stacks] == [2, 3, 1, 2, 1]
    assert_gathered_and_scattered(stacks, shapes)


def test_with_shards_all_share_and_stacks_are_padded(monkeypatch):
    monkeypatch.setattr(_shampoo_blocks, "SMALL", 0)
    shapes = [(8, 4), (4,), (4, 12), (4,)]
    stacks = stacks_of(shapes, **{**WHOLE, "block_size": 4}, shards=4)
    assert members(stacks) == [[0, 2], [1, 3]]
    assert [stack.blocking.num_blocks for stack in stacks] == [8, 4]
    assert_gathered_and_scattered(stacks, shapes)


def test_a_diagonal_axis_is_not_stacked_with_a_full_one():
    options = {**WHOLE, "block_size": 4, "max_dim": 6}
    (full, diagonal) = stacks_of([(4, 4), (7, 4)], **options, shards=1)
    assert full.statistic_shapes() == [(1, 4, 4), (1, 4, 4)]
    assert diagonal.statistic_shapes() == [(1, 7), (1, 4, 4)]
