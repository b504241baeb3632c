"""Decoded arrays as memory-mapped files: written once, then opened in milliseconds.

An entry is the folder `<root>/data/<key>/` with one .npy file per array and a meta.json that
describes them. It is written under a temporary name and renamed: it is whole or absent, even after
a kill, and when several processes build it at the same time. Data larger than memory is written a
block of examples at a time.
"""

import json
import math
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from absl import logging

from vae_jax.data.arrays import Arrays
from vae_jax.errors import UserError

# Contents are verified up to this size: reading larger ones would delay the start.
_CRC_MAX_BYTES = 1 << 28
_STALE_SECONDS = 86_400  # temporary folders this old were left behind by a kill


def root(cache_dir: str | os.PathLike | None = None) -> Path:
    """`cache_dir`, or $VAE_JAX_CACHE, or $XDG_CACHE_HOME/vae_jax, or ~/.cache/vae_jax."""
    folder = cache_dir or os.environ.get("VAE_JAX_CACHE")
    if folder:
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vae_jax"


def cached(root: Path, key: str, build: Callable[[], Arrays]) -> Arrays:
    """The arrays of entry `key`, built and written first where they are missing or damaged.

    Args:
      root: the folder of the cache.
      key: the name of the entry.
      build: () -> the arrays.
    """
    found = read(root, key)
    return write(root, key, build()) if found is None else found


def read(root: Path, key: str) -> Arrays | None:
    """The memory-mapped arrays of entry `key`; None where it is missing, or damaged (a warning)."""
    folder = root / "data" / key
    if not folder.exists():
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text())
        return {
            name: _open(folder / f"{name}.npy", entry) for name, entry in meta["arrays"].items()
        }
    except Exception as error:  # damaged files raise nearly anything
        logging.warning("The decoded data in %s is damaged (%s): it is built again.", folder, error)
        _discard(folder)
        return None


def streamed(root: Path, key: str, blocks: Callable[[], Iterable[Arrays]]) -> Arrays:
    """Like `cached`, in constant memory.

    Args:
      root: the folder of the cache.
      key: the name of the entry.
      blocks: () -> blocks of the next examples of some or all arrays of the entry.

    Raises:
      UserError: the cache cannot be written; nothing of the entry is kept.
    """
    found = read(root, key)
    if found is not None:
        return found
    folder = root / "data" / key
    try:
        _store(folder, blocks())
    except OSError as error:
        raise UserError(
            f"decoded data cannot be written to {folder.parent} ({error.strerror or error}): set "
            "$VAE_JAX_CACHE to a folder that can be written and has room for it"
        ) from error
    found = read(root, key)
    if found is None:
        raise UserError(
            f"the decoded data in {folder} was damaged while it was written: run the same command "
            "again"
        )
    return found


def write(root: Path, key: str, arrays: Arrays) -> Arrays:
    """The arrays of entry `key`, written and opened; `arrays` themselves where they cannot be.

    The latter is a warning.
    """
    folder = root / "data" / key
    try:
        _store(folder, [arrays])
    except OSError as error:
        logging.warning(
            "Decoded data cannot be kept in %s (%s): it stays in memory and is decoded anew next "
            "time. Set $VAE_JAX_CACHE to a folder that can be written.",
            folder.parent,
            error,
        )
        return arrays
    found = read(root, key)
    return arrays if found is None else found


def _store(folder: Path, blocks: Iterable[Arrays]) -> None:
    """Writes an entry, a block of examples at a time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder.parent)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder.parent) as tmp:
        # A folder inside it, since a TemporaryDirectory is closed to other users.
        new = Path(tmp) / "new"
        new.mkdir()
        files: dict[str, _GrowingFile] = {}
        try:
            for block in blocks:
                for name, x in block.items():
                    if name not in files:
                        files[name] = _GrowingFile(new / f"{name}.npy", x)
                    files[name].append(x)
            meta = {"arrays": {name: file.describe() for name, file in files.items()}}
        finally:
            for file in files.values():
                file.close()
        (new / "meta.json").write_text(json.dumps(meta, indent=1))
        _install(new, folder)


class _GrowingFile:
    """An .npy file that blocks of rows like those of `x` are appended to."""

    def __init__(self, path: Path, x: np.ndarray):
        self.row = x.shape[1:]
        self.dtype = x.dtype
        self.num = 0
        self.crc: int | None = 0
        self.file = path.open("w+b")
        self._write_header()

    def _write_header(self) -> None:
        """Writes it in place, again and again: NumPy leaves room in it for any number of rows."""
        self.file.seek(0)
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.num, *self.row)}
        np.lib.format.write_array_header_1_0(self.file, header)

    def append(self, x: np.ndarray) -> None:
        if (x.shape[1:], x.dtype) != (self.row, self.dtype):
            raise ValueError(f"rows {x.shape[1:]} {x.dtype} after rows {self.row} {self.dtype}")
        x = np.ascontiguousarray(x)
        x.tofile(self.file)
        self.num += len(x)
        self.crc = _crc32(x, self.num, self.crc)

    def describe(self) -> dict:
        self._write_header()
        size = self.file.seek(0, os.SEEK_END)
        return {
            "shape": (self.num, *self.row),
            "dtype": self.dtype.str,
            "bytes": size,
            "crc32": self.crc,
        }

    def close(self) -> None:
        self.file.close()


def _install(new: Path, folder: Path) -> None:
    """Moves a finished entry to its place, unless another process was faster."""
    try:
        new.rename(folder)
    except OSError:
        if not folder.exists():
            raise


def _open(path: Path, entry: dict) -> np.ndarray:
    if path.stat().st_size != entry["bytes"]:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes instead of {entry['bytes']}")
    x = np.lib.format.open_memmap(path, mode="r")
    as_described = [list(x.shape), x.dtype.str] == [entry["shape"], entry["dtype"]]
    if not as_described or _crc32(x, len(x)) != entry["crc32"]:
        raise ValueError(f"the contents of {path.name} have changed")
    return x


def _crc32(x: np.ndarray, num: int, before: int | None = 0) -> int | None:
    """The checksum of rows that end with x, `num` in all; None where they are too many."""
    num_bytes = num * x.dtype.itemsize * math.prod(x.shape[1:])
    if before is None or num_bytes > _CRC_MAX_BYTES:
        return None
    return zlib.crc32(x.reshape(-1).view(np.uint8).data, before)


def _discard(folder: Path) -> None:
    """Removes an entry: it is renamed first, so that no other process sees a part of it."""
    with suppress(OSError), tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder.parent) as tmp:
        folder.rename(Path(tmp) / "old")


def _remove_stale(parent: Path) -> None:
    """Removes temporary folders that were left behind."""
    for tmp in parent.glob(".tmp-*"):
        with suppress(OSError):
            if time.time() - tmp.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(tmp)
