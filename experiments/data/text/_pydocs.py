"""The interpreter's own documentation as a corpus: nothing is downloaded.

``pydoc_data.topics`` holds what ``help("for")`` and the like show: the chapters of the
language reference, about 120,000 tokens of English and Python. The rules, fixed once
and for all:

- *Tokens*: lower-cased; runs of letters, single digits, single other signs.
- *Paragraphs*: what blank lines separate, each ended by ``<eos>``, topic after topic by
  name. Many stand in several topics; the first of them is kept, so that no paragraph is
  on two sides of the split.
- *Split*: ten paragraphs at a time; of ten such blocks eight are for training, the
  ninth for validation, the tenth for test.
- *Vocabulary*: what occurs at least five times in the training part, ``<eos>`` among
  it; ``<unk>`` stands for all else.

The text changes with every release of Python, patch releases too: perplexities compare
only where :attr:`TextCorpus.sha256` is the same.
"""

import functools
import hashlib
import re
from pydoc_data import topics

from experiments.data.text._corpus import (
    END,
    SPLITS,
    UNKNOWN,
    TextCorpus,
    common_words,
    make_corpus,
)

_TOKEN = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]")
_BLANK = re.compile(r"\n\s*\n")
_BLOCK = 10
_PERIOD = 10
_RARE = 5


def tokens_of(text: str) -> list[str]:
    """The tokens of a text, by the rule above."""
    return _TOKEN.findall(text.lower())


@functools.cache
def pydocs_paragraphs() -> dict[str, tuple[str, ...]]:
    """The paragraphs as they are written, by split.

    Returns:
      "train", "validation" and "test" to their paragraphs in order.
    """
    seen, kept = set(), []
    for name in sorted(topics.topics):
        for paragraph in _BLANK.split(topics.topics[name]):
            words = tuple(tokens_of(paragraph))
            if words and words not in seen:
                seen.add(words)
                kept.append(paragraph)
    parts: dict[str, list[str]] = {split: [] for split in SPLITS}
    for number, paragraph in enumerate(kept):
        place = number // _BLOCK % _PERIOD
        split = {_PERIOD - 2: "validation", _PERIOD - 1: "test"}.get(place, "train")
        parts[split].append(paragraph)
    return {split: tuple(paragraphs) for split, paragraphs in parts.items()}


def pydocs() -> TextCorpus:
    """The corpus of the interpreter that runs."""
    parts = {
        split: [word for paragraph in kept for word in (*tokens_of(paragraph), END)]
        for split, kept in pydocs_paragraphs().items()
    }
    vocabulary = (UNKNOWN, *common_words(parts["train"], at_least=_RARE))
    source = "\n".join(topics.topics[name] for name in sorted(topics.topics))
    return make_corpus(
        "pydocs", parts, vocabulary, hashlib.sha256(source.encode()).hexdigest()
    )
