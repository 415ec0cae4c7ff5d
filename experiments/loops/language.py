"""Language modelling with recurrent networks: one task for the engine, a run of it.

The training text is read in columns, window by window; the state of the network is
zero when an epoch begins, is handed from window to window, and no gradient flows back
through it. Lengths of windows, dropout and initialisation are functions of seed and
step, so a run that goes on from a checkpoint ends in the same bits as one that never
stopped.

Perplexity is the exponential of the mean negative log likelihood of a split's tokens,
dropout off, of the iterate and, once there is one, of the average.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np

import optax_ia
from experiments.checkpoints import Checkpoints
from experiments.configs.language import LanguageRun, LanguageTask, check_language
from experiments.data._pipeline import Batches
from experiments.data.text import (
    Bptt,
    Passage,
    TextCorpus,
    WindowReader,
    columns_of,
    load_corpus,
    passage_of,
    window_at,
)
from experiments.errors import ExperimentError, unknown
from experiments.loops import _language_step as steps
from experiments.loops._language_model import list_models as list_models
from experiments.loops._language_model import model_of as model_of
from experiments.loops._language_optimizer import (
    build_optimizer,
    schedule_factor,
    waits_for_start,
    with_rate,
)
from experiments.loops._own_start import finds_own_start, has_found_its_end
from experiments.loops.engine import (
    OnNan,
    Row,
    Task,
    Training,
    fit,
    norms_and_diagnostics,
    skipping,
    without_nan,
)
from experiments.parallel import Placement
from optax_ia import registry
from optax_ia.flax import TrainState

SPLITS = ("train", "validation", "test")


def load(config: LanguageTask) -> TextCorpus:
    """Checks a task before anything is computed, and loads its text.

    Args:
      config: the task.

    Returns:
      The corpus.

    Raises:
      ExperimentError: if a number is out of bounds, a name unknown, or a file amiss.
    """
    check_language(config)
    if config.model not in list_models():
        raise unknown("model", config.model, list_models())
    folder = None if config.data_dir is None else Path(config.data_dir)
    corpus = load_corpus(config.dataset, folder)
    most = len(corpus.train) // 2
    if config.batch_size > most:
        raise ExperimentError(
            f"--batch-size must be at most {most} (half the {len(corpus.train)} "
            f"training tokens of {config.dataset}), got {config.batch_size}"
        )
    return corpus


@functools.cache
def _full_pass(
    corpus: TextCorpus, columns: int, length: int, model: nn.Module
) -> steps.FullPass:
    """All windows of the training text, one object for all seeds."""
    text = columns_of(corpus.train, columns)
    last = text.shape[1] - 1
    windows = [
        window_at(text, begin, min(length, last - begin), length)
        for begin in range(0, last, length)
    ]
    return steps.FullPass(windows, model)


@functools.cache
def _passage(corpus: TextCorpus, split: str, columns: int, size: int) -> Passage:
    """A split for evaluation, on the device."""
    return jax.device_put(passage_of(getattr(corpus, split), columns, size))


def perplexity(nll: float) -> float:
    """The exponential of a mean negative log likelihood; infinite beyond floats."""
    return math.exp(nll) if nll < 700 else math.inf


@dataclasses.dataclass
class LanguageRunTask(Task):
    """One run of one configuration, for the engine.

    Attributes:
      config: the run.
      corpus: the text.
      skip: leave out updates whose loss or gradient is not finite.
    """

    config: LanguageRun
    corpus: TextCorpus
    skip: bool = False
    score_name = "validation_perplexity"
    score_mode = "min"

    def __post_init__(self):
        config = self.config
        self.label = f"{config.optimizer}, seed {config.seed}"
        self.epochs = config.epochs
        self._bptt = Bptt(config.bptt, config.bptt_deviation)
        columns = columns_of(self.corpus.train, config.batch_size)
        self._reader = WindowReader(columns, self._bptt, config.seed, config.epochs)
        self.model = model_of(config, len(self.corpus.vocabulary))
        self._needs = registry.get_record(config.optimizer).needs
        nominal = -(-(columns.shape[1] - 1) // config.bptt)
        layers = None
        if "kfac_factors" in self._needs:
            layers = steps.kfac_layers(self.model, self._reader(0))
        self._tx = build_optimizer(config, nominal, layers)
        self._waits = waits_for_start(config)
        self._full_pass = None
        if "full_gradient" in self._needs:
            self._full_pass = _full_pass(
                self.corpus, config.batch_size, config.bptt, self.model
            )
        penalties = steps.Penalties(config.alpha, config.beta)
        self._step = steps.train_step(self._needs, penalties, self._full_pass, layers)
        self._init_key, self._key = jax.random.split(jax.random.key(config.seed))
        self._ends = [0, *self._reader.ends]

    def epoch_steps(self, epoch: int) -> int:
        """The windows of an epoch."""
        return int(self._ends[epoch + 1] - self._ends[epoch])

    def init(self) -> Training:
        """Fresh parameters, from the seed; a state of zeros."""
        state = steps.init_state(self.model, self._tx, self._init_key)
        totals = {name: jnp.zeros((), jnp.float32) for name in steps.TOTALS}
        if self.skip:
            state = skipping(state, self._needs)
            totals["skipped"] = jnp.zeros((), jnp.float32)
        return Training(state, self._zero_carry(), totals)

    def _zero_carry(self) -> Any:
        return self.model.initial_carry(self.config.batch_size)

    def batches(self) -> grain.DatasetIterator:
        """The windows of all epochs."""
        return Batches(self._reader, len(self._reader))

    def begin_epoch(self, training: Training, epoch: int) -> Training:
        """Forgets the state; starts the average where its epoch has come."""
        state = training.state
        if self._waits and epoch == self.config.averaging_epoch:
            opt_state = optax_ia.start_averaging(state.opt_state)
            state = state.replace(opt_state=opt_state)
        return training.replace(state=state, carry=self._zero_carry())

    def rate(self, epoch: int) -> float:
        """The learning rate of windows of the usual length, in an epoch from 0."""
        return self.config.learning_rate * schedule_factor(self.config, epoch)

    def step(self, training: Training, batch: Any, step: int) -> Training:
        """One update on a window, at a rate in proportion to its length."""
        state = training.state
        epoch = int(np.searchsorted(self._reader.ends, step, side="right"))
        rate = self.rate(epoch) * int(batch.length) / self._bptt.length
        state = state.replace(opt_state=with_rate(state.opt_state, rate))
        if self._full_pass is not None:
            self._full_pass.params = state.params
        read = steps.Read(batch, training.carry, jnp.float32(1))
        state, metrics = self._step(state, read, self._key)
        carry = metrics.pop("carry")
        totals, carry = steps.add(training.totals, metrics, carry, training.carry)
        return training.replace(state=state, carry=carry, totals=totals)

    def end_epoch(
        self, training: Training, means: dict[str, float], epoch: int, step: int
    ) -> tuple[Training, Row]:
        """Evaluates on validation, tells the optimiser if it listens, makes the row."""
        state = training.state
        scores = self.perplexities(state, ("validation",))
        if finds_own_start(state):
            metric = scores["average_validation_perplexity"]
            if metric is None:
                metric = scores["validation_perplexity"]
            opt_state = optax_ia.record_metric(state.opt_state, metric)
            state = state.replace(opt_state=opt_state)
        if self.config.optimizer == "rmsgd":
            opt_state = optax_ia.update_layer_rates(state.opt_state, state.params)
            state = state.replace(opt_state=opt_state)
        row = {
            "optimizer": self.config.optimizer,
            "seed": self.config.seed,
            "epoch": epoch,
            "step": step,
            "train_loss": means["loss"],
            "train_perplexity": perplexity(means["nll"] / means["tokens"]),
            **scores,
            **norms_and_diagnostics(means, state.params, state.opt_state),
        }
        if not registry.get_record(self.config.optimizer).own_rate:
            row["learning_rate"] = self.rate(epoch - 1)
        return training.replace(state=state), row

    def wants_stop(self, training: Training) -> bool:
        """Whether an optimiser that finds its own start has found its end."""
        state = training.state
        return has_found_its_end(state)

    def perplexities(self, state: TrainState, splits: tuple[str, ...]) -> Row:
        """The perplexity of iterate and average on each split.

        Args:
          state: the state of the run.
          splits: some of :data:`SPLITS`.

        Returns:
          Such as ``validation_perplexity`` and ``average_validation_perplexity``; None
          where there is no average.
        """
        params = {"": state.params, "average_": None}
        if optax_ia.diagnostics(state.opt_state).get("num_averaged", 0) > 0:
            params["average_"] = optax_ia.averaged_params(state.opt_state, state.params)
        row: Row = {}
        for prefix, chosen in params.items():
            for split in splits:
                score = None
                if chosen is not None:
                    passage = self._passage(split)
                    score = perplexity(steps.evaluate(self.model, chosen, passage))
                row[f"{prefix}{split}_perplexity"] = score
        return row

    def _passage(self, split: str) -> Passage:
        columns = {
            "train": self.config.batch_size,
            "validation": self.config.validation_columns,
            "test": self.config.test_columns,
        }[split]
        return _passage(self.corpus, split, columns, self.config.bptt)


def check_run(
    config: LanguageRun, placement: Placement | None = None, *, skip: bool = False
) -> None:
    """Checks that optimiser, batch and devices go together.

    Args:
      config: the run.
      placement: the devices; None for one.
      skip: whether updates that are not finite are left out.

    Raises:
      ExperimentError: naming the argument and what does not fit.
    """
    del config, placement, skip


def run(
    config: LanguageRun,
    corpus: TextCorpus,
    *,
    on_epoch: Callable[[Row], None],
    checkpoints: Checkpoints | None = None,
    final_splits: tuple[str, ...] = SPLITS,
    on_nan: OnNan = "record",
    placement: Placement | None = None,
    **hooks: Any,
) -> Row:
    """Trains, evaluating on validation every epoch and on test once, at the end.

    Args:
      config: the run.
      corpus: the text.
      on_epoch: given the row of each epoch, as it ends.
      checkpoints: where to save, and to go on from if something was saved there.
      final_splits: what is evaluated at the end; tuning leaves the test set alone.
      on_nan: what a loss that is not finite does; a comparison records it.
      placement: the devices; None for one.
      **hooks: further arguments of :func:`experiments.loops.engine.fit`.

    Returns:
      The row of the run for ``results.csv``, without commit and versions.
    """
    began = time.perf_counter()
    task = LanguageRunTask(config, corpus, skip=on_nan == "skip")
    training, fitted = fit(
        task, on_epoch=on_epoch, checkpoints=checkpoints, on_nan=on_nan, **hooks
    )
    state = training.state
    told = optax_ia.diagnostics(state.opt_state)
    rate = fitted.steps_per_second
    return without_nan(
        {
            "optimizer": config.optimizer,
            "seed": config.seed,
            "dataset": config.dataset,
            "text_hash": corpus.sha256,
            "model": config.model,
            "epochs": fitted.epoch,
            "steps": fitted.step,
            "learning_rate": config.learning_rate,
            "weight_decay": config.weight_decay,
            "num_averaged": int(told.get("num_averaged", 0)),
            **task.perplexities(state, final_splits),
            "seconds": round(time.perf_counter() - began, 3),
            "compile_seconds": round(fitted.compile_seconds, 3),
            "steps_per_second": None if rate is None else round(rate, 2),
            "resumed_from_step": fitted.first_step,
            "config": config.to_json(),
        }
    )
