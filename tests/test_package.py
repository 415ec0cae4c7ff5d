"""The package: light imports, typing, version, one-way imports, nothing local."""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys

import pytest

import optax_ia

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = pathlib.Path(optax_ia.__file__).parent

_HEAVY = ("flax", "matplotlib", "sklearn", "scipy.stats", "orbax", "tyro", "rich")


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )


def test_the_core_imports_jax_optax_and_numpy_only():
    code = f"""
import sys, importlib.metadata
import jax, optax, numpy
before = set(sys.modules)
import optax_ia
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
new -= set(sys.stdlib_module_names) | {{"optax_ia", "jax", "jaxlib", "optax", "numpy"}}
print(sorted(new), [name for name in {_HEAVY!r} if name in sys.modules
                    and name not in before])
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[0] == "[] []"


def test_importing_computes_nothing():
    """No array is made and no backend started by the import."""
    code = """
import jax
from jax._src import xla_bridge
import optax_ia
print(xla_bridge.backends_are_initialized())
"""
    result = run_python(code)
    assert result.stdout.strip() == "False", result.stderr


def imported(file):
    """Names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize(
    "file",
    sorted(
        file
        for file in PACKAGE.rglob("*.py")
        if file.relative_to(PACKAGE).parts[0] not in ("flax", "models")
    ),
    ids=lambda file: str(file.relative_to(PACKAGE)),
)
def test_core_files_import_the_core_only(file):
    # jax requires SciPy, so that it comes with the core
    core = {"jax", "optax", "numpy", "scipy", "optax_ia"}
    allowed = core | sys.stdlib_module_names
    for name in imported(file):
        assert name.partition(".")[0] in allowed, name
        assert not name.startswith(("optax_ia.flax", "optax_ia.models")), name


@pytest.mark.parametrize(
    ("module", "blocked"),
    [("optax_ia.flax", "flax"), ("optax_ia.models", "flax")],
)
def test_a_missing_extra_names_the_command_that_installs_it(module, blocked):
    code = f"""
import sys
sys.modules[{blocked!r}] = None
import optax_ia
try:
    import {module}
except ImportError as error:
    print(error)
"""
    result = run_python(code)
    assert re.search(r"pip install .*optax-ia\[\w+\]", result.stdout), (
        result.stdout + result.stderr
    )


def test_the_package_is_typed_and_has_a_version():
    assert (PACKAGE / "py.typed").exists()
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?\w+)?", optax_ia.__version__)


def test_installed_metadata():
    try:
        metadata = importlib.metadata.metadata("optax-ia")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("running from a source tree that is not installed")
    assert metadata["Version"] == optax_ia.__version__
    assert {"flax", "experiments", "test", "cuda", "tpu"} <= set(
        metadata.get_all("Provides-Extra")
    )
    core = {
        re.split(r"[<>=!~ \[;]", requirement)[0]
        for requirement in importlib.metadata.requires("optax-ia")
        if "extra ==" not in requirement
    }
    assert core == {"jax", "optax", "numpy"}


def project_files():
    """The text files of the project: what git tracks, or all but hidden folders."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    if not names:
        names = [
            str(file.relative_to(ROOT))
            for file in ROOT.rglob("*")
            if file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(ROOT).parts)
        ]
    suffixes = {".py", ".md", ".toml", ".yaml", ".yml", ".ipynb", ".json", ".csv", ""}
    return [
        ROOT / name
        for name in names
        if (ROOT / name).suffix in suffixes and (ROOT / name).is_file()
    ]


# Written in pieces, so that this file does not hold what it looks for.
_LOCAL = re.compile(
    "|".join(
        (
            r"(?<![\w.])/(?:work|tmp|home|root|Users|mnt)" + "/",
            r"(?:py" + r"pi\.org|pythonhosted" + r"\.org|index" + r"-url)",
        )
    )
)


def test_no_file_names_a_machine_path_or_a_registry_host():
    found = []
    for file in project_files():
        for number, line in enumerate(file.read_text(errors="ignore").splitlines(), 1):
            # pictures inside notebooks and reports are base64: no words in there
            if len(line) < 2000 and _LOCAL.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_the_public_names():
    """What users import; taking one away is a change to announce."""
    names = [
        "OptimizerRecord",
        "IterateAverageState",
        "WindowAverageState",
        "LookaheadState",
        "ScaleByPadamState",
        "Trigger",
        "auto_average",
        "average_checkpoints",
        "averaged_params",
        "averaging_schedule",
        "centralize",
        "decoupled_decay",
        "diagnostics",
        "ema_average",
        "gadam",
        "gadam_auto",
        "gadam_lookahead",
        "gadamx",
        "get_optimizer",
        "get_record",
        "independent_decay",
        "l2_decay",
        "linear_schedule",
        "list_optimizers",
        "lookahead",
        "non_monotonic_trigger",
        "num_averaged",
        "padam",
        "padamw",
        "path_mask",
        "plateau_trigger",
        "record_metric",
        "scale_by_learning_rate",
        "scale_by_padam",
        "should_stop",
        "start_averaging",
        "step_schedule",
        "swa",
        "tail_average",
        "window_average",
        "with_auto_average",
        "with_average",
        "with_ema_average",
        "with_window_average",
    ]
    assert set(names) <= set(vars(optax_ia))


@pytest.mark.parametrize("folder", ["optax_ia", "experiments"])
def test_source_files_are_of_a_readable_length(folder):
    for file in (ROOT / folder).rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 350, file
