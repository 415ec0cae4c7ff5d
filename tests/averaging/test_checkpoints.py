"""Averages of checkpoint files: formats, precision, and what is refused."""

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import optax_ia
from experiments.__main__ import main
from optax_ia.averaging._checkpoint_files import safetensors_bytes


def checkpoint(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return {
        "dense/kernel": rng.normal(size=(3, 2)).astype(dtype),
        "dense/bias": rng.normal(size=2).astype(dtype),
        "step": np.array(10 * seed, np.int64),
    }


def save(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        path.write_bytes(safetensors_bytes(arrays))
    else:
        layer = {n.split("/")[1]: a for n, a in arrays.items() if "/" in n}
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, {"dense": layer, "step": arrays["step"]})
    return path


NINE = {"w": np.ones(9)}
SUFFIXES = [".npz", ".safetensors", ""]


@pytest.mark.parametrize("suffixes", [*([s] * 3 for s in SUFFIXES), SUFFIXES])
@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 3.0]])
def test_the_mean_of_every_format_and_of_all(tmp_path, suffixes, weights):
    trees = [checkpoint(seed) for seed in (1, 2, 3)]
    paths = [
        save(tmp_path / f"{i}{suffix}", tree)
        for i, (suffix, tree) in enumerate(zip(suffixes, trees, strict=True))
    ]
    average = optax_ia.average_checkpoints(paths, weights=weights)
    assert set(average) == set(trees[0])
    for name in ("dense/kernel", "dense/bias"):
        expected = np.average(
            np.stack([np.float64(tree[name]) for tree in trees]),
            axis=0,
            weights=weights,
        ).astype(np.float32)
        np.testing.assert_array_equal(average[name], expected)
        assert average[name].dtype == np.float32
    assert average["step"] == 30
    assert average["step"].dtype == np.int64


def test_bfloat16_is_kept_and_summed_in_float64(tmp_path):
    """In bfloat16 a sum of ones stops at 256."""
    one = np.ones(2, jnp.bfloat16)
    path = save(tmp_path / "one.safetensors", {"w": one})
    last = save(tmp_path / "last.safetensors", {"w": 301 * one})
    average = optax_ia.average_checkpoints([path] * 299 + [last])
    assert average["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(average["w"], 2 * one)


def test_what_does_not_fit_is_refused_by_name(tmp_path):
    first = save(tmp_path / "a.npz", checkpoint(1))
    cases = {
        "shape": (
            {**checkpoint(2), "dense/bias": np.zeros(3, np.float32)},
            "dense/bias",
        ),
        "dtype": (checkpoint(2, np.float64), r"float64 .*float32"),
        "missing": ({"step": np.array(1)}, r"missing.npz has no array 'dense/bias'"),
        "more": ({**checkpoint(2), "extra": np.ones(1)}, r"a.npz has no array 'extra'"),
    }
    for name, (arrays, message) in cases.items():
        other = save(tmp_path / f"{name}.npz", arrays)
        with pytest.raises(ValueError, match=message):
            optax_ia.average_checkpoints([first, other])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"xx"), "no safetensors file"),
        (
            lambda path: path.write_bytes(safetensors_bytes({"w": np.ones(9)})[:-8]),
            "cut",
        ),
    ],
)
def test_damaged_files_are_named(tmp_path, write, message):
    path = tmp_path / "w.safetensors"
    write(path)
    with pytest.raises(ValueError, match=f"(?s){path}.*{message}|{message}"):
        optax_ia.average_checkpoints([path])


def test_wrong_calls(tmp_path):
    path = save(tmp_path / "a.npz", checkpoint(1))
    with pytest.raises(TypeError, match="paths must be a list"):
        optax_ia.average_checkpoints(str(path))
    with pytest.raises(ValueError, match="at least one"):
        optax_ia.average_checkpoints([])
    with pytest.raises(FileNotFoundError, match=r"b\.npz"):
        optax_ia.average_checkpoints([path, tmp_path / "b.npz"])
    for weights in ([1.0, 2.0], [-1.0], [0.0], [np.nan]):
        with pytest.raises(ValueError, match="weights"):
            optax_ia.average_checkpoints([path], weights=weights)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no Orbax checkpoint"):
        optax_ia.average_checkpoints([tmp_path / "empty"])
    (tmp_path / "w.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"w\.pt.*\.npz or \.safetensors"):
        optax_ia.average_checkpoints([tmp_path / "w.pt"])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_command_writes_a_file_that_can_be_averaged_again(tmp_path, suffix, capsys):
    paths = [save(tmp_path / f"{i}.safetensors", checkpoint(i)) for i in (1, 2)]
    out = tmp_path / f"mean{suffix}"
    assert main(["average_checkpoints", *map(str, paths), "--out", str(out)]) == 0
    assert "3 arrays, the mean of 2 checkpoints" in capsys.readouterr().out
    expected = optax_ia.average_checkpoints(paths)
    for name, array in optax_ia.average_checkpoints([out]).items():
        np.testing.assert_array_equal(array, expected[name])
    assert sorted(tmp_path.iterdir()) == sorted([*paths, out])


def test_the_command_leaves_what_is_there_on_an_error(tmp_path, capsys):
    path = save(tmp_path / "w.safetensors", {"w": np.ones(2, jnp.bfloat16)})
    out = tmp_path / "mean.npz"
    out.write_bytes(b"before")
    call = ["average_checkpoints", str(path), "--out"]
    for name, message in (
        ("mean.npz", "write a .safetensors"),
        ("x.txt", "must end in"),
    ):
        assert main([*call, str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err
    assert main([*call[:1], str(tmp_path / "no.npz"), "--out", str(out)]) == 2
    assert "no checkpoint" in capsys.readouterr().err
    assert out.read_bytes() == b"before"
