"""RMSGD where it measures: wrappers, checkpoints, a mesh, NNX, and on demand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

import optax_ia

EPOCH, STEPS = 2, 7
LAYERS = ("a/kernel", "b/kernel")


def initial():
    """Two layers of one shape, each with a rank from the start."""
    rng = np.random.default_rng(0)
    tree = {}
    for name in "ab":
        low = rng.normal(size=(24, 3)) @ rng.normal(size=(3, 16))
        kernel = low + 0.3 * rng.normal(size=(24, 16))
        tree[name] = {
            "kernel": jnp.asarray(kernel, jnp.float32),
            "bias": jnp.ones(16, jnp.float32),
        }
    return tree


def gradients(params, t):
    return jax.tree.map(lambda w: 0.5 * w + jnp.sin(w + t).astype(w.dtype), params)


def make_step(tx):
    def step(params, state, t):
        updates, state = tx.update(gradients(params, t), state, params)
        return optax.apply_updates(params, updates), state

    return step


def run(step, params, state, first=0, last=STEPS):
    for t in range(first, last):
        params, state = step(params, state, t)
    return params, state


@functools.cache
def jitted():
    tx = optax_ia.rmsgd(steps_per_epoch=EPOCH)
    return tx, jax.jit(make_step(tx))


@functools.cache
def baseline():
    tx, step = jitted()
    return run(step, initial(), tx.init(initial()))


def assert_same(actual, expected, rtol=1e-5):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for got, want in zip(
        jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


def test_layers_have_rates_of_their_own_once_an_epoch():
    tx, step = jitted()
    params, state = initial(), tx.init(initial())
    history = []
    for t in range(STEPS):
        params, state = step(params, state, t)
        history.append(optax_ia.diagnostics(state))
    rates = np.array([[h[f"learning_rate/{p}"] for p in LAYERS] for h in history])
    np.testing.assert_allclose(rates[:EPOCH], 0.03)
    for t in range(1, STEPS):
        changed = t % EPOCH == 0
        assert (rates[t] != rates[t - 1]).all() == changed
    assert rates[-1, 0] != rates[-1, 1]
    mean = history[-1]["learning_rate"]
    np.testing.assert_allclose(mean, rates[-1].mean(), rtol=1e-6)
    assert history[-1]["layer_epoch"] == (STEPS - 1) // EPOCH
    metrics = optax_ia.explain.layer_metrics(initial())
    gain = metrics["a/kernel"].stable_rank
    assert 0 < gain < 1


def test_biases_take_their_layers_rate():
    tx = optax_ia.scale_by_layer_rates(steps_per_epoch=None)
    params = initial()
    state = optax_ia.update_layer_rates(tx.init(params), params)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, state = tx.update(ones, state)
    for name in "ab":
        rate = state.layer_rates[f"{name}/kernel"]
        for leaf in updates[name].values():
            np.testing.assert_allclose(leaf, jnp.full_like(leaf, -rate), rtol=1e-6)


def test_measuring_on_demand_is_the_same_as_in_the_step():
    tx = optax_ia.rmsgd(steps_per_epoch=None)
    step = jax.jit(make_step(tx))
    params, state = initial(), tx.init(initial())
    for t in range(STEPS):
        if t and t % EPOCH == 0:
            state = optax_ia.update_layer_rates(state, params)
        params, state = step(params, state, t)
    assert_same((params, state), baseline())


def test_measuring_through_wrappers():
    params = initial()
    plain = optax_ia.rmsgd(steps_per_epoch=None)
    expected = optax_ia.update_layer_rates(plain.init(params), params)
    want = optax_ia.diagnostics(expected)["learning_rate/a/kernel"]
    mask = {"a": True, "b": False}
    wrapped = [
        optax.chain(optax.clip(1.0), plain),
        optax.MultiSteps(plain, 2),
        optax.apply_if_finite(plain, 3),
        optax.masked(plain, mask),
        optax.partition({"x": plain, "y": optax.sgd(0.1)}, {"a": "x", "b": "y"}),
        optax.inject_hyperparams(optax_ia.rmsgd, static_args=("power",))(
            steps_per_epoch=None
        ),
    ]
    for tx in wrapped:
        before = tx.init(params)
        state = optax_ia.update_layer_rates(before, params)
        assert jax.tree.structure(state) == jax.tree.structure(before)
        read = optax_ia.diagnostics(state)
        np.testing.assert_allclose(read["learning_rate/a/kernel"], want, rtol=1e-6)
        assert ("learning_rate/b/kernel" in read) == (tx not in wrapped[3:5])
    with pytest.raises(ValueError, match=r"params lack layers .*'b/kernel'"):
        optax_ia.update_layer_rates(plain.init(params), {"a": params["a"]})
    with pytest.raises(ValueError, match=r"exactly one LayerRatesState.*rmsgd"):
        optax_ia.update_layer_rates(optax.sgd(0.1).init(params), params)


def test_steps_with_measurements_under_multisteps_and_injection():
    inject = optax.inject_hyperparams(optax_ia.rmsgd, static_args=("power",))
    tx = optax.MultiSteps(inject(steps_per_epoch=EPOCH), 2)
    step = jax.jit(lambda g, s, p: tx.update(g, s, p))
    params, state = initial(), tx.init(initial())
    for t in range(STEPS):
        grads = gradients(params, t)
        for scale in (0.5, 1.5):
            scaled = jax.tree.map(lambda g, s=scale: s * g, grads)
            updates, state = step(scaled, state, params)
            params = optax.apply_updates(params, updates)
    assert_same(params, baseline()[0], rtol=1e-4)


def test_injected_beta_and_zeta_are_used_without_recompiling():
    inject = optax.inject_hyperparams(optax_ia.rmsgd, static_args=("power",))
    tx = inject(steps_per_epoch=EPOCH)
    step = jax.jit(make_step(tx))
    params, state = run(step, initial(), tx.init(initial()), last=EPOCH + 1)
    before = optax_ia.diagnostics(state)["learning_rate/a/kernel"]
    state.hyperparams["beta"] = jnp.full_like(state.hyperparams["beta"], 0.5)
    state.hyperparams["zeta"] = jnp.zeros_like(state.hyperparams["zeta"])
    params, state = run(step, params, state, EPOCH + 1, 2 * EPOCH + 1)
    after = optax_ia.diagnostics(state)["learning_rate/a/kernel"]
    np.testing.assert_allclose(after, 0.5 * before, rtol=1e-6)
    assert step._cache_size() == 1


def test_scan_and_donation():
    tx, step = jitted()

    @jax.jit
    def scanned(params, state):
        def body(carry, t):
            carry = make_step(tx)(*carry, t)
            return carry, optax_ia.diagnostics(carry[1])

        return jax.lax.scan(body, (params, state), np.arange(STEPS))

    carry, stacked = scanned(initial(), tx.init(initial()))
    assert_same(carry, baseline())
    last = optax_ia.diagnostics(baseline()[1])
    for name, values in stacked.items():
        np.testing.assert_allclose(values[-1], last[name], rtol=1e-5)
    donating = jax.jit(make_step(tx), donate_argnums=(0, 1))
    assert_same(run(donating, initial(), tx.init(initial())), baseline())


def test_resumes_bit_for_bit_across_a_measurement(tmp_path):
    tx, step = jitted()
    params, state = run(step, initial(), tx.init(initial()), last=EPOCH)
    abstract = jax.tree.map(
        ocp.utils.to_shape_dtype_struct,
        {"params": initial(), "opt_state": tx.init(initial())},
    )
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", {"params": params, "opt_state": state})
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "run", abstract)
    again = run(step, restored["params"], restored["opt_state"], first=EPOCH)
    for got, want in zip(
        jax.tree.leaves(again), jax.tree.leaves(baseline()), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_a_mesh_with_sharded_kernels():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    tx = optax_ia.rmsgd(steps_per_epoch=EPOCH)
    params = jax.device_put(initial(), sharding)
    params, state = run(jax.jit(make_step(tx)), params, tx.init(params))
    assert_same((params, state), baseline(), rtol=1e-4)
    assert params["a"]["kernel"].sharding.is_equivalent_to(sharding, 2)


def test_an_nnx_optimizer_measures_and_takes_demands():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.a = nnx.Linear(24, 16, rngs=rngs)
            self.b = nnx.Linear(24, 16, rngs=rngs)

    def make(tx):
        model = Model(nnx.Rngs(0))
        for name, leaves in initial().items():
            getattr(model, name).kernel[...] = leaves["kernel"]
            getattr(model, name).bias[...] = leaves["bias"]
        return model, nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, t):
        optimizer.update(model, gradients(nnx.state(model, nnx.Param), t))

    model, optimizer = make(optax_ia.rmsgd(steps_per_epoch=EPOCH))
    for t in range(STEPS):
        step(model, optimizer, t)
    expected = baseline()[0]
    np.testing.assert_allclose(
        model.a.kernel[...], expected["a"]["kernel"], rtol=1e-5, atol=1e-6
    )
    read = optax_ia.diagnostics(optimizer.opt_state)
    want = optax_ia.diagnostics(baseline()[1])
    for name in want:
        np.testing.assert_allclose(read[name], want[name], rtol=1e-5)
    optimizer.opt_state = optax_ia.update_layer_rates(
        optimizer.opt_state, nnx.state(model, nnx.Param)
    )
    read = optax_ia.diagnostics(optimizer.opt_state)
    assert read["layer_epoch"] == want["layer_epoch"] + 1
    step(model, optimizer, 0)  # of the same structure


def test_a_kernel_that_is_not_finite_keeps_its_rank():
    tx = optax_ia.rmsgd(steps_per_epoch=None, beta=0.5)
    params = initial()
    state = optax_ia.update_layer_rates(tx.init(params), params)
    before = optax_ia.diagnostics(state)
    broken = jax.tree.map(jnp.copy, params)
    broken["a"]["kernel"] = broken["a"]["kernel"].at[0, 0].set(jnp.nan)
    read = optax_ia.diagnostics(optax_ia.update_layer_rates(state, broken))
    assert all(np.isfinite(value) for value in read.values())
    assert read["stable_rank/a/kernel"] == before["stable_rank/a/kernel"]


def test_the_rate_follows_its_schedule_until_something_is_learned():
    rng = np.random.default_rng(0)
    noise = {"kernel": jnp.asarray(rng.normal(size=(24, 16)), jnp.float32)}
    tx = optax_ia.scale_by_layer_rates(
        lambda count: 0.1 * 0.5**count, steps_per_epoch=1
    )
    update = jax.jit(tx.update)
    state = tx.init(noise)
    for t in range(3):
        _, state = update(noise, state, noise)
        read = optax_ia.diagnostics(state)
        np.testing.assert_allclose(read["learning_rate"], 0.1 * 0.5**t, rtol=1e-6)
    learned = {"kernel": initial()["a"]["kernel"]}
    _, state = update(noise, state, learned)
    rank = state.stable_ranks["kernel"]
    want = 0.98 * 0.1 * 0.5**3 + rank
    np.testing.assert_allclose(state.layer_rates["kernel"], want, rtol=1e-6)
    _, state = update(noise, state, learned)
    np.testing.assert_allclose(state.layer_rates["kernel"], 0.98 * want, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": -1}, "learning_rate must be >= 0, got -1"),
        ({"momentum": 1}, "momentum must be < 1, got 1"),
        ({"beta": 1.0}, r"beta must be < 1, got 1\.0"),
        ({"zeta": -1}, "zeta must be >= 0, got -1"),
        ({"floor": -1}, "floor must be >= 0, got -1"),
        ({"power": 3}, "power must be one of 1, 2, got 3"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be >= 1, got 0"),
        ({"steps_per_epoch": 1.5}, "steps_per_epoch must be a whole number"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        optax_ia.rmsgd(**{"steps_per_epoch": 1, **arguments})


def test_parameters_are_asked_for():
    tx = optax_ia.scale_by_layer_rates(steps_per_epoch=1)
    params = initial()
    with pytest.raises(ValueError, match="scale_by_layer_rates needs the parameters"):
        tx.update(params, tx.init(params))
