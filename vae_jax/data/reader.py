"""What a dataset that is loaded by name consists of.

To add one: a file that defines a Reader, and a line in `sources.DATASETS`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vae_jax.data.images import Fit
from vae_jax.data.split import Dataset


class Request(NamedTuple):
    """The arguments of `sources.load`, checked."""

    name: str  # of the dataset
    source: str  # "auto", or one of the reader's sources
    path: str
    data_dir: str
    manual_dir: str
    fit: Fit  # how images are cropped and resized
    skip_broken: bool
    scale: str  # which stored numbers are 0 and 1, see `ranges`
    num_valid: int
    num_test: int
    cache: Path  # root of the decoded arrays and downloads


class Reader(NamedTuple):
    """How a dataset, or a family of them, is loaded."""

    sources: tuple[str, ...]  # where it may come from, best first; "auto" is always allowed
    read: Callable[[Request], Dataset]  # splits included
    takes_path: bool = False  # a user's own: data.path says where it is, data.scale its range
