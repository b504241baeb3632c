"""Files with a JSON object per line: metrics.jsonl and timing.jsonl."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vae_jax.errors import UserError
from vae_jax.parallel import processes
from vae_jax.workdir.files import clear_errors, finite


class Rows:
    """A .jsonl file that is appended to. With several processes only process 0 writes."""

    def __init__(self, path: Path, keep: Callable[[dict], bool]):
        """Opens the file; of the rows it holds, only those that `keep` accepts stay."""
        self.path = path
        self.lines: list[str] = []
        if not processes.is_main():
            return
        kept = [line for line, row in _parse(path) if keep(row)]
        temporary = path.with_name(f".{path.name}.tmp")
        with clear_errors(path):
            temporary.write_text("".join(kept))
            temporary.replace(path)

    def write(self, row: dict) -> None:
        """Adds a row, which is in the file after the next `flush`."""
        self.lines.append(json.dumps(finite(row), allow_nan=False) + "\n")

    def flush(self, durable: bool = False) -> None:
        """Appends the rows written since the last flush to the file.

        Args:
          durable: waits until they are on the disk. A checkpoint needs that: none may be newer
            than the rows before it.
        """
        text = "".join(self.lines)
        self.lines = []
        if not processes.is_main():
            return
        with clear_errors(self.path), self.path.open("a") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())


def read_rows(path: Path) -> list[dict]:
    """The rows of a .jsonl file; none where there is no such file.

    Raises:
      UserError: a line is damaged.
    """
    return [row for _, row in _parse(path)]


def _parse(path: Path) -> Iterator[tuple[str, dict]]:
    """(line, row) of each line.

    A last line without a newline is left out: a killed process was writing it.
    """
    if not path.exists():
        return
    for number, line in enumerate(path.read_text().splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            return
        try:
            yield line, json.loads(line)
        except ValueError as error:
            raise UserError(
                f"{path} is damaged at line {number}: restore it, or delete that line"
            ) from error
