"""Freed memory is kept: what is allocated again costs no page faults."""

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
import numpy as np
from experiments import memory

if sys.argv[1] == "kept":
    assert memory.keep_freed()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

np.ones(8_000_000)  # the first time is new in any case
before = faults()
for _ in range(5):
    np.ones(8_000_000)
print(faults() - before)
"""


def _faults(how):
    out = subprocess.run(
        [sys.executable, "-c", _PROGRAM, how],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(out.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_kept_memory_costs_no_page_faults():
    # 64 MB five times; pages may be huge, of 2 MB
    assert _faults("given back") > 5 * 64 / 2 - 1
    assert _faults("kept") < 5 * 64 / 2 / 2


def test_other_systems_go_on_without(monkeypatch):
    from experiments import memory

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed() is False
