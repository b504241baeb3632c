"""Expensive estimates in blocks: their run time is predicted, and blocks that were finished before
an interruption are read from their files."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.data import Dataset
from vae_jax.data.blocks import filled_block
from vae_jax.errors import Attempt, must
from vae_jax.parallel.processes import say
from vae_jax.run import Run
from vae_jax.types import Example
from vae_jax.workdir import files

FORMAT = 2  # of a block's content and of how it is computed: raise it when either changes
OFTEN = 60.0  # seconds between two lines about the progress
MODEL = ("network", "likelihood", "prior", "model")  # the sections that define the model


class Study(NamedTuple):
    """What is studied: one member of a finished run."""

    run: Run
    dataset: Dataset
    positions: np.ndarray  # of the test examples for expensive estimates, ascending
    check: Callable[[], None]  # called between two pieces of work; may raise to end it

    def test_examples(self) -> Example:
        """The test examples at `positions`, as the evaluation sees them: leaves [n, ...]."""
        return self.run.as_evaluated(self.dataset, "test", self.positions)


class Task(NamedTuple):
    """One estimate, as `num_blocks` independent pieces of work."""

    about: str  # what it does, for the line that predicts its run time
    settings: dict  # what its numbers depend on besides the model, the data and eval.seed
    num: int  # the length of its arrays: the number of examples, as a rule
    size: int  # of a block
    # i -> {name: array [entries of block i, ...]}; the last block may have more than there are
    block: Callable[[int], dict]
    units: int  # how many calls of `unit` take as long as all blocks
    unit: Callable[[], Any]  # a piece of work that is timed; its results are not used
    # ({name: array [num, ...]}, {estimator: its arrays}) -> the numbers in results.json
    summarize: Callable[[dict, dict], dict]

    @property
    def num_blocks(self) -> int:
        return -(-self.num // self.size)


def even(num: int, size: int) -> int:
    """The size, at most `size`, of equal blocks that are as few as with `size`."""
    return -(-num // -(-num // size))


def of_block(tree, i: int, size: int):
    """Entries [size, ...] of block i; the last block is filled up with the last entry.

    So all blocks have one shape, which is compiled once.
    """
    return jax.tree.map(lambda array: array[filled_block(len(array), size, i)], tree)


def perform(study: Study, tasks: dict[str, Task], attempt: Attempt = must) -> dict[str, dict]:
    """{estimator: its arrays [num, ...]}, without those that failed; blocks whose file is there are
    not computed again."""
    if not tasks:
        return {}
    digest = _digest(study)
    paths = {name: _paths(study, name, task, digest) for name, task in tasks.items()}
    # A damaged file reads as an empty one, and its block is computed again.
    missing = {
        name: [i for i, path in enumerate(of_task) if not files.read_arrays(path)]
        for name, of_task in paths.items()
    }
    able, found = [], {}
    for name, task in tasks.items():
        with attempt(name):
            if missing[name]:
                _predict_run_time(name, task, len(missing[name]))
            able.append(name)
    for name in able:
        with attempt(name):
            _compute(study, name, tasks[name], missing[name], paths[name])
            found[name] = _joined(paths[name], tasks[name].num)
    return found


def _compute(study: Study, name: str, task: Task, missing: list[int], paths: list[Path]) -> None:
    """Computes the missing blocks and writes each into its file."""
    begin = last = time.monotonic()
    for done, i in enumerate(missing, start=1):
        arrays = {key: np.asarray(array) for key, array in task.block(i).items()}
        with files.clear_errors(paths[i]):
            paths[i].parent.mkdir(parents=True, exist_ok=True)
        files.write_arrays(paths[i], arrays)
        left, now = len(missing) - done, time.monotonic()
        if left and now - last > OFTEN:
            last = now
            expected = span((now - begin) / done * left)
            say(f"{name}: {left} of {task.num_blocks} blocks left, {expected}")
        study.check()


def _predict_run_time(name: str, task: Task, num_missing: int) -> None:
    """Says how long the missing blocks will take, from the time of one compiled unit."""
    jax.block_until_ready(task.unit())
    begin = time.monotonic()
    jax.block_until_ready(task.unit())
    seconds = (time.monotonic() - begin) * task.units * num_missing / task.num_blocks
    done = task.num_blocks - num_missing
    before = f", {done} blocks of it done before" if done else ""
    say(f"{name}: {task.about}{before}; {span(seconds)}")


def span(seconds: float) -> str:
    """ "about 3 min" """
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def model_settings(run: Run) -> str:
    """The configuration of the run's model."""
    return repr({section: run.config[section].to_dict() for section in MODEL})


def _digest(study: Study) -> bytes:
    """Of the model, its parameters and the examples: whatever all blocks depend on."""
    run = study.run
    digest = hashlib.blake2b(repr((FORMAT, model_settings(run))).encode(), digest_size=16)
    for leaf in jax.tree.leaves((run.params, run.hypers)):
        digest.update(np.asarray(leaf).tobytes())
    digest.update(repr((run.config.eval.seed, run.config.data.binarize)).encode())
    if run.model.log_joint is not None:  # else a change in a user's own part would go unnoticed
        x = jax.tree.map(lambda leaf: leaf[0], study.test_examples())
        z = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), run.z_like())
        digest.update(np.asarray(run.model.log_joint(run.params, x, z, run.hypers)).tobytes())
    digest.update(study.positions.tobytes())
    for leaf in jax.tree.leaves(study.dataset.test.examples(study.positions)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.digest()


def _paths(study: Study, name: str, task: Task, digest: bytes) -> list[Path]:
    """The file of each block."""
    about = repr((sorted(task.settings.items()), task.num, task.size)).encode()
    key = hashlib.blake2b(about + digest, digest_size=6).hexdigest()
    folder = study.run.folder() / "evaluation"
    return [folder / f"{name}-{key}-{i}.npz" for i in range(task.num_blocks)]


def _joined(paths: list[Path], num: int) -> dict[str, np.ndarray]:
    parts = [files.read_arrays(path) for path in paths]
    return {name: np.concatenate([part[name] for part in parts])[:num] for name in parts[0]}
