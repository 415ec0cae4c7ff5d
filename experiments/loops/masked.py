"""Masked language modelling: RoBERTa learns the tokens that were taken from it.

The loss is the mean cross entropy over the chosen tokens of a batch, whatever they were
replaced by; no other token counts. The rate rises in a line and falls in a line, as in
RoBERTa; of averaging optimisers it falls to a half, until averaging begins, and stays.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

import optax_ia
from experiments.checkpoints import Checkpoints
from experiments.configs.p2.masked import MaskedConfig, MaskedRun, check_masked
from experiments.data import Batches
from experiments.data._masked_text import MaskedText, load_masked_text
from experiments.data._masking import masked_batches
from experiments.errors import ExperimentError, unknown
from experiments.loops._accumulate import accumulated, cut
from experiments.loops._accumulate import check_run as check_parts
from experiments.loops._image_data import share_of
from experiments.loops._masked_evaluation import evaluate, evaluation_of, perplexity
from experiments.loops._masked_optimizer import build_optimizer
from experiments.loops._masked_step import (
    beginning,
    every_batch,
    init_params,
    inputs_of,
    masked_step,
    model_of,
    take_step,
    zero_totals,
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
)
from experiments.parallel import Placement, in_place
from optax_ia import models, registry
from optax_ia.flax import kfac_layers


@dataclasses.dataclass
class MaskedTask(Task):
    """One run of one configuration, for the engine.

    Attributes:
      config: the run.
      data: the sequences.
      skip: leave out updates whose loss or gradient is not finite.
      placement: the devices; None for one.
    """

    config: MaskedRun
    data: MaskedText
    skip: bool = False
    placement: Placement | None = None
    score_name = "validation_loss"
    score_mode = "min"

    def __post_init__(self):
        config = self.config
        check_run(config, self.placement, skip=self.skip)
        self.label = f"{config.optimizer}, seed {config.seed}"
        self.epochs = config.epochs
        self._steps = len(self.data.train) // config.batch_size
        self._init_key, self._step_key = jax.random.split(jax.random.key(config.seed))
        self._model, self._apply = model_of(config, self.data.vocab_size)
        self._needs = registry.get_record(config.optimizer).needs
        self._example = evaluation_of(self.data, "validation")[0]
        self._layers = None
        if "kfac_factors" in self._needs:
            self._layers = self._kfac_layers()
        full_batches = None
        if "full_gradient" in self._needs:
            full_batches = every_batch(self.data, config.batch_size, self.placement)
        self._update = masked_step(
            self._needs, self._layers, full_batches, config.label_smoothing
        )

    def _kfac_layers(self) -> Any:
        """All but the table of tokens, which is the decoder too."""
        init = functools.partial(init_params, self._model)
        params = jax.eval_shape(init, self._init_key, self._example)
        return kfac_layers(
            self._apply, {"params": params}, self._example, inputs=inputs_of
        )

    def epoch_steps(self, epoch: int) -> int:
        """The whole batches of the training sequences."""
        del epoch
        return self._steps

    def init(self) -> Training:
        """Fresh parameters, from the seed."""
        shared = dataclasses.replace(self.config, seed=0)
        tx = build_optimizer(shared, self._steps, self._layers)
        if self.config.accumulate > 1:
            tx = accumulated(tx, self.config.accumulate)
        if self.placement is not None:
            tx = in_place(tx, self.placement)
        needs = self._needs if self.skip else None
        begin = beginning(self._model, self._apply, tx, self.placement, needs)
        state = begin(self._init_key, self._example)
        return self._placed(Training(state, {}, zero_totals(self.skip)))

    def _placed(self, tree: Any) -> Any:
        """A tree with all that was made on the host where the rest of it is."""
        return tree if self.placement is None else self.placement.place(tree)

    def batches(self) -> Batches:
        """The batches of all epochs, each shuffled and masked anew."""
        accumulate = self.config.accumulate
        index, count = share_of(self.placement)
        parts = functools.partial(cut, accumulate=accumulate, placement=self.placement)
        return masked_batches(
            self.data.train,
            self.config.batch_size,
            vocab_size=self.data.vocab_size,
            seed=self.config.seed,
            epochs=self.epochs,
            process_index=index,
            process_count=count,
            parts=accumulate,
            put=None if self._plain else parts,
        )

    @property
    def _plain(self) -> bool:
        """Whether batches are neither cut nor placed."""
        return self.placement is None and self.config.accumulate == 1

    def step(self, training: Training, batch: Any, step: int) -> Training:
        """One update."""
        del step  # the state counts for itself
        state, totals = take_step(
            self._update,
            training.state,
            training.totals,
            (batch,) if self._plain else batch,
            self._step_key,
        )
        return training.replace(state=state, totals=totals)

    def end_epoch(
        self, training: Training, means: dict[str, float], epoch: int, step: int
    ) -> tuple[Training, Row]:
        """Evaluates on validation, tells the optimiser if it listens, makes the row."""
        state = training.state
        scores = evaluate(state, self.data, ("validation",), self.placement)
        if finds_own_start(state):
            loss = scores["average_validation_loss"]
            if loss is None:
                loss = scores["validation_loss"]
            opt_state = optax_ia.record_metric(state.opt_state, loss)
            state = self._placed(state.replace(opt_state=opt_state))
        train_loss = means["masked_loss"] / means["masked"]
        row = {
            "optimizer": self.config.optimizer,
            "seed": self.config.seed,
            "epoch": epoch,
            "step": step,
            "train_loss": train_loss,
            "train_perplexity": perplexity(train_loss),
            **scores,
            **norms_and_diagnostics(means, state.params, state.opt_state),
        }
        return training.replace(state=state), row

    def wants_stop(self, training: Training) -> bool:
        """Whether an optimiser that finds its own start has found its end."""
        return has_found_its_end(training.state)


def load(config: MaskedConfig) -> MaskedText:
    """Checks a task before anything is computed, and prepares its sequences.

    Args:
      config: the task.

    Returns:
      The sequences.

    Raises:
      ExperimentError: if a number is out of bounds, a name unknown, or a file missing.
    """
    check_masked(config)
    names = [name for name in models.list_models() if name.startswith("roberta")]
    if config.model not in names:
        raise unknown("model", config.model, names)
    data = load_masked_text(
        config.dataset,
        None if config.data_dir is None else Path(config.data_dir),
        vocab_size=config.vocab_size,
        max_length=config.max_length,
    )
    if config.batch_size > len(data.train):
        raise ExperimentError(
            f"--batch-size must be at most {len(data.train)} (the training sequences "
            f"of {config.dataset}), got {config.batch_size}"
        )
    model_of(config, data.vocab_size)
    return data


def check_run(
    config: MaskedRun, placement: Placement | None = None, *, skip: bool = False
) -> None:
    """Checks that optimiser, batch and devices go together.

    Args:
      config: the run.
      placement: the devices; None for one.
      skip: whether updates that are not finite are left out.

    Raises:
      ExperimentError: naming the argument and what does not fit.
    """
    check_parts(config, placement, skip=skip)
    needs = registry.get_record(config.optimizer).needs
    if "kfac_factors" in needs and config.remat:
        raise ExperimentError(
            f"--remat does not go with {config.optimizer}, whose factors are taken "
            "from one pass over the whole batch"
        )


def run(
    config: MaskedRun,
    data: MaskedText,
    *,
    on_epoch: Callable[[Row], None],
    checkpoints: Checkpoints | None = None,
    on_nan: OnNan = "record",
    final_splits: tuple[str, ...] = ("validation", "test"),
    placement: Placement | None = None,
    **hooks: Any,
) -> Row:
    """Trains, evaluating on validation every epoch and on test once, at the end.

    Args:
      config: the run.
      data: the sequences.
      on_epoch: given the row of each epoch, as it ends.
      checkpoints: where to save, and to go on from if something was saved there.
      on_nan: what a loss that is not finite does; a comparison records it.
      final_splits: what is evaluated at the end; tuning leaves the test set alone.
      placement: the devices; None for one.
      **hooks: further arguments of :func:`experiments.loops.engine.fit`.

    Returns:
      The row of the run for ``results.csv``, without commit and versions.
    """
    task = MaskedTask(config, data, skip=on_nan == "skip", placement=placement)
    training, fitted = fit(
        task, on_epoch=on_epoch, checkpoints=checkpoints, on_nan=on_nan, **hooks
    )
    state = training.state
    return result_row(
        config,
        fitted,
        state.opt_state,
        model=config.model,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        weight_decay=config.weight_decay,
        text_hash=data.text_hash,
        bpe_hash=data.bpe_hash,
        **evaluate(state, data, final_splits, placement),
    )
