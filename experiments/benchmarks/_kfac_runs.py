"""Timed training steps of SGD and K-FAC, and the parts of the latter."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks._kfac_networks import Task
from optax_ia import flax as ia_flax
from optax_ia.second_order import _kfac_estimate as estimate
from optax_ia.second_order import infer_kfac_layers, kfac
from optax_ia.second_order._kfac_layers import leaves_by_path

Options = dict[str, Any]
"""``learning_rate``, ``momentum``, ``damping``, ``decay``, ``inverse_every`` and
``damping_mode``."""


def seconds(work: Callable[[], Any], times: int = 1) -> float:
    """Seconds that some calls take together."""
    began = time.perf_counter()
    for _ in range(times):
        result = work()
    jax.block_until_ready(result)
    return time.perf_counter() - began


class Trainer:
    """A training step, as ``build_train_step`` makes it, and its state.

    Args:
      task: network and data.
      options: of K-FAC.
      sgd: whether to train by SGD with momentum instead.
    """

    def __init__(self, task: Task, options: Options, *, sgd: bool = False):
        rate, momentum = options["learning_rate"], options["momentum"]
        if sgd:
            tx, needs = optax.sgd(rate, momentum), ()
        else:
            names = ("damping", "decay", "inverse_every", "damping_mode")
            given = {name: options[name] for name in names}
            tx, needs = kfac(rate, momentum=momentum, **given), ("kfac_factors",)
        self._step = ia_flax.build_train_step(
            needs,
            task.loss_fn,
            apply_kwargs={},
            kfac={"likelihood": task.likelihood},
        )
        self._key = jax.random.key(1)
        self.state = ia_flax.TrainState.create(
            apply_fn=task.model.apply,
            params=jax.tree.map(jnp.copy, task.params),
            tx=tx,
        )

    def step(self, batch: Any) -> tuple[Any, jax.Array]:
        """One step; gives the state and the loss before it."""
        self.state, metrics = self._step(self.state, batch, self._key)
        return self.state, metrics["loss"]


def start(task: Task, options: Options) -> tuple[Trainer, Any, tuple[float, ...]]:
    """A K-FAC trainer after its first period.

    Returns:
      It, the batch, and the seconds of making the state, of the first step and of the
      second, with all that was compiled for them.
    """
    jax.clear_caches()
    batch = task.batch(0)
    jax.block_until_ready((task.params, batch))
    began = time.perf_counter()
    trainer = Trainer(task, options)
    jax.block_until_ready(trainer.state.opt_state)
    made = time.perf_counter() - began
    step = functools.partial(trainer.step, batch)
    first, second = seconds(step), seconds(step)
    for _ in range(options["inverse_every"] - 2):
        step()
    return trainer, batch, (made, first, second)


def cycle(trainer: Trainer, batch: Any, inverse_every: int) -> tuple[float, float]:
    """Seconds of a step with inverses and of one without, over a period."""
    step = functools.partial(trainer.step, batch)
    with_inverses = seconds(step)
    others = inverse_every - 1
    return with_inverses, seconds(step, others) / others


def losses(task: Task, options: Options, steps: int) -> list[float]:
    """The loss before each of some steps, one batch after the other."""
    trainer = Trainer(task, options)
    found = [trainer.step(task.batch(number))[1] for number in range(steps)]
    return np.asarray(found).tolist()


def parts(task: Task, options: Options) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What a step is made of, each a compiled program of its own.

    Args:
      task: network and data.
      options: of K-FAC.

    Yields:
      A name, and a function that does it once.
    """
    mode, damping = options["damping_mode"], jnp.float32(options["damping"])
    params, batch, key = task.params, task.batch(0), jax.random.key(1)
    layers = {layer.path: layer for layer in infer_kfac_layers(params)}

    def loss_of(params, batch):
        return task.loss_fn(task.model.apply({"params": params}, batch[0]), batch)

    def inverses(factors, bases):
        return {
            path: estimate.refreshed(layer, factors[path], bases[path], mode, damping)
            for path, layer in layers.items()
        }

    def precondition(grads, bases):
        arrays, steps = leaves_by_path(grads)[0], {}
        for path, layer in layers.items():
            matrix = layer.to_matrix(arrays)
            natural = estimate.preconditioned(matrix, bases[path], mode, damping)
            steps |= layer.from_matrix(natural, arrays)
        return steps

    gradient = jax.jit(jax.grad(loss_of))
    capture = jax.jit(
        ia_flax.kfac_value_and_grad(task.model, task.likelihood, apply_kwargs={})
    )
    average = jax.jit(
        functools.partial(estimate.averaged, decay=0.95), donate_argnums=0
    )
    refresh = jax.jit(inverses, donate_argnums=1)
    natural = jax.jit(precondition, donate_argnums=0)

    _, grads, new = capture(params, batch, key)
    arrays = leaves_by_path(params)[0]
    kernels = {path: arrays[layer.leaves[0]] for path, layer in layers.items()}
    factors, bases = estimate.initial(layers, kernels, mode, damping)
    held: dict[str, Any] = {
        "factors": factors,
        "bases": bases,
        "grads": leaves_by_path(grads)[0],
    }

    def averaged():
        held["factors"], count = average(held["factors"], new, jnp.int32(9))
        return held["factors"], count

    def refreshed():
        held["bases"] = refresh(new, held["bases"])
        return held["bases"]

    def preconditioned():
        held["grads"] = natural(held["grads"], held["bases"])
        return held["grads"]

    yield "gradient", lambda: gradient(params, batch)
    yield "gradient and factors", lambda: capture(params, batch, key)
    yield "averages of factors", averaged
    yield "inverses", refreshed
    yield "preconditioning", preconditioned
