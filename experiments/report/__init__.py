"""Table, figures and page of a run folder, made from its files alone."""

from experiments.report._command import main as main
from experiments.report._command import show as show
from experiments.report._command import write as write

__all__ = ["main", "show", "write"]
