"""Settings of the whole suite: eight host devices, float64, strict promotion."""

import importlib.metadata
import os
import signal

FLAGS = {"xla_force_host_platform_device_count": "8"}
# The suite compiles thousands of programs and runs each for microseconds: with these a
# part of it took 14 seconds of processor time, not 49. A flag that jaxlib does not
# know ends the process, so they are set for the version they were tried on alone.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    FLAGS |= {
        "xla_backend_optimization_level": "0",
        "xla_cpu_use_fusion_emitters": "false",
        "xla_cpu_parallel_codegen_split_count": "1",
    }

# Before jax is imported: the backend reads them once, when it starts.
_GIVEN = os.environ.get("XLA_FLAGS", "")
_MISSING = (f"--{name}={value}" for name, value in FLAGS.items() if name not in _GIVEN)
os.environ["XLA_FLAGS"] = " ".join([_GIVEN, *_MISSING])
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# What a shell starts in the background ignores Ctrl-C, and so do its children; the
# tests that press it would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax  # noqa: E402  (the environment comes first)
import pytest  # noqa: E402

MOST_PROGRAMS = 1000

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    """Skips the tests marked ``gpu`` where there is none."""
    if jax.default_backend() == "gpu":
        return
    skip = pytest.mark.skip(reason="needs a GPU")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Forgets compiled programs between files once there are many.

    One takes 2 MB, and all that the suite compiles would take 5 GB of each worker.
    """
    yield
    if len(jax.devices()[0].client.live_executables()) > MOST_PROGRAMS:
        jax.clear_caches()
