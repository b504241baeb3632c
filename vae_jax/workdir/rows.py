"""Files with a JSON object per line: metrics.jsonl and timing.jsonl."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vae_jax.errors import UserError
from vae_jax.parallel import processes
from vae_jax.workdir.files import clear_errors, finite, read_bytes, write_text

NUMBER = int | float
KEYS = {  # what every row has, and of which type
    "metrics.jsonl": {"step": int, "epoch": NUMBER, "split": str, "member": int},
    "timing.jsonl": {"step": int, "wall_time_s": NUMBER, "examples_per_s": NUMBER},
}


class Rows:
    """A .jsonl file that is appended to. With several processes only process 0 writes."""

    def __init__(self, path: Path, keep: Callable[[dict], bool]):
        """Opens the file; of the rows it holds, only those that `keep` accepts stay."""
        self.path = path
        self.lines: list[str] = []
        if not processes.is_main():
            return
        kept = [line for line, row in _parse(path) if keep(row)]
        write_text(path, "".join(kept))

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
    try:
        lines = read_bytes(path).splitlines(keepends=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be read ({reason}): restore it, or delete it") from error
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return
        try:
            yield line.decode(), _checked(json.loads(line.decode()), KEYS.get(path.name, {}))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path} is damaged at line {number}: restore it, or delete that line"
            ) from error


def _checked(row, keys: dict[str, Any]) -> dict:
    """`row`, if it has these keys with values of these types."""
    for name, kind in keys.items():
        if not isinstance(row, dict) or not isinstance(row.get(name), kind):
            raise ValueError(f"{name} is not {kind}")
    return row
