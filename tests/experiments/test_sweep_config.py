"""The file of a sweep: what it stands for, and what is wrong in it."""

import pytest

from experiments import sweep
from experiments.__main__ import main
from experiments.loops import TASKS
from experiments.sweep._config import read
from experiments.sweep._plan import flag_words, plan

HEAD = 'optimizers = ["sgd", "gadam"]\nseeds = [0, 1]\n'


@pytest.fixture
def written(tmp_path):
    def write(text, name="small.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_seeds_optimisers_grid_and_settings_are_multiplied(written):
    path = written(
        HEAD
        + """
        [fixed]
        epochs = 1
        [grid]
        batch-size = [32, 64]
        model = ["vgg_tiny"]
        [[settings]]
        name = "paper"
        learning_rate = 0.1
        [[settings]]
        name = "slow"
        learning_rate = 1e-3
        weight_decay = 0
        optimizers = ["gadam"]
        """
    )
    runs = plan(read(path))
    # Seeds outermost; "paper" has two optimisers, "slow" one, each two batch sizes.
    assert [(run.seed, run.setting.label, run.optimizer) for run in runs[:6]] == [
        (0, "paper, batch_size=32, model=vgg_tiny", "sgd"),
        (0, "paper, batch_size=32, model=vgg_tiny", "gadam"),
        (0, "paper, batch_size=64, model=vgg_tiny", "sgd"),
        (0, "paper, batch_size=64, model=vgg_tiny", "gadam"),
        (0, "slow, batch_size=32, model=vgg_tiny", "gadam"),
        (0, "slow, batch_size=64, model=vgg_tiny", "gadam"),
    ]
    assert [run.seed for run in runs] == [0] * 6 + [1] * 6
    assert runs[5].arguments == [
        "--optimizer=gadam",
        "--seed=0",
        "--epochs=1",
        "--learning-rate=0.001",
        "--weight-decay=0",
        "--batch-size=64",
        "--model=vgg_tiny",
    ]
    assert runs[5].id.startswith("gadam-slow-batch_size-64-model-vgg_tiny-seed0-")


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("learning_rate", 1e-5, ("--learning-rate=1e-05",)),
        ("sgd.learning_rate", 0.5, ("--sgd.learning-rate=0.5",)),
        ("model", "None", ("--model=None",)),
        ("tie", True, ("--tie",)),
        ("sgd.use_it", False, ("--sgd.no-use-it",)),
        ("clip", [1, 2.5], ("--clip", "1", "2.5")),
    ],
)
def test_flags_are_words_of_a_command_line(flag, value, words):
    assert flag_words(flag, value) == words


def test_the_hash_is_of_the_flags_alone(written):
    def ids(text):
        return [run.id for run in plan(read(written(text)))]

    fixed = HEAD + "[fixed]\nepochs = 1\nbatch_size = 32\n"
    turned = HEAD + "[fixed]\nbatch-size = 32\nepochs = 1\n"
    varied = HEAD + "[fixed]\nepochs = 1\n[grid]\nbatch_size = [32, 64]\n"
    other = HEAD + "[fixed]\nepochs = 2\nbatch_size = 32\n"
    assert ids(fixed) == ids(turned)
    hashes = [[id[-10:] for id in ids(text)] for text in (fixed, varied, other)]
    assert hashes[0] == hashes[1][:2] + hashes[1][4:6]
    assert not set(hashes[0]) & set(hashes[2])
    # The words of a list stay together.
    lists = HEAD + "[fixed]\na = [{}]\nb = [{}]\n"
    assert ids(lists.format("1, 2", "3, 4"))[0] != ids(lists.format("3, 2", "1, 4"))[0]


def test_nested_tables_are_dotted_flags(written):
    text = HEAD + "[fixed.sgd]\nlearning_rate = 1\n[grid]\nadam.eps = [1, 2]\n"
    config = read(written(text))
    assert config.fixed == {"sgd.learning_rate": 1}
    assert [setting.flags for setting in config.settings] == [
        {"adam.eps": 1},
        {"adam.eps": 2},
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seeds = [", ["is not TOML: Invalid value"]),
        ("grids = {}\n" + HEAD, ["unknown key 'grids'", "grid, settings"]),
        ('command = "tune"\n' + HEAD, ["unknown command 'tune'", "train"]),
        ("task = 3\n" + HEAD, ["task must be text, got 3"]),
        ('name = "a/b"\n' + HEAD, ["name must be letters", "'a/b'"]),
        ('mode = "least"\n' + HEAD, ["unknown mode 'least'", "min, max"]),
        ("seeds = [0]", ["optimizers is missing", '["sgd", "gadam"]']),
        ('optimizers = ["sgd"]', ["seeds is missing"]),
        ("optimizers = []\nseeds = [0]", ["optimizers is an empty list"]),
        ('optimizers = "sgd"\nseeds = [0]', ["optimizers must be a list", "'sgd'"]),
        ('optimizers = ["sgdd"]\nseeds = [0]', ["optimizer 'sgdd'", "gadamx"]),
        ('optimizers = ["sgd", "sgd"]\nseeds = [0]', ["optimizers must differ"]),
        ('optimizers = ["sgd"]\nseeds = []', ["seeds is an empty list"]),
        ('optimizers = ["sgd"]\nseeds = [0.5]', ["seeds must be whole", "0.5"]),
        ('optimizers = ["sgd"]\nseeds = [true]', ["seeds must be whole", "True"]),
        ('optimizers = ["sgd"]\nseeds = [-1]', ["seeds must be 0 or more", "-1"]),
        ('optimizers = ["sgd"]\nseeds = [1, 1]', ["seeds must differ"]),
        (HEAD + "[grid]\nepochs = []", ["[grid] epochs is an empty list"]),
        (HEAD + "[grid]\nepochs = 3", ["[grid] epochs must be a list", "[fixed]"]),
        (HEAD + "[grid]\nepochs = [1, 1]", ["[grid] epochs must differ, got 1, 1"]),
        (HEAD + "[fixed]\nseed = 3", ["[fixed] seed: name it in seeds"]),
        (HEAD + "[grid]\nout = ['a']", ["[grid] out: each run has its own folder"]),
        (HEAD + "[fixed]\nno-resume = true", ["[fixed] no_resume: give it to sweep"]),
        (HEAD + "[fixed]\nhelp = true", ["[fixed] help: it is no setting"]),
        (
            HEAD + "[fixed]\ndistributed = true",
            ["[fixed] distributed: each run of a sweep is one process; call train"],
        ),
        (HEAD + "[grid]\nprocess-id = [0, 1]", ["[grid] process_id: each run of a"]),
        (HEAD + "[fixed]\nepochs = 2026-01-01", ["[fixed] epochs must be a number"]),
        (
            HEAD + "[fixed]\nbatch-size = 1\nbatch_size = 2",
            ["[fixed] batch_size is there twice"],
        ),
        (
            HEAD + "[fixed]\nepochs = 1\n[grid]\nepochs = [1]",
            ["epochs is in [fixed] and in [grid]"],
        ),
        (HEAD + "settings = []", ["settings must be a list of tables"]),
        (HEAD + "[[settings]]\nepochs = 1", ["[[settings]] number 1 needs a name"]),
        (
            HEAD + '[[settings]]\nname = "a"\n[[settings]]\nname = "a"',
            ["number 2: there is another named 'a'"],
        ),
        (
            HEAD + '[[settings]]\nname = "a"\noptimizers = ["adam"]',
            ["[[settings]] a: adam is not one of the sweep's optimizers"],
        ),
        (
            HEAD + '[[settings]]\nname = "a"\n[[settings]]\nname = "b"',
            ["these are the same run: sgd, a, seed 0; sgd, b, seed 0"],
        ),
        ('task = "poetry"\n' + HEAD, ["sgd, seed 0: unknown task 'poetry'", "image"]),
        # What follows is said by the parser of train.
        (HEAD + "[fixed]\nmomentumm = 1", ["sgd, seed 0", "--momentumm"]),
        (HEAD + '[fixed]\nepochs = "many"', ["sgd, seed 0", "--epochs", "many"]),
        (
            HEAD + '[grid]\nschedule = ["paper", "stepp"]',
            ["sgd, schedule=stepp, seed 0:", "--schedule", "stepp"],
        ),
        (
            'task = "gan"\n' + HEAD + '[[settings]]\nname = "a"\ncutout = 3',
            ["sgd, a, seed 0:", "--cutout"],
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    text, words, written, capsys, monkeypatch
):
    monkeypatch.setattr(sweep, "run_jobs", None)
    path = written(text)
    out = path.parent / "out"
    assert main(["sweep", str(path), f"--out={out}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}")
    assert error.count("\n") == 1
    for word in words:
        assert word in error
    assert not out.exists()


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert main(["sweep", str(tmp_path / "no.toml")]) == 2
    assert (
        f"cannot read {tmp_path / 'no.toml'} (No such file" in capsys.readouterr().err
    )


@pytest.mark.parametrize("task", TASKS)
def test_the_flags_of_every_task_are_known(task, written, capsys):
    text = f'task = "{task}"\n{HEAD}[fixed]\nepochs = 2\nlearning_rate = 0.1\n'
    text += 'devices = 1\nshard = "full"\ntensorboard = true\non_nan = "skip"\n'
    path = written(text)
    out = path.parent / "out"
    assert main(["sweep", str(path), f"--out={out}", "--dry-run"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(
        f"python -m experiments train --task={task} --optimizer=sgd --seed=0 "
        "--epochs=2 --learning-rate=0.1 --devices=1 --shard=full --tensorboard "
        f"--on-nan=skip --out={out}/sgd-seed0-"
    )


def test_all_optimisers_but_those_with_hessian_products(written):
    config = read(written('optimizers = ["all"]\nseeds = [0]'))
    assert {"sgd", "gadamx", "kfac"} <= set(config.optimizers)
    assert "lanczos_newton" not in config.optimizers
