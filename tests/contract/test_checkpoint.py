"""Every case saved by Orbax in the middle of a run and continued from the copy."""

import jax
import orbax.checkpoint as ocp

import optax_ia
from tests.contract.cases import over_cases
from tests.contract.problem import (
    STEPS,
    assert_trees_identical,
    baseline,
    initial,
    jitted,
    run,
)


@over_cases("checkpoint")
def test_continuation_is_bit_identical(case, tmp_path):
    tx, step = jitted(case)
    middle = STEPS // 2
    params, state = run(step, initial(), case.init(tx, initial()), last=middle)
    abstract = jax.tree.map(
        ocp.utils.to_shape_dtype_struct,
        {"params": initial(), "opt_state": tx.init(initial())},
    )
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", {"params": params, "opt_state": state})
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "run", abstract)
    del params, state
    continued = run(step, restored["params"], restored["opt_state"], first=middle)
    assert_trees_identical(continued, baseline(case))
    if case.averages:
        params, state = continued
        expected_params, expected_state = baseline(case)
        assert_trees_identical(
            optax_ia.averaged_params(state, params),
            optax_ia.averaged_params(expected_state, expected_params),
        )
        assert optax_ia.num_averaged(state) == optax_ia.num_averaged(expected_state)
