"""Reading examples that lie anywhere in a large file."""

import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

_READERS = 16  # a disk answers so many requests at once nearly as soon as one
_PAGE_BYTES = 4096


@contextmanager
def open_rows(x: np.ndarray) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """The function that reads examples of x [n, ...] by their numbers, as flat rows [len(numbers), D].

    Of a file it reads those of a page or more itself, many at a time: through the memory map the kernel would fetch
    what lies around each one too, one after the other, at a twentieth of the speed where it is not in memory yet.
    """
    row = x[:1].nbytes if isinstance(x, np.memmap) else 0
    if row < _PAGE_BYTES or not x.flags.c_contiguous or not os.path.exists(x.filename) or not hasattr(os, "preadv"):
        yield lambda numbers: np.ascontiguousarray(x[numbers]).reshape(len(numbers), -1)
        return
    in_map = x.ctypes.data - np.frombuffer(x._mmap, np.uint8).ctypes.data
    start = in_map + x.offset - x.offset % mmap.ALLOCATIONGRANULARITY  # where np.memmap's map begins in the file
    with open(x.filename, "rb", buffering=0) as file, ThreadPoolExecutor(_READERS, "vae_jax-read") as pool:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)

        def read(numbers: np.ndarray) -> np.ndarray:
            rows = np.empty((len(numbers), row // x.itemsize), x.dtype)

            def fill(part: np.ndarray) -> None:
                for i in part:
                    if os.preadv(file.fileno(), [rows[i]], start + int(numbers[i]) * row) != row:
                        raise OSError(f"{x.filename} has become shorter while it was read")

            list(pool.map(fill, np.array_split(np.arange(len(numbers)), 4 * _READERS)))
            return rows

        yield read
