"""The tokenizer, packing and masking, against counts made by hand."""

import numpy as np
import pytest

from experiments.data import _bpe as bpe
from experiments.data import _masking as masking
from experiments.data._masked_text import documents_of, load_masked_text
from experiments.errors import ExperimentError

TEXTS = [
    "The cat sat. The cat ran! Did the cat sit?\n\nThe dog sat on the cat.",
    "A dog <mask> and a cat </s> met.\tÉtude № 5 \N{SNOWMAN}\r\n",
    "the the the the cat cat sat",
]
VOCABULARY = 300


def tokenizer():
    return bpe.train_bpe(TEXTS, VOCABULARY)


# the tokenizer


def test_special_tokens_have_the_numbers_of_roberta():
    made = tokenizer()
    tokens = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    assert [made.token_to_id(token) for token in tokens] == [0, 1, 2, 3, 4]
    assert (bpe.BEGIN, bpe.PAD, bpe.END, bpe.MASK) == (0, 1, 2, 4)
    assert 261 < made.get_vocab_size() <= VOCABULARY


@pytest.mark.parametrize(
    "text", [*TEXTS, " \x00 leading and trailing \n", "日本語 <s><pad>\N{PILE OF POO}"]
)
def test_any_text_comes_back_and_none_becomes_a_special_token(text):
    made = tokenizer()
    ids = [i for sentence in bpe.encode_documents(made, [text])[0] for i in sentence]
    assert min(ids) >= 5
    assert made.decode(ids, skip_special_tokens=False) == text


def test_the_same_texts_make_the_same_tokenizer_and_others_another(tmp_path):
    first, again = tokenizer(), tokenizer()
    assert bpe.bpe_hash(first) == bpe.bpe_hash(again)
    assert len(bpe.bpe_hash(first)) == 64
    other = bpe.train_bpe([TEXTS[0]], VOCABULARY)
    assert bpe.bpe_hash(other) != bpe.bpe_hash(first)
    path = tmp_path / "tokenizer.json"
    bpe.save_bpe(first, path)
    loaded = bpe.load_bpe(path)
    assert bpe.bpe_hash(loaded) == bpe.bpe_hash(first)
    assert loaded.encode("a <mask>").ids == first.encode("a <mask>").ids
    assert list(tmp_path.iterdir()) == [path]


def test_a_merge_joins_the_most_frequent_pair():
    # "ab" is the only pair that occurs as often as 4 times
    made = bpe.train_bpe(["ab ab ab abc"], 262)
    assert made.get_vocab_size() == 262
    assert made.encode("ab").tokens == ["ab"]


def test_what_is_wrong_with_a_tokenizer_is_said(tmp_path):
    with pytest.raises(ExperimentError, match="--vocab-size must be at least 261"):
        bpe.train_bpe(TEXTS, 260)
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ExperimentError, match=f"{path} is not a tokenizer"):
        bpe.load_bpe(path)
    text = tokenizer().to_str().replace("<mask>", "<else>")
    path.write_text(text)
    with pytest.raises(ExperimentError, match="<mask> must have the number 4"):
        bpe.load_bpe(path)


# sentences and packing


def test_sentences_end_at_full_stops_and_empty_lines():
    text = "One. Two is 2.5 long!\n\nThree\n \nFour (e. g. this)"
    assert bpe.sentences_of(text) == [
        "One.",
        " Two is 2.5 long!",
        "\n\nThree",
        "\n \nFour (e.",
        " g.",
        " this)",
    ]


def test_a_small_packing_is_the_one_made_by_hand():
    documents = [
        [np.array([10, 11]), np.array([12, 13])],
        [np.array([14])],
        [np.arange(20, 35)],
        [np.array([15, 16])],
    ]
    packed = masking.pack_sentences(documents, 8)
    assert packed.dtype == np.int32
    assert packed.tolist() == [
        [0, 10, 11, 12, 13, 2, 14, 2],
        [0, 20, 21, 22, 23, 24, 25, 2],
        [0, 26, 27, 28, 29, 30, 31, 2],
        [0, 32, 33, 34, 2, 15, 16, 2],
    ]


def test_packing_loses_nothing():
    rng = np.random.default_rng(0)
    documents = [
        [rng.integers(5, 99, rng.integers(1, 40)) for _ in range(rng.integers(1, 9))]
        for _ in range(50)
    ]
    packed = masking.pack_sentences(documents, 24)
    wanted = np.concatenate([sentence for parts in documents for sentence in parts])
    np.testing.assert_array_equal(packed[packed >= 5], wanted)
    assert (packed[:, 0] == 0).all()
    assert ((packed == 0).sum(1) == 1).all()
    for row in packed:  # <s> tokens </s> padding, nothing after padding
        length = (row != 1).sum()
        assert row[length - 1] == 2
        assert (row[length:] == 1).all()


def test_packing_refuses_what_it_cannot_pack():
    with pytest.raises(ExperimentError, match="--max-length must be at least 8, got 7"):
        masking.pack_sentences([[np.array([5])]], 7)
    with pytest.raises(ExperimentError, match="has no token"):
        masking.pack_sentences([[], []], 8)


# masking

LENGTH, VOCAB = 40, 1005


def sequences(number):
    """Tokens 5 to 104, of lengths 20 to 38, so that 900 tokens come by chance only."""
    rng = np.random.default_rng(1)
    rows = np.full((number, LENGTH), bpe.PAD, np.int32)
    for row in rows:
        length = rng.integers(20, LENGTH - 1)
        row[1 : length + 1] = rng.integers(5, 105, length)
        row[0], row[length + 1] = bpe.BEGIN, bpe.END
        row[length // 2] = bpe.END  # a separator
    return rows


def batch_of(rows, **options):
    settings = {"vocab_size": VOCAB, "seed": 3, "epochs": 1, "threads": 0} | options
    return masking.masked_batches(rows, len(rows), **settings)


def test_fifteen_percent_are_chosen_and_80_10_10_is_kept():
    rows = sequences(4000)
    batch = next(batch_of(rows))
    # which rows they are is known by the order of the epoch
    order = np.random.default_rng([3, 0]).permutation(len(rows))
    before, after = rows[order], batch["tokens"]
    chosen = batch["weights"] > 0
    ordinary = (before >= 5).sum()
    number = chosen.sum()
    assert abs(number / ordinary - 0.15) < 4 * np.sqrt(0.15 * 0.85 / ordinary)
    was = np.take_along_axis(before, batch["positions"], 1)[chosen]
    now = np.take_along_axis(after, batch["positions"], 1)[chosen]
    np.testing.assert_array_equal(was, batch["labels"][chosen])
    masked, kept = (now == bpe.MASK).mean(), (now == was).mean()
    random = ((now != bpe.MASK) & (now != was)).mean()
    for share, wanted in ((masked, 0.8), (kept, 0.1), (random, 0.1)):
        assert abs(share - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / number)
    # another token may be any but a special one: nine tenths are never in the text
    others = now[(now != bpe.MASK) & (now != was)]
    assert others.min() >= 5
    assert others.max() < VOCAB
    assert abs((others >= 105).mean() - 0.9) < 0.05


def test_only_chosen_tokens_change_and_none_is_special():
    rows = sequences(300)
    batch = next(batch_of(rows))
    before = rows[np.random.default_rng([3, 0]).permutation(len(rows))]
    restored = batch["tokens"].copy()
    for row, positions, labels, weights in zip(
        restored, batch["positions"], batch["labels"], batch["weights"], strict=True
    ):
        places = positions[weights > 0]
        assert len(set(places)) == len(places)
        assert (labels[weights > 0] >= 5).all()
        row[places] = labels[weights > 0]
    np.testing.assert_array_equal(restored, before)
    special = before < 5
    np.testing.assert_array_equal(batch["tokens"][special], before[special])
    assert batch["positions"].shape == (300, int(0.15 * (LENGTH - 2)) + 1)
    # rounded up or down, so every sequence has one of the two neighbours of 15 %
    exact = 0.15 * (before >= 5).sum(1)
    counts = batch["weights"].sum(1)
    assert (np.abs(counts - exact) < 1).all()


def test_a_sequence_without_ordinary_tokens_has_nothing_chosen():
    rows = np.full((2, LENGTH), bpe.PAD, np.int32)
    rows[:, 0], rows[:, 1] = bpe.BEGIN, bpe.END
    batch = next(batch_of(rows))
    np.testing.assert_array_equal(batch["tokens"], rows)
    assert not batch["weights"].any()


def by_sequence(rows, epochs, **options):
    """What each sequence became in each epoch, by the order of the epochs."""
    size = options.pop("batch_size", len(rows))
    settings = {"vocab_size": VOCAB, "seed": 3, "threads": 0} | options
    batches = masking.masked_batches(rows, size, epochs=epochs, **settings)
    tokens = [batch["tokens"] for batch in batches]
    per_epoch = len(tokens) // epochs
    found = {}
    for epoch in range(epochs):
        order = np.random.default_rng([settings["seed"], epoch]).permutation(len(rows))
        stacked = np.concatenate(tokens[epoch * per_epoch : (epoch + 1) * per_epoch])
        for index, row in zip(order, stacked, strict=False):
            found[epoch, int(index)] = row.tolist()
    return found


def test_masks_follow_from_seed_epoch_and_sequence_alone():
    rows = sequences(12)
    found = by_sequence(rows, 3)
    assert found == by_sequence(rows, 3)
    # neither the size of batches nor threads matter
    assert found == by_sequence(rows, 3, batch_size=4, threads=2)
    for index in range(12):
        epochs = {tuple(found[epoch, index]) for epoch in range(3)}
        assert len(epochs) > 1  # masked anew
    assert found != by_sequence(rows, 3, seed=4)


def test_hosts_share_the_batches():
    rows = sequences(12)
    whole = [batch["tokens"] for batch in batch_of(rows, epochs=2)]
    parts = [
        [
            batch["tokens"]
            for batch in batch_of(rows, epochs=2, process_index=i, process_count=3)
        ]
        for i in range(3)
    ]
    for step, tokens in enumerate(whole):
        np.testing.assert_array_equal(
            tokens, np.concatenate([part[step] for part in parts])
        )


def test_hosts_share_each_small_batch_of_a_batch():
    rows = sequences(12)
    (whole,) = [batch["tokens"] for batch in batch_of(rows)]
    shares = [
        next(batch_of(rows, process_index=i, process_count=3, parts=2))["tokens"]
        for i in range(3)
    ]
    for part in range(2):  # two rows of each of three hosts
        pieces = [share[2 * part : 2 * part + 2] for share in shares]
        wanted = whole[6 * part : 6 * part + 6]
        np.testing.assert_array_equal(np.concatenate(pieces), wanted)
    with pytest.raises(ExperimentError, match="multiple of 15 .--accumulate times"):
        batch_of(rows, process_count=3, parts=5)


def test_an_iterator_goes_on_from_its_saved_state():
    rows = sequences(10)
    options = {"vocab_size": VOCAB, "seed": 0, "epochs": 3}
    through = list(masking.masked_batches(rows, 4, **options))
    assert len(through) == 6  # two whole batches an epoch
    batches = masking.masked_batches(rows, 4, **options)
    for _ in range(3):
        next(batches)
    state = batches.get_state()
    batches.close()
    again = masking.masked_batches(rows, 4, **options)
    again.set_state(state)
    rest = list(again)
    assert len(rest) == 3
    for one, other in zip(through[3:], rest, strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name])


def test_evaluation_masks_are_fixed_and_every_sequence_comes_once():
    rows = sequences(10)
    batches = masking.evaluation_batches(rows, 4, vocab_size=VOCAB)
    again = masking.evaluation_batches(rows, 5, vocab_size=VOCAB)
    assert [batch["tokens"].shape for batch in batches] == [(4, LENGTH)] * 3
    tokens = np.concatenate([batch["tokens"] for batch in batches])
    np.testing.assert_array_equal(
        tokens[:10], np.concatenate([batch["tokens"] for batch in again])
    )
    assert (tokens[10:] == bpe.PAD).all()
    assert not batches[-1]["weights"][2:].any()
    assert batches[-1]["weights"][:2].any(1).all()


def test_batches_out_of_bounds_are_refused():
    rows = sequences(4)
    with pytest.raises(ExperimentError, match="--batch-size must be at most 4"):
        masking.masked_batches(rows, 5, vocab_size=VOCAB, seed=0, epochs=1)
    with pytest.raises(ExperimentError, match="multiple of 3, the number of hosts"):
        batch_of(rows, process_count=3)


# corpora


def test_pydocs_as_sequences_holds_every_paragraph():
    data = load_masked_text("pydocs", None, vocab_size=400, max_length=32)
    documents = documents_of("pydocs", None)
    for split in ("train", "validation", "test"):
        rows = getattr(data, split)
        text = data.tokenizer.decode(rows[rows >= 5].tolist())
        assert text == "".join(documents[split])
    assert data.vocab_size == 400
    assert len(data.text_hash) == len(data.bpe_hash) == 64
    assert set(documents["train"]).isdisjoint(documents["test"])


def test_articles_are_documents_and_missing_files_are_named(tmp_path):
    article = " \n = A title = \n \n Some words . \n = = A section = = \n More . \n"
    other = " = Another = \n \n Words . \n"
    for name in ("train", "valid", "test"):
        (tmp_path / f"wiki.{name}.tokens").write_text(article + other)
    parts = documents_of("wikitext2", tmp_path)
    assert parts["train"] == [article.removeprefix(" \n"), other]
    (tmp_path / "wiki.test.tokens").write_bytes(b" = A = \n caf\xe9 \n")
    with pytest.raises(ExperimentError, match=r"wiki.test.tokens: not UTF-8 .* byte"):
        documents_of("wikitext2", tmp_path)
    (tmp_path / "wiki.test.tokens").write_text(" \n")
    with pytest.raises(ExperimentError, match=r"wiki.test.tokens holds no text"):
        documents_of("wikitext2", tmp_path)
    (tmp_path / "wiki.test.tokens").unlink()
    with pytest.raises(ExperimentError, match=r"no wiki.test.tokens"):
        documents_of("wikitext2", tmp_path)
    with pytest.raises(ExperimentError, match="unknown dataset 'texts'"):
        documents_of("texts", None)
    with pytest.raises(ExperimentError, match="--data-dir"):
        documents_of("text_folder", None)
