"""Directions: their norms, what they leave out, and principal components."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_ia
from optax_ia import curvature, landscape

KEY = jax.random.key(3)


def make_params(dtype=jnp.float64):
    rng = np.random.default_rng(0)
    return {
        "conv": {
            "kernel": jnp.asarray(rng.normal(size=(3, 3, 2, 5)), dtype),
            "bias": jnp.asarray(rng.normal(size=5), dtype),
        },
        "norm": {"scale": jnp.ones(5, dtype), "bias": jnp.zeros(5, dtype)},
        "dense": {"kernel": jnp.asarray(rng.normal(size=(5, 4)), dtype)},
        "temperature": jnp.asarray(-2.0, dtype),
    }


def kernels(tree):
    return tree["conv"]["kernel"], tree["dense"]["kernel"]


def total_norm(leaves):
    return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in leaves))


def test_filter_norms_are_those_of_the_output_channels():
    params = make_params()
    for direction in landscape.directions(params, key=KEY, num=3):
        for d, w in zip(kernels(direction), kernels(params), strict=True):
            for channel in range(w.shape[-1]):  # the last axis, one by one
                np.testing.assert_allclose(
                    np.linalg.norm(d[..., channel]),
                    np.linalg.norm(w[..., channel]),
                    rtol=1e-12,
                )
        for leaf in (*direction["norm"].values(), direction["conv"]["bias"]):
            np.testing.assert_array_equal(leaf, 0)
        assert direction["temperature"] == 0


def test_entries_of_a_bias_are_channels_where_they_are_kept():
    params = make_params()
    (direction,) = landscape.directions(params, key=KEY, num=1, ignore=None)
    np.testing.assert_allclose(
        jnp.abs(direction["conv"]["bias"]), jnp.abs(params["conv"]["bias"]), rtol=1e-12
    )
    np.testing.assert_array_equal(direction["norm"]["bias"], 0)  # as the weights
    assert abs(direction["temperature"]) == pytest.approx(2.0)


@pytest.mark.parametrize("ignore", ["vectors", None])
def test_layer_norms(ignore):
    params = make_params()
    (direction,) = landscape.directions(
        params, kind="layer", key=KEY, num=1, ignore=ignore
    )
    for d, w in zip(jax.tree.leaves(direction), jax.tree.leaves(params), strict=True):
        expected = 0 if ignore and w.ndim < 2 else np.linalg.norm(w)
        np.testing.assert_allclose(np.linalg.norm(d), expected, rtol=1e-12)


def test_a_random_direction_is_gaussian_with_the_norm_of_the_weights():
    params = make_params() | {"dense": {"kernel": jnp.ones((100, 200))}}
    first, second = landscape.directions(params, kind="random", key=KEY)
    for direction in (first, second):
        expected = total_norm(kernels(params))
        np.testing.assert_allclose(total_norm(kernels(direction)), expected, rtol=1e-12)
    flat = np.ravel(first["dense"]["kernel"])
    assert np.mean((flat / flat.std()) ** 4) == pytest.approx(3, abs=0.2)
    cosine = flat @ np.ravel(second["dense"]["kernel"]) / np.sum(flat**2)
    assert abs(cosine) < 5 / flat.size**0.5


def test_what_to_leave_out_by_path_or_tree():
    params = make_params()
    mask = optax_ia.path_mask(r"^(conv|norm)/")
    by_path = landscape.directions(params, key=KEY, ignore=mask)
    by_tree = landscape.directions(params, key=KEY, ignore=mask(params))
    jax.tree.map(np.testing.assert_array_equal, by_path, by_tree)
    np.testing.assert_array_equal(by_path[0]["conv"]["kernel"], 0)
    assert abs(by_path[0]["temperature"]) == pytest.approx(2.0)
    assert np.linalg.norm(by_path[0]["dense"]["kernel"]) > 0


def test_the_key_decides():
    params = make_params()
    first, second = landscape.directions(params, key=KEY)
    again = landscape.directions(params, key=KEY)
    jax.tree.map(np.testing.assert_array_equal, [first, second], again)
    assert not np.allclose(first["dense"]["kernel"], second["dense"]["kernel"])
    other = landscape.directions(params, key=jax.random.key(4))
    assert not np.allclose(first["dense"]["kernel"], other[0]["dense"]["kernel"])


@pytest.mark.parametrize("kind", ["random", "filter", "layer"])
def test_dtypes_and_zero_weights(kind):
    params = make_params(jnp.bfloat16) | {"empty": jnp.zeros((2, 3), jnp.float32)}
    (direction,) = landscape.directions(params, kind=kind, key=KEY, num=1)
    assert jax.tree.map(jnp.result_type, direction) == jax.tree.map(
        jnp.result_type, params
    )
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(direction))
    if kind != "random":
        np.testing.assert_array_equal(direction["empty"], 0)


def test_between_solutions():
    a, b, c = (make_params(), *landscape.directions(make_params(), key=KEY))
    first, second = landscape.between(a, b, c)
    for direction, end in ((first, b), (second, c)):
        jax.tree.map(
            lambda w, d, e: np.testing.assert_allclose(w + d, e, atol=1e-14),
            a,
            direction,
            end,
        )
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), a)
    assert landscape.between(half, half)[0]["dense"]["kernel"].dtype == jnp.float32


def test_eigenvectors_are_unit_vectors_of_the_sharpest_curvature():
    stretch = {"a": jnp.array([1.0, 50.0]), "b": jnp.array([[-20.0], [3.0]])}
    found = curvature.top_eigenpairs(
        lambda v: jax.tree.map(jnp.multiply, stretch, v), stretch, 3, key=KEY
    )
    first, second = landscape.from_eigenvectors(found)
    np.testing.assert_allclose(jnp.abs(first["a"]), [0, 1], atol=1e-9)
    np.testing.assert_allclose(jnp.abs(second["b"]), [[1], [0]], atol=1e-9)
    assert len(landscape.from_eigenvectors(found, 3)) == 3
    with pytest.raises(ValueError, match="num must be <= 3"):
        landscape.from_eigenvectors(found, 4)


def trajectory(count=7):
    rng = np.random.default_rng(5)
    return [
        {
            "k": jnp.asarray(rng.normal(size=(4, 3))),
            "b": jnp.asarray(rng.normal(size=3)),
        }
        for _ in range(count)
    ]


def test_principal_components_against_numpy():
    iterates = trajectory()
    flat = np.stack(
        [np.concatenate([np.ravel(leaf) for leaf in w.values()]) for w in iterates]
    )
    centred = flat - flat.mean(axis=0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    found = landscape.from_trajectory(iterates, 3)
    np.testing.assert_allclose(
        found.explained_variance, (singular**2 / np.sum(singular**2))[:3], rtol=1e-12
    )
    directions = np.stack(
        [np.concatenate([np.ravel(d["k"]), d["b"]]) for d in found.directions]
    )
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.abs(directions @ rows[:3].T), np.eye(3), atol=1e-9)
    expected = (flat - flat[-1]) @ directions.T
    np.testing.assert_allclose(found.coordinates, expected, atol=1e-12)
    np.testing.assert_array_equal(found.coordinates[-1], 0)
    assert (np.asarray(found.coordinates[0]) >= 0).all()


def test_all_components_give_the_trajectory_back():
    iterates = trajectory(4)
    found = landscape.from_trajectory(iterates, 3)
    for coordinates, iterate in zip(found.coordinates, iterates, strict=True):
        moved = iterates[-1]
        for a, d in zip(coordinates, found.directions, strict=True):
            moved = jax.tree.map(lambda w, v, a=a: w + a * v, moved, d)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, atol=1e-12), moved, iterate
        )


def diverged():
    return jax.tree.map(lambda w: w * jnp.nan, trajectory(1)[0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: landscape.directions(make_params(), kind="x", key=KEY), ValueError,
         "kind must be one of"),
        (lambda: landscape.directions(make_params(), key=KEY, num=0), ValueError,
         "num must be >= 1"),
        (lambda: landscape.directions(make_params(), key=KEY, ignore="bias"),
         ValueError, "ignore must be one of"),
        (lambda: landscape.directions(make_params(), key=KEY, ignore={"a": True}),
         ValueError, "ignore must be a tree of bools"),
        (lambda: landscape.directions({"n": jnp.arange(3)}, key=KEY), TypeError,
         "n of int"),
        (lambda: landscape.between(jnp.ones(2)), ValueError, "at least two solutions"),
        (lambda: landscape.between({"a": jnp.ones(2)}, {"b": jnp.ones(2)}), ValueError,
         "end 1 must be a tree like start"),
        (lambda: landscape.between({"a": jnp.ones(2)}, {"a": jnp.ones(3)}), ValueError,
         r"a must have shape \(2,\)"),
        (lambda: landscape.from_trajectory(trajectory(2)), ValueError,
         "at least 3 iterates, got 2"),
        (lambda: landscape.from_trajectory([*trajectory(3), diverged()]), ValueError,
         "iterate 3 must be finite"),
        (lambda: landscape.from_trajectory([a * jnp.ones(4) for a in (0.0, 1.0, 3.0)]),
         ValueError, "span 1 dimensions"),
    ],
)  # fmt: skip
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
