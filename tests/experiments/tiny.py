"""A task that compiles in no time: a line fitted to points, some of them spoilt."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import optax_ia
from experiments.cli import parse
from experiments.configs.settings import fields_of
from experiments.data._pipeline import Batches
from experiments.loops.engine import (
    Task,
    Training,
    add_metrics,
    fit,
    norms_and_diagnostics,
    skipping,
)
from experiments.tasks.running import TrainOptions, TrainSettings, train_command
from optax_ia.flax import TrainState, build_train_step

TRUE = np.array([1.0, -2.0, 0.5], np.float32)


def points(seed, step, spoilt=()):
    rng = np.random.default_rng([seed, step])
    inputs = rng.normal(size=(8, 3)).astype(np.float32)
    if step + 1 in spoilt:
        inputs[3, 1] = np.nan
    return inputs, inputs @ TRUE


def apply_fn(variables, inputs, *, rngs=None, train=True, mutable=()):
    outputs = inputs @ variables["params"]["weights"]
    stats = {"seen": variables["batch_stats"]["seen"] + inputs.mean()}
    return (outputs, {"batch_stats": stats}) if mutable else outputs


def loss_fn(outputs, batch):
    return jnp.mean((outputs - batch[1]) ** 2)


STEP = build_train_step("gadam", loss_fn, norms=True)
TX = optax_ia.get_optimizer("gadam", learning_rate=0.03, start=6, every=2)
ADD = jax.jit(add_metrics, donate_argnums=0)


class Line(Task):
    """Epochs of three and four steps in turn, with a carried count."""

    score_name = "distance"
    score_mode = "min"

    def __init__(self, seed=0, epochs=4, spoilt=(), skip=False, stop_after=None):
        self.label, self.epochs, self.seed = f"line, seed {seed}", epochs, seed
        self.spoilt, self.skip, self.stop_after = spoilt, skip, stop_after
        self.after_step = lambda step: None

    def epoch_steps(self, epoch):
        return 3 + epoch % 2

    def init(self):
        state = TrainState.create(
            apply_fn=apply_fn,
            params={"weights": jnp.zeros(3)},
            tx=TX,
            batch_stats={"seen": jnp.zeros(())},
        )
        names = ["loss", "gradient_norm", "update_norm"]
        if self.skip:
            state = skipping(state)
            names.append("skipped")
        return Training(state, {"count": jnp.zeros(())}, dict.fromkeys(names, 0.0))

    def batches(self):
        count = sum(map(self.epoch_steps, range(self.epochs)))
        return Batches(
            lambda step: points(self.seed, step, self.spoilt),
            count,
            threads=0,
            prefetch=0,
        )

    def begin_epoch(self, training, epoch):
        return training.replace(carry={"count": jnp.asarray(100.0 * epoch)})

    def step(self, training, batch, step):
        state, metrics = STEP(training.state, batch, jax.random.key(0))
        totals = ADD(training.totals, metrics)
        self.after_step(step + 1)
        return Training(state, {"count": training.carry["count"] + 1}, totals)

    def end_epoch(self, training, means, epoch, step):
        params = training.state.params
        row = {
            "optimizer": "gadam",
            "seed": self.seed,
            "epoch": epoch,
            "step": step,
            "train_loss": means["loss"],
            "distance": float(jnp.abs(params["weights"] - TRUE).max()),
            "count": float(training.carry["count"]),
            **norms_and_diagnostics(means, params, training.state.opt_state),
        }
        return training, row

    def wants_stop(self, training):
        return self.stop_after is not None and training.state.step >= self.stop_after


@dataclasses.dataclass(frozen=True)
class Config(TrainSettings):
    """What the record of a run holds."""

    epochs: int = 4
    checkpoint_every: int = 2
    spoilt: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Arguments(TrainOptions, Config):
    """Fit a line."""


AFTER_STEP = []
"""Called with the number of each update."""


def train_main(arguments):
    parsed = parse(Arguments, arguments, command="train --task tiny")

    def run(*, on_nan, **hooks):
        task = Line(0, parsed.epochs, parsed.spoilt, skip=on_nan == "skip")
        task.after_step = lambda step: [told(step) for told in AFTER_STEP]
        _, found = fit(task, on_nan=on_nan, **hooks)
        return {"optimizer": "gadam", "seed": 0, "steps": found.step}

    return train_command(
        arguments,
        parsed,
        Config(**fields_of(parsed, Config)),
        lambda folder: run,
        task="tiny",
        columns=("optimizer", "seed", "steps", "commit", "versions"),
        label="line, seed 0",
        epochs=parsed.epochs,
        show=lambda folder, console: console.print("shown"),
    )
