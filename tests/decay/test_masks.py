"""Masks: patterns, trees and functions; what is no mask is refused by its path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_ia

PARAMS = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "scale": 1.0}
KERNEL = {"dense": {"kernel": True, "bias": False}, "scale": False}
PREFIX = {"dense": True, "scale": False}

MASKED = [
    name
    for name in optax_ia.list_optimizers()
    if "mask" in optax_ia.get_record(name).factory.arguments
]


def decayed(mask):
    """Which parameters a mask lets decay."""
    tx = optax_ia.l2_decay(0.5, mask)
    zeros = optax.tree.zeros_like(PARAMS)
    updates, _ = tx.update(zeros, tx.init(PARAMS), PARAMS)
    return jax.tree.map(lambda u: bool((u != 0).all()), updates)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        pytest.param(KERNEL, KERNEL, id="tree"),
        pytest.param("kernel$", KERNEL, id="pattern"),
        pytest.param(optax_ia.path_mask("kernel$"), KERNEL, id="path_mask"),
        pytest.param(lambda params: KERNEL, KERNEL, id="function"),
        pytest.param(
            PREFIX,
            {"dense": {"kernel": True, "bias": True}, "scale": False},
            id="prefix",
        ),
        pytest.param(True, jax.tree.map(lambda _: True, PARAMS), id="one bool"),
        pytest.param(jax.tree.map(np.bool_, KERNEL), KERNEL, id="NumPy bools"),
    ],
)
def test_masks_of_every_form(mask, expected):
    assert decayed(mask) == expected


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        ("no_such$", ValueError, "matches no parameter"),
        ("(", ValueError, "no regular expression"),
        (1, TypeError, "mask must hold True and False alone, got 1"),
        ({**KERNEL, "scale": None}, TypeError, "got None at 'scale'"),
        ({**KERNEL, "scale": "no"}, TypeError, "got 'no' at 'scale'"),
        ({"dense": True}, ValueError, "mask .*leaves out 'scale'"),
        ({**KERNEL, "other": True}, ValueError, "no parameter lies at 'other'"),
        (lambda params: None, TypeError, "result of mask .*got None"),
        (lambda params: {"dense": 1.0, "scale": True}, TypeError, "at 'dense'"),
        (lambda params: {"dense": True}, ValueError, "leaves out 'scale'"),
    ],
)
def test_what_is_no_mask_is_refused(mask, error, message):
    with pytest.raises(error, match=message):
        decayed(mask)


@pytest.mark.parametrize("name", MASKED)
def test_every_method_checks_its_mask(name):
    record = optax_ia.get_record(name)
    extra = {"steps_per_epoch": 2} if name == "rmsgd" else {}
    extra |= {"start": 1} if "start" in record.factory.arguments else {}
    if name in ("shampoo", "kfac", "lanczos_newton", "rmsgd"):
        extra.pop("start", None)
    with pytest.raises(TypeError, match="mask must hold True and False alone"):
        record.make(mask={"dense": None}, **extra)
    record.make(mask="kernel$", weight_decay=0.1, **extra)


def test_masks_inside_a_partition_see_the_masked_parameters():
    tx = optax.partition(
        {
            "ours": optax_ia.adamw(0.1, weight_decay=0.5, mask=KERNEL),
            "rest": optax.sgd(1.0),
        },
        {"dense": "ours", "scale": "rest"},
    )
    zeros = optax.tree.zeros_like(PARAMS)
    updates, _ = tx.update(zeros, tx.init(PARAMS), PARAMS)
    assert bool((updates["dense"]["kernel"] != 0).all())
    assert bool((updates["dense"]["bias"] == 0).all())
