"""Text for language models: corpora, and reading them in columns window by window."""

from experiments.data.text._corpus import TextCorpus as TextCorpus
from experiments.data.text._load import list_corpora as list_corpora
from experiments.data.text._load import load_corpus as load_corpus
from experiments.data.text._pydocs import pydocs_paragraphs as pydocs_paragraphs
from experiments.data.text._windows import Bptt as Bptt
from experiments.data.text._windows import Passage as Passage
from experiments.data.text._windows import Window as Window
from experiments.data.text._windows import WindowReader as WindowReader
from experiments.data.text._windows import columns_of as columns_of
from experiments.data.text._windows import passage_of as passage_of
from experiments.data.text._windows import window_at as window_at

__all__ = [
    "Bptt",
    "Passage",
    "TextCorpus",
    "Window",
    "WindowReader",
    "columns_of",
    "list_corpora",
    "load_corpus",
    "passage_of",
    "pydocs_paragraphs",
    "window_at",
]
