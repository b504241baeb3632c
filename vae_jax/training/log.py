"""metrics.jsonl, timing.jsonl and the progress line of a training."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from vae_jax.parallel import devices, processes
from vae_jax.training import tensorboard
from vae_jax.training.program import Program
from vae_jax.workdir import ranking
from vae_jax.workdir.progress import Progress
from vae_jax.workdir.rows import Rows, read_rows


class _Chunk(NamedTuple):
    """The result of T training steps of N members, `begin` + 1 to `end`."""

    begin: int
    end: int
    metrics: dict  # {name: [T, N]}
    diverged_at: jax.Array  # [N], -1 of members that have not diverged


class Log:
    """Writes the metrics of a program's training.

    A chunk is fetched from the device only when the next one has been started, which keeps the
    device busy.
    """

    def __init__(
        self,
        workdir: Path,
        program: Program,
        start: int,
        on_row: Callable[[dict], None] | None = None,
    ):
        """Opens the files; rows of this program after step `start` are dropped.

        Args:
          on_row: called with every row of metrics as it is written, by process 0.
        """
        self.program = program
        self.on_row = on_row
        self.pending: _Chunk | None = None
        self.diverged_at = self.stopped_at = np.full(len(program.members), -1)

        self.num_rows = 0  # of this program in metrics.jsonl

        def keep_metrics(row: dict) -> bool:
            mine = row["member"] in program.members
            self.num_rows += mine and row["step"] <= start
            return not mine or row["step"] <= start

        def keep_timing(row: dict) -> bool:
            return row.get("part", "") != program.name or row["step"] <= start

        self.metrics = Rows(workdir / "metrics.jsonl", keep_metrics)
        self.timing = Rows(workdir / "timing.jsonl", keep_timing)
        writes_events = program.config.eval.tensorboard
        self.events = tensorboard.Events(workdir, program) if writes_events else None
        examples = program.config.train.batch_size * len(program.members)
        self.progress = Progress(program.total_steps, start, examples, program.name)
        timing = read_rows(workdir / "timing.jsonl")
        self.began = time.monotonic() - (timing[-1]["wall_time_s"] if timing else 0.0)
        self.last_written = time.monotonic()

    def chunk(self, begin: int, end: int, metrics: dict, diverged_at: jax.Array) -> None:
        """Takes the result of steps `begin` + 1 to `end`, and writes that of the chunk before.

        Args:
          metrics: {name: [T, N]}, on the device.
          diverged_at: [N].
        """
        before = self.pending
        self.pending = _Chunk(begin, end, metrics, diverged_at)
        if before is not None:
            self._write(before)

    def flush(self) -> None:
        """Writes everything known, and waits until it is on the disk."""
        before = self.pending
        self.pending = None
        if before is not None:
            self._write(before)
        self._flush(durable=True)

    def check_rows(self, num_saved: int) -> None:
        """Says so if metrics.jsonl has lost some of the rows that it had at the checkpoint."""
        if processes.is_main() and self.num_rows < num_saved:
            logging.warning(
                "%s has %d of the %d rows up to the checkpoint: the others are lost",
                self.metrics.path,
                self.num_rows,
                num_saved,
            )

    def nobody_runs(self) -> bool:
        """Whether every member has diverged or been stopped, as far as has been written."""
        return bool(np.all((self.diverged_at >= 0) | (self.stopped_at >= 0)))

    def row(self, step: int, split: str, i: int, values: dict) -> None:
        """Writes a row of metrics for the i-th member of this program."""
        epoch = round(step / self.program.steps_per_epoch, 4)
        member = self.program.members[i]
        row = {"step": step, "epoch": epoch, "split": split, "member": member} | values
        self.metrics.write(row)
        self.num_rows += 1
        if self.events:
            self.events.write(row)
        if self.on_row and processes.is_main():
            self.on_row(row)

    def _flush(self, durable: bool = False) -> None:
        self.metrics.flush(durable)
        self.timing.flush(durable)
        if self.events:
            self.events.flush()

    def _write(self, chunk: _Chunk) -> None:
        metrics, diverged_at = devices.fetch((chunk.metrics, chunk.diverged_at))
        self.diverged_at = diverged_at[: len(self.program.members)]
        shown = self._write_metrics(chunk._replace(metrics=metrics))
        self._write_timing(chunk)
        self._flush()
        if shown:
            epoch = chunk.end / self.program.steps_per_epoch
            self.progress.update(chunk.end, epoch, shown)

    def _write_metrics(self, chunk: _Chunk) -> list[tuple[float, float | None]]:
        """Writes a row for each member that was training; returns the (loss, elbo) of each."""
        means = {name: v.mean(0, dtype=np.float64) for name, v in chunk.metrics.items()}
        shown = []
        for i, diverged_at in enumerate(self.diverged_at):
            had_diverged = 0 <= diverged_at < chunk.begin
            was_stopped = 0 <= self.stopped_at[i] <= chunk.begin
            if had_diverged or was_stopped:
                continue
            values = {name: float(v[i]) for name, v in means.items()}
            if chunk.begin <= diverged_at < chunk.end:
                self._report_divergence(chunk, i)
                values = self._means_before_divergence(chunk, i)
            if values:
                self.row(chunk.end, "train", i, values)
                shown.append((values["loss"], values.get("elbo")))
        return shown

    def _means_before_divergence(self, chunk: _Chunk, i: int) -> dict[str, float]:
        """Means over the steps before the one that diverged; {} if that was the first."""
        num = self.diverged_at[i] - chunk.begin
        if num == 0:
            return {}
        return {name: float(v[:num, i].mean(dtype=np.float64)) for name, v in chunk.metrics.items()}

    def _report_divergence(self, chunk: _Chunk, i: int) -> None:
        step = self.diverged_at[i]
        at = step - chunk.begin
        terms = [name for name, v in chunk.metrics.items() if not np.isfinite(v[at, i])]
        swept = self.program.changes[i]
        who = ranking.named({"member": self.program.members[i], "swept": swept})
        logging.error("%s diverged at step %d: not finite: %s", who, step, ", ".join(terms))

    def _write_timing(self, chunk: _Chunk) -> None:
        """Writes the wall time and the pace of a chunk, in examples/s over all members."""
        now = time.monotonic()
        batch_size = self.program.config.train.batch_size
        examples = (chunk.end - chunk.begin) * batch_size * len(self.program.members)
        examples_per_s = examples / (now - self.last_written)
        self.last_written = now
        row = {
            "step": chunk.end,
            "wall_time_s": round(now - self.began, 3),
            "examples_per_s": round(examples_per_s, 1),
        }
        if self.program.name:
            row["part"] = self.program.name
        self.timing.write(row)
