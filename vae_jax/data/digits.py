"""The 1,797 digits of 8x8 pixels that come with scikit-learn."""

from typing import Any

import numpy as np

from vae_jax.data import cache, images
from vae_jax.data.arrays import Arrays
from vae_jax.data.reader import Reader, Request
from vae_jax.data.split import Dataset, assemble

_NUM_TEST = 300  # held out for testing where data.num_test is 0


def _read(request: Request) -> Dataset:
    """The digits; all splits hold the classes in proportion."""
    key = "digits-v1"
    data = cache.cached(request.cache, key, _digits)
    data = images.fit_arrays(request.name, request.cache, key, data, request.fit)
    return assemble(
        request.name,
        "embedded",
        data,
        num_valid=request.num_valid,
        num_test=request.num_test or _NUM_TEST,
        stratify=True,
    )


def _digits() -> Arrays:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    x = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # values 0..16 -> 0..255
    return {"x_train": x, "y_train": digits.target.astype(np.int32)}


DIGITS = Reader(("embedded",), _read)
