"""Data sets that TFDS has prepared as ArrayRecord files: reading them needs no TensorFlow, preparing them does."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax.data import cache, images
from vae_jax.data.arrays import Arrays
from vae_jax.errors import UserError

_BLOCK = 256  # images decoded together


class Unavailable(Exception):
    """A source is not to be had here; the message says why."""


class Prepared(NamedTuple):
    """How a data set of TFDS is read; its images are under "image"."""

    splits: dict[str, str]  # ours -> TFDS's
    label: str | None  # TFDS's key
    gray: bool  # one channel
    binary: bool = False  # whether the values are 0 and 1, which become 0 and 255


_TRAIN_TEST = {"train": "train", "test": "test"}
_ALL_THREE = {"train": "train", "valid": "validation", "test": "test"}

# omniglot: "test" holds the alphabets of the evaluation set; its gray images are stored in three equal channels.
# svhn_cropped: without the "extra" split. dsprites, shapes3d: of the factors only the shape is kept, as the label.
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
    """The newest prepared copy of `name` in `data_dir`, else in $TFDS_DATA_DIR or TFDS's default folder.

    Raises:
      Unavailable: there is none.
    """
    places = [data_dir] if data_dir else [os.environ.get("TFDS_DATA_DIR"), "~/tensorflow_datasets"]
    folders = [Path(p).expanduser() for p in places if p]
    for folder in folders:
        copies = [path.parent for path in folder.glob(f"{name}/*/dataset_info.json")]
        if copies:
            return max(copies, key=lambda copy: [int(n) for n in copy.name.split(".") if n.isdecimal()])
    raise Unavailable(f"no prepared {name} in {' or '.join(map(str, folders))}")


def unreadable(name: str, copy: Path, error: Exception) -> Unavailable:
    return Unavailable(
        f"the prepared {name} in {copy} cannot be read ({first_line(error)}); it must be whole "
        'and have file_format="array_record"'
    )


def how_to_prepare(name: str, data_dir: str) -> str:
    """The command that prepares `name`."""
    where = f", data_dir='{data_dir}'" if data_dir else ""
    return (
        'prepare it once, which downloads it and needs TensorFlow: pip install -e ".[prepare]" && python3 -c '
        f"\"import tensorflow_datasets as tfds; tfds.builder('{name}'{where})"
        ".download_and_prepare(file_format='array_record')\""
    )


def records(copy: Path, split: str):
    """TFDS's data source of a split, its images left encoded: TFDS's own decoding takes twice the time."""
    import tensorflow_datasets as tfds

    skip = {"image": tfds.decode.SkipDecoding()}
    # By its folder, not its name: TFDS would look for the version that its own code is of.
    return tfds.builder_from_directory(copy).as_data_source(split=split, decoders=skip)


def read(name: str, data_dir: str, root: Path, fit: images.Fit) -> Arrays:
    """x_train, y_train, ... (also x_valid, where TFDS has one) of a member of PREPARED, cropped and resized.

    Raises:
      UserError: it is not prepared, or damaged, or smaller than the crop.
    """
    copy = None
    try:
        copy = find(name, data_dir)
        # The cache belongs to this copy: its description holds the version and the size of every shard.
        identity = hashlib.sha256((copy / "dataset_info.json").read_bytes()).hexdigest()[:16]
        return cache.streamed(root, f"{name}-tfds-{identity}-{fit.tag}-v1", lambda: _blocks(name, copy, fit))
    except Unavailable as error:
        first = "delete it and " if copy else ""
        raise UserError(f"{name} is not to be had ({error}): {first}{how_to_prepare(name, data_dir)}") from error


def _blocks(name: str, copy: Path, fit: images.Fit) -> Iterator[Arrays]:
    try:
        for ours, theirs in PREPARED[name].splits.items():
            yield from _split_blocks(name, copy, ours, theirs, fit)
    except UserError:
        raise
    except Exception as error:  # TFDS, its readers and PIL raise nearly anything
        raise unreadable(name, copy, error) from error


def _split_blocks(name: str, copy: Path, ours: str, theirs: str, fit: images.Fit) -> Iterator[Arrays]:
    about = PREPARED[name]
    source = records(copy, theirs)
    num = len(source)

    def decode(example: dict) -> tuple[np.ndarray, int]:
        return images.decoded(example["image"], fit, about.gray, about.binary), example[
            about.label
        ] if about.label else 0

    parts = (source.__getitems__(range(i, min(i + _BLOCK, num))) for i in range(0, num, _BLOCK))
    for found in images.in_threads(f"decoding {name} {theirs}", decode, parts, num):
        x, y = zip(*found, strict=True)
        yield {f"x_{ours}": np.stack(x)} | ({f"y_{ours}": np.array(y, np.int32)} if about.label else {})


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
