"""Reading and writing whole files: text, JSON, .npz. A file is written whole or not at all.

With several processes only process 0 writes.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vae_jax.errors import UserError, WriteError
from vae_jax.parallel import processes

TEMPORARY = ".tmp-"  # what names of unfinished files begin with


@contextlib.contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turns an error of the disk (full, read-only, ...) into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"cannot write {path}: {error.strerror}; mend that and run the same command again"
        ) from error


def write_bytes(path: Path, content: bytes | bytearray) -> None:
    if processes.is_main():
        with replacement(path) as temporary:
            temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    if processes.is_main():
        with replacement(path) as temporary:
            # Only names of files that are not UTF-8 have what it cannot encode.
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: dict) -> None:
    """Writes a dict, with a digest of it, by which `read_json` finds damage."""
    write_text(path, pretty(with_digest(value)) + "\n")


def with_digest(value: dict) -> dict:
    """`value` as JSON holds it, and under "digest" a digest of that."""
    value = json.loads(json.dumps(finite(value)))
    value.pop("digest", None)  # of an earlier state
    return value | {"digest": _digest(value)}


def without_digest(value) -> dict:
    """What `with_digest` was given.

    Raises:
      ValueError: it is not that any more.
    """
    if not isinstance(value, dict) or "digest" not in value:
        raise ValueError("it is not a run's, or has lost its digest")
    rest = {name: item for name, item in value.items() if name != "digest"}
    if value["digest"] != _digest(rest):
        raise ValueError("it was changed after it was written")
    return rest


def _digest(value: dict) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def write_arrays(path: Path, arrays: dict) -> None:
    """Writes an .npz file of {name: array}."""
    if processes.is_main():
        with replacement(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)


@contextlib.contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """A temporary path, which replaces `path` at the end: an interruption leaves no half file."""
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    with clear_errors(path):
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_temporary(workdir: Path) -> None:
    """Removes what writers that were killed have left in a workdir, and in its members' folders."""
    for pattern in (f"{TEMPORARY}*", f"members/*/{TEMPORARY}*"):
        for path in workdir.glob(pattern):
            path.unlink(missing_ok=True)


def digests(folder: Path, *patterns: str) -> dict[str, str]:
    """{name: digest} of the files in `folder` that match."""
    found = (path for pattern in patterns for path in folder.glob(pattern))
    paths = sorted(path for path in found if path.is_file())
    return {path.relative_to(folder).as_posix(): _digest_of_file(path) for path in paths}


def changed(folder: Path, known: dict[str, str]) -> list[str]:
    """Which of the files of `digests` are missing, or not what they were."""
    now = digests(folder, *known)
    return [name for name, digest in known.items() if now.get(name) != digest]


def _digest_of_file(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def read_bytes(path: Path) -> bytes:
    """The content of a file. A pipe or a device, which may never end, is an OSError."""
    if path.is_fifo() or path.is_char_device():
        raise OSError("it is a pipe or a device")
    return path.read_bytes()


def read_json(path: Path) -> dict | None:
    """What `write_json` has written, or None where there is no such file.

    Raises:
      UserError: it is damaged.
    """
    try:
        return without_digest(json.loads(read_bytes(path)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): restore it, or use another --workdir"
        ) from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; none where there is no such file, or it is damaged."""
    try:
        if not path.is_file():
            return {}
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
