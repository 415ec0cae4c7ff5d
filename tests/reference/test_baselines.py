"""Ten float64 steps of the registry's baselines against Optax's rules in NumPy."""

import jax.numpy as jnp
import optax
import pytest

import optax_ia
from tests.reference import adaptive, averaging, baselines
from tests.reference.problem import (
    STEPS,
    assert_close,
    constant,
    library_run,
    reference_run,
)


def adam(*args, **options):
    """Adam and AdamW are Padam at p = 1/2 without the maximum."""
    return adaptive.padam_family(*args, partial=0.5, amsgrad=False, **options)


def amsgrad(*args, **options):
    """Optax takes the maximum over the corrected second moment."""
    return adaptive.padam_family(*args, partial=0.5, **options)


RULES = {
    "adam": adam,
    "amsgrad": amsgrad,
    "adagrad": baselines.adagrad,
    "rmsprop": baselines.rmsprop,
    "yogi": baselines.yogi,
    "radam": baselines.radam,
    "adabelief": baselines.adabelief,
}
OPTIONS = {
    "adam": {"b1": 0.8, "b2": 0.95, "eps": 1e-2},
    "amsgrad": {"b1": 0.8, "b2": 0.8, "eps": 1e-2},
    "adagrad": {"initial_accumulator_value": 0.1, "eps": 1e-2},
    "rmsprop": {"decay": 0.9, "eps": 1e-2},
    "yogi": {"b1": 0.8, "b2": 0.95, "eps": 1e-2},
    "radam": {"b1": 0.8, "b2": 0.95, "eps": 1e-2},
    "adabelief": {"b1": 0.8, "b2": 0.95, "eps": 1e-2, "eps_root": 1e-3},
}
every_rule = pytest.mark.parametrize("name", RULES)


@every_rule
def test_the_defaults(name):
    tx = optax_ia.get_optimizer(name, learning_rate=0.05)
    expected = reference_run(RULES[name], constant(0.05), STEPS)
    assert_close(library_run(tx)[0], expected)


@every_rule
def test_every_number_is_used_and_the_schedule_counts_from_zero(name):
    tx = optax_ia.get_optimizer(
        name, learning_rate=lambda count: 0.1 / (1 + count), **OPTIONS[name]
    )
    expected = reference_run(RULES[name], lambda t: 0.1 / t, STEPS, **OPTIONS[name])
    assert_close(library_run(tx)[0], expected)


@every_rule
def test_weight_decay(name):
    """L2 before the moments, but for AdaBelief, whose authors' decay is decoupled."""
    tx = optax_ia.get_optimizer(name, learning_rate=0.05, weight_decay=0.1)
    if name == "adabelief":
        expected = reference_run(
            baselines.adabelief, constant(0.05), STEPS, decoupled=0.1
        )
    else:
        rule = baselines.with_l2(RULES[name], 0.1)
        expected = reference_run(rule, constant(0.05), STEPS)
    assert_close(library_run(tx)[0], expected)


@pytest.mark.parametrize(
    ("name", "tx"),
    [
        ("adam", optax.adam(0.05)),
        ("amsgrad", optax.amsgrad(0.05)),
        ("yogi", optax.yogi(0.05)),
        ("radam", optax.radam(0.05)),
        ("adabelief", optax.adabelief(0.05)),
        (
            "adagrad",
            optax.adagrad(0.05, initial_accumulator_value=0.0, eps=1e-20),
        ),
        ("rmsprop", optax.rmsprop(0.05, decay=0.99, eps_in_sqrt=False)),
    ],
)
def test_the_transcriptions_are_of_optaxs_own_rules(name, tx):
    expected = reference_run(RULES[name], constant(0.05), STEPS)
    assert_close(library_run(tx)[0], expected)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(nesterov):
    tx = optax_ia.get_optimizer(
        "sgd", learning_rate=0.05, momentum=0.8, nesterov=nesterov, weight_decay=0.1
    )
    expected = reference_run(
        adaptive.sgd, constant(0.05), STEPS, momentum=0.8, nesterov=nesterov, l2=0.1
    )
    assert_close(library_run(tx)[0], expected)


def test_adamw():
    tx = optax_ia.get_optimizer("adamw", learning_rate=0.05, weight_decay=0.1)
    expected = reference_run(adam, constant(0.05), STEPS, decoupled=0.1)
    assert_close(library_run(tx)[0], expected)


def test_asgd():
    """The average of plain SGD's iterates, of which the run itself knows nothing."""
    tx = optax_ia.get_optimizer(
        "asgd", learning_rate=0.1, start=4, accumulator_dtype=jnp.float64
    )
    iterates, params, state = library_run(tx)
    expected = reference_run(adaptive.sgd, constant(0.1), STEPS)
    assert_close(iterates, expected)
    assert_close(
        optax_ia.averaged_params(state, params),
        {n: averaging.tail_mean(i, 4) for n, i in expected.items()},
    )
