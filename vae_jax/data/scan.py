"""What must be known of all values before training.

They are read a block at a time, since data may be larger than memory.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from vae_jax.data import row_reader
from vae_jax.data.kinds import Scaling
from vae_jax.data.split import Dataset, Split

_BLOCK_BYTES = 1 << 25
_MEAN_EXAMPLES = 50_000  # the mean is of at most so many examples, evenly spaced
_MEAN_BYTES = 1 << 30  # and of at most so many bytes


def mean(split: Split) -> np.ndarray:
    """The mean example, float32 [H, W, C] or [D]; uint8 is divided by 255, as the model sees it.

    It is the mean of at most 50,000 examples or 1 GiB, evenly spaced. Of missing values it is the
    mean of the observed ones, 0 where there is none. Sums of uint8 are exact.
    """
    num = min(split.num, _MEAN_EXAMPLES, max(1, _MEAN_BYTES // _example_bytes(split)))
    positions = np.arange(0, split.num, -(-split.num // num))
    if split.observed is not None:
        return _observed_mean(split, positions)
    total = np.zeros(split.x.shape[1:], np.int64 if split.x.dtype == np.uint8 else np.float64)
    size = max(1, _BLOCK_BYTES // _example_bytes(split))
    with row_reader.open_rows(split.x) as rows_at:
        for start in range(0, len(positions), size):
            block = rows_at(split.rows[positions[start : start + size]])
            total += block.sum(axis=0, dtype=total.dtype).reshape(total.shape)
    average = total.astype(np.float32) / np.float32(len(positions))
    return average / 255 if split.x.dtype == np.uint8 else average


def _observed_mean(split: Split, positions: np.ndarray) -> np.ndarray:
    """The mean of the observed values of the examples at `positions`."""
    num_values = int(np.prod(split.x.shape[1:]))
    total = np.zeros(num_values)
    count = np.zeros(num_values)
    for rows in split.blocks(_BLOCK_BYTES, positions):
        observed: Any = rows.observed
        total += np.where(observed, rows.x, 0.0).sum(0, dtype=np.float64)
        count += observed.sum(0)
    average = (total / np.maximum(count, 1)).astype(np.float32).reshape(split.x.shape[1:])
    return average / 255 if split.x.dtype == np.uint8 else average


def value_range(dataset: Dataset) -> tuple[float, float]:
    """(smallest, largest) value of all splits, as the model sees it; (0, 1) of uint8, unread.

    Missing values count as 0.
    """
    if dataset.dtype == np.uint8:
        return 0.0, 1.0
    low, high = np.inf, -np.inf
    for block in _all_blocks(dataset):
        low = min(low, float(block.min()))
        high = max(high, float(block.max()))
    return low, high


def largest(split: Split, scaling: Scaling | None) -> np.ndarray:
    """The largest absolute value that the encoder sees of every value of an example  [D]."""
    shift, scale = (0.0, 1.0) if scaling is None else (np.ravel(part) for part in scaling)
    unit = 255.0 if split.x.dtype == np.uint8 else 1.0
    found = np.zeros(int(np.prod(split.x.shape[1:])))
    for rows in split.blocks(_BLOCK_BYTES):
        seen = np.abs(rows.x / unit - shift) / scale
        seen = seen if rows.observed is None else np.where(rows.observed, seen, 0.0)
        found = np.maximum(found, seen.max(0))
    return found


def is_binary(dataset: Dataset) -> bool:
    """Whether every value of all splits is exactly 0 or 1 to the model.

    Reading ends at the first block that has another value.
    """
    if dataset.dtype == np.uint8:  # 255 + 1 wraps around to 0
        return all((block + np.uint8(1)).max() <= 1 for block in _all_blocks(dataset))
    return all(((block == 0) | (block == 1)).all() for block in _all_blocks(dataset))


def _all_blocks(dataset: Dataset) -> Iterator[np.ndarray]:
    """Yields the values of all splits, a block at a time."""
    for split in (dataset.train, dataset.valid, dataset.test):
        for rows in split.blocks(_BLOCK_BYTES):
            yield np.asarray(rows.x)


def _example_bytes(split: Split) -> int:
    """The size of one example, at least 1."""
    return max(1, int(np.prod(split.x.shape[1:])) * split.x.dtype.itemsize)
