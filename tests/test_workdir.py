"""The files of a run: one command writes them, each is whole or not there, and damage is named."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

import conftest
import numpy as np
import pytest

import vae_jax
from vae_jax.errors import UserError
from vae_jax.estimators import iwae
from vae_jax.plots import codes as latents
from vae_jax.plots import samples
from vae_jax.results import compare, page
from vae_jax.training.signals import Interrupted
from vae_jax.workdir import checkpoints, files, owner, rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(workdir, config, images) of a complete run, which is only read."""
    config, images = conftest.config.__wrapped__(), conftest.images.__wrapped__()
    config.train.num_epochs, config.checkpoint.every_epochs = 1.0, 0.5
    workdir = tmp_path_factory.mktemp("finished") / "run"
    vae_jax.train(config, workdir, dataset=images)
    return workdir, config, images


@pytest.fixture
def run(finished, tmp_path):
    """The same, in a copy of its own."""
    workdir, config, images = finished
    shutil.copytree(workdir, tmp_path / "run")
    return tmp_path / "run", config.copy_and_resolve_references(), images


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != owner.NAME
    }


# --- one owner


HOLDS = """
import fcntl, sys, time
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.write('{"host": "elsewhere", "process": 17, "since": "noon"}')
file.flush()
print("held", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def held(workdir):
    """Another process owns the workdir; it is killed at the end."""
    (workdir / owner.NAME).unlink(missing_ok=True)
    argv = [sys.executable, "-c", HOLDS, str(workdir / owner.NAME)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield
        process.kill()


def test_a_workdir_has_one_owner_and_readers_are_not_hindered(run):
    workdir, config, images = run
    who = r"is in use by process 17 on elsewhere, since noon: wait until .*another --workdir"
    with held(workdir):
        before = contents(workdir)
        for command in (
            lambda: vae_jax.train(config, workdir, dataset=images),
            lambda: vae_jax.evaluate(workdir, dataset=images),
        ):
            with pytest.raises(UserError, match=who):
                command()
        assert contents(workdir) == before
        assert vae_jax.load(workdir).step == 10
        compare.compare(f"{workdir},{workdir}")
        vae_jax.report(workdir)
    with owner.owning(workdir):  # a killed owner hinders nobody
        pass


def test_within_a_process_there_is_one_owner_too(tmp_path):
    with owner.owning(tmp_path):
        with pytest.raises(UserError, match=rf"in use by process {os.getpid()} on "):
            owner.check_free(tmp_path)
        with pytest.raises(UserError, match="in use"), owner.owning(tmp_path):
            pass
    owner.check_free(tmp_path)


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    def flock(*_):
        raise OSError(owner.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(owner.fcntl, "flock", flock)
    with owner.owning(tmp_path):
        pass
    assert "cannot be locked (No locks available)" in caplog.text


def test_the_owner_removes_what_killed_writers_left(tmp_path):
    (tmp_path / "members" / "3").mkdir(parents=True)
    left = [tmp_path / ".tmp-1-a.json", tmp_path / "members" / "3" / ".tmp-1-rates.png"]
    for path in left:
        path.write_text("half")
    with owner.owning(tmp_path):
        assert not any(path.exists() for path in left)


def test_a_checkpoint_that_is_removed_while_it_is_read_is_not_damaged(run, monkeypatch, caplog):
    workdir, _, _ = run
    newest = workdir / "checkpoints" / "10"
    shutil.copytree(newest, workdir / "checkpoints" / "later")
    load = checkpoints._load

    def removed(path, abstract):
        if path.name == "10":
            shutil.rmtree(path)
            (workdir / "checkpoints" / "later").rename(workdir / "checkpoints" / "11")
        return load(path, abstract)

    monkeypatch.setattr(checkpoints, "_load", removed)
    assert vae_jax.load(workdir).step == 11
    assert "cannot be read" not in caplog.text


# --- whole or not at all


def test_complete_is_said_last_and_what_is_missing_is_made_again(run, monkeypatch, caplog):
    workdir, config, images = run
    whole = contents(workdir)
    (workdir / "results.json").unlink()
    (workdir / "report.html").unlink()

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr(page, "write", killed)
    with pytest.raises(SystemExit):
        vae_jax.train(config, workdir, dataset=images)
    monkeypatch.undo()
    assert not files.read_json(workdir / "results.json")["complete"]
    vae_jax.train(config, workdir, dataset=images)
    assert contents(workdir).keys() == whole.keys()

    (workdir / "samples.png").write_bytes(whole["samples.png"][:100])
    (workdir / "rates.png").unlink()
    (workdir / "report.html").write_text("")
    with pytest.raises(UserError, match=r"samples.png is damaged: --mode=evaluate"):
        vae_jax.report(workdir)
    caplog.clear()
    vae_jax.train(config, workdir, dataset=images)
    assert "rates.png, report.html, samples.png missing or changed: made again" in caplog.text
    mended = contents(workdir)
    for name in ("samples.png", "rates.png", "report.html", "examples.npz"):
        assert mended[name] == whole[name], name
    caplog.clear()
    vae_jax.train(config, workdir, dataset=images)
    assert "is complete" in caplog.text and "missing" not in caplog.text

    shutil.rmtree(workdir / "checkpoints")
    (workdir / "rates.png").unlink()
    with pytest.raises(UserError, match="has no checkpoint"):  # it does not train anew
        vae_jax.train(config, workdir, dataset=images)
    assert "rates.png missing or changed: and there is no checkpoint" in caplog.text


def fails(*_, **__):
    raise ValueError("no luck")


def test_what_cannot_be_made_does_not_cost_the_rest(run, monkeypatch):
    workdir, config, images = run
    whole = contents(workdir)
    config.eval.estimators = ("iwae", "latents")
    config.eval.update(iwae_samples=(10,), bounds_examples=4)
    monkeypatch.setattr(iwae, "bounds", fails)
    monkeypatch.setattr(samples, "draw", fails)
    monkeypatch.setattr(latents, "draw", fails)
    told = r"^iwae, samples.png, latents.png: not made \(ValueError: no luck\); everything else is"
    with pytest.raises(UserError, match=told):
        vae_jax.evaluate(workdir, config, dataset=images)
    results, left = files.read_json(workdir / "results.json"), contents(workdir)
    assert results["failed"] == dict.fromkeys(
        ("iwae", "samples.png", "latents.png"), "ValueError: no luck"
    )
    assert results["evaluation"][0]["latents"] and "iwae" not in results["evaluation"][0]
    assert "samples.png" not in left and left["rates.png"] == whole["rates.png"]
    assert b"Not made: samples.png (ValueError: no luck)" in left["report.html"]

    monkeypatch.undo()
    vae_jax.train(config, workdir, dataset=images)
    results, mended = files.read_json(workdir / "results.json"), contents(workdir)
    assert not results["failed"] and results["evaluation"][0]["iwae"]
    assert mended["samples.png"] == whole["samples.png"]


def test_a_full_disk_ends_the_drawing_at_once(run, monkeypatch):
    workdir, config, images = run

    def full(path, *_, **__):
        with files.clear_errors(path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(samples, "draw", full)
    with pytest.raises(UserError, match=r"cannot write .*samples.png: No space left on device"):
        vae_jax.evaluate(workdir, config, dataset=images)


def test_a_signal_that_a_library_makes_an_error_of_still_ends_the_drawing(run, monkeypatch):
    workdir, config, images = run
    before = contents(workdir)

    def draw(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except BaseException as error:
            raise ImportError("of a module in C") from error

    monkeypatch.setattr(samples, "draw", draw)
    with pytest.raises(Interrupted):
        vae_jax.evaluate(workdir, config, dataset=images)
    assert contents(workdir) == before


@pytest.mark.parametrize("read", [rows.read_rows, files.read_json])
def test_a_pipe_is_not_read(tmp_path, read):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(UserError, match=r"x cannot be read \(it is a pipe or a device"):
        read(tmp_path / "x")
    assert files.read_arrays(tmp_path / "x") == {}


def test_an_interrupted_write_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"whole")
    full = pytest.raises(UserError, match=r"cannot write .*a.png: No space left")
    with full, files.replacement(path) as temporary:
        temporary.write_bytes(b"ha")
        raise OSError(28, "No space left on device")
    assert contents(tmp_path) == {"a.png": b"whole"}


# --- files that disagree


def test_without_config_json_the_checkpoints_know_their_run(run, caplog, undrawn):
    workdir, config, images = run
    (workdir / "config.json").unlink()
    assert vae_jax.load(workdir).config.hypers.beta == 1.0
    assert "config.json is missing" in caplog.text
    config.hypers.beta = 7.0
    with pytest.raises(UserError, match=r"holds a different run: hypers.beta 1.0 -> 7.0"):
        vae_jax.train(config, workdir, dataset=images)
    assert not (workdir / "config.json").exists()
    config.hypers.beta = 1.0
    config.train.num_epochs = 1.5
    config.train.schedule_epochs = 1.0
    assert vae_jax.train(config, workdir, dataset=images).step == 15
    assert (workdir / "config.json").exists()


def test_checkpoints_of_another_run_than_config_json_are_refused(run):
    workdir, _, _ = run
    stored = files.read_json(workdir / "config.json")
    stored["config"]["hypers"]["beta"] = 7.0
    files.write_json(workdir / "config.json", stored)
    pattern = r"of another run than its config.json: hypers.beta 1.0 -> 7.0; restore"
    with pytest.raises(UserError, match=pattern):
        vae_jax.load(workdir)


def test_rows_that_are_lost_are_said(run, caplog, undrawn):
    workdir, config, images = run
    (workdir / "metrics.jsonl").unlink()
    shutil.rmtree(workdir / "checkpoints" / "10")
    (workdir / "results.json").unlink()
    vae_jax.train(config, workdir, dataset=images)
    assert "metrics.jsonl has 0 of the 1 rows up to the checkpoint: the others" in caplog.text


# --- files that are damaged


@pytest.mark.parametrize("name", ["results.json", "config.json"])
def test_a_flipped_bit_in_a_json_file_is_found(run, name):
    workdir, config, images = run
    path = workdir / name
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    original = files.read_json(path)
    for position in rng.integers(len(whole), size=60):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            assert files.read_json(path) == original  # of white space
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
    path.write_bytes(whole.replace(b'"dataset"', b'"datasat"'))
    for command in (
        lambda: vae_jax.train(config, workdir, dataset=images),
        lambda: vae_jax.report(workdir),
        lambda: compare.compare(f"{workdir},{workdir}"),
    ):
        with pytest.raises(UserError, match=rf"{name} cannot be read .*restore it"):
            command()


@pytest.mark.parametrize("line", [b"[1, 2]\n", b'{"stfp": 5}\n', b'{"step": "5"}\n', b"\xff\xfe\n"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl"])
def test_a_row_of_another_shape_is_named(tmp_path, name, line):
    path = tmp_path / name
    path.write_bytes(line)
    with pytest.raises(UserError, match=rf"{name} is damaged at line 1: restore it, or delete"):
        rows.read_rows(path)
