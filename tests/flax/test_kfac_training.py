"""K-FAC in whole runs: with averages, triggers, accumulation, bfloat16, and resumed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import optax_ia
import optax_ia.flax

KEY = jax.random.key(2)
STEPS, START, MIDDLE = 7, 3, 5


class Block(nn.Module):
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(4, dtype=self.dtype, param_dtype=self.dtype)(x))


class Network(nn.Module):
    """Layers of the paths ``Block_0/Dense_0`` and ``Dense_0``."""

    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, dtype=self.dtype, param_dtype=self.dtype)(
            Block(self.dtype)(x)
        )


def batch(dtype=jnp.float32, seed=0):
    x = jax.random.normal(jax.random.key(seed), (32, 5), dtype)
    return x, jnp.argmax(x[:, :3], axis=1)


def loss_fn(outputs, batch):
    terms = optax.softmax_cross_entropy_with_integer_labels(
        outputs.astype(jnp.float32), batch[1]
    )
    return terms.mean()


def kfac(**kwargs):
    return optax_ia.kfac(0.1, damping=0.1, inverse_every=3, **kwargs)


def start(tx, model=None, dtype=jnp.float32):
    model = Network(jnp.dtype(dtype)) if model is None else model
    params = model.init(jax.random.key(1), batch(dtype)[0])["params"]
    return optax_ia.flax.TrainState.create(apply_fn=model.apply, params=params, tx=tx)


def new_step():
    # nothing is donated: the tests look at states that have been left behind
    return optax_ia.flax.build_train_step(
        "kfac", loss_fn, apply_kwargs={}, donate=False
    )


def assert_identical(tree, like):
    jax.tree.map(np.testing.assert_array_equal, tree, like)


def run(step, state, steps, first=0):
    """The states after each of some steps, on one batch after the other."""
    states = []
    for number in range(first, steps):
        state, _ = step(state, batch(seed=number), KEY)
        states.append(state)
    return states


@pytest.fixture(scope="module")
def averaged():
    """A step, the state it starts from, and those after it, with a tail average."""
    step = new_step()
    state = start(optax.chain(kfac(factor_every=2), optax_ia.tail_average(start=START)))
    return step, state, run(step, state, STEPS)


def test_the_average_of_a_tail_is_that_of_the_iterates(averaged):
    _, first, states = averaged
    collected = int(optax_ia.num_averaged(states[-1].opt_state))
    assert collected == STEPS - START + 1
    mean = jax.tree.map(
        lambda *leaves: np.mean(np.stack(leaves), axis=0),
        *[state.params for state in states[-collected:]],
    )
    variables = states[-1].averaged_variables()
    jax.tree.map(
        lambda leaf, like: np.testing.assert_allclose(leaf, like, rtol=2e-6),
        variables["params"],
        mean,
    )

    def loss(params):
        return loss_fn(first.apply_fn({"params": params}, batch()[0]), batch())

    assert loss(variables["params"]) < 0.7 * loss(first.params)


@pytest.mark.parametrize(
    "root",
    [False, pytest.param(True, marks=pytest.mark.slow)],  # two programs more
)
def test_a_run_resumed_in_the_middle_of_its_periods_is_the_same(
    averaged, tmp_path, root
):
    # Orbax is given layers of the paths "Block_0/Dense_0", with a slash, and "", empty
    if root:
        step, state = new_step(), start(kfac(), nn.Dense(3))
        states = run(step, state, STEPS)
    else:
        step, state, states = averaged
    middle = states[MIDDLE - 1]
    count = int(optax.tree.get(middle.opt_state, "kfac_count"))
    assert count == MIDDLE
    assert count % 2
    assert count % 3
    saved = {"params": middle.params, "opt_state": middle.opt_state}
    abstract = jax.tree.map(
        ocp.utils.to_shape_dtype_struct,
        {"params": state.params, "opt_state": state.tx.init(state.params)},
    )
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", saved)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "run", abstract)
    assert_identical(restored, saved)
    paths = set(optax.tree.get(restored["opt_state"], "factors"))
    assert paths == ({""} if root else {"Block_0/Dense_0", "Dense_0"})
    continued = run(
        step, middle.replace(step=middle.step, **restored), STEPS, first=MIDDLE
    )
    assert_identical(continued[-1].params, states[-1].params)
    assert_identical(continued[-1].opt_state, states[-1].opt_state)


@pytest.mark.slow  # a program of its own
def test_a_trigger_starts_the_average():
    step = new_step()
    state = start(optax.chain(kfac(), optax_ia.auto_average(patience=1)))
    phases, collected = [], []
    for value in (3.0, 3.0, 2.0, 2.0):
        state, _ = step(state, batch(), KEY)
        opt_state = optax_ia.record_metric(state.opt_state, value)
        state = state.replace(opt_state=opt_state)
        phases.append(int(optax_ia.diagnostics(opt_state)["averaging_phase"]))
        collected.append(int(optax_ia.num_averaged(opt_state)))
    assert phases == [0, 1, 1, 2]
    assert collected == [0, 0, 1, 2]
    assert optax_ia.should_stop(state.opt_state)


@pytest.mark.slow  # a program of its own
def test_bfloat16_parameters_learn():
    step = new_step()
    state = start(kfac(), dtype=jnp.bfloat16)
    losses = []
    for _ in range(20):
        state, metrics = step(state, batch(jnp.bfloat16), KEY)
        losses.append(metrics["loss"])
    assert losses[-1] < 0.3 * losses[0]
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {
        jnp.dtype(jnp.bfloat16)
    }
    factors = optax.tree.get(state.opt_state, "factors")
    assert {leaf.dtype for leaf in jax.tree.leaves(factors)} == {jnp.dtype(jnp.float32)}


def test_a_batch_of_one_moves_by_a_finite_step():
    step, state = new_step(), start(kfac())
    one = jax.tree.map(lambda leaf: leaf[:1], batch())
    before = state.params
    for _ in range(4):
        state, metrics = step(state, one, KEY)
        assert jnp.isfinite(metrics["loss"])
    assert jax.tree.all(jax.tree.map(lambda x: jnp.isfinite(x).all(), state.params))
    assert not jax.tree.all(
        jax.tree.map(lambda x, y: (x == y).all(), state.params, before)
    )
