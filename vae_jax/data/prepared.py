"""Datasets that TFDS has prepared as ArrayRecord files.

Reading them needs no TensorFlow, preparing them does.
"""

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_jax.data import cache, images
from vae_jax.data.arrays import Arrays
from vae_jax.data.reader import Reader, Request
from vae_jax.data.split import Dataset, assemble
from vae_jax.errors import UserError

_BLOCK = 256  # images decoded together


class Unavailable(Exception):
    """A source does not have the data; the message says why."""


class Prepared(NamedTuple):
    """How a dataset of TFDS is read; its images are under the key "image"."""

    splits: dict[str, str]  # ours -> TFDS's
    label: str | None  # TFDS's key
    gray: bool  # one channel
    binary: bool = False  # whether the values are 0 and 1, which become 0 and 255


_TRAIN_TEST = {"train": "train", "test": "test"}
_ALL_THREE = {"train": "train", "valid": "validation", "test": "test"}

# omniglot: "test" is the evaluation set, other alphabets; its gray images are stored in three equal
# channels. svhn_cropped: without the "extra" split. dsprites, shapes3d: of the factors only the
# shape is kept, as the label.
PREPARED = {
    "binarized_mnist": Prepared(_ALL_THREE, None, gray=True, binary=True),
    "celeb_a": Prepared(_ALL_THREE, None, gray=False),
    "cifar10": Prepared(_TRAIN_TEST, "label", gray=False),
    "dsprites": Prepared({"train": "train"}, "label_shape", gray=True, binary=True),
    "omniglot": Prepared(_TRAIN_TEST, "label", gray=True),
    "shapes3d": Prepared({"train": "train"}, "label_shape", gray=False),
    "svhn_cropped": Prepared(_TRAIN_TEST, "label", gray=False),
}


def find(name: str, data_dir: str) -> Path:
    """The folder of the newest prepared copy of `name`.

    Args:
      name: of a TFDS dataset.
      data_dir: where to look; "": in $TFDS_DATA_DIR, then in TFDS's default folder.

    Raises:
      Unavailable: there is none.
    """
    places = [data_dir] if data_dir else [os.environ.get("TFDS_DATA_DIR"), "~/tensorflow_datasets"]
    folders = [Path(place).expanduser() for place in places if place]
    for folder in folders:
        copies = [path.parent for path in folder.glob(f"{name}/*/dataset_info.json")]
        if copies:
            return max(copies, key=_version)
    raise Unavailable(f"no prepared {name} in {' or '.join(map(str, folders))}")


def _version(copy: Path) -> list[int]:
    return [int(number) for number in copy.name.split(".") if number.isdecimal()]


def unreadable(name: str, copy: Path, error: Exception) -> Unavailable:
    """The error to raise where reading the copy of `name` has raised `error`."""
    return Unavailable(
        f"the prepared {name} in {copy} cannot be read ({first_line(error)}); it must be whole "
        'and have file_format="array_record"'
    )


def how_to_prepare(name: str, data_dir: str) -> str:
    """The command that prepares `name`."""
    where = f", data_dir='{data_dir}'" if data_dir else ""
    return (
        "prepare it once, which downloads it and needs TensorFlow: "
        'pip install -e ".[prepare]" && python3 -c '
        f"\"import tensorflow_datasets as tfds; tfds.builder('{name}'{where})"
        ".download_and_prepare(file_format='array_record')\""
    )


def records(copy: Path, split: str) -> Any:
    """TFDS's data source of a split, a sequence of {key: value}, its images left encoded.

    TFDS's own decoding takes twice the time.
    """
    import tensorflow_datasets as tfds

    skip = {"image": tfds.decode.SkipDecoding()}
    # By its folder: by its name, TFDS would look for the version of its own code only.
    builder: Any = tfds.builder_from_directory(copy)
    return builder.as_data_source(split=split, decoders=skip)


def _read(request: Request) -> Dataset:
    return assemble(
        request.name,
        "tfds",
        read(request.name, request.data_dir, request.cache, request.fit),
        num_valid=request.num_valid,
        num_test=request.num_test,
    )


def read(name: str, data_dir: str, root: Path, fit: images.Fit) -> Arrays:
    """x_train, y_train, ... of a member of PREPARED, as many splits as it has, cropped and resized.

    Args:
      name: a key of PREPARED.
      data_dir: where the copy is, see `find`.
      root: the folder of the cache.
      fit: how the images are cropped and resized.

    Raises:
      UserError: it is not prepared, or damaged, or smaller than the crop.
    """
    copy = None
    try:
        copy = find(name, data_dir)
        # The entry is of this copy: its description has the version and the size of every shard.
        identity = hashlib.sha256((copy / "dataset_info.json").read_bytes()).hexdigest()[:16]
        key = f"{name}-tfds-{identity}-{fit.tag}-v1"
        return cache.streamed(root, key, partial(_blocks, name, copy, fit))
    except Unavailable as error:
        first = "delete it and " if copy else ""
        raise UserError(
            f"{name} is not to be had ({error}): {first}{how_to_prepare(name, data_dir)}"
        ) from error


def _blocks(name: str, copy: Path, fit: images.Fit) -> Iterator[Arrays]:
    try:
        for ours, theirs in PREPARED[name].splits.items():
            yield from _split_blocks(name, copy, ours, theirs, fit)
    except UserError:
        raise
    except Exception as error:  # TFDS, its readers and PIL raise nearly anything
        raise unreadable(name, copy, error) from error


def _split_blocks(
    name: str, copy: Path, ours: str, theirs: str, fit: images.Fit
) -> Iterator[Arrays]:
    about = PREPARED[name]
    source = records(copy, theirs)
    num = len(source)

    def decode(example: dict) -> tuple[np.ndarray, int]:
        x = images.decoded(example["image"], fit, about.gray, about.binary)
        return x, example[about.label] if about.label else 0

    blocks = (source.__getitems__(range(i, min(i + _BLOCK, num))) for i in range(0, num, _BLOCK))
    for found in images.in_threads(f"decoding {name} {theirs}", decode, blocks, num):
        x, y = zip(*found, strict=True)
        arrays = {f"x_{ours}": np.stack(x)}
        if about.label:
            arrays[f"y_{ours}"] = np.array(y, np.int32)
        yield arrays


def first_line(error: Exception) -> str:
    """The first line of its message, or its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


READER = Reader(("tfds",), _read)
