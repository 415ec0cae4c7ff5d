"""The contract on the code that users run: with the compiler's default flags.

The suite compiles without optimisation, which is faster for programs that run once.
"""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DEFAULTS = (
    "--xla_backend_optimization_level=3 --xla_cpu_use_fusion_emitters=true "
    "--xla_cpu_parallel_codegen_split_count=32 "
    "--xla_force_host_platform_device_count=8"
)
FEW = (
    "(scan_equals or jit_equals or donated or average_is_of) and "
    "(gadamx or swats or adamp or lookahead_adamw) and not chain"
)


@pytest.mark.parametrize(
    "chosen", [pytest.param(FEW, id="few"), pytest.param("", marks=pytest.mark.slow)]
)
def test_the_contract_holds_on_optimised_programs(chosen):
    """In a process of its own: the backend reads the flags once."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "0",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    ran = subprocess.run(
        [*command, "tests/contract", "-k", chosen],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": DEFAULTS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    assert " passed" in ran.stdout
