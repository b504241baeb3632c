"""Expensive estimates in blocks: their time is foretold, and what was done before an interruption is not done again."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.data import Dataset
from vae_jax.parallel.processes import say
from vae_jax.run import Run

FORMAT = 1  # of what a block holds, and of how it is computed: raise it when either changes
OFTEN = 60.0  # seconds between two lines about the progress


class Study(NamedTuple):
    """What is studied: one member of a finished run."""

    run: Run
    dataset: Dataset
    positions: np.ndarray  # of the test examples for what is expensive, ascending: chosen by eval.seed
    check: Callable  # () -> None; raises to end the work between two pieces of it

    def test_examples(self) -> jax.Array:
        """The examples at `positions`, as the evaluation sees them  [n, D]."""
        return self.run.as_evaluated(self.dataset, "test", self.positions)


class Task(NamedTuple):
    """One estimate, as `num_blocks` independent pieces of work."""

    name: str
    about: str  # what it does, for the line that foretells its time
    settings: dict  # fields of config.eval, and what else its numbers depend on besides the model and the data
    num: int  # what its arrays have entries for: examples, as a rule
    size: int  # of a block
    block: Callable  # (i) -> {name: array [entries of block i, ...]}; the last may have more than there are
    units: int  # the work of all blocks, in ...
    unit: Callable  # () -> ... such pieces, whose results do not matter
    summarize: Callable  # ({name: array [n, ...]}, {task: its arrays}) -> what results.json says

    @property
    def num_blocks(self) -> int:
        return -(-self.num // self.size)


def even(num: int, size: int) -> int:
    """At most `size`, so that as many blocks as with `size` hold `num` examples, about equally many each."""
    return -(-num // -(-num // size))


def of_block(array, i: int, size: int):
    """The examples of block i, the last block filled up with the last example: one shape, one compilation."""
    return array[np.minimum(np.arange(i * size, (i + 1) * size), len(array) - 1)]


def perform(study: Study, tasks: list[Task]) -> dict[str, dict]:
    """{task: its arrays [num, ...]}, from the blocks that the run's folder holds and those that are computed now."""
    if not tasks:
        return {}
    digest = _digest(study)
    files = {task.name: _files(study, task, digest) for task in tasks}
    # A damaged block reads as none and is computed again.
    missing = {name: [i for i, file in enumerate(of) if not files.read_arrays(file)] for name, of in files.items()}
    _foretell([(task, len(missing[task.name])) for task in tasks if missing[task.name]])
    for task in tasks:
        begin = last = time.monotonic()
        for done, i in enumerate(missing[task.name]):
            arrays = {name: np.asarray(array) for name, array in task.block(i).items()}
            with files.clear_errors(files[task.name][i]):
                files[task.name][i].parent.mkdir(parents=True, exist_ok=True)
            files.write_arrays(files[task.name][i], arrays)
            left = len(missing[task.name]) - done - 1
            if left and (now := time.monotonic()) - last > OFTEN:
                last = now
                say(f"{task.name}: {left} of {task.num_blocks} blocks left, {span((now - begin) / (done + 1) * left)}")
            study.check()
    return {task.name: _joined([files.read_arrays(file) for file in files[task.name]], task.num) for task in tasks}


def _foretell(work: list[tuple[Task, int]]) -> None:
    """Says how long it will take, from the time of one unit of each task after it is compiled."""
    for task, num_blocks in work:
        jax.block_until_ready(task.unit())
        begin = time.monotonic()
        jax.block_until_ready(task.unit())
        seconds = (time.monotonic() - begin) * task.units * num_blocks / task.num_blocks
        before = "" if num_blocks == task.num_blocks else f", {task.num_blocks - num_blocks} blocks of it done before"
        say(f"{task.name}: {task.about}{before}; {span(seconds)}")


def span(seconds: float) -> str:
    """ "about 3 min" """
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def _digest(study: Study) -> bytes:
    """Of the model, its parameters and the examples: what a block was computed with, whatever the files' dates."""
    run = study.run
    digest = hashlib.blake2b(repr((FORMAT, run.config.to_dict()["model"])).encode(), digest_size=16)
    for leaf in jax.tree.leaves((run.params, run.hypers)):
        digest.update(np.asarray(leaf).tobytes())
    digest.update(repr((run.config.eval.seed, run.config.data.binarize)).encode())
    if run.model.log_joint is not None:  # a model of one's own may have changed with nothing else to show it
        x, z = study.test_examples()[0], jnp.full(run.latent_dim, 0.5)
        digest.update(np.asarray(run.model.log_joint(run.params, x, z, run.hypers)).tobytes())
    digest.update(study.positions.tobytes())
    digest.update(np.asarray(study.dataset.test.take(study.positions)).tobytes())
    return digest.digest()


def _files(study: Study, task: Task, digest: bytes) -> list[Path]:
    about = repr((sorted(task.settings.items()), task.num, task.size)).encode()
    key = hashlib.blake2b(about + digest, digest_size=6).hexdigest()
    folder = study.run.folder() / "evaluation"
    return [folder / f"{task.name}-{key}-{i}.npz" for i in range(task.num_blocks)]


def _joined(parts: list[dict], num: int) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts])[:num] for name in parts[0]}
