"""A corpus as RoBERTa sees it: its own byte-level BPE, packed into sequences.

The tokenizer is trained on the training part alone. Documents are articles in the
WikiText corpora (they begin with a line ``= Title =``), ten neighbouring paragraphs in
``pydocs``, and a whole file elsewhere.
"""

import dataclasses
import functools
import hashlib
import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from experiments.data._bpe import bpe_hash, encode_documents, train_bpe
from experiments.data._masking import pack_sentences
from experiments.data.text import list_corpora, pydocs_paragraphs
from experiments.data.text._files import LAYOUTS, find_layout, find_own
from experiments.errors import ExperimentError, unknown

_SPLITS = ("train", "validation", "test")
_PARAGRAPHS = 10
_ARTICLE = re.compile(r"^(?= = [^=].* = $)", re.MULTILINE)


@dataclasses.dataclass(frozen=True, eq=False)
class MaskedText:
    """A tokenizer, and three parts packed into sequences.

    Attributes:
      name: the name it is loaded by.
      tokenizer: trained on the training part.
      train: int32 ``(sequences, length)``, what parameters are fitted to.
      validation: what settings and stopping are chosen on.
      test: what is measured once, at the end.
      text_hash: SHA-256 of the three texts, in hexadecimal.
      bpe_hash: of the tokenizer; perplexities compare only where both are the same.
    """

    name: str
    tokenizer: Tokenizer
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    text_hash: str
    bpe_hash: str

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special ones included."""
        return self.tokenizer.get_vocab_size()


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ExperimentError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ExperimentError(
            f"{path}: not UTF-8 ({error.reason} at byte {error.start + 1})"
        ) from error


def documents_of(name: str, data_dir: Path | None) -> dict[str, list[str]]:
    """The documents of a corpus as they are written, by split.

    Args:
      name: one of the corpora for language modelling.
      data_dir: the folder that its files are in; what is embedded needs none.

    Returns:
      "train", "validation" and "test" to documents.

    Raises:
      ExperimentError: if there is no such corpus or a file is missing or unreadable.
    """
    if name not in list_corpora():
        raise unknown("dataset", name, list_corpora())
    if name == "pydocs":
        found = {}
        for split, paragraphs in pydocs_paragraphs().items():
            starts = range(0, len(paragraphs), _PARAGRAPHS)
            found[split] = [
                "\n\n".join(paragraphs[start : start + _PARAGRAPHS]) for start in starts
            ]
        return found
    if name in LAYOUTS:
        paths = find_layout(name, data_dir)
    elif data_dir is None:
        raise ExperimentError(f"{name} is read from a folder: name it with --data-dir")
    else:
        paths = find_own(data_dir)
    found = {}
    for split, path in zip(_SPLITS, paths, strict=True):
        found[split] = [part for part in _ARTICLE.split(_read(path)) if part.strip()]
        if not found[split]:
            raise ExperimentError(f"{path} holds no text")
    return found


@functools.cache
def load_masked_text(
    name: str, data_dir: Path | None, *, vocab_size: int, max_length: int
) -> MaskedText:
    """Trains the tokenizer, tokenizes and packs; once for the same arguments.

    Args:
      name: one of the corpora for language modelling.
      data_dir: the folder that its files are in; what is embedded needs none.
      vocab_size: number of tokens; fewer if the corpus does not have as many.
      max_length: of a sequence.

    Returns:
      The sequences.

    Raises:
      ExperimentError: if a number is out of bounds, there is no such corpus, or a file
        is missing or unreadable.
    """
    documents = documents_of(name, data_dir)
    tokenizer = train_bpe(documents["train"], vocab_size)
    sequences = {
        split: pack_sentences(encode_documents(tokenizer, parts), max_length)
        for split, parts in documents.items()
    }
    digest = hashlib.sha256()
    for split in _SPLITS:
        for part in documents[split]:
            digest.update(part.encode() + b"\0")
    return MaskedText(
        name,
        tokenizer,
        **sequences,
        text_hash=digest.hexdigest(),
        bpe_hash=bpe_hash(tokenizer),
    )
