"""A byte-level BPE, trained on the corpus at hand, and texts cut into its sentences.

The tokens of a text, one after another, give back the text byte by byte. The special
tokens are RoBERTa's, at the numbers that its implementations expect; no text becomes
one of them, even if it spells it out.

References: Sennrich, Haddow, Birch, `Neural Machine Translation of Rare Words with
Subword Units <https://arxiv.org/abs/1508.07909>`_, 2015; Radford et al., Language
Models are Unsupervised Multitask Learners, 2019, section 2.2 (bytes); Liu et al.,
`RoBERTa <https://arxiv.org/abs/1907.11692>`_, 2019, section 4.4.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from experiments.errors import ExperimentError
from experiments.files import write_atomically

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BEGIN, PAD, END, _, MASK = range(len(SPECIAL_TOKENS))
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256
"""All bytes are tokens, whatever the corpus."""

# Sentences end before the white space that follows them, as tokens begin with theirs.
_SENTENCE_END = re.compile(r"(?<=[.!?])(?=\s)|(?<=\S)(?=\s*\n\s*\n)")


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Trains a tokenizer; the same texts and size give the same one.

    Args:
      texts: the training part of a corpus, and nothing else.
      vocab_size: number of tokens, special ones included. A small corpus may not have
        as many; then there are fewer.

    Returns:
      The tokenizer.

    Raises:
      ExperimentError: if the vocabulary is too small to hold all bytes.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise ExperimentError(
            f"--vocab-size must be at least {SMALLEST_VOCABULARY} (all bytes and the "
            f"special tokens), got {vocab_size}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _ready(tokenizer)


def _ready(tokenizer: Tokenizer) -> Tokenizer:
    """Text is text: what spells a special token is encoded letter by letter."""
    tokenizer.encode_special_tokens = True
    return tokenizer


def bpe_hash(tokenizer: Tokenizer) -> str:
    """What tells one tokenizer from another: SHA-256 of its description, in hex."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def save_bpe(tokenizer: Tokenizer, path: Path) -> None:
    """Writes the tokenizer as the JSON that Hugging Face's libraries read."""
    write_atomically(path, tokenizer.to_str(pretty=True) + "\n")


def load_bpe(path: Path) -> Tokenizer:
    """Reads a tokenizer that :func:`save_bpe` wrote.

    Args:
      path: the file.

    Returns:
      The tokenizer.

    Raises:
      ExperimentError: if it cannot be read, or its special tokens are others.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower class
        raise ExperimentError(f"{path} is not a tokenizer: {error}") from error
    for number, token in enumerate(SPECIAL_TOKENS):
        found = tokenizer.token_to_id(token)
        if found != number:
            raise ExperimentError(
                f"{path}: the token {token} must have the number {number}, got {found}"
            )
    return _ready(tokenizer)


def sentences_of(text: str) -> list[str]:
    """Cuts a text after full stops and before empty lines, losing nothing.

    Args:
      text: any text.

    Returns:
      Its sentences; joined, they are the text.
    """
    return [sentence for sentence in _SENTENCE_END.split(text) if sentence]


def encode_documents(
    tokenizer: Tokenizer, documents: Sequence[str]
) -> list[list[np.ndarray]]:
    """The tokens of documents, sentence by sentence.

    Args:
      tokenizer: the tokenizer.
      documents: texts.

    Returns:
      For each document its sentences, int32 arrays, none of them empty.
    """
    encoded = []
    for document in documents:
        batch = tokenizer.encode_batch_fast(sentences_of(document))
        encoded.append([np.array(entry.ids, np.int32) for entry in batch])
    return encoded
