"""The networks and the data of the models benchmark, and their training steps."""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_ia import flax as ia_flax
from optax_ia import models
from optax_ia._src.paths import path_string

Network = Literal[
    "resnet20",
    "vgg_small",
    "awd_lstm_2",
    "roberta_tiny",
    "roberta_4x256",
    "vgg_tiny",
    "awd_lstm_tiny",
]

LEARNING_RATE, MOMENTUM = 0.01, 0.9
"""Of SGD, on both sides."""

CONVOLUTIONAL_BAR, BAR = 1.5, 1.1
"""Most of PyTorch's time that a step may take: of convolutional and other networks."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a network is trained here.

    Attributes:
      model: its name in the zoo.
      batches: sizes of a batch.
      shape: of one example: an image, or the number of tokens.
      options: of the model.
      toy: whether it is there for trying the benchmark out, and has no bar.
    """

    model: str
    batches: tuple[int, ...]
    shape: tuple[int, ...]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    toy: bool = False

    @property
    def convolutional(self) -> bool:
        """Whether it is a network of images."""
        return len(self.shape) == 3

    @property
    def bar(self) -> float | None:
        """Most of PyTorch's time that a step may take; None for toys."""
        if self.toy:
            return None
        return CONVOLUTIONAL_BAR if self.convolutional else BAR


_FOUR_LAYERS = {
    "vocab_size": 8000,
    "hidden_size": 256,
    "num_layers": 4,
    "num_heads": 4,
    "intermediate_size": 1024,
    "max_length": 128,
}

SETTINGS: dict[str, Setting] = {
    "resnet20": Setting("resnet20", (128, 32), (32, 32, 3)),
    "vgg_small": Setting("vgg_small", (128,), (32, 32, 3)),
    "awd_lstm_2": Setting("awd_lstm_2", (20,), (70,)),
    "roberta_tiny": Setting("roberta_tiny", (32,), (16,)),
    "roberta_4x256": Setting("roberta_tiny", (16,), (128,), _FOUR_LAYERS),
    "vgg_tiny": Setting("vgg_tiny", (8,), (8, 8, 3), toy=True),
    "awd_lstm_tiny": Setting("awd_lstm_tiny", (4,), (6,), toy=True),
}
"""By network; that of 70 tokens is the window of Merity et al. for Penn Treebank."""

_RATES = (
    *("dropout", "attention_dropout"),
    *(f"{name}_dropout" for name in ("embedding", "input", "hidden", "output")),
    "weight_dropout",
)


def _loss(outputs: Any, batch: Any) -> jax.Array:
    outputs = getattr(outputs, "logits", outputs)
    terms = optax.softmax_cross_entropy_with_integer_labels(outputs, batch[1])
    return terms.mean()


class Task:
    """A network, random data of its kind, and SGD's steps on one batch.

    Args:
      network: its name here.
      batch_size: examples in a batch.
    """

    def __init__(self, network: Network, batch_size: int):
        self.setting = setting = SETTINGS[network]
        self._model = models.create_model(setting.model, **setting.options)
        init_key, input_key, label_key, self._key = jax.random.split(
            jax.random.key(0), 4
        )
        shape = (batch_size, *setting.shape)
        if setting.convolutional:
            inputs = jax.random.normal(input_key, shape, jnp.float32)
            labels = jax.random.randint(label_key, shape[:1], 0, 10, jnp.int32)
        else:
            words = self._model.vocab_size
            # not the first tokens: one is padding
            inputs = jax.random.randint(input_key, shape, 2, words, jnp.int32)
            labels = jax.random.randint(label_key, shape, 2, words, jnp.int32)
        self._batch = inputs, labels
        init = jax.jit(functools.partial(self._model.init, train=False))
        self._variables = jax.tree.map(np.asarray, init(init_key, inputs[:1]))
        self._step = ia_flax.build_train_step((), _loss)
        self._state = self._start()

    def _start(self) -> ia_flax.TrainState:
        variables = jax.tree.map(jnp.array, self._variables)
        return ia_flax.TrainState.create(
            apply_fn=self._model.apply,
            params=variables["params"],
            batch_stats=variables.get("batch_stats"),
            tx=optax.sgd(LEARNING_RATE, MOMENTUM),
        )

    @property
    def parameters(self) -> int:
        """Their number."""
        return sum(leaf.size for leaf in jax.tree.leaves(self._variables["params"]))

    def description(self) -> dict[str, Any]:
        """What the peer must know besides the arrays: kind of network and rates."""
        kind = self.setting.model.split("_")[0].rstrip("0123456789")
        names = ("num_layers", "num_heads", "pad_token", "epsilon", *_RATES)
        found = {name: getattr(self._model, name, None) for name in names}
        return {
            "kind": kind,
            "options": {n: value for n, value in found.items() if value is not None},
        }

    def save(self, path: Path) -> None:
        """Writes parameters and the batch for the peer, by path."""
        leaves = jax.tree_util.tree_leaves_with_path(
            {"params": self._variables["params"]}
        )
        arrays: dict[str, Any] = {
            path_string(place): np.asarray(leaf) for place, leaf in leaves
        }
        inputs, labels = map(np.asarray, self._batch)
        np.savez(path, inputs=inputs, labels=labels, **arrays)

    def loss(self) -> float:
        """The loss at the start: batch statistics of the batch, nothing dropped."""
        kwargs: dict[str, Any] = {"train": False}
        if "batch_stats" in self._variables:
            kwargs = {"train": True, "mutable": ["batch_stats"]}

        @jax.jit
        def evaluate(variables, batch):
            outputs = self._model.apply(variables, batch[0], **kwargs)
            return _loss(outputs[0] if "mutable" in kwargs else outputs, batch)

        return float(evaluate(self._variables, self._batch))

    def compile(self) -> float:
        """Seconds that the first step takes beyond those of the second."""
        jax.clear_caches()
        self._step, self._state = ia_flax.build_train_step((), _loss), self._start()
        return max(self.block(1)[0] - self.block(1)[0], 0.0)

    def block(self, steps: int) -> tuple[float, float]:
        """Seconds per step, by the clock and of all processors together."""
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(steps):
            self._state, _ = self._step(self._state, self._batch, self._key)
        jax.block_until_ready(self._state.params)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return wall / steps, cpu / steps
