"""Files with a JSON object per line: metrics.jsonl and timing.jsonl."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from vae_jax.errors import UserError
from vae_jax.parallel import processes
from vae_jax.workdir.files import clear_errors, finite


class Rows:
    """A .jsonl file that is appended to; on resume, first cut back to the rows that `keep` accepts."""

    def __init__(self, path: Path, keep: Callable[[dict], bool]):
        self.path, self.lines = path, []
        if not processes.is_main():
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
        if not processes.is_main():
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
