"""What a run leaves in its workdir: config.json, metrics.jsonl, timing.jsonl, results.json."""

import contextlib
import json
import math
import os
import re
import zipfile
from pathlib import Path

import numpy as np

from vae_jax.errors import UserError
from vae_jax.parallel import processes


@contextlib.contextmanager
def clear_errors(path: Path):
    """Turns what the disk says (full, read-only, ...) into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; mend that and run the same command again") from error


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: a temporary name, then a rename. Process 0 writes, here and below."""
    if not processes.is_main():
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
    if not processes.is_main():
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
