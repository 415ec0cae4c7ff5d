"""Ten float64 steps of the partially adaptive rules against Algorithm 1 in NumPy."""

import pytest

import optax_ia
from tests.reference import adaptive
from tests.reference.problem import (
    STEPS,
    assert_close,
    constant,
    library_run,
    reference_run,
)

OPTIONS = [
    pytest.param(correction, amsgrad, partial, id=f"{correction}-{amsgrad}-{partial}")
    for correction in ("power", "sqrt")
    for amsgrad in (True, False)
    for partial in (0.125, 0.5, 0.0, 0.2)
]


@pytest.mark.parametrize(("correction", "amsgrad", "partial"), OPTIONS)
def test_padam_with_l2_decay(correction, amsgrad, partial):
    options = {"correction": correction, "amsgrad": amsgrad, "partial": partial}
    tx = optax_ia.padam(0.05, weight_decay=0.1, **options)
    expected = reference_run(
        adaptive.padam_family, constant(0.05), STEPS, l2=0.1, **options
    )
    assert_close(library_run(tx)[0], expected)


@pytest.mark.parametrize(("correction", "amsgrad", "partial"), OPTIONS)
def test_padamw_with_decoupled_decay(correction, amsgrad, partial):
    options = {"correction": correction, "amsgrad": amsgrad, "partial": partial}
    tx = optax_ia.padamw(0.05, weight_decay=0.1, **options)
    expected = reference_run(
        adaptive.padam_family, constant(0.05), STEPS, decoupled=0.1, **options
    )
    assert_close(library_run(tx)[0], expected)


@pytest.mark.parametrize("correction", ["power", "sqrt"])
def test_every_number_is_used(correction):
    options = {
        "b1": 0.8,
        "b2": 0.95,
        "eps": 1e-3,
        "eps_root": 1e-2,
        "partial": 0.3,
        "correction": correction,
    }
    tx = optax_ia.padam(0.05, **options)
    expected = reference_run(adaptive.padam_family, constant(0.05), STEPS, **options)
    assert_close(library_run(tx)[0], expected)


def test_the_printed_epsilon_is_eps_root():
    tx = optax_ia.padamw(0.05, eps=0.0, eps_root=1e-4, amsgrad=False, weight_decay=0.0)
    iterates = library_run(tx)[0]

    def algorithm_1(w, gradient):
        m = v = 0.0
        result = []
        for t in range(1, STEPS + 1):
            g = gradient(t, w)
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g * g
            m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
            w = w - 0.05 * m_hat / (v_hat + 1e-4) ** 0.125
            result.append(w)
        return result

    assert_close(iterates, reference_run(algorithm_1))


def test_scheduled_rate_counts_updates_from_zero():
    tx = optax_ia.padamw(lambda count: 0.1 / (1 + count), weight_decay=0.1)
    expected = reference_run(
        adaptive.padam_family, lambda t: 0.1 / t, STEPS, decoupled=0.1
    )
    assert_close(library_run(tx)[0], expected)


def test_mask_leaves_the_bias_undecayed():
    tx = optax_ia.padamw(0.05, weight_decay=0.5, mask={"kernel": True, "bias": False})
    decayed = reference_run(adaptive.padam_family, constant(0.05), STEPS, decoupled=0.5)
    plain = reference_run(adaptive.padam_family, constant(0.05), STEPS)
    assert_close(
        library_run(tx)[0], {"kernel": decayed["kernel"], "bias": plain["bias"]}
    )
