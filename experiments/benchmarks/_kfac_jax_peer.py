"""kfac-jax on the K-FAC benchmark's networks, for an interpreter that has it.

Run by :mod:`experiments.benchmarks.kfac` under ``--peer``; imports nothing of this
repository. Requests come as JSON, one a line, on the standard input, answers likewise
on the standard output.
"""

import json
import os
import sys
import time

import jax
import jax.numpy as jnp
import kfac_jax  # pyright: ignore[reportMissingImports]: not of this environment
import numpy as np
import optax


def autoencoder(params, x):
    """Dense layers with tanh; none on the code in the middle and on the output."""
    for number in range(len(params)):
        layer = params[f"Dense_{number}"]
        x = x @ layer["kernel"] + layer["bias"]
        if number not in (len(params) // 2 - 1, len(params) - 1):
            x = jnp.tanh(x)
    return x


def convnet(params, x):
    """Convolutions of 3 x 3, each pooled by 2 but the last, and one Dense layer."""
    convolutions = len(params) - 1
    for number in range(convolutions):
        layer = params[f"Conv_{number}"]
        x = jax.lax.conv_general_dilated(
            x,
            layer["kernel"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = jax.nn.relu(x + layer["bias"])
        if number < convolutions - 1:
            n, height, width, channels = x.shape
            x = x.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))
    layer = params["Dense_0"]
    return x.mean((1, 2)) @ layer["kernel"] + layer["bias"]


def loss_of(kind):
    """The loss of parameters and a batch, its distribution registered."""

    def reconstruction(params, batch):
        x, labels = batch
        logits = autoencoder(params, x)
        kfac_jax.register_multi_bernoulli_predictive_distribution(logits, labels)
        terms = optax.sigmoid_binary_cross_entropy(logits, labels)
        return terms.sum(axis=-1).mean()

    def classification(params, batch):
        x, labels = batch
        logits = convnet(params, x)
        kfac_jax.register_softmax_cross_entropy_loss(logits, labels)
        terms = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return terms.mean()

    return {"autoencoder": reconstruction, "convnet": classification}[kind]


class Sgd:
    """SGD with momentum."""

    def __init__(self, loss, params, batch, options):
        tx = optax.sgd(options["learning_rate"], options["momentum"])

        def step(params, state, batch):
            value, grads = jax.value_and_grad(loss)(params, batch)
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value

        del batch
        self._step = jax.jit(step, donate_argnums=(0, 1))
        self._params, self._state = params, tx.init(params)

    def step(self, batch):
        """One step; gives the loss."""
        self._params, self._state, value = self._step(self._params, self._state, batch)
        return value


class Kfac:
    """kfac-jax's optimiser with everything fixed."""

    def __init__(self, loss, params, batch, options):
        self._given = {
            name: options[name] for name in ("learning_rate", "momentum", "damping")
        }
        self._optimizer = kfac_jax.Optimizer(
            value_and_grad_func=jax.value_and_grad(loss),
            l2_reg=0.0,
            num_burnin_steps=0,
            estimation_mode="fisher_gradients",
            curvature_ema=options["decay"],
            curvature_update_period=1,
            inverse_update_period=options["inverse_every"],
            use_exact_inverses=options["damping_mode"] == "product",
            multi_device=False,
        )
        self._params, self._key, self._count = params, jax.random.key(1), 0
        self._state = self._optimizer.init(params, self._key, batch)

    def step(self, batch):
        """One step; gives the loss."""
        self._key, key = jax.random.split(self._key)
        self._params, self._state, stats = self._optimizer.step(
            self._params,
            self._state,
            key,
            batch=batch,
            global_step_int=self._count,
            **self._given,
        )
        self._count += 1
        return stats["loss"]


def timed(optimizer, batch, steps):
    """Seconds of some steps together."""
    began = time.perf_counter()
    for _ in range(steps):
        value = optimizer.step(batch)
    jax.block_until_ready((optimizer._params, optimizer._state, value))
    return time.perf_counter() - began


class Session:
    """What the requests act on."""

    def load(self, path, kind):
        """Reads parameters and data; comes before all other requests."""
        arrays = np.load(path)
        params = {}
        for name in arrays.files:
            parts = name.split("/")
            if parts[0] == "params":
                layer = params.setdefault(parts[1], {})
                layer[parts[2]] = jnp.asarray(arrays[name])
        batches = jnp.asarray(arrays["inputs"]), jnp.asarray(arrays["labels"])
        self._loaded = loss_of(kind), params, batches
        return {"jax": jax.__version__, "kfac_jax": kfac_jax.__version__}

    def _make(self, make, options):
        loss, params, (inputs, labels) = self._loaded
        first = inputs[0], labels[0]
        return make(loss, jax.tree.map(jnp.copy, params), first, options), first

    def start(self, **options):
        """Makes the state and does one period; gives the seconds of its stages."""
        jax.clear_caches()
        began = time.perf_counter()
        self._kfac, self._batch = self._make(Kfac, options)
        jax.block_until_ready(self._kfac._state)
        made = time.perf_counter() - began
        first = timed(self._kfac, self._batch, 1)
        second = timed(self._kfac, self._batch, 1)
        self._period = options["inverse_every"]
        timed(self._kfac, self._batch, self._period - 2)
        self._sgd = self._make(Sgd, options)[0]
        compiling = timed(self._sgd, self._batch, 1)
        return {"seconds": [made, first, second], "sgd": compiling}

    def round(self, sgd_steps):
        """Seconds of steps of SGD, of a step with inverses, and of one without."""
        sgd = timed(self._sgd, self._batch, sgd_steps) / sgd_steps
        inverse = timed(self._kfac, self._batch, 1)
        others = timed(self._kfac, self._batch, self._period - 1)
        return {"sgd": sgd, "with": inverse, "without": others / (self._period - 1)}

    def train(self, steps, **options):
        """The loss before each of some steps, one batch after the other."""
        kfac, _ = self._make(Kfac, options)
        inputs, labels = self._loaded[2]
        losses = []
        for step in range(steps):
            number = step % len(inputs)
            losses.append(kfac.step((inputs[number], labels[number])))
        return {"losses": [float(loss) for loss in losses]}


def main():
    """Answers requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    session = Session()
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(session, request.pop("do"))(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
