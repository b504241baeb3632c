"""Decoded arrays as memory-mapped files: made once, opened in milliseconds ever after.

An entry is the folder `<root>/data/<key>/` with one .npy file per array and a meta.json that describes them.
It is written under a temporary name and renamed, so it is either whole or absent, also after a kill and when
several processes build it at the same time.
"""

import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from absl import logging

from vae_jax.data.arrays import Arrays

_CRC_MAX_BYTES = 1 << 28  # contents are verified up to this size; above it, reading them would delay the start
_STALE_SECONDS = 86_400  # temporary folders this old were left behind by a kill


def root(cache_dir: str | os.PathLike | None = None) -> Path:
    """`cache_dir`, or $VAE_JAX_CACHE, or $XDG_CACHE_HOME/vae_jax, or ~/.cache/vae_jax."""
    if folder := cache_dir or os.environ.get("VAE_JAX_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vae_jax"


def cached(root: Path, key: str, build: Callable[[], Arrays]) -> Arrays:
    """The arrays of entry `key`, built and written first where they are missing or damaged."""
    found = read(root, key)
    return write(root, key, build()) if found is None else found


def read(root: Path, key: str) -> Arrays | None:
    """The memory-mapped arrays of entry `key`; None when missing or damaged (then it warns)."""
    folder = root / "data" / key
    if not folder.exists():
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text())
        return {name: _open(folder / f"{name}.npy", entry) for name, entry in meta["arrays"].items()}
    except Exception as error:  # damaged files raise nearly anything
        logging.warning("The decoded data in %s is damaged (%s): it is built again.", folder, error)
        _discard(folder)
        return None


def write(root: Path, key: str, arrays: Arrays) -> Arrays:
    """Writes entry `key` and opens it; where that is impossible it warns and returns `arrays` themselves."""
    folder = root / "data" / key
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder.parent)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder.parent) as tmp:
            new = Path(tmp) / "new"  # a folder of its own, since a TemporaryDirectory is closed to other users
            new.mkdir()
            meta = {"arrays": {name: _save(new / f"{name}.npy", x) for name, x in arrays.items()}}
            (new / "meta.json").write_text(json.dumps(meta, indent=1))
            _install(new, folder)
    except OSError as error:
        logging.warning(
            "Decoded data cannot be kept in %s (%s): it stays in memory and is decoded anew next time. "
            "Set $VAE_JAX_CACHE to a folder that can be written.",
            folder.parent,
            error,
        )
        return arrays
    found = read(root, key)
    return arrays if found is None else found


def _install(new: Path, folder: Path) -> None:
    try:
        new.rename(folder)
    except OSError:
        if not folder.exists():  # it does when another process was faster: then its entry serves as well
            raise


def _save(path: Path, x: np.ndarray) -> dict:
    x = np.ascontiguousarray(x)
    np.save(path, x)
    return {"shape": x.shape, "dtype": x.dtype.str, "bytes": path.stat().st_size, "crc32": _crc32(x)}


def _open(path: Path, entry: dict) -> np.ndarray:
    if path.stat().st_size != entry["bytes"]:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes instead of {entry['bytes']}")
    x = np.lib.format.open_memmap(path, mode="r")
    if (list(x.shape), x.dtype.str) != (entry["shape"], entry["dtype"]) or _crc32(x) != entry["crc32"]:
        raise ValueError(f"the contents of {path.name} have changed")
    return x


def _crc32(x: np.ndarray) -> int | None:
    return zlib.crc32(x.reshape(-1).view(np.uint8)) if x.nbytes <= _CRC_MAX_BYTES else None


def _discard(folder: Path) -> None:
    """Removes an entry; the rename comes first, so that no other process sees half of it."""
    with suppress(OSError), tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder.parent) as tmp:
        folder.rename(Path(tmp) / "old")


def _remove_stale(parent: Path) -> None:
    for tmp in parent.glob(".tmp-*"):
        with suppress(OSError):
            if time.time() - tmp.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(tmp)
