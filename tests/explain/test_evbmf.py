"""EVBMF against a brute-force transcription, on planted ranks, and at its edges."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_ia import explain
from tests.reference import evbmf as reference

SHAPES = {(25, 25): 40, (60, 20): 60, (7, 64): 40, (32, 90): 60}
"""Shapes to the numbers of matrices of each, 200 in all."""


def first_are_fast(number, values):
    """All values, those after the first few for runs by hand: each is a program."""
    return [
        pytest.param(value, marks=[pytest.mark.slow] if i >= number else [])
        for i, value in enumerate(values)
    ]


def random_matrix(rng, shape, kind):
    """Low rank and noise: few or many values, close or far apart, even or not."""
    rank = int(rng.integers(0, min(shape) // 2 + 1))
    left = rng.normal(size=(shape[0], rank)) * np.exp(rng.normal(size=rank))
    signal = left @ rng.normal(size=(rank, shape[1])) / np.sqrt(max(rank, 1))
    noise = 10 ** rng.uniform(-2.5, 0.5) * rng.normal(size=shape)
    if kind == 1:
        noise = noise * np.exp(0.5 * rng.normal(size=(1, shape[1])))
    if kind == 2:
        signal = signal * np.exp(rng.normal(size=(shape[0], 1)))
    return signal + noise


@functools.cache
def matrices(shape):
    rng = np.random.default_rng(sum(shape))
    return np.stack([random_matrix(rng, shape, i % 3) for i in range(SHAPES[shape])])


@pytest.mark.parametrize("shape", first_are_fast(2, SHAPES), ids=str)
def test_two_hundred_matrices_agree_with_brute_force(shape):
    batch = matrices(shape)
    expected = [reference.evbmf(matrix) for matrix in batch]
    assert len({len(d) for d, _ in expected}) > 3  # all kinds of ranks
    found = explain.evbmf(batch, method="svd")
    assert found.rank.dtype == jnp.int32
    assert found.singular_values.shape == (len(batch), min(shape))
    for i, (d, sigma2) in enumerate(expected):
        assert found.rank[i] == len(d)
        got = np.asarray(found.singular_values[i])
        np.testing.assert_allclose(got[: len(d)], d, rtol=1e-8)
        assert not got[len(d) :].any()
        np.testing.assert_allclose(found.sigma2[i], sigma2, rtol=1e-7)


@pytest.mark.parametrize("shape", first_are_fast(1, [(25, 25), (60, 20)]), ids=str)
def test_the_gram_matrix_gives_the_same(shape):
    """To 1e-8 in float64; in float32 as its eigenvalues are known."""
    batch = matrices(shape)
    by_svd = explain.evbmf(batch, method="svd")
    by_gram = explain.evbmf(batch)
    np.testing.assert_array_equal(by_gram.rank, by_svd.rank)
    largest = np.linalg.norm(batch, 2, axis=(1, 2))[:, None]
    error = np.abs(by_gram.singular_values - by_svd.singular_values) / largest
    assert error.max() <= 1e-8
    np.testing.assert_allclose(by_gram.sigma2, by_svd.sigma2, rtol=1e-8)
    narrow = explain.evbmf(batch.astype(np.float32))
    assert narrow.singular_values.dtype == jnp.float32
    assert (narrow.rank != by_svd.rank).mean() <= 0.02
    error = np.abs(narrow.singular_values - by_svd.singular_values) / largest
    same = narrow.rank == by_svd.rank
    assert error[same].max() <= 1e-4


@pytest.mark.parametrize("rank", [0, 1, 3, 8])
def test_a_planted_rank_is_recovered(rank):
    rng = np.random.default_rng(rank)
    left = np.linalg.qr(rng.normal(size=(40, 40)))[0][:, :rank]
    right = np.linalg.qr(rng.normal(size=(60, 60)))[0][:, :rank]
    planted = left * np.linspace(20, 40, rank) @ right.T
    matrix = planted + 0.5 * rng.normal(size=(40, 60))
    found = explain.evbmf(matrix, compute_uv=True)
    assert found.rank == rank
    np.testing.assert_allclose(found.sigma2, 0.25, rtol=0.1)
    kept = (found.u * found.singular_values[None]) @ found.v.T
    # no more of the noise is left than lies in the planted spaces
    share = np.sqrt(rank * (40 + 60 - rank) / (40 * 60))
    error = np.linalg.norm(kept - planted)
    assert error <= 1.2 * share * np.linalg.norm(matrix - planted)


@pytest.mark.parametrize("method", first_are_fast(1, ["gram", "svd"]))
def test_singular_vectors(method):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 40))
    matrix += 0.1 * rng.normal(size=(60, 40))
    tall = explain.evbmf(matrix, compute_uv=True, method=method)
    wide = explain.evbmf(matrix.T, compute_uv=True, method=method)
    assert (tall.u.shape, tall.v.shape) == ((60, 40), (40, 40))
    assert (wide.u.shape, wide.v.shape) == ((40, 40), (60, 40))
    assert int(tall.rank) == 3
    for vectors in (tall.u, tall.v, wide.u, wide.v):
        gram = np.asarray(vectors.T @ vectors)
        np.testing.assert_allclose(gram, np.diag([1.0] * 3 + [0.0] * 37), atol=1e-12)
    low = (tall.u * tall.singular_values[None]) @ tall.v.T
    assert np.linalg.norm(low - matrix, 2) < 3
    np.testing.assert_allclose(
        low, ((wide.u * wide.singular_values[None]) @ wide.v.T).T, atol=1e-12
    )
    np.testing.assert_array_equal(explain.evbmf(matrix, method=method).rank, tall.rank)


@pytest.mark.parametrize("method", first_are_fast(1, ["gram", "svd"]))
def test_edges(method):
    """All of one shape, so that they are one program; then rows and columns."""
    rng = np.random.default_rng(1)
    one = np.outer(rng.normal(size=6), rng.normal(size=9))
    noise = rng.normal(size=(6, 9))
    gap = noise.copy()
    gap[2, 3] = np.nan
    endless = noise.copy()
    endless[0, 0] = np.inf
    stack = np.stack([0 * noise, one, noise, gap, endless, 1e-100 * one])
    found = explain.evbmf(stack, method=method)
    np.testing.assert_array_equal(found.rank, [0, 1, 0, 0, 0, 1])
    assert found.sigma2[0] == 0
    assert not found.singular_values[0].any()
    np.testing.assert_allclose(
        found.singular_values[1, 0], np.linalg.norm(one), rtol=1e-6
    )
    np.testing.assert_allclose(found.sigma2[2], np.mean(noise**2), rtol=0.2)
    assert np.isnan(found.singular_values[3:5]).all()
    assert np.isnan(found.sigma2[3:5]).all()
    row = explain.evbmf(noise[:1], method=method)
    column = explain.evbmf(noise[:1].T, method=method)
    for single in (row, column):
        assert single.rank == 0
        assert single.singular_values.shape == (1,)
        np.testing.assert_allclose(single.sigma2, np.mean(noise[0] ** 2), rtol=1e-12)


def test_known_noise_and_batches():
    batch = matrices((25, 25))[:6].reshape(2, 3, 25, 25)
    sigma2 = np.geomspace(1e-2, 10, 6).reshape(2, 3)
    found = explain.evbmf(batch, sigma2, method="svd")
    assert found.rank.shape == found.sigma2.shape == (2, 3)
    np.testing.assert_allclose(found.sigma2, sigma2, rtol=1e-15)
    for index in np.ndindex(2, 3):
        d, _ = reference.evbmf(batch[index], sigma2[index])
        assert found.rank[index] == len(d)
        np.testing.assert_allclose(
            found.singular_values[index][: len(d)], d, rtol=1e-10
        )
    everything = explain.evbmf(batch, 0.0, method="svd")
    assert (everything.rank == 25).all()
    nothing = explain.evbmf(batch, 1e9, method="svd")
    assert not nothing.rank.any()
    mapped = jax.vmap(jax.vmap(lambda m, s: explain.evbmf(m, s, method="svd")))(
        batch, sigma2
    )
    np.testing.assert_array_equal(mapped.singular_values, found.singular_values)


def test_narrow_types_and_empty_matrices():
    batch = matrices((25, 25))
    narrow = explain.evbmf(jnp.asarray(batch, jnp.bfloat16))
    assert narrow.singular_values.dtype == narrow.sigma2.dtype == jnp.float32
    empty = explain.evbmf(np.zeros((4, 3, 0)), compute_uv=True)
    assert empty.rank.shape == (4,)
    assert empty.singular_values.shape == (4, 0)
    assert (empty.u.shape, empty.v.shape) == ((4, 3, 0), (4, 0, 0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"matrix": np.ones(3)}, "two axes or more"),
        ({"matrix": np.ones((2, 2)) * 1j}, "must be real"),
        ({"matrix": np.ones((2, 2)), "sigma2": -1.0}, "sigma2 must be >= 0, got -1.0"),
        ({"matrix": np.ones((2, 2)), "method": "qr"}, "method must be one of 'gram'"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        explain.evbmf(**arguments)


HANGING = """
import jax, jax.numpy as jnp
from optax_ia import explain

keys = jax.random.split(jax.random.key(0), 12)
shapes = [(3, 3, 16, 64), (3, 3, 64, 64), (64, 200), (1, 1, 96, 130), (5, 32, 48)] * 2
params = {str(i): jax.random.normal(k, s) for i, (k, s) in enumerate(zip(keys, shapes))}
batches = [jax.random.normal(k, (16, 48, 48 + 16 * i)) for i, k in enumerate(keys[:4])]

@jax.jit
def program(params, batches):
    quality = explain.network_quality(params)
    return quality, [explain.evbmf(batch).rank for batch in batches]

for _ in range(10):
    jax.block_until_ready(program(params, batches))
print("done")
"""


@pytest.mark.slow  # a process of its own, which compiles a large program
def test_many_matrices_in_one_program_do_not_hang():
    done = subprocess.run(
        [sys.executable, "-c", HANGING],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
