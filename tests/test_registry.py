"""The registry: frozen records, names with choices, overrides that are checked."""

import dataclasses
import inspect
import pathlib
import re

import jax.numpy as jnp
import optax
import pytest

import optax_ia
from optax_ia import registry
from optax_ia._src.required import REQUIRED

NAMES = optax_ia.list_optimizers()
every_record = pytest.mark.parametrize(
    "record", [registry.get_record(name) for name in NAMES], ids=NAMES
)


def test_the_methods_of_the_paper_are_there():
    assert {
        "sgd",
        "adamw",
        "amsgrad",
        "padam",
        "padamw",
        "lookahead_adamw",
        "swa",
        "gadam",
        "gadamx",
        "gadam_auto",
        "gadam_lookahead",
    } <= set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("gadamx", {"gadamx"}),
        ("padam*", {"padam", "padamw"}),
        ("gadam*", {"gadam", "gadamx", "gadam_auto", "gadam_lookahead"}),
        ("no_such*", set()),
    ],
)
def test_patterns(pattern, expected):
    assert set(optax_ia.list_optimizers(pattern)) == expected


def waiting(record):
    """The arguments that a record must be given: averages wait to be started."""
    parameters = inspect.signature(record.factory).parameters
    return {n: None for n, p in parameters.items() if p.default is REQUIRED}


@every_record
class TestEveryRecord:
    def test_is_frozen(self, record):
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.name = "other"
        with pytest.raises(TypeError):
            record.defaults["learning_rate"] = 1.0
        with pytest.raises(TypeError):
            record.exceptions["jit"] = "no"
        hash(record)

    def test_says_what_it_is(self, record):
        assert record.summary
        assert "\n" not in record.summary
        assert len(record.summary) <= 88
        assert record.paper
        assert isinstance(record.needs, tuple)
        assert isinstance(record.averages, bool)
        assert all(
            isinstance(reason, str) and reason for reason in record.exceptions.values()
        )

    def test_its_base_is_an_entry(self, record):
        assert record.base is None or record.base in set(NAMES) - {record.name}

    def test_makes_a_transformation_with_extra_arguments(self, record):
        tx = optax_ia.get_optimizer(record.name, **waiting(record))
        assert isinstance(tx, optax.GradientTransformationExtraArgs)
        assert isinstance(
            record.make(**waiting(record)), optax.GradientTransformationExtraArgs
        )

    def test_every_argument_has_a_default(self, record):
        missing = [
            name
            for name, parameter in inspect.signature(record.factory).parameters.items()
            if parameter.default is parameter.empty and name not in record.defaults
        ]
        assert not missing

    def test_the_learning_rate_comes_first_and_overrides(self, record):
        assert next(iter(inspect.signature(record.factory).parameters)) == (
            "learning_rate"
        )
        tx = optax_ia.get_optimizer(record.name, learning_rate=0.123, **waiting(record))
        read = optax_ia.diagnostics(tx.init(jnp.ones(2)))
        assert float(read["learning_rate"]) == pytest.approx(0.123, rel=1e-6)

    def test_averages_exactly_if_it_says_so(self, record):
        state = record.make(**waiting(record)).init(jnp.ones(2))
        if record.averages:
            assert optax_ia.num_averaged(state) == 0
        else:
            with pytest.raises(ValueError, match="holds no average"):
                optax_ia.num_averaged(state)

    def test_unknown_overrides_name_the_arguments_there_are(self, record):
        with pytest.raises(TypeError, match=r"lerning_rate.*learning_rate"):
            optax_ia.get_optimizer(record.name, lerning_rate=0.1)

    def test_bad_values_are_refused(self, record):
        with pytest.raises(ValueError, match="learning_rate must be >=? 0, got -1"):
            optax_ia.get_optimizer(record.name, learning_rate=-1)


@pytest.mark.parametrize("name", ["gadamz", "", "GADAM", None, 3])
@pytest.mark.parametrize("get", [optax_ia.get_optimizer, registry.get_record])
def test_unknown_names_list_the_choices(get, name):
    with pytest.raises(ValueError, match="unknown optimizer") as error:
        get(name)
    assert all(known in str(error.value) for known in NAMES)


def test_a_near_miss_is_suggested():
    with pytest.raises(ValueError, match="'gadamx'"):
        optax_ia.get_optimizer("gadmx")


def test_exceptions_name_contracts_that_exist():
    """An exception for a contract that no test asks about would excuse nothing."""
    suite = pathlib.Path(__file__).parent / "contract"
    asked = {
        name
        for file in suite.glob("test_*.py")
        for name in re.findall(r'@over_cases\(\s*"(\w+)"', file.read_text())
    }
    for name in NAMES:
        assert set(registry.get_record(name).exceptions) <= asked
