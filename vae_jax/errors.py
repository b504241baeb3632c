"""The exceptions for what a user can correct, and what goes on in spite of an error."""

import contextlib
from collections.abc import Callable, Iterator

from absl import logging


class UserError(Exception):
    """Something the user can correct: one line that says what is wrong and what to do.

    `main` prints it without a traceback and exits non-zero; from Python it is an ordinary
    exception.
    """


class WriteError(UserError):
    """A file could not be written: the disk is full, or read-only, ..."""


class SaveError(WriteError):
    """A checkpoint could not be written. Threads of the writer may wait on for minutes."""


def cause(error: Exception) -> str:
    """An error in one line; its kind, unless it was written for the user."""
    text = (str(error).strip() or "no message").splitlines()[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


# name -> a context in which a thing of this name is made.
Attempt = Callable[[str], contextlib.AbstractContextManager[None]]


def must(_name: str) -> contextlib.AbstractContextManager[None]:
    """The Attempt that lets no error pass."""
    return contextlib.nullcontext()


class Attempts:
    """Things of which each is made even if others fail.

    Args:
      check: called at each error; may raise what the error follows from.
    """

    def __init__(self, check: Callable[[], None] = lambda: None):
        self.check = check
        self.errors: dict[str, Exception] = {}

    @contextlib.contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """An Attempt: says and keeps an error, but for one of the disk, which the next would meet,
        too."""
        try:
            yield
        except WriteError:
            raise
        except Exception as error:
            self.check()
            self.errors[name] = error
            logging.warning("%s: not made: %s", name, cause(error))
