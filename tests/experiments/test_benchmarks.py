"""The step benchmark on toy trees: what it measures, not how fast anything is."""

import csv
import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from experiments import benchmarks
from experiments.benchmarks import _entries, _measure, _report, _trees
from experiments.errors import ExperimentError
from optax_ia import registry

QUICK = ["--repeats", "2", "--compile-repeats", "1", "--block-seconds", "0.001"]


@pytest.fixture(scope="module", autouse=True)
def caches_stay():
    """As nobody asks how long compiling takes: emptying those of all tests is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "clear_caches", lambda: None)
        yield


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("tree", "leaves", "parameters"),
    [
        ("flat", 1, 25_000_000),
        ("resnet50", 161, 25_557_032),
        ("resnet110", 329, 1_727_962),
    ],
)
def test_trees_are_those_of_the_networks(tree, leaves, parameters):
    assert _trees.count(tree) == (leaves, parameters)


def test_a_built_tree_has_its_shapes():
    tree = _trees.build("toy", jax.random.key(0))
    shapes = [leaf.shape for leaf in jax.tree.leaves(tree)]
    assert shapes == _trees.TREES["toy"]()
    assert {leaf.dtype for leaf in tree.values()} == {jnp.dtype("float32")}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmarks") / "step"
    assert benchmarks.main(["step", "--trees", "toy", "--out", str(out), *QUICK]) == 0
    return read(out / "step.csv")


def test_every_entry_has_its_rows(table):
    names = {row["entry"] for row in table}
    assert set(optax_ia.list_optimizers()) - names == set(_entries.skipped(["*"]))
    assert {"optax.adamw", "optax.lookahead", "padam, amsgrad=False"} < names
    assert len({(row["entry"], row["phase"]) for row in table}) == len(table)


def test_rows_hold_times_ratios_memory_and_source(table):
    for row in table:
        for name in ("milliseconds", "ratio", "base_ratio", "compile_base_ratio"):
            low, mid, high = (float(row[name + end]) for end in ("_q1", "", "_q3"))
            assert 0 < low <= mid <= high
        assert float(row["gigabytes_per_second"]) > 0
        assert int(row["state_bytes"]) > 0
        assert row["temporary_bytes"] != ""
        assert row["device"]
        assert "optax" in row["versions"]
        assert row["parameters"] == "137"


def test_phases_do_what_they_are_called(table):
    seen = set()
    for row in table:
        seen.add(row["phase"])
        averaged, synced = row["num_averaged"], row["sync_count"]
        if row["phase"] == "collecting":
            assert int(averaged) > 0
        elif averaged:
            assert int(averaged) == 0
        if row["phase"] == "at sync":
            assert int(synced) > 0
        elif synced:
            assert int(synced) == 0
    assert seen == {
        *("", "collecting", "not collecting", "off sync", "at sync"),
        *("adaptive", "SGD", "nothing projected", "all projected"),
        *("between snapshots", "at a snapshot"),
    }


def test_least_traffic_in_words(table):
    words = {
        (row["entry"], row["phase"]): 7 * float(row["least_base_ratio"])
        for row in table
        if row["base"] == "optax.adamw"
    }
    close = {"abs": 0.1}  # counters weigh something on a toy
    assert words["optax.adamw", ""] == pytest.approx(7)
    assert words["sgd", ""] == pytest.approx(5, **close)
    assert words["padam", ""] == pytest.approx(9, **close)
    ratios = {
        (row["entry"], row["phase"]): float(row["least_base_ratio"]) for row in table
    }
    for entry in ("gadam", "adamw_ema", "gadam_auto"):
        assert ratios[entry, "not collecting"] == pytest.approx(1, **close)
        assert ratios[entry, "collecting"] == pytest.approx(10 / 7, **close)
    assert ratios["swa", "collecting"] == pytest.approx(8 / 5, **close)
    for phase, least in (("off sync", 1), ("at sync", 9 / 7), ("collecting", 10 / 7)):
        assert ratios["gadam_lookahead", phase] == pytest.approx(least, **close)
    assert ratios["lookahead_adamw", "off sync"] == pytest.approx(1, **close)


def test_state_is_donated():
    params = {"w": jnp.ones((256, 64))}
    entries = _entries.all_entries()
    programs = _measure.compile_all(list(entries.values()), params, rounds=1)
    size = _measure.tree_bytes(params)
    for name, program in programs.items():
        assert program.fresh_bytes is None or program.fresh_bytes < size / 10, name


def test_a_block_is_plain_training():
    entry = _entries.all_entries()["gadam"]
    params = {"w": jnp.linspace(-1, 1, 5)}
    grads = {"w": jnp.ones(5)}
    programs = _measure.compile_all([entry], params, rounds=1)
    run = _measure.Run(entry, entry.phases[1], programs["gadam"], params)
    assert run.block(grads, 3) > 0
    assert run.counts() == {"num_averaged": 3}
    tx = entry.make()
    state = optax_ia.start_averaging(tx.init(params))
    for _ in range(3):
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(run._params["w"], params["w"], rtol=1e-12)


def test_what_an_entry_needs_is_supplied_and_its_second_point_written():
    entry = _entries.all_entries()["sam_sgd"]
    params = {"w": jnp.linspace(-1, 1, 5)}
    grads = {"w": jnp.ones(5)}
    programs = _measure.compile_all([entry], params, rounds=1)
    run = _measure.Run(entry, entry.phases[0], programs["sam_sgd"], params)
    run.block(grads, 1)
    climbed = params["w"] + 0.05 * grads["w"] / jnp.linalg.norm(grads["w"])
    np.testing.assert_allclose(run._where["w"], climbed, rtol=1e-6)


def test_entries_that_need_what_cannot_be_supplied_are_listed(
    monkeypatch, tmp_path, capsys
):
    records = [registry.get_record(name) for name in ("adamw", "gadam")]
    hungry = dataclasses.replace(records[1], name="hungry", needs=("value", "factors"))
    by_name = {record.name: record for record in [*records, hungry]}
    monkeypatch.setattr(registry, "_BY_NAME", by_name)
    out = tmp_path / "out"
    arguments = ["--trees", "toy", "--entries", "hungry", "adamw", "--out", str(out)]
    assert benchmarks.main(["step", *arguments, *QUICK]) == 0
    assert "skipped hungry: needs factors" in capsys.readouterr().out
    assert {row["entry"] for row in read(out / "step.csv")} == {"adamw"}


def row(**changes):
    spread = _report.Spread(1.0, 0.9, 1.1)
    plain = _report.Row(
        tree="flat",
        leaves=1,
        parameters=1,
        entry="padam",
        phase="",
        base="optax.adamw",
        milliseconds=spread,
        ratio=spread,
        base_ratio=spread,
        least_base_ratio=9 / 7,
        gigabytes_per_second=1.0,
        state_bytes=1,
        state_ratio=1.0,
        temporary_bytes=None,
        fresh_bytes=None,
        compile_seconds=spread,
        compile_ratio=spread,
        compile_base_ratio=spread,
        time_bar=1.4,
        num_averaged=None,
        sync_count=None,
    )
    return dataclasses.replace(plain, **changes)


def test_bars_pass_and_miss_on_their_trees():
    slow = _report.Spread(1.5, 1.4, 1.6)
    rows = [
        row(),
        row(tree="resnet50", base_ratio=slow, compile_base_ratio=slow),
        row(tree="resnet110", base_ratio=slow),
        row(entry="optax.lookahead", time_bar=None, compile_base_ratio=slow),
    ]
    found = [(v.tree, v.quantity, v.bar, v.passed) for v in _report.verdicts(rows)]
    assert found == [
        ("flat", "time", 1.4, True),
        ("flat", "compile time", 1.3, True),
        ("resnet50", "time", 1.4, False),
        ("resnet50", "compile time", 1.3, False),
    ]


def test_bars_are_those_asked_for():
    entries = _entries.all_entries()
    assert entries["padam"].time_bars == {"": 1.40}
    assert entries["padam, amsgrad=False"].time_bars == {"": 1.10}
    assert entries["gadamx"].time_bars == {"not collecting": 1.07, "collecting": 1.35}
    assert entries["lookahead_adamw"].time_bars == {"off sync": 1.10}
    assert entries["gadamx"].base == "padamw"
    assert entries["swats"].time_bars == {"adaptive": 1.30, "SGD": 1.30}
    assert entries["adam_clip"].time_bars == entries["adabound"].time_bars == {"": 1.30}
    assert set(entries["adamp"].time_bars.values()) == {1.80}
    assert entries["ranger"].time_bars == {"off sync": 1.25}
    assert entries["ranger"].base == "radam"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["steps"], "unknown command 'steps'; choose one of: step, epoch"),
        (["step", "--entries", "nope"], "no entry matches 'nope'.*'gadamx'"),
        (["step", "--repeats", "0"], "repeats must be >= 1, got 0"),
        (["step", "--block-seconds", "0"], "block-seconds must be > 0"),
        (["step", "--trees", "oak"], "resnet110"),
    ],
)
def test_wrong_arguments_name_the_choices(arguments, message):
    with pytest.raises(ExperimentError, match=message):
        benchmarks.main(arguments)


def test_module_reports_errors_on_one_line():
    command = [sys.executable, "-m", "experiments.benchmarks", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    choices = ", ".join(benchmarks.COMMANDS)
    assert (
        done.stderr == f"error: unknown command 'nothing'; choose one of: {choices}\n"
    )
