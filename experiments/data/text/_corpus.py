"""What a text for language modelling is, here: three runs of token numbers."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

SPLITS = ("train", "validation", "test")
END = "<eos>"
UNKNOWN = "<unk>"


@dataclasses.dataclass(frozen=True, eq=False)
class TextCorpus:
    """A text in three parts, each one long run of tokens.

    Attributes:
      name: the name it is loaded by.
      vocabulary: the words; a token is a word's place in it.
      train: int32 ``(tokens,)``, what parameters are fitted to.
      validation: int32, what settings and stopping are chosen on.
      test: int32, what is measured once, at the end.
      sha256: of what the tokens were read from, in hexadecimal; perplexities compare
        only where it is the same.
    """

    name: str
    vocabulary: tuple[str, ...]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    sha256: str

    def decode(self, tokens: Iterable[int]) -> list[str]:
        """The words of tokens."""
        return [self.vocabulary[token] for token in tokens]


def common_words(words: Sequence[str], *, at_least: int) -> tuple[str, ...]:
    """The words that occur so often, the most frequent first, equals by spelling.

    Args:
      words: the training part.
      at_least: rarer words are left out.

    Returns:
      The words.
    """
    counts = collections.Counter(words)
    kept = [word for word, count in counts.items() if count >= at_least]
    return tuple(sorted(kept, key=lambda word: (-counts[word], word)))


def make_corpus(
    name: str,
    parts: Mapping[str, Sequence[str]],
    vocabulary: tuple[str, ...],
    sha256: str,
) -> TextCorpus:
    """Numbers the words of all parts; ``<unk>`` stands for those not in the vocabulary.

    Args:
      name: the corpus's name.
      parts: the words of "train", "validation" and "test".
      vocabulary: the words that have a number, ``<unk>`` among them.
      sha256: of the source.

    Returns:
      The corpus.
    """
    numbers = {word: number for number, word in enumerate(vocabulary)}
    unknown = numbers[UNKNOWN]
    arrays = {
        split: np.array([numbers.get(word, unknown) for word in parts[split]], np.int32)
        for split in SPLITS
    }
    return TextCorpus(name, vocabulary, **arrays, sha256=sha256)
