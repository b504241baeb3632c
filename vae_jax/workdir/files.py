"""Reading and writing whole files: text, JSON, .npz. A file is written whole or not at all.

With several processes only process 0 writes.
"""

import contextlib
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vae_jax.errors import UserError
from vae_jax.parallel import processes


@contextlib.contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turns an error of the disk (full, read-only, ...) into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; mend that and run the same command again"
        ) from error


def write_bytes(path: Path, content: bytes | bytearray) -> None:
    if processes.is_main():
        with _replacement(path) as temporary:
            temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    if processes.is_main():
        with _replacement(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value) -> None:
    write_text(path, pretty(value) + "\n")


def write_arrays(path: Path, arrays: dict) -> None:
    """Writes an .npz file of {name: array}."""
    if processes.is_main():
        with _replacement(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)


@contextlib.contextmanager
def _replacement(path: Path) -> Iterator[Path]:
    """A temporary path, which replaces `path` at the end: an interruption leaves no half file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with clear_errors(path):
        yield temporary
        temporary.replace(path)


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
        raise UserError(
            f"{path} cannot be read ({error}); restore it or use another --workdir"
        ) from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; none where there is no such file, or it is damaged."""
    try:
        with path.open("rb") as raw, np.load(raw) as file:  # NumPy leaves a damaged one open
            return dict(file)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return {}


def pretty(value) -> str:
    """Indented JSON, but with a list of numbers or strings on one line."""

    def on_one_line(match: re.Match) -> str:
        return "[" + re.sub(r"\n\s+", " ", match[1]) + "]"

    text = json.dumps(finite(value), indent=2, allow_nan=False)
    return re.sub(r"\[\n\s+([^][{}]*?)\n\s+\]", on_one_line, text)


def finite(value) -> Any:
    """`value` with None for nan and infinity, which JSON cannot hold."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
