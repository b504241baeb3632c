"""Datasets by name."""

import difflib
import os
from pathlib import Path

from vae_jax.data import (
    arrays,
    cache,
    digits,
    image_folder,
    images,
    mnist,
    mnist_files,
    prepared,
    ranges,
    user_file,
)
from vae_jax.data.reader import Reader, Request
from vae_jax.data.split import Dataset, Split, of_arrays
from vae_jax.errors import UserError

DATASETS: dict[str, Reader] = {
    "mnist": mnist.MNIST,
    "fashion_mnist": mnist.LIKE_MNIST,
    "kmnist": mnist.LIKE_MNIST,
    **{f"emnist/{part}": mnist.LIKE_MNIST for part in mnist_files.EMNIST},
    **dict.fromkeys(prepared.PREPARED, prepared.READER),
    "digits": digits.DIGITS,
    "file": user_file.FILE,
    "folder": image_folder.FOLDER,
}


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
    scale: str = "type",
    num_valid: int,
    num_test: int = 0,
    cache_dir: str | os.PathLike | None = None,
) -> Dataset:
    """The dataset `name`, a key of DATASETS.

    It is decoded once, into memory-mapped files below `cache_dir`.

    Args:
      name: a key of DATASETS.
      source: "tfds": a copy that TFDS has prepared. "official": the files of MNIST and datasets of
        its form, downloaded unless they are there. "embedded": inside a Python package; of MNIST
        5,000 digits of its training set. "auto": the first of these that is there; where data_dir
        or manual_dir is given, the data must be in it.
      path: of "file" (.npy or .npz) or "folder" (of images).
      data_dir: where TFDS has prepared data; default: $TFDS_DATA_DIR, then TFDS's own default.
      manual_dir: where the official files are; default: the download cache, then the network.
      resize, crop: what is done to uint8 images, see `images.Fit`.
      skip_broken: whether broken files of a folder are left out.
      scale: of "file" and "folder", which stored numbers are 0 and 1: "type", "range" or
        "LOW:HIGH", see `ranges`.
      num_valid: how many training examples are held out for validation, always the same ones; 0
        where the data has a validation split of its own.
      num_test: how many for testing, where the data has no test split; digits: 0 stands for 300.
      cache_dir: default: $VAE_JAX_CACHE, then $XDG_CACHE_HOME/vae_jax, then ~/.cache/vae_jax.

    Raises:
      UserError: an argument is wrong, or the data cannot be had as asked for.
    """
    _check_names(name, source, path)
    ranges.check(scale)
    if scale != "type" and not DATASETS[name].takes_path:
        raise UserError(f'data.scale is {scale!r}, but {name} is never scaled: set it to "type"')
    _check_folders(source, data_dir, manual_dir)
    request = Request(
        name=name,
        source=source,
        path=path,
        data_dir=data_dir,
        manual_dir=manual_dir,
        fit=images.make_fit(tuple(resize), crop),
        skip_broken=skip_broken,
        scale=scale,
        num_valid=num_valid,
        num_test=num_test,
        cache=cache.root(cache_dir),
    )
    return DATASETS[name].read(request)._replace(preparation=request.fit.describe())


def load_examples(
    path: str | os.PathLike,
    *,
    resize: tuple[int, ...] = (),
    crop: str = "center",
    skip_broken: bool = False,
    scale: str = "type",
    cache_dir: str | os.PathLike | None = None,
) -> tuple[list[Split], tuple[str, ...]]:
    """(all examples of a file (.npy, .npz) or a folder of images, in their order, none held out;
    the names of the values, where they are known).

    Several splits where it has examples for validation or test. The arguments are those of `load`.

    Raises:
      UserError: they cannot be had.
    """
    fit, root = images.make_fit(tuple(resize), crop), cache.root(cache_dir)
    if Path(path).expanduser().is_dir():
        data = image_folder.read(str(path), root, fit, skip_broken, scale)
    else:
        data = user_file.read(str(path), root, fit, scale)
    names = tuple(data["value_names"].tolist()) if "value_names" in data else ()
    return [of_arrays(data, part) for part in arrays.PARTS if f"x_{part}" in data], names


def _check_names(name: str, source: str, path: str) -> None:
    if name not in DATASETS:

        def unlikeness(known: str) -> float:
            return -difflib.SequenceMatcher(None, known, name).ratio()

        known = ", ".join(sorted(DATASETS, key=unlikeness))
        raise UserError(f"data.name: there is no dataset {name!r}; known: {known}")
    reader = DATASETS[name]
    sources = ("auto", *reader.sources)
    if source not in sources:
        allowed = ", ".join(sources)
        raise UserError(f"data.source must be one of {allowed} for {name}, not {source!r}")
    if path and not reader.takes_path:
        own = "folder" if Path(path).expanduser().is_dir() else "file"
        raise UserError(
            f"data.path is set, but data.name is {name!r}: set data.name to "
            f'"{own}", or data.path to ""'
        )


def _check_folders(source: str, data_dir: str, manual_dir: str) -> None:
    for asked, field, folder in (
        ("tfds", "data_dir", data_dir),
        ("official", "manual_dir", manual_dir),
    ):
        if folder and source in ("auto", asked) and not Path(folder).expanduser().is_dir():
            raise UserError(f"data.{field}: {folder} is not a folder")
