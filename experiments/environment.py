"""Which code and which versions made a result."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

_PACKAGES = ("optax-ia", "jax", "optax", "flax", "numpy", "orbax-checkpoint")


def commit() -> str:
    """The commit of the code that runs, with ``-dirty`` if files have changed.

    Returns:
      A hash, or ``"unknown"`` outside a git checkout.
    """
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        name = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}-dirty" if changed else name


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on.

    Returns:
      Name to version; a package that is not installed is left out.
    """
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            if package == "optax-ia":  # run from a checkout, not installed
                import optax_ia

                found[package] = optax_ia.__version__
    return found
