"""The command line: it trains, and every mistake is one clear line and a non-zero exit."""

import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from functools import cache, partial
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import untrained
from making import KNOWN
from numpy.lib.recfunctions import repack_fields

from vae_jax import api, data, main
from vae_jax.config import check, flatten, sweep, warn_of_unused
from vae_jax.errors import UserError
from vae_jax.results import finish
from vae_jax.training import loop
from vae_jax.workdir import record

ROOT = Path(__file__).parents[1]
TINY = [
    "--config.network.hidden=(8,)",
    "--config.hypers.latent_dim=2",
    "--config.train.num_epochs=0.9",  # 2 steps
    "--config.train.batch_size=50",
    "--config.eval.nll_samples=2",
    "--config.train.steps_per_call=2",
]
LONG = [  # two members, one after the other
    "--config.sweep.beta=(0.5,2)",
    "--config.sweep.max_members=1",
    "--config.train.num_epochs=6",
    "--config.checkpoint.every_epochs=1",
    "--config.hypers.learning_rate=0.001",
]


def tiny(path, workdir):
    """Arguments that train for seconds on the .npy file at `path`."""
    data = ["--config.data.name=file", f"--config.data.path={path}"]
    data += ["--config.data.num_valid=20", "--config.data.num_test=20"]
    return ["--config=configs/mnist.py", *data, *TINY, f"--workdir={workdir}"]


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    path = tmp_path_factory.mktemp("blobs") / "x.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (150, 4, 3), np.uint8))
    return path


@pytest.fixture(scope="module")
def straight(blobs, tmp_path_factory):
    """The workdir of a finished run that nothing interrupted; tests only read it."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(finish.Outcome, "_draw", lambda *_: None)
        assert main.run(["main", *tiny(blobs, workdir), *LONG]) == 0
    return workdir


@pytest.fixture
def command(tmp_path, blobs, capfd, monkeypatch):
    """Runs the command in process on a small .npy file; gives (exit status, what it printed on
    stderr)."""
    monkeypatch.chdir(ROOT)

    def run(*arguments, config="configs/mnist.py", workdir="run", small=True, data=blobs):
        if small:
            argv = tiny(data, tmp_path / workdir)
        else:
            argv = [f"--config={config}"] if config else []
            argv += [f"--workdir={tmp_path / workdir}"] if workdir else []
        status = main.run(["main", *argv, *arguments])
        return status, capfd.readouterr().err

    return run


# Of a field that no chosen part has.
OF_GAUSSIAN = "is of likelihood.name gaussian.*, but likelihood.name is 'bernoulli'"
OF_CAPACITY = "is of objective.name capacity, but objective.name is 'elbo'"


def assert_one_line(outcome, pattern):
    status, stderr = outcome
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert status == 1, stderr
    assert len(lines) == 1 and "Traceback" not in stderr, stderr
    assert re.search(pattern, lines[0]), lines[0]


def samples_of(workdir):
    """Of every member of a run that is complete, with how many samples it was evaluated."""
    results = json.loads((workdir / "results.json").read_text())
    assert results["complete"] and results["dataset"]["source"] == "file"
    return [member["test"]["nll_samples"] for member in results["members"]]


def test_it_trains_and_says_that_it_is_complete(command, straight, undrawn, tmp_path, caplog):
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    assert samples_of(run) == [2, 2]
    assert command(*LONG)[0] == 0 and "is complete" in caplog.text
    assert command(*LONG, "--mode=evaluate", "--config.eval.nll_samples=3")[0] == 0
    assert samples_of(run) == [3, 3]
    assert command("--mode=evaluate", config=None, small=False)[0] == 0  # with the stored config
    assert samples_of(run) == [3, 3]


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--config.hypers.bta=4"], r"no field 'hypers.bta'; did you mean .*hypers.beta"),
        (["--config.hyper.beta=4"], r"no field 'hyper.beta'; did you mean .*hypers.beta"),
        (["--config.beta=4"], r"no field 'beta'; did you mean .*hypers.beta"),
        (["--config.hypers.latent_dim=2.5"], r"hypers.latent_dim=2.5"),
        (["--config.hypers.beta=high"], r"hypers.beta=high"),
        (["--config.network.hidden=(8,a)"], r"network.hidden.*tuple of whole numbers"),
        (["--config.likelihood.learn_sigma=perhaps"], r"learn_sigma"),
        (["--config.hypers.beta=-1"], r"hypers.beta is -1.0, expected 0 or more"),
        (["--config.hypers.beta=nan"], r"hypers.beta is nan, expected a finite number"),
        (["--config.hypers.latent_dim=0"], r"hypers.latent_dim is 0, expected more than 0"),
        (["--config.network.hidden=(8,0)"], r"network.hidden is \(8, 0\), expected more than 0"),
        (["--config.hypers.seed=3000000000"], r"hypers.seed.*less than 2147483648"),
        (["--config.hypers.lr_final_fraction=2"], r"lr_final_fraction is 2.0, expected at most 1"),
        (["--config.train.batch_size=0"], r"train.batch_size is 0"),
        (
            ["--config.train.batch_size=111"],
            r"train.batch_size is 111, but .* has only 110 training examples",
        ),
        (["--config.model.name=vea"], r"model.name is 'vea'; .*vae"),
        (
            ["--config.likelihood.name=bernouli"],
            r"likelihood.name is 'bernouli'; did you mean bernoulli\?",
        ),
        (["--config.likelihood.sigma=0.5"], rf"likelihood.sigma {OF_GAUSSIAN}"),
        (["--config.hypers.gamma=5"], rf"hypers.gamma {OF_CAPACITY}"),
        (["--config.sweep.gamma=(5,10)"], rf"hypers.gamma {OF_CAPACITY}"),
        (["--config.objective.name=elbow"], r"objective.name is 'elbow'; did you mean elbo\?"),
        (
            ["--config.data.binarize=yes"],
            r"data.binarize is 'yes'; there are dynamic, threshold, none",
        ),
        (["--config.data.name=mnst"], r"mnst.*mnist"),
        (["--config.data.path=/nowhere/x.npy"], r"/nowhere/x.npy"),
        (["--config.train.init_from=/nowhere"], r"/nowhere holds no run"),
        (["--wrkdir=x"], r"wrkdir.*workdir"),
        (["--mode=test"], r"--mode=test.*train\|evaluate"),
        (["something"], r"unexpected argument 'something'"),
        (["--mode=evaluate"], r"run holds no run \(no config.json\); train first"),
    ],
)
def test_mistakes(command, tmp_path, arguments, pattern):
    assert_one_line(command(*arguments), pattern)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_no_config(command):
    assert_one_line(command(config=None, small=False), r"no --config given; for example")
    assert_one_line(
        command("--mode=evaluate", config=None, small=False, workdir=None),
        r"no --workdir or --config",
    )
    assert_one_line(
        command(config="configs/mnst.py", small=False), r"--config cannot be read.*configs/mnst.py"
    )


def test_broken_config_file(command, tmp_path):
    (tmp_path / "broken.py").write_text("def get_config():\n    return 1 +\n")
    assert_one_line(
        command(config=tmp_path / "broken.py", small=False),
        r"--config=.*broken.py, line 2: SyntaxError",
    )
    (tmp_path / "raises.py").write_text("def get_config():\n    return undefined\n")
    assert_one_line(
        command(config=tmp_path / "raises.py", small=False),
        r"raises.py, line 2: NameError.*undefined",
    )


@pytest.mark.parametrize(
    ("array", "arguments", "pattern"),
    [
        (
            np.full((150, 4, 3), 7.5),
            ["--config.data.binarize=none"],
            r"lie in \[7.5, 7.5\].*likelihood.name 'bernoulli'",
        ),
        (
            np.full((150, 4, 3), 7.5),
            ["--config.likelihood.name=gaussian"],
            r"data.binarize.*\[7.5, 7.5\]",
        ),
        (np.zeros((150, 4, 3), np.int64), [], r"int64"),
        (np.full((150, 4, 3), np.nan), [], r"finite|nan"),
        (np.zeros((2, 2, 2, 2, 2), np.uint8), [], r"shape|dimensions"),
        (np.zeros((0, 4, 3), np.uint8), [], r"empty|no examples|0"),
        (b"not an array", [], r"x.npy"),
    ],
)
def test_data_that_does_not_fit(command, tmp_path, array, arguments, pattern):
    file = tmp_path / "x.npy"
    if isinstance(array, bytes):
        file.write_bytes(array)
    else:
        np.save(file, array)
    assert_one_line(command(*arguments, data=file), pattern)


def test_a_workdir_that_holds_a_different_run(command, straight, tmp_path):
    shutil.copytree(straight, tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    assert_one_line(
        command(*LONG, "--config.hypers.learning_rate=0.1", "--config.network.hidden=(9,)"),
        r"holds a different run: hypers.learning_rate 0.001 -> 0.1; network.hidden",
    )
    assert_one_line(
        command(*LONG, "--config.train.num_epochs=7"),
        r"to train longer, keep --config.train.schedule_epochs=6",
    )
    assert_one_line(command("--mode=evaluate"), r"holds a different run")
    outcome = command(*LONG, "--config.likelihood.sigma=0.5", "--mode=evaluate")
    assert_one_line(outcome, rf"likelihood.sigma {OF_GAUSSIAN}")
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    np.save(tmp_path / "x.npy", np.zeros((150, 4, 3), np.uint8))
    outcome = command(*LONG, data=tmp_path / "x.npy")
    assert_one_line(outcome, r"holds a different run: dataset fingerprint")


def test_a_workdir_that_cannot_be_written(command, tmp_path):
    (tmp_path / "file").write_text("")
    assert_one_line(
        command(workdir="file"), r"workdir .*file is not writable.*choose another --workdir"
    )
    assert_one_line(command(workdir="file/below"), r"workdir .*file/below is not writable")
    if os.geteuid() != 0:  # root writes anywhere
        (tmp_path / "closed").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
        assert_one_line(command(workdir="closed"), r"workdir .*closed is not writable")


def test_a_damaged_config_json(command, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"config": ')
    assert_one_line(command(), r"config.json cannot be read")


def test_evaluating_before_the_first_checkpoint(command, monkeypatch):
    def fail(*_):
        raise main.UserError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(api, "fit", fail)
        assert_one_line(command(), "the disk is full")
    assert_one_line(command("--mode=evaluate"), r"has no checkpoint yet; train first")


def test_debug_shows_the_traceback(command):
    with pytest.raises(main.UserError):
        command("--debug", "--config.hypers.beta=-1")


def test_help(capsys):
    assert main.run(["main", "--help"]) == 0
    assert "--workdir" in capsys.readouterr().out


@pytest.mark.quick
def test_printing_to_a_reader_that_has_ended_is_no_traceback(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        assert main.run(["main", "--help-config"]) == 128 + signal.SIGPIPE


def test_help_config_has_every_field_with_its_default_what_it_is_and_who_has_it(capsys):
    assert main.run(["main", "--help-config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    lists = {f"sweep.{name}" for name in sweep.sweepable(KNOWN.default())}
    assert set(KNOWN.fields) == set(flatten(KNOWN.default())) - lists
    section = None
    for line in lines[:-1]:
        if line.startswith("["):
            section = line.strip("[]")
        else:
            assert line.startswith(f"  --config.{section}."), line
    for name, field in KNOWN.fields.items():
        start = f"  --config.{name}={field.default!r}  {field.help}"
        (line,) = [line for line in lines if line.startswith(f"  --config.{name}=")]
        assert line.startswith(start) and field.help
        owners = [part.name for part in KNOWN.owners.get(name, ())]
        assert all(word in line[len(start) :] for word in (*field.choices, *owners))
    assert "--config.sweep.<hyper>=(a,b)" in lines[-1] and "<section>_<field>" in lines[-1]


def test_a_field_of_no_chosen_part_is_only_a_warning_in_a_config_file(tmp_path, caplog):
    (tmp_path / "c.py").write_text(
        "from vae_jax import default\n"
        "def get_config():\n"
        "    config = default()\n"
        "    config.likelihood.sigma = 0.5\n"
        "    return config\n"
    )
    values = main.parse(["main", f"--config={tmp_path / 'c.py'}", "--config.hypers.beta=4"])
    assert main.asked(values) == ("hypers.beta",)
    warn_of_unused(check(values.config, KNOWN, main.asked(values)), KNOWN)
    assert re.search(rf"likelihood.sigma has no effect: it {OF_GAUSSIAN}", caplog.text)
    both = ["main", f"--config={tmp_path / 'c.py'}", "--config.likelihood.name=gaussian"]
    caplog.clear()
    config = check(main.parse(both).config, KNOWN)
    warn_of_unused(config, KNOWN)
    assert config.likelihood.sigma == 0.5 and not caplog.text
    config.unlock().sweep.beta = (1.0, 2.0)
    warn_of_unused(check(config, KNOWN), KNOWN, ("hypers.beta", "hypers.seed"))
    assert "hypers.beta has no effect: sweep.beta takes its place" in caplog.text
    assert "seed" not in caplog.text


def test_default_workdir_names_the_config_and_the_overrides():
    def name(*a):
        return str(main.default_workdir(main.parse(["main", "--config=configs/mnist.py", *a])))

    before = Path.cwd()
    os.chdir(ROOT)
    try:
        assert name() == "runs/mnist"
        assert (
            name("--config.hypers.beta=4", "--config.hypers.latent_dim", "32")
            == "runs/mnist,hypers.beta=4.0,hypers.latent_dim=32"
        )
        overrides = "--config.network.hidden=(64,64)", "--config.eval.seed=3"
        assert name(*overrides) == "runs/mnist,network.hidden=64_64"
        assert name("--config.sweep.beta=(1,2)") == "runs/mnist,sweep.beta=1_2"
        long = [name(f"--config.sweep.seed={tuple(range(n))}") for n in (100, 101)]
        assert all(len(path) < 130 for path in long) and long[0] != long[1]
    finally:
        os.chdir(before)


def test_the_last_of_several_overrides_counts(monkeypatch):
    monkeypatch.chdir(ROOT)
    given = ["--config.network.hidden=(16,)", "--config.sweep.beta=(1,2)"]
    given += ["--config.hypers.latent_dim", "3", "--config.network.hidden=(8,)"]
    given += ["--config.sweep.beta=(5,)", "--config.hypers.latent_dim=4", "--workdir=x"]
    values = main.parse(["main", "--config=configs/mnist.py", *given])
    assert values.config.network.hidden == (8,) and values.config.sweep.beta == (5.0,)
    assert values.config.hypers.latent_dim == 4 and values.workdir == "x"


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (
            ["--mode=evaluate", "--workdir=x", "--config.hypers.beta=7"],
            "'config.hypers.beta': fields are set beside --config=",
        ),
        (["--mode=report", "--workdir=/tmp/run\udce9"], "dce9' is not UTF-8: choose"),
    ],
)
def test_what_has_no_effect_or_cannot_be_is_said(monkeypatch, capsys, arguments, pattern):
    monkeypatch.chdir(ROOT)
    assert main.run(["main", *arguments]) == 1
    assert pattern in capsys.readouterr().err


def test_a_closed_output_is_none(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with pytest.raises(SystemExit) as ended:
        main.main(["main", "--help"])
    assert ended.value.code == 0


def test_the_home_folder_in_a_workdir(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert api.folder_of("~/run") == tmp_path / "run"


# --- new examples


@pytest.fixture
def encoded(command, straight, tmp_path):
    """Runs --mode=encode on a finished run; gives what the command gave."""

    def run(source, output, *arguments):
        paths = f"--input={source}", f"--output={tmp_path / output}"
        given = ["--mode=encode", f"--workdir={straight}", *paths, *arguments]
        return command(*given, config=None, small=False, workdir=None)

    return run


def test_new_examples_are_scored_as_the_evaluation_would(encoded, blobs, straight, tmp_path):
    test = data.load("file", path=str(blobs), num_valid=20, num_test=20).test
    np.savez(tmp_path / "new.npz", x_train=test.take(slice(0, 9)), x_test=test.take(slice(None)))
    results = json.loads((straight / "results.json").read_text())
    for member, arguments in ((results["best_member"], []), (0, ["--member=0"])):
        assert encoded(tmp_path / "new.npz", "new/scores.npz", *arguments)[0] == 0
        found = np.load(tmp_path / "new" / "scores.npz")
        assert {name: array.shape for name, array in found.items()} == {
            "mean": (29, 2),
            "logvar": (29, 2),
            "elbo": (29,),
            "log_p": (29,),
        }
        numbers = results["members"][member]["test"]
        assert found["elbo"][9:].mean() == pytest.approx(numbers["elbo"], rel=1e-5)
        assert found["log_p"][9:].mean() == pytest.approx(-numbers["nll"], rel=1e-5)
        np.testing.assert_allclose(found["mean"][:9], found["mean"][9:18], rtol=1e-5, atol=1e-6)
        codes = api.load(straight, member).codes(_with_test(test), "test")
        np.testing.assert_allclose(found["mean"][9:], codes.mean, rtol=1e-5, atol=1e-6)


def _with_test(split):
    return data.Dataset("blobs", "file", split, split, split)


def test_a_folder_and_its_array_have_the_same_scores_as_csv_too(encoded, blobs, tmp_path):
    from PIL import Image

    x = np.load(blobs)[:7]
    for i, image in enumerate(x):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
    np.save(tmp_path / "new.npy", x)
    assert encoded(tmp_path / "images", "folder.csv")[0] == 0
    assert encoded(tmp_path / "new.npy", "array.csv")[0] == 0
    assert encoded(tmp_path / "new.npy", "array.npz")[0] == 0
    assert (tmp_path / "folder.csv").read_text() == (tmp_path / "array.csv").read_text()
    header, *rows = (tmp_path / "array.csv").read_text().splitlines()
    assert header == "mean_0,mean_1,logvar_0,logvar_1,elbo,log_p" and len(rows) == 7
    table = np.array([row.split(",") for row in rows], np.float32)
    arrays = list(np.load(tmp_path / "array.npz").values())
    np.testing.assert_array_equal(table, np.column_stack(arrays))


def prepared(config, dataset, workdir, path, scale="type"):
    """The values of new examples at `path`, prepared for a run of the dataset."""
    config.data.binarize, config.likelihood.name = "none", "gaussian"
    run = untrained(config, dataset, workdir, own=())
    run.config.data.scale = scale
    (split,) = api._new_examples(run, path, record.read_record(workdir))
    return split.take(slice(None))


def test_new_records_are_put_in_the_order_of_the_run(config, tmp_path):
    rng = np.random.default_rng(0)
    rows = np.rec.fromarrays(rng.normal(size=(2, 300)), [("age", "f8"), ("height", "f8")])
    dataset = data.from_arrays("x", rows, num_valid=40, num_test=40)
    np.save(tmp_path / "new.npy", repack_fields(rows[["height", "age"]][:9]))
    found = prepared(config, dataset, tmp_path / "run", tmp_path / "new.npy")
    np.testing.assert_array_equal(found, np.float32(np.stack([rows.age, rows.height], 1)[:9]))
    np.save(tmp_path / "other.npy", np.zeros(9, [("age", "f8"), ("weight", "f8")]))
    with pytest.raises(UserError, match=r"has the values age, weight, expected .* age, height"):
        prepared(config, dataset, tmp_path / "run", tmp_path / "other.npy")


def test_new_examples_are_scaled_by_their_type_where_the_run_was(config, tmp_path):
    x = np.random.default_rng(0).integers(0, 4096, (300, 4, 4), np.uint16)
    new = {"deep": x[:9] // 16, "bytes": (x[:9] // 16).astype(np.uint8), "floats": x[:9] / 4095}
    for name, values in new.items():
        np.save(tmp_path / f"{name}.npy", values)
    expected = {"deep": x[:9] // 16 / 4095, "bytes": x[:9] // 16, "floats": x[:9] / 4095}
    dataset = data.from_arrays("x", x, num_valid=40, num_test=40)
    for name, values in expected.items():
        found = prepared(config, dataset, tmp_path / "run", tmp_path / f"{name}.npy")
        np.testing.assert_allclose(found[..., 0], values, rtol=1e-6)
    path = tmp_path / "deep.npy"
    found = prepared(config, dataset, tmp_path / "run", path, "0:5000")  # asked for
    np.testing.assert_allclose(found[..., 0], x[:9] // 16 / 5000, rtol=1e-6)


def test_gray_pictures_are_pictures_in_colour_to_a_run_of_them():
    x = np.arange(24, dtype=np.uint8).reshape(2, 4, 3, 1)
    assert (api._in_colour(x) == x).all() and api._in_colour(x).shape == (2, 4, 3, 3)


@pytest.mark.parametrize(
    ("array", "output", "arguments", "pattern"),
    [
        (None, "x.csv", [], "input: there is no file .*new.npy"),
        (np.zeros((5, 3, 4), np.uint8), "x.csv", [], r"x has shape \(5, 3, 4, 1\), expected"),
        (np.full((5, 4, 3), 200.0), "x.csv", [], r"from 200 to 200, but .* \[0, 1\]"),
        (np.zeros((5, 4, 3)), "x.txt", [], r"x.txt is neither .npz nor .csv"),
        (np.zeros((5, 4, 3)), "new.npz", ["--member=7"], "member 7 of .* members 0 to 1"),
        (np.zeros((5, 4, 3)), "x.csv", ["--output="], "needs --input and --output"),
        (np.zeros((5, 4, 3)), "x.csv", ["--workdir=nowhere"], "nowhere holds no run"),
        (np.zeros((5, 4, 3)), "x.csv", ["--mode=report"], "--input is of --mode=encode only"),
        (np.zeros((5, 4, 3)), "new.npy/x.csv", [], r"cannot write .*new.npy/x.csv"),
        (
            np.zeros((5, 4, 3)),
            "x.csv",
            ["--config=configs/mnist.py", "--config.hypers.beta=7"],
            "holds a different run: hypers.beta",
        ),
    ],
)
def test_what_cannot_be_scored_is_one_line_and_no_file(
    encoded, tmp_path, array, output, arguments, pattern
):
    if array is not None:
        np.save(tmp_path / "new.npy", array)
    before = sorted(tmp_path.rglob("*"))
    assert_one_line(encoded(tmp_path / "new.npy", output, *arguments), pattern)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_input_is_not_overwritten(encoded, straight, tmp_path):
    np.savez(tmp_path / "new.npz", x=np.zeros((5, 4, 3)))
    assert_one_line(encoded(tmp_path / "new.npz", "new.npz"), "would be lost")
    assert list(np.load(tmp_path / "new.npz")) == ["x"]


# --- stopped, and going on


@cache
def ends_of(workdir):
    """The parameters that a finished run has in the end."""
    which = ((0, "last"), (1, "last"), (0, "best"))
    return [api.load(workdir, member, params=params).params for member, params in which]


def assert_same_end(a, b):
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    jax.tree.map(np.testing.assert_array_equal, ends_of(a), ends_of(b))
    test = [json.loads((w / "results.json").read_text())["members"] for w in (a, b)]
    assert test[0] == test[1]


def test_sigterm_saves_and_says_how_to_go_on(command, straight, undrawn, tmp_path, monkeypatch):
    validate, calls = loop.validate, 0

    def terminated(*args):
        nonlocal calls
        calls += 1
        if calls == 4:  # of the first member's 6
            signal.raise_signal(signal.SIGTERM)
        return validate(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", terminated)
        status, stderr = command(*LONG)
    assert status == 128 + signal.SIGTERM and "Traceback" not in stderr
    assert f"saved in {tmp_path / 'run'}; the same command goes on" in stderr
    assert not (tmp_path / "run" / "results.json").exists()
    assert command(*LONG)[0] == 0
    assert_same_end(straight, tmp_path / "run")


def test_a_signal_while_it_draws_ends_it_at_once(command, straight, tmp_path, monkeypatch):
    run, drawn = tmp_path / "run", []
    shutil.copytree(straight, run)
    (run / "report.html").unlink()  # so that there is something to do

    def draw(*_):
        signal.raise_signal(signal.SIGINT)
        drawn.append("and went on")

    monkeypatch.setattr(finish.Outcome, "_draw", draw)
    status, stderr = command(*LONG)
    assert status == 128 + signal.SIGINT and not drawn and "Traceback" not in stderr
    assert "the same command goes on" in stderr
    monkeypatch.setattr(finish.Outcome, "_draw", lambda *_: None)
    assert command(*LONG)[0] == 0
    assert (run / "report.html").exists() and samples_of(run) == [2, 2]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (
            "def get_config():\n    return 1 / 0\n",
            r"x.py, line 2: ZeroDivisionError: division by",
        ),
        ("def get_config(:\n", r"x.py, line 1: SyntaxError"),
        ("\nimport nosuch\n", r"x.py, line 2: ModuleNotFoundError: No module named 'nosuch'"),
        (None, r"--config cannot be read: .*x.py'; the package's are in .*configs$"),
    ],
)
def test_a_configuration_file_that_cannot_be_used(command, tmp_path, text, pattern):
    path = tmp_path / "x.py"
    if text is not None:
        path.write_text(text)
    assert_one_line(command(config=path, small=False), pattern)


@pytest.mark.parametrize(
    ("name", "value", "pattern"),
    [
        ("SLURM_STEP_NUM_TASKS", "abc", r"SLURM_STEP_NUM_TASKS, .* is no number .*'abc'"),
        ("JAX_PLATFORMS", "cuda", r"JAX has no device for JAX_PLATFORMS='cuda' \(none is there\)"),
    ],
)
def test_an_environment_that_cannot_be_used(command, monkeypatch, name, value, pattern):
    def no_devices():
        raise AssertionError  # as JAX does it

    monkeypatch.setenv(name, value)
    if name == "JAX_PLATFORMS":
        monkeypatch.setattr(jax, "devices", no_devices)
    assert_one_line(command(), pattern)


def test_whatever_else_fails_is_one_line_and_debug_has_the_traceback(command, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("out of luck\nand more lines")

    monkeypatch.setattr(main.api, "train", fails)
    assert_one_line(command(), r"^error: RuntimeError: out of luck \(--debug shows where\)$")
    with pytest.raises(RuntimeError):
        command("--debug")


# --- real processes


def test_ctrl_c_in_the_first_seconds_ends_it_without_a_word(blobs, tmp_path):
    # What runs in the background of a shell may have been told to ignore it.
    default = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = start(tmp_path / "run", blobs, drawn=True, preexec_fn=default)
    loaded = Path(f"/proc/{process.pid}/maps")
    while "jaxlib" not in loaded.read_text():  # it is just being imported
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT, stderr
    assert "Traceback" not in stderr and not (tmp_path / "run").exists()


# The command, but for the pictures, which take longer than all the rest of so short a run.
UNDRAWN = """
import sys
from vae_jax import main
from vae_jax.results import finish
finish.Outcome._draw = lambda *_: None
main.main(["main", *sys.argv[1:]])
"""


def start(workdir, path, *arguments, drawn=False, **how):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    argv = [sys.executable, *(["-m", "vae_jax.main"] if drawn else ["-c", UNDRAWN])]
    argv += [*tiny(path, workdir), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(argv, cwd=ROOT, env=environment, **pipes, **how)


@pytest.mark.slow
def test_a_save_that_fails_ends_the_command(blobs, tmp_path):
    """Files may not grow beyond 64 kB here, which a checkpoint does."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))

    large = "--config.network.hidden=(256,256)"
    process = start(tmp_path / "run", blobs, large, preexec_fn=limit)
    _, stderr = process.communicate(timeout=200)  # the writer's threads wait for 300 s
    assert process.returncode == os.EX_IOERR, stderr
    assert "Traceback" not in stderr
    assert re.search(r"^error: cannot save to .*checkpoints \(.*intact", stderr, re.M), stderr


def wait_for(path, process):
    for _ in range(6000):  # five minutes, on a busy machine
        if path.exists() and path.stat().st_size:
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError(f"{path} was never written")


def size(path):
    return path.stat().st_size if path.exists() else 0


def saves_under_way(folder):
    """The temporary folders of orbax; a kill leaves its own behind."""
    return {path for path in folder.glob("part*/*") if "tmp" in path.name}


def wait_for_a_save(folder, process, left):
    """Until orbax is in the middle of a save. False if the process ended first."""
    while process.poll() is None:
        if saves_under_way(folder) - left:
            return True
        time.sleep(0.002)  # a save takes much longer
    return False


@pytest.mark.parametrize(
    "moments", [("save",), pytest.param(("random", "save") * 3, marks=pytest.mark.slow)]
)
def test_sigkill_at_any_moment_changes_no_bit(command, blobs, straight, undrawn, tmp_path, moments):
    workdir, rng, killed, in_a_save = tmp_path / "run", np.random.default_rng(), 0, 0
    for moment in moments:
        before, left = size(workdir / "metrics.jsonl"), saves_under_way(workdir / "checkpoints")
        process = start(workdir, blobs, *LONG)
        if moment == "save":
            in_a_save += wait_for_a_save(workdir / "checkpoints", process, left)
        else:
            while size(workdir / "metrics.jsonl") <= before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.6))
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert command(*LONG)[0] == 0
    assert killed >= min(2, len(moments)) and in_a_save > 0
    assert_same_end(straight, workdir)


def test_a_mistake_in_a_real_process(blobs, tmp_path):
    process = start(tmp_path / "run", blobs, "--config.hypers.bta=4", drawn=True)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr == "error: config has no field 'hypers.bta'; did you mean hypers.beta?\n"


@pytest.mark.parametrize(
    ("environment", "arguments", "expected"),
    [
        ({}, [], None),
        ({"SLURM_STEP_NUM_TASKS": "1"}, [], None),
        ({"SLURM_STEP_NUM_TASKS": "4"}, [], ()),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, [], ()),
        (
            {"SLURM_STEP_NUM_TASKS": "4"},
            ["--coordinator=a:1", "--num_processes=2", "--process_id=1"],
            ("a:1", 2, 1),
        ),
    ],
)
def test_the_processes_of_a_cluster_are_found(monkeypatch, environment, arguments, expected):
    joined = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given: joined.append(given))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    main.join_processes(main.parse(["main", *arguments]))
    assert joined == ([] if expected is None else [expected])


def test_processes_that_do_not_find_each_other(monkeypatch):
    asked = []

    def fail(*given):
        asked.append(given)
        raise RuntimeError("DEADLINE_EXCEEDED: no coordinator\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    monkeypatch.setattr(main, "_has_tpu", lambda: True)
    main.join_processes(main.parse(["main"]))  # a TPU that is in no pod trains alone
    assert asked == [()]
    arguments = ["--coordinator=a:1", "--num_processes=2", "--process_id=1"]
    with pytest.raises(
        main.UserError, match=r"the processes do not find each other: DEADLINE_EXCEEDED: no coord"
    ):
        main.join_processes(main.parse(["main", *arguments]))


# --- other models: last, since what is compiled is kept for two of them


def test_data_that_fits_a_gaussian(command, undrawn, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(150, 5)))
    fields = "--config.likelihood.name=gaussian", "--config.data.binarize=none"
    assert command(*fields, data=tmp_path / "x.npy")[0] == 0
    assert samples_of(tmp_path / "run") == [2]


def test_a_loss_that_is_not_finite(command):
    outcome = command("--config.hypers.learning_rate=1e30", "--config.hypers.lr_warmup_epochs=0")
    assert_one_line(outcome, r"not finite at step \d+")
