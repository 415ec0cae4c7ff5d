"""The registry of data sets, and the list of all."""

import numpy as np
import PIL.Image
import pytest

from experiments import datasets
from experiments.__main__ import main
from experiments.data import (
    dataset_records,
    get_dataset_record,
    load_dataset,
    load_images,
    load_records,
)
from experiments.errors import ExperimentError
from tests.experiments.image_folders import ROWS, labelled


def test_every_data_set_has_its_record():
    records = dataset_records()
    assert list(records) == [found.name for found in records.values()]
    wanted = {
        *("digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn_cropped"),
        *("imagenette", "downsampled_imagenet/32x32", "imagenet2012", "pydocs", "ptb"),
        *("wikitext2", "wikitext103", "tiny_imagenet", "mhist", "adp", "folder"),
    }
    assert wanted <= set(records)
    for record in records.values():
        assert record.how
        assert record.source
        assert "\n" not in record.how + record.source
    assert [name for name in records if records[name].ready(None)] >= ["digits"]
    with pytest.raises(ExperimentError, match="unknown dataset 'ptb'.*: digits, mnist"):
        get_dataset_record("ptb", "image")


def test_what_does_not_fit_where_it_is_asked_for_says_so(tmp_path):
    with pytest.raises(ExperimentError, match="--dataset must fit in memory.*ette; ch"):
        load_dataset("imagenette", tmp_path)
    message = "mnist is read into memory.* --crop .*: cifar10, cifar100.* adp, folder$"
    with pytest.raises(ExperimentError, match=message):
        load_records("mnist", tmp_path)
    with pytest.raises(ExperimentError, match="tiny_imagenet needs --data-dir"):
        load_images("tiny_imagenet")


def test_the_published_sizes_are_those_of_the_files():
    from experiments.data._tfds import SOURCES
    from experiments.data.prepare import PREPARATIONS
    from experiments.data.prepare._prepare import published

    assert set(SOURCES) == set(PREPARATIONS)
    for name, source in SOURCES.items():
        size = sum(archive.size for archive in published(name).values())
        assert source.size == size, name


def listed(capsys, *arguments):
    assert main(["datasets", *map(str, arguments)]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: line for line in lines[1:]}


def test_the_list_says_what_is_ready(cifar_dir, capsys):
    rows = listed(capsys, "--data-dir", cifar_dir)
    assert list(rows) == list(dataset_records())
    ready = {name for name, line in rows.items() if "  yes  " in line}
    assert ready == {"digits", "cifar10", "pydocs"}
    assert "50,000 + 10,000" in rows["cifar10"]
    assert "170 MB" in rows["cifar10"]
    assert rows["cifar100"].endswith("prepare cifar100 --data-dir D")
    text = listed(capsys, "--kind=text", "--data-dir", cifar_dir)
    assert set(text) == {
        name for name in rows if dataset_records()[name].kind == "text"
    }


def test_one_data_set_says_why_it_is_not_ready(cifar_dir, capsys):
    assert main(["datasets", "cifar100", f"--data-dir={cifar_dir}"]) == 0
    said = capsys.readouterr().out
    assert "ready         no: cifar100 is not prepared in " in said
    assert f"prepare cifar100 --data-dir {cifar_dir}\n" in said
    assert main(["datasets", "cifar10", f"--data-dir={cifar_dir}"]) == 0
    assert capsys.readouterr().out.endswith("ready         yes\n")
    assert main(["datasets", "cifar"]) == 2
    assert "unknown dataset 'cifar'" in capsys.readouterr().err
    assert main(["datasets", "--out=x.png"]) == 2
    assert "--out goes with --show" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cifar10", "folder"])  # arrays and records
def test_a_batch_is_drawn(
    name, cifar_dir, tmp_path, tmp_path_factory, capsys, monkeypatch
):
    monkeypatch.setattr(datasets, "_BATCH", 6)
    own = tmp_path_factory.mktemp("own")
    labelled(own, ROWS)
    folder = {"cifar10": cifar_dir, "folder": own}[name]
    path = tmp_path / "batch.png"
    arguments = [f"--show={name}", f"--data-dir={folder}", f"--out={path}"]
    assert main(["datasets", *arguments]) == 0
    assert capsys.readouterr().out == f"wrote {path}\n"
    with PIL.Image.open(path) as picture:
        assert picture.format == "PNG"
        assert np.asarray(picture.convert("L")).std() > 10
    assert [file.name for file in tmp_path.iterdir()] == ["batch.png"]
