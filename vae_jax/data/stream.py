"""The order of examples as a pure function of position, and its delivery to the training loop.

Position p of the stream is example permutation(seed, p // n)[p % n]: batches straddle epochs, nothing is
dropped, and resuming at any step needs no state.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vae_jax.data import row_reader
from vae_jax.data.split import Split, shuffled
from vae_jax.errors import UserError


def order(
    seed: int, num: int, start: int, count: int, member_seed: int | None = None, permutation: Callable | None = None
) -> np.ndarray:
    """The examples at positions start..start+count-1 of the stream over `num` examples, int64 [count].

    With `member_seed` the order is that member's own, else the one that all members share. `permutation` is
    `_permutation`, or what remembers its results.

    Raises:
      UserError: the seed is negative.
    """
    if seed < 0:
        raise UserError(f"data.seed must not be negative, but is {seed}")
    permutation, stop = permutation or _permutation, start + count
    words = () if member_seed is None else (member_seed + 1,)  # an absent word counts as 0
    epochs = range(start // num, -(-stop // num))
    parts = [permutation(num, seed, e, *words)[max(start - e * num, 0) : stop - e * num] for e in epochs]
    return np.concatenate([np.empty(0, np.int64), *parts])


def _permutation(num: int, *seed: int) -> np.ndarray:
    return shuffled(num, *seed).astype(np.int32 if num < 2**31 else np.int64)


def store(split: Split) -> np.ndarray:
    """The whole split in memory, one flat row per example: [n, D], contiguous, in the split's order."""
    return np.ascontiguousarray(split.take(slice(None)).reshape(split.num, -1))


def chunks(
    split: Split,
    *,
    bounds: Iterable[tuple[int, int]],
    batch_size: int,
    seed: int,
    resident: bool,
    member_seeds: Iterable[int] | None = None,
) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
    """Yields (rows, index) for each (start_step, end_step) of `bounds`; x of step t is rows[index[t]].

    Resident: rows is None, to be read as `store(split)`, and index, int32 [T, B], points into that. Otherwise
    rows [T * B, D] are just the examples of this chunk, read by a background thread that is one chunk ahead,
    and index counts them; errors of the thread come out here. The thread ends with the generator.

    With `member_seeds` [N] members have orders of their own: index is [T, N, B], and rows are [T * N * B, D].
    """
    seeds = [None] if member_seeds is None else [int(s) for s in member_seeds]
    # A batch may need the end of an epoch and the start of the next; more would fill the memory with large sets.
    permutation = functools.lru_cache(maxsize=2 * len(set(seeds)))(_permutation)

    def examples(bound: tuple[int, int]) -> np.ndarray:
        start, count = bound[0] * batch_size, (bound[1] - bound[0]) * batch_size
        orders = {s: order(seed, split.num, start, count, s, permutation) for s in set(seeds)}
        index = np.stack([orders[s].reshape(-1, batch_size) for s in seeds], axis=1).astype(np.int32)
        return index[:, 0] if member_seeds is None else index

    if resident:
        for bound in bounds:
            yield None, examples(bound)
        return

    def read(bound: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        i = examples(bound)
        return rows_at(split.rows[i.ravel()]), np.arange(i.size, dtype=np.int32).reshape(i.shape)

    with row_reader.open_rows(split.x) as rows_at, ThreadPoolExecutor(1, thread_name_prefix="vae_jax-data") as thread:
        ahead = deque()
        for bound in bounds:
            ahead.append(thread.submit(read, bound))
            if len(ahead) > 1:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
