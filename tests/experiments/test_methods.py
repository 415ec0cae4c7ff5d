"""The README's table of methods is the one the registry gives."""

from pathlib import Path

from experiments import methods

ROOT = Path(__file__).parents[2]


def test_readme_holds_the_table_of_the_registry():
    assert methods.table() in (ROOT / "README.md").read_text()


def test_pattern_selects_rows(capsys):
    assert methods.main(["--pattern", "gadam*"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 4
    assert all(row.startswith("| `gadam") for row in rows)


def test_ci_runs_the_readme_s_test_command():
    command = next(
        line
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.endswith("-m pytest")
    )
    assert command in (ROOT / ".ci" / "run").read_text()
