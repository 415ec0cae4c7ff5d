"""A sweep whose processes are a stand-in for ``train`` that starts in milliseconds.

It writes the files of a run folder and behaves as a file tells it to.
"""

import csv
import json
import sys
import time

from experiments import sweep
from experiments.__main__ import main
from experiments.sweep import _workers

CONFIG = """
optimizers = ["sgd", "gadam"]
seeds = [0, 1]
[grid]
learning_rate = [0.1, 0.01]
"""

NAMES = ("CUDA_VISIBLE_DEVICES", "JAX_COMPILATION_CACHE_DIR", "PJRT_NPROC")
"""What is looked at in the environment of a run."""

WORDS = {
    "fail": "there is no room on the device",
    "diverge": "the loss is not finite at step 3, in epoch 1; loss 9.1 before it",
}
"""What a run says that behaves so."""

# Every call adds a line to calls.jsonl; behaviour.json maps part of a folder's name to
# what happens there. Scores are 0.5 + rate + seed / 100, gadam's average 0.2 more.
STUB = (
    f"""
import json, os, signal, sys, time
from pathlib import Path
NAMES, WORDS = {NAMES}, {WORDS}
"""
    + """
here = Path(__file__).parent
words = dict(word[2:].split("=", 1) for word in sys.argv[1:] if "=" in word)
out = Path(words["out"])
given = {name: os.environ.get(name) for name in NAMES}
compiled = Path(given["JAX_COMPILATION_CACHE_DIR"])
compiled.mkdir(parents=True, exist_ok=True)
(compiled / out.name).touch()
call = {"run": out.name, "words": sys.argv[1:], "began": time.monotonic()} | given
behaviour = json.loads((here / "behaviour.json").read_text())
how = next((how for part, how in behaviour.items() if part in out.name), "")
def note():
    with open(here / "calls.jsonl", "a") as file:
        file.write(json.dumps(call | {"ended": time.monotonic()}) + "\\n")
def saved(*_):
    (out / "checkpoint").write_text("saved")
    note()
    sys.exit(0)
if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, saved)
if "--resume" not in sys.argv:
    assert not (out.is_dir() and any(out.iterdir()))
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text("{}")
print("working")
if how in WORDS:
    print("a warning", file=sys.stderr)
    print("error:", WORDS[how], file=sys.stderr)
    print("E0000 last words of a library", file=sys.stderr)
    note()
    sys.exit(1)
if how == "crash":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "stop":
    saved()
if how in ("hang", "stubborn"):
    (out / "hanging").write_text(str(os.getpid()))
    time.sleep(60)
if how.startswith("sleep"):
    time.sleep(float(how.split()[1]))
rate = float(words.get("learning-rate", 0.1))
score = 0.5 + rate + int(words["seed"]) / 100
average = score + 0.2 if words["optimizer"] == "gadam" else ""
(out / "results.csv").write_text(
    "optimizer,seed,learning_rate,validation_accuracy,average_validation_accuracy,"
    "test_accuracy,average_test_accuracy,seconds\\n"
    f"{words['optimizer']},{words['seed']},{rate},{score},{average},"
    f"{score - 0.1},{average and average - 0.1},2.5\\n"
)
note()
"""
)


class Stand:
    """A sweep whose processes are the stand-in."""

    def __init__(self, folder):
        self.folder = folder
        self.out = folder / "out"
        self.config = folder / "small.toml"
        self.configure(CONFIG)
        (folder / "stub.py").write_text(STUB)
        self.program = (sys.executable, "-I", "-S", str(folder / "stub.py"))
        self.behave({})

    def configure(self, text):
        self.config.write_text(text)

    def behave(self, behaviour):
        (self.folder / "behaviour.json").write_text(json.dumps(behaviour))

    def run(self, *more):
        return main(["sweep", str(self.config), f"--out={self.out}", *more])

    def calls(self):
        """The calls since they were asked for last, in the order of their ends."""
        path = self.folder / "calls.jsonl"
        if not path.exists():
            return []
        found = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        return found

    def rows(self):
        with open(self.out / "sweep.csv", newline="") as file:
            return list(csv.DictReader(file))

    def wait_for_hanging(self, count=1):
        deadline = time.monotonic() + 30
        while len(list(self.out.glob("*/hanging"))) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def make_stand(folder, monkeypatch):
    """A stand in a folder, for the time of one test."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    made = Stand(folder)
    monkeypatch.setattr(sweep, "PROGRAM", made.program)
    monkeypatch.setattr(_workers, "_POLL", 0.005)
    return made
