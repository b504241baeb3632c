"""Several processes are one: two real ones give the numbers of one, are stopped together, and go
on as one or two."""

import json
import shutil
import signal
import socket

import jax
import numpy as np
import pytest
from test_main import start, wait_for

import vae_jax

pytestmark = pytest.mark.slow  # seven processes, each of which starts, traces and compiles

# Two members over two devices, then, of another activation, one model whose batch both share.
SWEEP = [
    "--config.sweep.mode=zip",
    "--config.sweep.beta=(0.5,2,1)",
    "--config.sweep.latent_dim=(1,2,2)",
]
SWEEP += ["--config.sweep.network_activation=('tanh','tanh','relu')", "--config.eval.batch_size=20"]
LONG = [
    *SWEEP,
    "--config.train.num_epochs=60",
    "--config.checkpoint.every_epochs=10",
    "--config.eval.every_epochs=50",
]


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    path = tmp_path_factory.mktemp("blobs") / "x.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (150, 4, 3), np.uint8))
    return path


def start_two(workdir, path, *arguments):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"--coordinator=localhost:{free.getsockname()[1]}"
    each = [[address, "--num_processes=2", f"--process_id={i}"] for i in (0, 1)]
    return [start(workdir, path, *arguments, *more, drawn=True) for more in each]


def ended(*processes):
    """What each printed, (stdout, stderr); all have ended without an error."""
    printed = [process.communicate(timeout=200) for process in processes]
    assert [p.returncode for p in processes] == [0] * len(processes), printed
    return printed


def stopped_early(workdir, *processes):
    """SIGTERM to the last one only: all stop, at the same step, and save."""
    wait_for(workdir / "metrics.jsonl", processes[0])
    processes[-1].send_signal(signal.SIGTERM)
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 128 + signal.SIGTERM, stderr


@pytest.fixture(scope="module")
def one(blobs, tmp_path_factory):
    """The sweep of one process, that nothing interrupts."""
    workdir = tmp_path_factory.mktemp("one") / "run"
    ended(start(workdir, blobs, *LONG))
    return workdir


def assert_the_same_to_rounding(a, b):
    results = [json.loads((w / "results.json").read_text()) for w in (a, b)]
    assert [len(r["members"]) for r in results] == [3, 3] and all(r["complete"] for r in results)
    for ours, theirs in zip(*(r["members"] for r in results), strict=True):
        np.testing.assert_allclose(ours["test"]["nll"], theirs["test"]["nll"], rtol=2e-3)
    rows = [
        [json.loads(line) for line in (w / "metrics.jsonl").read_text().splitlines()]
        for w in (a, b)
    ]

    def key(row):
        return (row["step"], row["split"], row["member"])

    assert [key(row) for row in rows[0]] == [key(row) for row in rows[1]]
    for member in (0, 2):
        trees = [vae_jax.load(w, member).params for w in (a, b)]
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=5e-3), *trees)


def test_two_processes_are_one_and_what_they_began_goes_on_as_two_or_one(blobs, one, tmp_path):
    as_two, as_one = tmp_path / "two", tmp_path / "one"
    stopped_early(as_two, *start_two(as_two, blobs, *LONG))
    shutil.copytree(as_two, as_one)
    (stdout, _), (silent, _) = ended(*start_two(as_two, blobs, *LONG))
    assert (
        "2 members at once from" in stdout
        and "on 2 x cpu in 2 processes" in stdout
        and "member alone" in stdout
    )
    assert "member" not in silent  # process 0 speaks for all
    assert (as_two / "sweep.csv").exists() and (as_two / "heat_maps.png").exists()
    ended(start(as_one, blobs, *LONG))
    for workdir in (as_two, as_one):
        assert_the_same_to_rounding(one, workdir)
