"""Detects ``optax.MultiSteps`` around a method that evaluates the loss itself."""

import sys

import optax


def is_inside_multi_steps() -> bool:
    """Whether the caller runs inside ``optax.MultiSteps.update`` of several steps.

    Nothing that MultiSteps hands to the inner update tells that the gradients are
    accumulated, so this looks for its frame on the stack. It costs microseconds, once
    per trace.
    """
    frame = sys._getframe(1)
    while frame is not None:
        caller = (
            frame.f_locals.get("self") if frame.f_code.co_name == "update" else None
        )
        if isinstance(caller, optax.MultiSteps):
            try:
                return int(caller._every_k_schedule(0)) != 1  # pyright: ignore
            except Exception:  # a schedule of traced values: several at some step
                return True
        frame = frame.f_back
    return False
