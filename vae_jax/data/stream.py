"""The order of examples as a pure function of position, and its delivery to the training loop.

Position p of the stream is example permutation(seed, p // n)[p % n]: batches straddle epochs,
nothing is dropped, and resuming at any step needs no state.
"""

import functools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import jax
import numpy as np

from vae_jax.data import row_reader
from vae_jax.data.split import Split, shuffled
from vae_jax.errors import UserError
from vae_jax.types import Example


class Permutation(Protocol):
    def __call__(self, num: int, *seed: int) -> np.ndarray:
        """The permutation of 0, ..., num - 1 that belongs to `seed`."""
        ...


def order(
    seed: int,
    num: int,
    start: int,
    count: int,
    member_seed: int | None = None,
    permutation: Permutation | None = None,
) -> np.ndarray:
    """The examples at positions start, ..., start + count - 1 of the stream, int64 [count].

    Args:
      seed: config.data.seed.
      num: of examples.
      start, count: the positions.
      member_seed: of a member that has an order of its own; None: the order that all share.
      permutation: `_permutation`, or a function that caches its results.

    Raises:
      UserError: the seed is negative.
    """
    if seed < 0:
        raise UserError(f"data.seed must not be negative, but is {seed}")
    permutation = permutation or _permutation
    # NumPy's SeedSequence takes a missing number for 0: so that of member_seed 0 is 1.
    words = () if member_seed is None else (member_seed + 1,)
    stop = start + count
    parts = [np.empty(0, np.int64)]
    for epoch in range(start // num, -(-stop // num)):
        first = epoch * num
        whole = permutation(num, seed, epoch, *words)
        parts.append(whole[max(start - first, 0) : stop - first])
    return np.concatenate(parts)


def _permutation(num: int, *seed: int) -> np.ndarray:
    return shuffled(num, *seed).astype(np.int32 if num < 2**31 else np.int64)


def _identity(num: int, *_seed: int) -> np.ndarray:
    return np.arange(num, dtype=np.int32 if num < 2**31 else np.int64)


def store(split: Split) -> Example:
    """The whole split in memory, in its order, one row per example: x [n, D]."""
    return jax.tree.map(np.ascontiguousarray, split.examples(slice(None)))


def chunks(
    split: Split,
    *,
    bounds: Iterable[tuple[int, int]],
    batch_size: int,
    seed: int,
    resident: bool,
    member_seeds: Iterable[int] | None = None,
    shuffle: bool = True,
) -> Iterator[tuple[Example | None, np.ndarray]]:
    """Yields (rows, index int32 [T, B]) of T steps; the batch of step t is rows[index[t]].

    Where the data is resident, rows is None and stands for `store(split)`. Otherwise rows are the
    T * B examples of these steps. A background thread reads them one chunk ahead; its errors are
    raised here, and it ends with the generator.

    Args:
      split: the training set.
      bounds: (first step, last step + 1) of each chunk.
      batch_size: B.
      seed: config.data.seed.
      resident: whether the whole split is on the device.
      member_seeds: [N], of members that have orders of their own: then index is [T, N, B], and rows
        are T * N * B examples. None: all members share one order.
    """
    seeds = [None] if member_seeds is None else [int(s) for s in member_seeds]
    # A batch may need the end of an epoch and the start of the next. More permutations of a large
    # dataset would fill the memory.
    of_epoch = _permutation if shuffle else _identity
    permutation = functools.lru_cache(maxsize=2 * len(set(seeds)))(of_epoch)

    def examples(bound: tuple[int, int]) -> np.ndarray:
        start, stop = (step * batch_size for step in bound)
        orders = {
            s: order(seed, split.num, start, stop - start, s, permutation) for s in set(seeds)
        }
        index = np.stack([orders[s].reshape(-1, batch_size) for s in seeds], axis=1)
        index = index.astype(np.int32)
        return index[:, 0] if member_seeds is None else index

    if resident:
        for bound in bounds:
            yield None, examples(bound)
        return

    def read(bound: tuple[int, int]) -> tuple[Example, np.ndarray]:
        index = examples(bound)
        positions = index.ravel()
        rows = split.examples(positions, x=rows_at(split.rows[positions]))
        return rows, np.arange(index.size, dtype=np.int32).reshape(index.shape)

    with (
        row_reader.open_rows(split.x) as rows_at,
        ThreadPoolExecutor(1, thread_name_prefix="vae_jax-data") as thread,
    ):
        ahead = deque()
        for bound in bounds:
            ahead.append(thread.submit(read, bound))
            if len(ahead) > 1:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
