"""What a run of a recurrent language model is: frozen dataclasses, checked once."""

import dataclasses
import math
from typing import Any, Literal

from experiments.configs.settings import one_line
from experiments.errors import ExperimentError


@dataclasses.dataclass(frozen=True)
class LanguageTask:
    """What is trained, for how long: shared by every optimiser of a comparison."""

    dataset: str = "pydocs"
    """Corpus, by name: pydocs, ptb, wikitext2, wikitext103, or text_folder."""
    data_dir: str | None = None
    """Folder of the corpus's files; pydocs needs none."""
    model: str = "awd_lstm_2"
    """Recurrent network, by name, from optax_ia.models."""
    embedding_size: int | None = None
    """Features of the embedding; None: the network's own, as below."""
    hidden_size: int | None = None
    """Features of the layers between."""
    embedding_dropout: float | None = None
    """Of whole words."""
    input_dropout: float | None = None
    """Of features of the first layer's inputs."""
    hidden_dropout: float | None = None
    """Of features between layers."""
    output_dropout: float | None = None
    """Of features of the last layer's outputs."""
    weight_dropout: float | None = None
    """Of single recurrent weights."""
    epochs: int = 200
    """Passes over the training text (P0: 200)."""
    batch_size: int = 20
    """Columns that the training text is read in."""
    bptt: int = 70
    """Usual length of a window, after which gradients are cut."""
    bptt_deviation: float = 5.0
    """Deviation of the lengths, which are half as long now and then; 0: all alike."""
    validation_columns: int = 10
    """Columns that the validation text is read in."""
    test_columns: int = 1
    """Columns that the test text is read in."""
    average_from: float = 0.5
    """Fraction of the epochs after which averaging begins (P0: epoch 100 of 200)."""
    average_every: int = 1
    """Steps between averaged iterates, but for asgd and nt_asgd, which take all."""
    nonmonotone: int = 5
    """Evaluations that nt_asgd's trigger leaves out of its best (Merity et al.: 5)."""
    patience: int = 10
    """Evaluations without improvement that gadam_auto waits for (P0: 10)."""
    clip_norm: float | None = 0.25
    """Clip gradients to this global norm; None does not."""
    alpha: float = 2.0
    """Weight of the last layer's squared activations (AR)."""
    beta: float = 1.0
    """Weight of their squared changes (TAR)."""
    decay: Literal["l2", "own"] = "l2"
    """l2: weight decay is added to the clipped gradient (P0 B.3). own: the rule's."""
    schedule: Literal["paper", "constant", "step"] = "paper"
    """paper: constant but for Padam, which steps (P0, table 12). step: all without
    averaging step (table 13)."""
    decay_at: tuple[float, ...] = (0.5, 0.75)
    """Fractions of the epochs at which the step schedule decays (P0: 100 and 150)."""
    decay_factor: float = 0.1
    """What each of them multiplies the rate by."""
    momentum: float | None = 0.0
    """Of sgd, swa, sam and sgdp, which AWD-LSTM's code leaves out; None: 0.9."""
    partial: float | None = 0.2
    """Padam's and GadamX's power p (P0 B.3: 0.2); None: the registry's."""
    precision: Literal["float32", "bf16"] = "float32"
    """What the network computes in; parameters and optimiser are float32."""
    label_smoothing: float = 0.0
    """Share of each target that is spread over all words, in the training loss alone;
    perplexities are without."""
    accumulate: int = 1
    """Equal groups of columns whose gradients are averaged into one update."""

    @property
    def averaging_epoch(self) -> int:
        """The epoch, counted from 0, at whose beginning averaging begins."""
        return math.ceil(self.average_from * self.epochs - 1e-9)


@dataclasses.dataclass(frozen=True)
class LanguageRun(LanguageTask):
    """One run, completely: everything its results depend on."""

    optimizer: str = "sgd"
    """Registry name."""
    seed: int = 0
    """Of initialisation, windows and dropout."""
    learning_rate: float = 30.0
    """Initial learning rate."""
    weight_decay: float | None = 1.2e-6
    """Weight decay; None leaves the registry's."""
    damping: float | None = None
    """Damping, of K-FAC; None leaves the registry's."""

    def to_json(self) -> str:
        """The configuration on one line, with sorted keys."""
        return one_line(self, later=_LATER)


_LATER = ("label_smoothing", "accumulate")
"""Fields that came after the first records."""

_BOUNDS: dict[str, tuple[str, Any]] = {
    "at least 1": (
        "epochs batch_size validation_columns test_columns average_every nonmonotone "
        "patience accumulate",
        lambda value: value >= 1,
    ),
    "at least 1, or none": (
        "embedding_size hidden_size",
        lambda value: value is None or value >= 1,
    ),
    "at least 5, the shortest window": ("bptt", lambda value: value >= 5),
    "between 0 and 1": ("average_from", lambda value: 0 <= value <= 1),
    "at least 0 and below 1": (
        "embedding_dropout input_dropout hidden_dropout output_dropout weight_dropout "
        "label_smoothing",
        lambda value: value is None or 0 <= value < 1,
    ),
    "0 or more and finite": (
        "bptt_deviation alpha beta",
        lambda value: 0 <= value < math.inf,
    ),
    "at least 0 and below 1, or none": (
        "momentum",
        lambda value: value is None or 0 <= value < 1,
    ),
    "above 0": (
        "clip_norm decay_factor",
        lambda value: value is None or 0 < value < math.inf,
    ),
    "between 0 and 0.5": (
        "partial",
        lambda value: value is None or 0 <= value <= 0.5,
    ),
    "fractions between 0 and 1": (
        "decay_at",
        lambda value: all(0 <= at <= 1 for at in value),
    ),
}


def check_language(config: LanguageTask) -> None:
    """Checks every number of a task.

    Args:
      config: the task.

    Raises:
      ExperimentError: naming the argument, its bound and the value received.
    """
    for bound, (names, holds) in _BOUNDS.items():
        for name in names.split():
            value = getattr(config, name)
            if not holds(value):
                flag = "--" + name.replace("_", "-")
                raise ExperimentError(f"{flag} must be {bound}, got {value}")
