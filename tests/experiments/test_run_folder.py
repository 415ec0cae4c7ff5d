"""Run folders: never overwritten, resumed only as they were made."""

import dataclasses
import errno
import json
import os
from pathlib import Path

import pytest

from experiments.configs.p0.digits import CompareConfig
from experiments.errors import ExperimentError
from experiments.files import read_json_lines, write_atomically
from experiments.run_folder import RESULT_COLUMNS, RunFolder

CONFIG = CompareConfig(seeds=(0,))


def prepare(path, config=CONFIG, *, resume=False, command="compare"):
    return RunFolder.prepare(path, command, config, resume=resume)


def test_a_folder_holds_what_was_asked_for(tmp_path):
    folder = prepare(tmp_path / "a" / "b")
    description = json.loads((folder.path / "config.json").read_text())
    assert description["command"] == "compare"
    assert description["config"]["seeds"] == [0]
    assert description["versions"]["jax"]
    assert description["commit"]
    assert RunFolder.open(folder.path).config == folder.config


def test_a_folder_in_use_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(
        ExperimentError, match="is not empty; go on with it by --resume"
    ):
        prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_resuming_needs_the_same_command_and_configuration(tmp_path):
    prepare(tmp_path / "run")
    assert prepare(tmp_path / "run", resume=True).config["seeds"] == [0]
    other = dataclasses.replace(CONFIG, epochs=7)
    with pytest.raises(ExperimentError, match="was made with epochs = 40, not 7"):
        prepare(tmp_path / "run", other, resume=True)
    with pytest.raises(ExperimentError, match="was made by compare, not by train"):
        prepare(tmp_path / "run", resume=True, command="train")


def test_the_newest_folder_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExperimentError, match="nothing to resume under runs/compare"):
        prepare(None, resume=True)
    made = prepare(None)
    assert prepare(None, resume=True).path == made.path
    older = made.path.with_name("20200101-000000")
    prepare(older)
    assert prepare(None, resume=True).path == made.path


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match=r"cannot write to .*; choose another"):
        prepare(tmp_path / "file" / "run")


def test_rows_survive_a_torn_line_and_are_dropped_together(tmp_path):
    folder = prepare(tmp_path / "run")
    for step in (5, 10, 15):
        folder.log({"step": step})
    path = folder.path / "metrics.jsonl"
    with open(path, "a") as file:
        file.write('{"step": 2')
    assert [row["step"] for row in folder.rows()] == [5, 10, 15]
    folder.keep_rows(lambda row: row["step"] <= 10)
    assert path.read_text() == '{"step": 5}\n{"step": 10}\n'
    assert read_json_lines(tmp_path / "none") == []


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    target = tmp_path / "file"
    write_atomically(target, "old")

    def fail(*_):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr("os.replace", fail)
    message = rf"cannot write {target} \(disk quota exceeded\); .* is unharmed"
    with pytest.raises(ExperimentError, match=message):
        write_atomically(target, b"new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(ExperimentError, match=r"directory\); the folder is not there"):
        write_atomically(tmp_path / "gone" / "file", "new")


@pytest.mark.parametrize("damaged", [b'{"step": 1', b"\xff\xfe", b"\0\0", b"7"])
def test_a_damaged_line_among_rows_is_named(tmp_path, damaged):
    folder = prepare(tmp_path / "run")
    path = folder.path / "metrics.jsonl"
    path.write_bytes(b'{"step": 5}\n' + damaged + b'\n{"step": 15}\n')
    before = path.read_bytes()
    for read in (folder.rows, lambda: folder.keep_rows(bool)):
        with pytest.raises(ExperimentError, match=rf"line 2 of {path} is damaged"):
            read()
    assert path.read_bytes() == before


def result(seed):
    row = dict.fromkeys(RESULT_COLUMNS)
    return row | {"optimizer": "sgd", "seed": seed, "config": '{"a": "b, c"}'}


def test_a_table_of_results_that_is_not_whole_is_no_table(tmp_path):
    folder = prepare(tmp_path / "run")
    for seed in (0, 1):
        folder.add_result(result(seed))
    path = folder.path / "results.csv"
    whole = path.read_bytes()
    assert [row["seed"] for row in folder.results()] == [0, 1]
    torn = [whole[:cut] for cut in range(0, len(whole), 7)]
    torn = [text for text in torn if text.count(b"\n") < 2 or text[-1:] != b"\n"]
    assert len(torn) > 50
    for text in [*torn, whole.replace(b",,", b",", 1), whole + b"\xff\n"]:
        path.write_bytes(text)
        for read in (folder.results, lambda: folder.add_result(result(2))):
            with pytest.raises(ExperimentError, match=rf"^{path} is damaged, .*$"):
                read()
        assert path.read_bytes() == text
    path.write_bytes(whole + b"\n")  # an editor's
    assert [row["seed"] for row in folder.results()] == [0, 1]


def test_a_folder_that_went_away_in_mid_run_is_said_to_have(tmp_path):
    folder = prepare(tmp_path / "run")
    folder.path.rename(tmp_path / "elsewhere")
    folder.path.mkdir()  # as what writes checkpoints would
    for write in (folder.log, folder.add_result):
        with pytest.raises(ExperimentError, match="run was removed or moved during"):
            write(result(0))
    assert list(folder.path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path):
    folder = prepare(tmp_path / "run")
    (folder.path / "metrics.jsonl").symlink_to("/dev/full")
    message = r"cannot write .*metrics.jsonl \(no space left on device\);.*--resume$"
    with pytest.raises(ExperimentError, match=message):
        folder.log({"step": 5})


def test_a_folder_of_another_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    columns = ("optimizer", "seed", "corpus_hash", "perplexity", "commit", "versions")
    arguments = {"task": "language", "columns": columns}
    made = RunFolder.prepare(None, "train", CONFIG, resume=False, **arguments)
    assert made.path.parent == Path("runs/train-language")
    made.add_result(
        {"optimizer": "sgd", "seed": 1, "corpus_hash": "12e4", "perplexity": 8.5}
    )
    resumed = RunFolder.prepare(None, "train", CONFIG, resume=True, **arguments)
    for folder in (RunFolder.open(made.path), resumed):
        assert folder.columns == columns
        assert folder.task == "language"
        (row,) = folder.results()
        assert tuple(row) == columns
        assert (row["seed"], row["corpus_hash"], row["perplexity"]) == (1, "12e4", 8.5)
    with pytest.raises(ExperimentError, match="with --task language, not image"):
        prepare(made.path, resume=True, command="train")
