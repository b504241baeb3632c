"""What a run leaves in its workdir: config.json, metrics.jsonl, timing.jsonl, results.json."""

import contextlib
import json
import math
import os
import re
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vae_jax import sharding
from vae_jax.errors import UserError


def say(text: str) -> None:
    """Prints once, however many processes there are."""
    if sharding.is_main():
        print(text, flush=True)


@contextlib.contextmanager
def clear_errors(path: Path):
    """Turns what the disk says (full, read-only, ...) into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; mend that and run the same command again") from error


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: a temporary name, then a rename. Process 0 writes, here and below."""
    if not sharding.is_main():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with clear_errors(path):
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)


def write_json(path: Path, value) -> None:
    write_text(path, pretty(value) + "\n")


def pretty(value) -> str:
    """JSON for people: indented, but a list of numbers or words on one line."""
    text = json.dumps(finite(value), indent=2, allow_nan=False)
    one_line = lambda found: "[" + re.sub(r"\n\s+", " ", found[1]) + "]"  # noqa: E731
    return re.sub(r"\[\n\s+([^][{}]*?)\n\s+\]", one_line, text)


def read_json(path: Path):
    """The value, or None where there is no such file.

    Raises:
      UserError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it or use another --workdir") from error


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An .npz file, whole or not at all."""
    if not sharding.is_main():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with clear_errors(path):
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(path)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; none where there is no such file, or it is damaged."""
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return {}


def finite(value):
    """`value` with null for what JSON cannot hold."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Rows:
    """A .jsonl file that is appended to; on resume, first cut back to the rows that `keep` accepts."""

    def __init__(self, path: Path, keep: Callable[[dict], bool]):
        self.path, self.lines = path, []
        if not sharding.is_main():
            return
        kept = [line for line, row in _parse(path) if keep(row)]
        temporary = path.with_name(f".{path.name}.tmp")
        with clear_errors(path):
            temporary.write_text("".join(kept))
            temporary.replace(path)

    def write(self, row: dict) -> None:
        self.lines.append(json.dumps(finite(row), allow_nan=False) + "\n")

    def flush(self, durable: bool = False) -> None:
        """Into the file; `durable` onto the disk, because no checkpoint may be newer than the rows before it."""
        lines, self.lines = self.lines, []
        if not sharding.is_main():
            return
        with clear_errors(self.path), self.path.open("a") as file:
            file.write("".join(lines))
            file.flush()
            if durable:
                os.fsync(file.fileno())


def read_rows(path: Path) -> list[dict]:
    return [row for _, row in _parse(path)]


def _parse(path: Path):
    """(line, row) of each; a last line without its end, which a kill left, does not count.

    Raises:
      UserError: any other line is damaged.
    """
    if not path.exists():
        return
    for number, line in enumerate(path.read_text().splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            return
        try:
            yield line, json.loads(line)
        except ValueError as error:
            raise UserError(f"{path} is damaged at line {number}: restore it, or delete that line") from error


class Progress:
    """A bar on a terminal, a plain line every `seconds` elsewhere; silent but in process 0."""

    def __init__(self, total: int, start: int, name: str = "", seconds: float = 10.0):
        self.total, self.first, self.seconds = total, None, seconds
        self.name = f"{name}  " if name else ""
        self.printed = time.monotonic()
        self.bar = None
        if sys.stderr.isatty() and sharding.is_main() and start < total:
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True)

    def update(self, step: int, epoch: float, shown: list[tuple[float, float | None]], examples_per_s: float) -> None:
        """`shown`: (loss, elbo) of every member that still learns; its elbo is None where there is no rate."""
        losses, elbos = zip(*shown, strict=True)
        elbo = "" if None in elbos else f"  elbo {_range(elbos)}"
        text = f"{self.name}epoch {epoch:.1f}  loss {_range(losses)}{elbo}  {examples_per_s:,.0f} examples/s"
        if self.bar is not None:
            self.bar.set_description_str(text, refresh=False)
            self.bar.update(step - self.bar.n)
        elif sharding.is_main() and (time.monotonic() - self.printed >= self.seconds or step == self.total):
            self.printed = time.monotonic()
            print(f"step {step}/{self.total}  {text}  {self._left(step)} left", file=sys.stderr, flush=True)

    def _left(self, step: int) -> str:
        """The time left, at the pace since the first update: what came before it is compilation."""
        first_step, began = self.first = self.first or (step, time.monotonic())
        if step == first_step and step < self.total:
            return "some time"
        pace = (time.monotonic() - began) / max(step - first_step, 1)
        return time.strftime("%H:%M:%S", time.gmtime(pace * (self.total - step)))

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _range(values: tuple[float, ...]) -> str:
    return f"{values[0]:.2f}" if len(values) == 1 else f"{min(values):.2f} to {max(values):.2f}"
