"""What has to be known of all values before training: read a block at a time, since data may be larger than memory."""

import itertools
from collections.abc import Iterator

import numpy as np

from vae_jax.data import row_reader
from vae_jax.data.split import Dataset, Split

_BLOCK_BYTES = 1 << 25
_MEAN_EXAMPLES, _MEAN_BYTES = 50_000, 1 << 30  # the mean is of at most so much, evenly spaced


def mean(split: Split) -> np.ndarray:
    """The mean example float32, in its shape and on the scale the model sees: uint8 divided by 255.

    Of at most 50,000 examples or 1 GiB, evenly spaced. Sums of uint8 are exact.
    """
    num = min(split.num, _MEAN_EXAMPLES, max(1, _MEAN_BYTES // _example_bytes(split)))
    positions = np.arange(0, split.num, -(-split.num // num))
    total = np.zeros(split.x.shape[1:], np.int64 if split.x.dtype == np.uint8 else np.float64)
    size = _block_size(split)
    with row_reader.open_rows(split.x) as rows_at:
        for start in range(0, len(positions), size):
            block = rows_at(split.rows[positions[start : start + size]])
            total += block.sum(axis=0, dtype=total.dtype).reshape(total.shape)
    average = total.astype(np.float32) / np.float32(len(positions))
    return average / 255 if split.x.dtype == np.uint8 else average


def value_range(dataset: Dataset) -> tuple[float, float]:
    """(smallest, largest) value of all splits as the model sees it; uint8 is not read: (0, 1)."""
    if dataset.dtype == np.uint8:
        return 0.0, 1.0
    lows, highs = zip(*((float(b.min()), float(b.max())) for b in _all_blocks(dataset)), strict=True)
    return min(lows), max(highs)


def is_binary(dataset: Dataset) -> bool:
    """Whether every value of all splits is exactly 0 or 1 to the model; grey data shows at its first block."""
    if dataset.dtype == np.uint8:
        return all((block + np.uint8(1)).max() <= 1 for block in _all_blocks(dataset))  # 255 + 1 wraps around to 0
    return all(((block == 0) | (block == 1)).all() for block in _all_blocks(dataset))


def _all_blocks(dataset: Dataset) -> Iterator[np.ndarray]:
    return itertools.chain.from_iterable(map(_blocks, (dataset.train, dataset.valid, dataset.test)))


def _blocks(split: Split) -> Iterator[np.ndarray]:
    size = _block_size(split)
    return (split.take(slice(start, start + size)) for start in range(0, split.num, size))


def _block_size(split: Split) -> int:
    return max(1, _BLOCK_BYTES // _example_bytes(split))


def _example_bytes(split: Split) -> int:
    return max(1, int(np.prod(split.x.shape[1:])) * split.x.dtype.itemsize)
