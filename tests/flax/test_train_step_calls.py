"""How a training step is called and built, what it tells, and what it refuses."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from optax_ia import registry
from optax_ia.flax import TrainState, build_train_step
from tests.flax.step_problem import BATCH, KEY, LinenNet, X, Y, squared_error

NET = LinenNet()
SGD = optax.sgd(0.1)
plain_step = build_train_step((), squared_error, donate=False)


def make_state(tx):
    params = NET.init(jax.random.key(0), X)["params"]
    return TrainState.create(apply_fn=NET.apply, params=params, tx=tx)


def test_several_random_streams():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            del train
            a = jax.random.normal(self.make_rng("left"), x.shape)
            b = jax.random.normal(self.make_rng("right"), x.shape)
            return nn.Dense(1, use_bias=False)(a - b)

    net = Noisy()
    params = {"Dense_0": {"kernel": jnp.ones((3, 1))}}
    state = TrainState.create(apply_fn=net.apply, params=params, tx=SGD)
    train_step = build_train_step(
        (), lambda outputs, _: jnp.mean(outputs**2), rngs=("left", "right")
    )
    _, metrics = train_step(state, BATCH, KEY)
    assert metrics["loss"] > 0  # one key for both would give zero


def test_prepare_changes_the_batch_that_network_and_loss_see():
    def prepare(key, batch):
        assert key.shape == ()
        return {"x": 2 * batch["image"], "y": batch["label"] - 1}

    def loss_fn(outputs, batch):
        return jnp.mean((outputs - batch["y"]) ** 2), {"shift": jnp.mean(batch["y"])}

    train_step = build_train_step((), loss_fn, prepare=prepare)
    raw = {"image": X, "label": Y}
    _, metrics = train_step(make_state(SGD), raw, KEY)
    _, expected = plain_step(make_state(SGD), (2 * X, Y - 1))
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(metrics["shift"], np.mean(Y - 1), rtol=1e-5)
    with pytest.raises(ValueError, match=r"prepare needs a key.*batch, key\)"):
        train_step(make_state(SGD), raw)


def test_inputs_are_taken_as_told():
    train_step = build_train_step(
        (),
        lambda outputs, batch: jnp.mean((outputs - batch["b"]) ** 2),
        inputs=lambda batch: batch["a"],
    )
    _, metrics = train_step(make_state(SGD), {"a": X, "b": Y})
    _, expected = plain_step(make_state(SGD), BATCH)
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-6)


def test_norms():
    train_step = build_train_step((), squared_error, norms=True, donate=False)
    before = make_state(SGD)
    after, metrics = train_step(before, BATCH)
    assert set(metrics) == {"loss", "gradient_norm", "update_norm"}
    assert all(jnp.shape(value) == () for value in metrics.values())
    update = jax.tree.map(lambda a, b: np.asarray(a - b), after.params, before.params)
    norm = np.sqrt(sum(np.sum(u**2) for u in jax.tree.leaves(update)))
    np.testing.assert_allclose(metrics["update_norm"], norm, rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], norm / 0.1, rtol=1e-4)


@pytest.mark.parametrize("donate", [True, False])
def test_donation(donate):
    train_step = build_train_step("gadam", squared_error, donate=donate)
    state = make_state(optax_ia.gadam(0.1, start=1))
    after, _ = train_step(state, BATCH)
    leaves = jax.tree.leaves((state.params, state.opt_state))
    gone = [leaf.is_deleted() for leaf in leaves if leaf.ndim]
    assert all(gone) if donate else not any(gone)
    train_step(after, BATCH)


@pytest.mark.parametrize(
    "optimizer",
    ["sam_sgd", registry.get_record("sam_sgd"), ["grad_fn"]],
    ids=["name", "record", "needs"],
)
def test_the_optimiser_by_name_by_record_and_by_its_needs(optimizer):
    train_step = build_train_step(optimizer, squared_error)
    state, metrics = train_step(make_state(optax_ia.get_optimizer("sam_sgd")), BATCH)
    assert set(metrics) == {"loss"}
    assert state.step == 1


def test_full_batches_may_be_a_function_and_are_read_for_snapshots_alone():
    reads = []

    def full():
        reads.append(None)
        return iter([BATCH])

    train_step = build_train_step("svrg_sgd", squared_error, full_batches=full)
    state = make_state(optax_ia.svrg(SGD, 3))
    for _ in range(7):
        state, _ = train_step(state, BATCH)
    assert len(reads) == 3


def test_without_full_batches_svrg_says_what_to_pass():
    tx = optax_ia.svrg(SGD, 2)
    for full, message in (
        (None, r"full_gradient needs the data.*pass full_batches= to build_train_step"),
        ([], r"full_batches must give at least one batch, got none"),
    ):
        train_step = build_train_step("svrg_sgd", squared_error, full_batches=full)
        with pytest.raises(ValueError, match=message):
            train_step(make_state(tx), BATCH)


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        ("adm", ValueError, r"unknown optimizer 'adm'.*Did you mean 'adam'"),
        (("hessian",), ValueError, r"can supply value, .*kfac_factors, not 'hessian'"),
        (3, TypeError, r"optimizer must be a registry name, .* got a int"),
    ],
)
def test_an_optimiser_that_it_does_not_know(optimizer, error, message):
    with pytest.raises(error, match=message):
        build_train_step(optimizer, squared_error)


def test_an_optimiser_whose_needs_were_not_told_says_what_is_missing():
    with pytest.raises(ValueError, match="sam needs grad_fn"):
        plain_step(make_state(optax_ia.get_optimizer("sam_sgd")), BATCH)


def test_a_loss_that_is_no_scalar_is_refused():
    train_step = build_train_step((), lambda outputs, batch: outputs - batch[1])
    with pytest.raises(ValueError, match=r"loss_fn must return a scalar.*\(12, 1\)"):
        train_step(make_state(SGD), BATCH)


@pytest.mark.parametrize("arguments", [(), (BATCH, KEY, None)], ids=["few", "many"])
def test_a_wrong_number_of_arguments(arguments):
    with pytest.raises(TypeError, match=r"takes \(state, batch, key\), got [14] arg"):
        plain_step(make_state(SGD), *arguments)


def test_a_module_without_train_is_told_what_to_pass():
    net = nn.Dense(1)
    params = net.init(jax.random.key(0), X)["params"]
    state = TrainState.create(apply_fn=net.apply, params=params, tx=SGD)
    with pytest.raises(TypeError, match=r"'train'.*pass apply_kwargs=\{\}"):
        plain_step(state, BATCH, KEY)
    capture = optax_ia.flax.kfac_value_and_grad(net, "gaussian")
    with pytest.raises(TypeError, match=r"'train'.*pass apply_kwargs=\{\}"):
        capture(params, BATCH, KEY)
