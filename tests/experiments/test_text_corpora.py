"""Corpora: the embedded one, and files in the published layouts."""

import hashlib
import re
from pathlib import Path
from pydoc_data import topics

import numpy as np
import pytest

from experiments.data.text import list_corpora, load_corpus, pydocs_paragraphs
from experiments.errors import ExperimentError

PTB = {
    "ptb.train.txt": " no it was n't <unk> monday \n the n stocks <unk>\n",
    "ptb.valid.txt": " it was n \n",
    "ptb.test.txt": " stocks was <unk> \n monday the \n",
}
WIKI = {
    "wiki.train.tokens": " \n = Café = \n \n The <unk> @-@ man . \n",
    "wiki.valid.tokens": " \n The man . \n",
    "wiki.test.tokens": " = Café = \n",
}
OWN = {"train.txt": "a b\nb <unk>\n", "valid.txt": "b z", "test.txt": "a a\n"}


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        content = text if isinstance(text, bytes) else text.encode()
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def _forget():
    yield
    load_corpus.cache_clear()


def words(corpus, split):
    return " ".join(corpus.decode(getattr(corpus, split)))


def test_names():
    expected = ["pydocs", "ptb", "wikitext2", "wikitext103", "text_folder"]
    assert list_corpora() == expected


def test_penn_treebank_as_published(tmp_path):
    corpus = load_corpus("ptb", write(tmp_path / "data", PTB))
    assert words(corpus, "train") == (
        "no it was n't <unk> monday <eos> the n stocks <unk> <eos>"
    )
    assert words(corpus, "validation") == "it was n <eos>"
    assert words(corpus, "test") == "stocks was <unk> <eos> monday the <eos>"
    # in the order of their first appearance
    assert corpus.vocabulary == (
        *("no", "it", "was", "n't", "<unk>", "monday", "<eos>", "the", "n", "stocks"),
    )
    np.testing.assert_array_equal(
        corpus.train, np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 4, 6], np.int32)
    )
    assert corpus.train.dtype == corpus.test.dtype == np.int32
    content = "".join(PTB.values()).encode()
    assert corpus.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("name", "inside"), [("wikitext2", "wikitext-2"), ("wikitext103", "wikitext-103")]
)
def test_wikitext_as_published_in_the_folder_of_its_archive(tmp_path, name, inside):
    write(tmp_path / inside, WIKI)
    corpus = load_corpus(name, tmp_path)
    # blank lines are lines: they end in <eos> too
    assert words(corpus, "train") == (
        "<eos> = Café = <eos> <eos> The <unk> @-@ man . <eos>"
    )
    assert words(corpus, "validation") == "<eos> The man . <eos>"
    assert words(corpus, "test") == "= Café = <eos>"
    assert len(corpus.vocabulary) == 8


@pytest.mark.parametrize("valid", ["valid.txt", "validation.txt"])
def test_a_folder_of_ones_own(tmp_path, valid):
    files = OWN | {valid: OWN["valid.txt"]}
    if valid != "valid.txt":
        del files["valid.txt"]
    corpus = load_corpus("text_folder", write(tmp_path, files))
    # the last line needs no line break; a new word is unknown
    assert words(corpus, "validation") == "b <unk> <eos>"
    assert words(corpus, "test") == "a a <eos>"


def test_line_ends_and_the_mark_of_windows_are_no_words(tmp_path):
    content = {name: text.encode() for name, text in WIKI.items()}
    for name, text in content.items():
        content[name] = b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n")
    found = load_corpus("wikitext2", write(tmp_path / "windows", content))
    expected = load_corpus("wikitext2", write(tmp_path / "linux", WIKI))
    assert found.vocabulary == expected.vocabulary
    for split in ("train", "validation", "test"):
        assert words(found, split) == words(expected, split)
    # the hash is of the bytes
    assert found.sha256 == hashlib.sha256(b"".join(content.values())).hexdigest()


@pytest.mark.parametrize(("name", "files"), [("ptb", PTB), ("text_folder", OWN)])
def test_the_home_folder_may_be_abbreviated(name, files, tmp_path, monkeypatch):
    """The shell leaves ``--data-dir=~/one`` as it is."""
    write(tmp_path / "mine", files)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_corpus(name, Path("~/mine")).vocabulary


def test_a_missing_file_is_named_with_what_to_get(tmp_path):
    files = {name: text for name, text in PTB.items() if "valid" not in name}
    folder = write(tmp_path / "ptb", files)
    with pytest.raises(ExperimentError) as caught:
        load_corpus("ptb", tmp_path)
    message = str(caught.value)
    assert f"{folder} has no ptb.valid.txt; get" in message
    assert "Mikolov" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["wikitext2", "wikitext103"])
def test_nothing_there(tmp_path, name):
    with pytest.raises(ExperimentError, match="no wiki.train.tokens and no wiki.valid"):
        load_corpus(name, tmp_path)
    with pytest.raises(ExperimentError, match="--data-dir"):
        load_corpus(name)


def test_a_folder_of_ones_own_without_files(tmp_path):
    with pytest.raises(ExperimentError, match=r"has no train.txt and no valid.txt"):
        load_corpus("text_folder", tmp_path)
    with pytest.raises(ExperimentError, match="not a folder"):
        load_corpus("text_folder", tmp_path / "absent")
    with pytest.raises(ExperimentError, match="--data-dir"):
        load_corpus("text_folder")


def test_what_is_not_utf8_is_named_by_file_and_line(tmp_path):
    folder = write(tmp_path, PTB)
    (folder / "ptb.test.txt").write_bytes(b" the stocks \n no \xe9t\xe9 \n")
    with pytest.raises(ExperimentError, match=r"ptb.test.txt, line 2: not UTF-8 .* 5 "):
        load_corpus("ptb", folder)


def test_an_empty_split(tmp_path):
    folder = write(tmp_path, PTB | {"ptb.valid.txt": ""})
    with pytest.raises(ExperimentError, match=r"valid.txt: a split must have .* got 0"):
        load_corpus("ptb", folder)


def test_a_new_word_where_none_stands_for_it(tmp_path):
    files = {"train.txt": "a b\n", "valid.txt": "a\n\n b q\n", "test.txt": "a\n"}
    with pytest.raises(ExperimentError, match=r"valid.txt, line 3: 'q' .* no <unk>"):
        load_corpus("text_folder", write(tmp_path, files))


def test_an_unknown_name():
    with pytest.raises(ExperimentError, match="unknown dataset 'ptb3'; .* ptb,"):
        load_corpus("ptb3")


def test_pydocs_against_its_rules_written_anew():
    """The rules of the note, in another way: by counting paragraphs one at a time."""
    corpus = load_corpus("pydocs")
    seen, parts, number = {}, {"train": [], "validation": [], "test": []}, 0
    for name in sorted(topics.topics):
        for paragraph in re.split(
            r"\n[ \t\r\f\v]*(?:\n[ \t\r\f\v]*)+", topics.topics[name]
        ):
            found = re.findall(r"[a-z]+|\d|[^\sa-z0-9]", paragraph.lower(), re.ASCII)
            text = " ".join(found)
            if not text or text in seen:
                continue
            seen[text] = number
            place = (number % 100) // 10
            split = "test" if place == 9 else "validation" if place == 8 else "train"
            parts[split] += [*found, "<eos>"]
            number += 1
    counts = {}
    for word in parts["train"]:
        counts[word] = counts.get(word, 0) + 1
    known = {word for word, count in counts.items() if count >= 5}
    assert set(corpus.vocabulary) == known | {"<unk>"}
    for split, expected in parts.items():
        wanted = [word if word in known else "<unk>" for word in expected]
        assert corpus.decode(getattr(corpus, split)) == wanted
    source = "\n".join(text for _, text in sorted(topics.topics.items()))
    assert corpus.sha256 == hashlib.sha256(source.encode()).hexdigest()
    most_frequent = [counts[word] for word in corpus.vocabulary[1:]]
    assert most_frequent == sorted(most_frequent, reverse=True)


def test_no_paragraph_of_pydocs_is_on_two_sides():
    parts = pydocs_paragraphs()
    assert set(parts) == {"train", "validation", "test"}
    sides = [
        {" ".join(text.lower().split()) for text in paragraphs}
        for paragraphs in parts.values()
    ]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert min(map(len, sides)) > 100
