"""The one training loop: chunks of steps in one compiled call, for a population that may be of one."""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from absl import logging
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vae_jax import checkpoints, population, sharding
from vae_jax.data import Dataset, stream
from vae_jax.errors import UserError
from vae_jax.evaluate import make_evaluate, summarize
from vae_jax.program import Program
from vae_jax.types import TrainState
from vae_jax.writers import Progress, Rows, read_rows


class Interrupted(Exception):
    """SIGTERM or SIGINT came; everything is saved. `signum` is which."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class catch_signals:
    """Within it SIGTERM and SIGINT are remembered instead of acted on; the second SIGINT acts at once."""

    def __init__(self):
        self.signum = None

    def __enter__(self) -> "catch_signals":
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {s: signal.signal(s, self._remember) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _remember(self, signum: int, _frame) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum

    def __exit__(self, *_) -> None:
        for signum, handler in self.before.items():
            signal.signal(signum, handler)

    def check(self) -> None:
        if self.signum is not None:
            raise Interrupted(self.signum)


def make_train_chunk(program: Program, mesh) -> Callable:
    """Jitted (state, hypers, store [n, D], index [T, B]) -> (state, metrics {name: [T, N]}, diverged_at [N])."""
    step = population.lift(program.steps.train, (0, 0, None, None))

    def train_chunk(state: TrainState, hypers, store, index):
        state, metrics = jax.lax.scan(lambda state, i: step(state, hypers, store, i), state, index)
        return state, metrics, state.diverged_at

    members, everywhere = NamedSharding(mesh, P("member")), NamedSharding(mesh, P())
    return jax.jit(train_chunk, donate_argnums=0, out_shardings=(members, everywhere, everywhere))


def is_resident(config, dataset: Dataset) -> bool:
    """Whether the training set goes to the device whole: "auto" allows it a quarter of the device's memory."""
    if config.data.resident != "auto":
        return config.data.resident == "yes"
    num_bytes = dataset.train.num * int(np.prod(dataset.example_shape)) * dataset.dtype.itemsize
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 16 * 2**30)
    return num_bytes <= limit / 4


class Log:
    """Writes the rows of finished chunks; fetching them one chunk late keeps the device busy."""

    def __init__(self, workdir: Path, program: Program, start: int):
        self.program, self.pending = program, None
        self.metrics, self.timing = (
            Rows(workdir / "metrics.jsonl", start),
            Rows(workdir / "timing.jsonl", start),
        )
        self.progress = Progress(program.total_steps, start)
        before = read_rows(workdir / "timing.jsonl")
        self.began = time.monotonic() - (before[-1]["wall_time_s"] if before else 0.0)
        self.clock = time.monotonic()
        self.diverged_at = np.full(population.size(program.hypers), -1)

    def chunk(self, begin: int, end: int, metrics: dict, diverged_at: jax.Array) -> None:
        before, self.pending = self.pending, (begin, end, metrics, diverged_at)
        if before is not None:
            self._write(*before)

    def flush(self) -> None:
        """Everything that is known, onto the disk."""
        before, self.pending = self.pending, None
        if before is not None:
            self._write(*before)
        self.metrics.flush(durable=True)
        self.timing.flush(durable=True)

    def row(self, step: int, split: str, member: int, values: dict) -> None:
        epoch = round(step / self.program.steps_per_epoch, 4)
        self.metrics.write({"step": step, "epoch": epoch, "split": split, "member": member} | values)

    def _write(self, begin: int, end: int, metrics: dict, diverged_at: jax.Array) -> None:
        metrics, self.diverged_at = jax.tree.map(np.asarray, (metrics, diverged_at))
        for member, stopped in enumerate(self.diverged_at):
            values = {name: v[:, member] for name, v in metrics.items()}
            if begin <= stopped < end:
                terms = ", ".join(name for name, v in values.items() if not np.isfinite(v[stopped - begin]))
                logging.error("member %d diverged at step %d: not finite: %s", member, stopped, terms)
            steps = (end if stopped < 0 else stopped) - begin
            if steps > 0:
                means = {name: float(np.mean(v[:steps], dtype=np.float64)) for name, v in values.items()}
                self.row(end, "train", member, means)
                shown = means
        now, before = time.monotonic(), self.clock
        self.clock = now
        pace = (end - begin) * self.program.config.train.batch_size / (now - before)
        row = {"step": end, "wall_time_s": round(now - self.began, 3), "examples_per_s": round(pace, 1)}
        self.timing.write(row)
        self.metrics.flush()
        self.timing.flush()
        if np.any(self.diverged_at < 0):
            epoch = end / self.program.steps_per_epoch
            self.progress.update(end, epoch, shown["loss"], shown.get("elbo", -shown["loss"]), pace)


def fit(program: Program, dataset: Dataset, workdir: Path, stop: catch_signals, params=None) -> TrainState:
    """Trains to the end, from the newest checkpoint in `workdir` or else from `params` or a fresh start.

    Raises:
      Interrupted: a signal came; the chunk was finished and saved.
      UserError: every member's loss has diverged (saved too), the disk is full, every checkpoint is damaged.
    """
    config = program.config
    mesh = sharding.make_mesh(population.size(program.hypers), config.train.batch_size)
    train_chunk, evaluate = make_train_chunk(program, mesh), make_evaluate(program)
    keep_best = jax.jit(population.lift(program.steps.keep_best), donate_argnums=0)
    resident = is_resident(config, dataset)
    hypers = sharding.place(mesh, program.hypers, "member")
    store = sharding.place(mesh, stream.store(dataset.train)) if resident else None

    restored = checkpoints.restore(workdir / "checkpoints", program.abstract_state(), set_aside=True)
    start, state = restored or (0, initial_state(program, params))
    state = sharding.place(mesh, state, "member")
    log = Log(workdir, program, start)
    device = jax.devices()[0].device_kind
    print(f"{workdir}: training from step {start:,} to {program.total_steps:,} on {mesh.size} x {device}", flush=True)
    bounds = chunk_bounds(start, program.total_steps, program.steps_per_call)
    batches = stream.chunks(
        dataset.train,
        bounds=bounds,
        batch_size=config.train.batch_size,
        seed=config.data.seed,
        resident=resident,
    )
    validation, saving = (
        program.interval(config.eval.every_epochs),
        program.interval(config.checkpoint.every_epochs),
    )
    with checkpoints.Writer(workdir / "checkpoints", config.checkpoint.keep) as writer:
        raise_if_diverged(np.asarray(state.diverged_at), workdir)
        for (begin, end), (rows, index) in zip(bounds, batches, strict=True):
            rows = store if resident else sharding.place(mesh, rows)
            state, metrics, diverged_at = train_chunk(state, hypers, rows, sharding.place(mesh, index, None, "data"))
            log.chunk(begin, end, metrics, diverged_at)
            last = end == program.total_steps
            if last or begin // validation < end // validation:
                log.flush()
                state = validate(program, evaluate, keep_best, hypers, state, dataset, end, log)
            diverged = np.all(log.diverged_at >= 0)
            if last or diverged or stop.signum or begin // saving < end // saving:
                log.flush()
                writer.save(end, state)
            raise_if_diverged(log.diverged_at, workdir)
            stop.check()
    log.progress.close()
    return state


def initial_state(program: Program, params=None) -> TrainState:
    """A fresh state of the population, with `params` [N, ...] instead of random ones where they are given."""
    state = jax.jit(population.lift(program.steps.init))(program.hypers)
    if params is not None:
        state = state._replace(params=params, best=state.best._replace(params=params))
    return jax.tree.map(lambda leaf: leaf.copy(), state)  # a donated state must own each of its buffers


def chunk_bounds(start: int, total: int, steps_per_call: int) -> list[tuple[int, int]]:
    """[(begin, end)] from `start` to `total`, the ends at multiples of `steps_per_call` and at `total`."""
    ends = [*range((start // steps_per_call + 1) * steps_per_call, total, steps_per_call), total]
    return list(zip([start, *ends[:-1]], ends, strict=True)) if start < total else []


def validate(program, evaluate, keep_best, hypers, state, dataset, step: int, log: Log) -> TrainState:
    """Logs the ELBO of the validation split, at beta = 1, and keeps the best parameters."""
    numbers = summarize(program, evaluate(state.params, dataset.valid, "valid", 1), 1)
    for member, values in enumerate(numbers):
        log.row(step, "valid", member, {k: values[k] for k in ("elbo", "distortion", "rate", "active_units")})
    return keep_best(state, hypers, np.asarray([values["elbo"] for values in numbers], np.float32))


def raise_if_diverged(diverged_at: np.ndarray, workdir: Path) -> None:
    if np.all(diverged_at >= 0):
        raise UserError(
            f"the loss is not finite at step {', '.join(map(str, diverged_at))}; the last good parameters are saved in "
            f"{workdir / 'checkpoints'}: try a smaller hypers.learning_rate or hypers.clip_norm in another --workdir"
        )
