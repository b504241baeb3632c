"""metrics.jsonl, timing.jsonl and the progress line of a training, from what its chunks of steps return."""

import time
from pathlib import Path

import jax
import numpy as np
from absl import logging

from vae_jax.parallel import devices
from vae_jax.training import tensorboard
from vae_jax.training.program import Program
from vae_jax.workdir import ranking
from vae_jax.workdir.progress import Progress
from vae_jax.workdir.rows import Rows, read_rows


class Log:
    """Writes the rows of finished chunks; fetching them one chunk late keeps the device busy."""

    def __init__(self, workdir: Path, program: Program, start: int):
        self.program, self.pending = program, None
        self.part = {"part": program.name} if program.name else {}
        before = lambda row: row["step"] <= start  # noqa: E731
        ours, part = set(program.members), program.name
        self.metrics = Rows(workdir / "metrics.jsonl", lambda row: row["member"] not in ours or before(row))
        self.timing = Rows(workdir / "timing.jsonl", lambda row: row.get("part", "") != part or before(row))
        self.events = tensorboard.Events(workdir, program) if program.config.eval.tensorboard else None
        self.progress = Progress(program.total_steps, start, program.name)
        rows = read_rows(workdir / "timing.jsonl")
        self.began = time.monotonic() - (rows[-1]["wall_time_s"] if rows else 0.0)
        self.clock = time.monotonic()
        self.diverged_at = self.stopped_at = np.full(len(program.members), -1)

    def chunk(self, begin: int, end: int, metrics: dict, diverged_at: jax.Array) -> None:
        before, self.pending = self.pending, (begin, end, metrics, diverged_at)
        if before is not None:
            self._write(*before)

    def flush(self) -> None:
        """Everything that is known, onto the disk."""
        before, self.pending = self.pending, None
        if before is not None:
            self._write(*before)
        self._flush(durable=True)

    def nobody_runs(self) -> bool:
        """Whether every member has diverged or been stopped, as far as is known."""
        return bool(np.all((self.diverged_at >= 0) | (self.stopped_at >= 0)))

    def row(self, step: int, split: str, i: int, values: dict) -> None:
        """A row of metrics.jsonl for the i-th member of this program."""
        epoch = round(step / self.program.steps_per_epoch, 4)
        row = {"step": step, "epoch": epoch, "split": split, "member": self.program.members[i]} | values
        self.metrics.write(row)
        if self.events:
            self.events.write(row)

    def _flush(self, durable: bool = False) -> None:
        self.metrics.flush(durable)
        self.timing.flush(durable)
        if self.events:
            self.events.flush()

    def _write(self, begin: int, end: int, metrics: dict, diverged_at: jax.Array) -> None:
        metrics, diverged_at = devices.fetch((metrics, diverged_at))
        self.diverged_at, shown = diverged_at[: len(self.program.members)], []
        means = {name: v.mean(0, dtype=np.float64) for name, v in metrics.items()}
        for i, stopped in enumerate(self.diverged_at):
            values = {name: float(v[i]) for name, v in means.items()}
            if begin <= stopped < end:  # the steps before count, and what was not finite then is named
                parts = {name: v[: stopped - begin + 1, i] for name, v in metrics.items()}
                self._report(i, stopped, [name for name, v in parts.items() if not np.isfinite(v[-1])])
                values = {name: float(v[:-1].mean(dtype=np.float64)) for name, v in parts.items() if len(v) > 1}
            if values and not 0 <= stopped < begin and not 0 <= self.stopped_at[i] <= begin:
                self.row(end, "train", i, values)
                shown.append((values["loss"], values.get("elbo")))
        now, before = time.monotonic(), self.clock
        self.clock = now
        pace = (end - begin) * self.program.config.train.batch_size * len(self.program.members) / (now - before)
        row = {"step": end, "wall_time_s": round(now - self.began, 3), "examples_per_s": round(pace, 1)}
        self.timing.write(row | self.part)
        self._flush()
        if shown:
            self.progress.update(end, end / self.program.steps_per_epoch, shown, pace)

    def _report(self, i: int, step: int, terms: list[str]) -> None:
        who = ranking.named({"member": self.program.members[i], "swept": self.program.changes[i]})
        logging.error("%s diverged at step %d: not finite: %s", who, step, ", ".join(terms))
