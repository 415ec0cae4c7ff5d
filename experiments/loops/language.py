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
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    TextCorpus,
    WindowReader,
    columns_of,
    load_corpus,
)
from experiments.errors import ExperimentError, unknown
from experiments.loops import _language_step as steps
from experiments.loops._accumulate import check_run as check_run
from experiments.loops._language_evaluation import SPLITS as SPLITS
from experiments.loops._language_evaluation import perplexities, perplexity
from experiments.loops._language_model import list_models as list_models
from experiments.loops._language_model import model_of as model_of
from experiments.loops._language_optimizer import (
    build_optimizer,
    schedule_factor,
    waits_for_start,
    with_rate,
)
from experiments.loops._language_read import (
    Read,
    full_pass,
    groups_of,
    share_of,
    zero_carry,
)
from experiments.loops._own_start import finds_own_start, has_found_its_end
from experiments.loops.engine import (
    OnNan,
    Row,
    Task,
    Training,
    fit,
    norms_and_diagnostics,
    result_row,
    skipping,
)
from experiments.parallel import Placement
from optax_ia import registry
from optax_ia.flax import TrainState


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


@dataclasses.dataclass
class LanguageRunTask(Task):
    """One run of one configuration, for the engine.

    Attributes:
      config: the run.
      corpus: the text.
      skip: leave out updates whose loss or gradient is not finite.
      placement: the devices, over which the columns are cut; None for one.
    """

    config: LanguageRun
    corpus: TextCorpus
    skip: bool = False
    placement: Placement | None = None
    score_name = "validation_perplexity"
    score_mode = "min"

    def __post_init__(self):
        config = self.config
        check_run(config, self.placement, skip=self.skip)
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
            self._full_pass = full_pass(
                self.corpus,
                config.batch_size,
                config.bptt,
                self.model,
                self.placement,
            )
        penalties = steps.Penalties(config.alpha, config.beta, config.label_smoothing)
        self._step = steps.train_step(self._needs, penalties, self._full_pass, layers)
        self._init_key, self._key = jax.random.split(jax.random.key(config.seed))
        self._key = self._placed(self._key)
        self._share = share_of(1.0, self.placement)
        self._ends = [0, *self._reader.ends]

    def epoch_steps(self, epoch: int) -> int:
        """The windows of an epoch."""
        return int(self._ends[epoch + 1] - self._ends[epoch])

    def init(self) -> Training:
        """Fresh parameters, from the seed; a state of zeros."""
        state = steps.init_state(self.model, self._tx, self._init_key, self.placement)
        totals = {name: jnp.zeros((), jnp.float32) for name in steps.TOTALS}
        if self.skip:
            state = skipping(state, self._needs)
            totals["skipped"] = jnp.zeros((), jnp.float32)
        return Training(self._placed(state), self._zero_carry(), self._placed(totals))

    def _placed(self, tree: Any) -> Any:
        """A tree with all that was made on the host where the rest of it is."""
        return tree if self.placement is None else self.placement.place(tree)

    def _zero_carry(self) -> Any:
        """Of all columns, or one for each group of them whose gradients are added."""
        groups = self.config.accumulate
        rows = self.config.batch_size // groups
        carries = tuple(
            zero_carry(self.model, rows, self.placement) for _ in range(groups)
        )
        return carries[0] if groups == 1 else carries

    def batches(self) -> grain.DatasetIterator:
        """The windows of all epochs, whole on every host."""
        return Batches(self._reader, len(self._reader))

    def begin_epoch(self, training: Training, epoch: int) -> Training:
        """Forgets the state; starts the average where its epoch has come."""
        state = training.state
        if self._waits and epoch == self.config.averaging_epoch:
            opt_state = optax_ia.start_averaging(state.opt_state)
            state = self._placed(state.replace(opt_state=opt_state))
        return training.replace(state=state, carry=self._zero_carry())

    def rate(self, epoch: int) -> float:
        """The learning rate of windows of the usual length, in an epoch from 0."""
        return self.config.learning_rate * schedule_factor(self.config, epoch)

    def step(self, training: Training, batch: Any, step: int) -> Training:
        """One update on a window, at a rate in proportion to its length."""
        state = training.state
        epoch = int(np.searchsorted(self._reader.ends, step, side="right"))
        rate = self.rate(epoch) * int(batch.length) / self._bptt.length
        opt_state = with_rate(state.opt_state, rate, self.placement)
        state = state.replace(opt_state=opt_state)
        if self._full_pass is not None:
            self._full_pass.params = state.params
        groups = self.config.accumulate
        carries = (training.carry,) if groups == 1 else training.carry
        parts = zip(groups_of(batch, groups, self.placement), carries, strict=True)
        reads = [Read(part, carry, self._share) for part, carry in parts]
        state, metrics, carry = steps.update(self._step, state, reads, self._key)
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
            state = self._placed(state.replace(opt_state=opt_state))
        if self.config.optimizer == "rmsgd":
            opt_state = optax_ia.update_layer_rates(state.opt_state, state.params)
            state = self._placed(state.replace(opt_state=opt_state))
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
        """Of a state; see :func:`_language_evaluation.perplexities`."""
        return perplexities(
            self.config, self.corpus, self.model, state, splits, self.placement
        )


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
    task = LanguageRunTask(config, corpus, skip=on_nan == "skip", placement=placement)
    training, fitted = fit(
        task, on_epoch=on_epoch, checkpoints=checkpoints, on_nan=on_nan, **hooks
    )
    state = training.state
    return result_row(
        config,
        fitted,
        state.opt_state,
        text_hash=corpus.sha256,
        model=config.model,
        weight_decay=config.weight_decay,
        **task.perplexities(state, final_splits),
    )
