"""Micro-batches equal the whole batch, for every optimiser, on real data."""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from sklearn.datasets import load_iris

import optax_ia
from optax_ia import registry
from optax_ia.flax import TrainState, build_train_step
from tests.contract.cases import CASES

X, Y = load_iris(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(X))[:24]
BATCH = (jnp.asarray(X[ORDER]), jnp.asarray(Y[ORDER]))
MODEL = nn.Sequential([nn.Dense(4, param_dtype=float), nn.tanh, nn.Dense(3)])
VARIABLES = jax.tree.map(
    lambda x: x.astype(jnp.float64), MODEL.init(jax.random.key(0), BATCH[0])
)
CASE = {case.name: case for case in CASES}
NAMES = optax_ia.list_optimizers()
NEEDY = [name for name in NAMES if registry.get_record(name).needs]


def loss_fn(outputs, batch):
    loss = optax.softmax_cross_entropy_with_integer_labels(outputs, batch[1]).mean()
    return loss, {"mean": outputs.mean()}


def build(name, **options):
    kfac = {"empirical": True} if name == "kfac" else None
    return build_train_step(
        name, loss_fn, apply_kwargs={}, full_batches=[BATCH], kfac=kfac, **options
    )


def optimizer(name):
    case = CASE[name]
    small = {"learning_rate": 0.01}
    return case.make_bare(
        **small, **({"damping": 1.0} if "damping" in _args(case) else {})
    )


def _args(case):
    return inspect.signature(case.factory).parameters


def state_of(tx):
    return TrainState.create(apply_fn=MODEL.apply, params=VARIABLES["params"], tx=tx)


@pytest.mark.parametrize("name", NAMES)
def test_accumulated_steps_equal_those_of_the_whole_batch(name):
    trained = []
    for parts in (1, 3):
        step, state = build(name, accumulate=parts), state_of(optimizer(name))
        for _ in range(2):
            state, metrics = step(state, BATCH, jax.random.key(1))
        trained.append((state.params, metrics))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), *trained
    )


@pytest.mark.parametrize("name", ["sam_sgd", "sls", "gadam", "kfac"])
def test_accumulated_steps_of_nnx_equal_those_of_the_whole_batch(name):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(4, 4, param_dtype=float, rngs=rngs)
            self.last = nnx.Linear(4, 3, param_dtype=float, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.tanh(self.first(x)))

    trained = []
    for parts in (1, 3):
        model = Net(nnx.Rngs(0))
        tx = nnx.Optimizer(model, optimizer(name), wrt=nnx.Param)
        step = build(name, accumulate=parts)
        for _ in range(2):
            step(model, tx, BATCH, jax.random.key(1))
        trained.append(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), *trained
    )


def test_parts_must_divide_the_batch():
    with pytest.raises(ValueError, match="24 examples do not split into 5"):
        build("sgd", accumulate=5)(state_of(optax.sgd(0.1)), BATCH)
    with pytest.raises(ValueError, match="must have one length"):
        build("sgd", accumulate=2)(state_of(optax.sgd(0.1)), (*BATCH, jnp.ones(3)))
    with pytest.raises(ValueError, match="accumulate must be >= 1, got 0"):
        build("sgd", accumulate=0)


@pytest.mark.parametrize("name", NEEDY)
def test_multi_steps_is_refused_around_what_evaluates_the_loss(name):
    state = state_of(optax.MultiSteps(optimizer(name), 2))
    with pytest.raises(ValueError, match=r"MultiSteps.*accumulate=n"):
        build(name)(state, BATCH, jax.random.key(1))


def test_multi_steps_gets_the_extra_arguments_of_a_state():
    """Flax's ``apply_gradients`` hands them on, also to what is no transformation."""
    seen = []

    def update(updates, state, params=None, **extra):
        seen.append(set(extra))
        return updates, state

    inner = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
    for tx in (inner, optax.MultiSteps(inner, 1), optax.chain(inner)):
        state = state_of(tx)
        state.apply_gradients(grads=state.params, value=jnp.zeros([]))
    assert seen
    assert all(names == {"value"} for names in seen)


def test_two_states_of_one_init_both_train():
    """The step donates the state, which owns copies of what it was made from."""
    for name in ("adamw", "gadam"):
        state = state_of(optimizer(name))
        build(name)(state, BATCH)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(VARIABLES))


def test_what_is_read_out_survives_the_donation_of_the_state():
    model = nn.Sequential([nn.Dense(4), nn.BatchNorm(use_running_average=True)])
    variables = model.init(jax.random.key(0), BATCH[0])
    state = TrainState.create(
        apply_fn=model.apply, tx=optax_ia.swa(0.1, start=5), **variables
    )
    read = state.averaged_variables()
    donate = jax.jit(
        lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0
    )
    donate(state)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(read))


def test_an_averaged_model_survives_the_donation_of_the_model():
    model = nnx.Sequential(
        nnx.Linear(4, 4, rngs=nnx.Rngs(0)),
        nnx.BatchNorm(4, rngs=nnx.Rngs(0)),
        nnx.Dropout(0.5, rngs=nnx.Rngs(1)),
    )
    optimizer = nnx.Optimizer(model, optax_ia.swa(0.1, start=1), wrt=nnx.Param)
    averaged = optax_ia.flax.averaged_model(model, optimizer)
    for leaf in jax.tree.leaves(nnx.state(model)):
        leaf.delete()
    for leaf in jax.tree.leaves(nnx.state(averaged)):
        leaf.block_until_ready()
    assert jnp.isfinite(averaged(BATCH[0])).all()
