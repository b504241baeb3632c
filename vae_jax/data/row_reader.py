"""Reading examples from anywhere in a large file."""

import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

_READERS = 16  # a disk answers so many requests at once in about the time of one
_PAGE_BYTES = 4096


# (positions of examples in an array [num]) -> the examples as flat rows [num, D]
ReadRows = Callable[[np.ndarray], np.ndarray]


@contextmanager
def open_rows(x: Any) -> Iterator[ReadRows]:
    """The function that reads examples of x [n, ...] as flat rows.

    Examples of a page or more in a file are read from the file itself, many at a time. Through the
    memory map the kernel would also fetch what is around each, one after the other: where the file
    is not in memory yet, this takes twenty times as long.
    """
    if not _is_readable(x):
        yield lambda numbers: np.ascontiguousarray(x[numbers]).reshape(len(numbers), -1)
        return
    row = x[:1].nbytes
    start = _start(x)
    with (
        open(x.filename, "rb", buffering=0) as file,
        ThreadPoolExecutor(_READERS, "vae_jax-read") as pool,
    ):
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)

        def read(numbers: np.ndarray) -> np.ndarray:
            rows = np.empty((len(numbers), row // x.itemsize), x.dtype)

            def fill(part: np.ndarray) -> None:
                for i in part:
                    position = start + int(numbers[i]) * row
                    count = os.preadv(file.fileno(), [rows[i].data], position)
                    if count != row:
                        raise OSError(f"{x.filename} has become shorter while it was read")

            list(pool.map(fill, np.array_split(np.arange(len(numbers)), 4 * _READERS)))
            return rows

        yield read


def _is_readable(x: Any) -> bool:
    """Whether x is large examples, one after the other, in a file that is still there."""
    return (
        isinstance(x, np.memmap)
        and x[:1].nbytes >= _PAGE_BYTES
        and x.flags.c_contiguous
        and os.path.exists(x.filename or "")
        and hasattr(os, "preadv")
    )


def _start(x: Any) -> int:
    """Where x begins in its file, in bytes."""
    map_start = x.offset - x.offset % mmap.ALLOCATIONGRANULARITY  # as np.memmap chooses it
    return map_start + x.ctypes.data - np.frombuffer(x._mmap, np.uint8).ctypes.data
