"""The Linen training state: statistics, extra arguments, averaged evaluation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct
from flax.training import train_state

import optax_ia
from optax_ia.flax import TrainState, recalibrate_batch_stats
from tests.flax.problem import batches, linen_variables


def make_state(tx, seed=0, cls=TrainState, **kwargs):
    net, variables = linen_variables(seed)
    return cls.create(
        apply_fn=net.apply,
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        tx=tx,
        **kwargs,
    )


@jax.jit
def train_step(state, x):
    def loss(params):
        out, updated = state.apply_fn(
            {"params": params, "batch_stats": state.batch_stats},
            x,
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.mean((out - 1.0) ** 2), updated["batch_stats"]

    grads, stats = jax.grad(loss, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads, batch_stats=stats)


def train(state, steps):
    iterates = []
    data = batches((8, 8, 8))
    for t in range(steps):
        state = train_step(state, data[t % len(data)])
        iterates.append(state.params)
    return state, iterates


def test_it_is_a_flax_train_state():
    state = make_state(optax_ia.gadam(1e-2, start=1))
    assert isinstance(state, train_state.TrainState)
    assert state.step == 0


def test_statistics_move_and_the_step_counts():
    before = make_state(optax_ia.gadam(1e-2, start=1))
    after, _ = train(before, 2)
    assert after.step == 2
    moved = after.batch_stats["norm_0"]["mean"] - before.batch_stats["norm_0"]["mean"]
    assert jnp.abs(moved).max() > 0


def test_one_compilation():
    state = make_state(optax_ia.gadamx(1e-2, start=1))
    before = train_step._cache_size()
    train(state, 4)
    assert train_step._cache_size() == before + 1


def test_averaged_variables_are_the_mean_with_fresh_statistics():
    state, iterates = train(make_state(optax_ia.gadam(1e-2, start=2)), 5)
    data = batches()
    variables = state.averaged_variables(data)
    expected = jax.tree.map(lambda *w: np.mean(w, axis=0), *iterates[1:])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        variables["params"],
        expected,
    )
    fresh = recalibrate_batch_stats(
        state.apply_fn,
        {"params": variables["params"], "batch_stats": state.batch_stats},
        data,
    )
    jax.tree.map(
        np.testing.assert_array_equal, variables["batch_stats"], fresh["batch_stats"]
    )
    outputs = state.apply_fn(variables, data[0])
    assert outputs.shape == (8, 1)
    assert jnp.isfinite(outputs).all()


def test_averaged_variables_without_data_keep_the_statistics():
    state, _ = train(make_state(optax_ia.gadam(1e-2, start=1)), 3)
    variables = state.averaged_variables()
    jax.tree.map(
        np.testing.assert_array_equal, variables["batch_stats"], state.batch_stats
    )


def test_averaged_variables_before_the_start_are_the_current_ones():
    state, _ = train(make_state(optax_ia.gadam(1e-2, start=100)), 3)
    variables = state.averaged_variables()
    jax.tree.map(np.testing.assert_array_equal, variables["params"], state.params)


def test_averaged_variables_leave_the_state_alone():
    state, _ = train(make_state(optax_ia.gadam(1e-2, start=1)), 2)
    before = jax.tree.map(np.array, (state.params, state.batch_stats, state.opt_state))
    state.averaged_variables(batches())
    jax.tree.map(
        np.testing.assert_array_equal,
        (state.params, state.batch_stats, state.opt_state),
        before,
    )


def test_an_optimiser_without_average_says_so():
    state = make_state(optax.adam(1e-2))
    with pytest.raises(ValueError, match="holds no average"):
        state.averaged_variables()


def recorder(seen):
    def update(updates, state, params=None, **extra_args):
        seen.append(extra_args)
        return updates, state

    return optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)


def test_extra_arguments_reach_the_transformation():
    seen = []
    state = make_state(optax.chain(recorder(seen), optax.sgd(0.1)))
    grads = jax.tree.map(jnp.ones_like, state.params)
    new = state.apply_gradients(
        grads=grads, batch_stats={"other": jnp.ones(1)}, value=1.5, grad_fn=len
    )
    assert seen == [{"value": 1.5, "grad_fn": len}]
    assert set(new.batch_stats) == {"other"}
    assert new.tx is state.tx


def test_a_transformation_without_extra_arguments_ignores_them():
    tx = optax.GradientTransformation(
        lambda params: optax.EmptyState(), lambda g, state, params=None: (g, state)
    )
    state = make_state(tx)
    grads = jax.tree.map(jnp.ones_like, state.params)
    assert state.apply_gradients(grads=grads, value=1.0).step == 1


def test_fields_of_a_subclass_are_replaced_not_forwarded():
    class Mine(TrainState):
        dropout_key: jax.Array = struct.field(default=None)

    seen = []
    key = jax.random.key(0)
    state = make_state(recorder(seen), cls=Mine, dropout_key=key)
    grads = jax.tree.map(jnp.ones_like, state.params)
    new = state.apply_gradients(grads=grads, dropout_key=jax.random.key(1), value=2.0)
    assert seen == [{"value": 2.0}]
    assert (jax.random.key_data(new.dropout_key) != jax.random.key_data(key)).any()


def test_networks_without_batch_norm():
    net = nn.Dense(1)
    x = jnp.ones((2, 3))
    params = net.init(jax.random.key(0), x)["params"]
    state = TrainState.create(
        apply_fn=net.apply, params=params, tx=optax_ia.swa(0.1, start=1)
    )
    grads = jax.grad(lambda p: jnp.sum(net.apply({"params": p}, x) ** 2))(params)
    state = state.apply_gradients(grads=grads)
    assert set(state.averaged_variables()) == {"params"}
    assert set(state.averaged_variables([x])) == {"params"}
    assert state.apply_fn(state.averaged_variables([x]), x).shape == (2, 1)


def test_start_averaging_and_record_metric_through_replace():
    state = make_state(optax_ia.gadam(1e-2, None))
    state = state.replace(opt_state=optax_ia.start_averaging(state.opt_state))
    state, _ = train(state, 2)
    assert optax_ia.num_averaged(state.opt_state) == 2
    auto = make_state(optax_ia.gadam_auto(1e-2, patience=1))
    for metric in (1.0, 1.0):
        auto = auto.replace(opt_state=optax_ia.record_metric(auto.opt_state, metric))
    auto, _ = train(auto, 3)
    assert optax_ia.num_averaged(auto.opt_state) == 3


def test_donated_training_keeps_working():
    step = jax.jit(train_step.__wrapped__, donate_argnums=0)
    state = make_state(optax_ia.gadamx(1e-2, start=1))
    for x in batches((8, 8)):
        state = step(state, x)
    assert optax_ia.num_averaged(state.opt_state) == 2
    assert jnp.isfinite(state.averaged_variables()["params"]["head"]["bias"]).all()


def test_a_mask_by_path_reads_linen_names():
    tx = optax_ia.padamw(
        0.1, weight_decay=0.5, mask=optax_ia.path_mask(r"^dense_\d/kernel$")
    )
    state = make_state(tx)
    zeros = jax.tree.map(jnp.zeros_like, state.params)
    new = state.apply_gradients(grads=zeros)
    for name, layer in state.params.items():
        for leaf, value in layer.items():
            factor = 0.95 if (name[:6], leaf) == ("dense_", "kernel") else 1.0
            np.testing.assert_allclose(new.params[name][leaf], factor * value, 1e-6)
