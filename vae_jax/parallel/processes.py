"""The processes of one command: which one writes and prints, and what all of them agree on.

Every function but `is_main` and `say` is collective: all processes must call it.
"""

import hashlib

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_main() -> bool:
    """Whether this is process 0, which writes, draws and prints."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Waits until every process has called it with the same `what`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def largest(number: int) -> int:
    """The largest of the processes' numbers."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.asarray(number))))


def agree(text: str) -> bool:
    """Whether every process gives the same text."""
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=3).digest())
    return largest(number) == -largest(-number)


def say(text: str) -> None:
    """Prints `text`, in process 0 only."""
    if is_main():
        print(text, flush=True)
