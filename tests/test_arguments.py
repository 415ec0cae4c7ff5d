"""The schema: every argument of every factory, with values of all kinds."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia
from optax_ia._src import arguments
from optax_ia._src.required import REQUIRED

VALUES = {
    "nan": float("nan"),
    "inf": float("inf"),
    "minus inf": -float("inf"),
    "-1": -1,
    "-0.5": -0.5,
    "0": 0,
    "0.5": 0.5,
    "1": 1,
    "1.5": 1.5,
    "2**40": 2**40,
    "1e300": 1e300,
    "True": True,
    "text": "0.1",
    "empty text": "",
    "None": None,
    "list": [0.1],
    "dict": {},
    "complex": 1j,
    "array nan": jnp.float32(jnp.nan),
    "numpy -1": np.float64(-1),
    "vector": jnp.ones(2),
    "class": dict,
}
"""Values of all kinds: each must be refused by name, or mean something."""


def _factories():
    """Public factories by name."""
    for name in dir(optax_ia):
        value = getattr(optax_ia, name)
        if inspect.isfunction(value) and hasattr(value, "arguments"):
            yield name, value


FACTORIES = dict(_factories())


def given(factory):
    """Values for the arguments that a factory cannot do without."""
    known = {
        "start": 1,
        "steps_per_epoch": 2,
        "decay": 0.9,
        "snapshot_every": 2,
        "inner": optax.sgd(0.1),
        "optimizer": optax.sgd(0.1),
        "learning_rate": 0.1,
        "weight_decay": 0.1,
        "init_value": 0.1,
        "total": 10,
        "boundaries": [1, 2],
        "window": 2,
        "damping": 0.1,
    }
    return {
        name: known[name]
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.default in (inspect.Parameter.empty, REQUIRED)
    }


PARAMS = {"0.1": jnp.ones((2, 2))}
"""Named so that the text among the values matches it as a pattern of paths."""

PAIRS = [
    pytest.param(factory, argument, id=f"{name}-{argument}")
    for name, factory in FACTORIES.items()
    for argument in factory.arguments
]


@pytest.mark.parametrize(("factory", "argument"), PAIRS)
def test_every_value_is_refused_by_name_or_means_something(factory, argument):
    kind = factory.arguments[argument]
    for label, value in VALUES.items():
        if isinstance(kind, arguments.Unchecked):
            continue
        try:
            made = factory(**{**given(factory), argument: value})
            if isinstance(made, optax.GradientTransformation):
                jax.eval_shape(made.init, PARAMS)
        except (TypeError, ValueError) as refusal:
            message = str(refusal)
            assert argument in message, (label, message)
            continue
        meaningless = ("nan", "minus inf", "array nan", "text", "vector", "class")
        is_mask = isinstance(kind, arguments.MaskArgument)  # a pattern, a function
        assert label not in meaningless or (is_mask and label in ("text", "class"))


@pytest.mark.parametrize("name", FACTORIES)
def test_traced_values_pass(name):
    """What ``inject_hyperparams`` gives under jit has no value to check."""
    factory = FACTORIES[name]
    numbers = {
        argument: value
        for argument, value in given(factory).items()
        if isinstance(value, float)
    }

    def make(values):
        made = factory(**{**given(factory), **values})
        if not isinstance(made, optax.GradientTransformation):
            return 0
        return made.init(PARAMS)

    jax.eval_shape(make, numbers)


@pytest.mark.parametrize("wrap", [np.float32, np.float64, jnp.float32, np.asarray])
def test_scalars_of_numpy_and_jax_are_checked(wrap):
    optax_ia.adamw(wrap(0.1), b1=wrap(0.5))
    with pytest.raises(ValueError, match=r"b1 must be < 1, got 1\.5"):
        optax_ia.adamw(0.1, b1=wrap(1.5))
    with pytest.raises(ValueError, match="learning_rate must be"):
        optax_ia.adamw(wrap(float("nan")))


@pytest.mark.parametrize("name", FACTORIES)
def test_unknown_arguments_get_a_suggestion(name):
    factory = FACTORIES[name]
    known = next((n for n in factory.arguments if len(n) > 3), None)
    if known is None:
        known = next(iter(factory.arguments), None)
    wrong = f"{known}x"
    with pytest.raises(TypeError, match=f"{name} has no argument {wrong!r}") as error:
        factory(**{wrong: 1})
    if known is not None:
        assert f"Did you mean {known!r}" in str(error.value)


@pytest.mark.parametrize(
    ("name", "instead"),
    [("sam", "sam_sgd"), ("svrg", "svrg_sgd"), ("lookahead", "lookahead_adamw")],
)
def test_a_rate_in_place_of_an_optimiser_names_the_combination(name, instead):
    with pytest.raises(TypeError, match=f"must be an optimiser.*optax_ia.{instead}"):
        getattr(optax_ia, name)(0.1, 2)


@pytest.mark.parametrize("name", optax_ia.list_optimizers())
def test_the_registry_and_the_package_mean_one_function(name):
    assert optax_ia.get_record(name).factory is getattr(optax_ia, name)


@pytest.mark.parametrize("name", ["Gadam", "GADAM", "gadm", "Sam_SGD"])
def test_names_in_other_cases_are_suggested(name):
    with pytest.raises(ValueError, match="Did you mean '(gadam|sam_sgd)'"):
        optax_ia.get_optimizer(name)
