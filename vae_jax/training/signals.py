"""Signals that end a training: the running steps are finished and saved first."""

import contextlib
import signal
import threading
from collections.abc import Iterator

import jax

from vae_jax.parallel import processes


class Interrupted(BaseException):
    """SIGTERM or SIGINT arrived, and everything is saved. `signum` is which of them.

    Like KeyboardInterrupt it is no Exception: libraries catch those for reasons of their own.
    """

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows instead of a traceback."""
        return [f"{self}: everything is saved; the same cell goes on where it stopped"]


class catch_signals:
    """A context in which SIGTERM and SIGINT are recorded instead of ending the process.

    A second SIGINT raises KeyboardInterrupt at once.
    """

    def __init__(self):
        self.signum: int | None = None
        self.waits = True  # for what runs to end; else a signal raises Interrupted where it arrives
        self.handlers = {}  # those to be restored at the end

    def __enter__(self) -> "catch_signals":
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT):
                self.handlers[signum] = signal.signal(signum, self._record)
        return self

    def _record(self, signum: int, _frame) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum
        self.interrupt()

    def interrupt(self) -> None:
        """Raises Interrupted within `at_once` if a signal has arrived; again, where a library, such
        as an import in C, has made another error of it."""
        if self.signum is not None and not self.waits:
            raise Interrupted(self.signum)

    def __exit__(self, *_) -> None:
        for signum, handler in self.handlers.items():
            signal.signal(signum, handler)

    def arrived(self) -> int:
        """The number of a signal that any process has received, or 0.

        With several processes all of them must call it at the same points.
        """
        return processes.largest(self.signum or 0)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it a signal interrupts at once: of what only writes files that are whole or not
        there. With several processes nothing changes, for they wait for each other."""
        self.check()
        self.waits = jax.process_count() > 1
        try:
            yield
        finally:
            self.waits = True

    def check(self) -> None:
        """Raises Interrupted if a signal has arrived; see `arrived`."""
        signum = self.arrived()
        if signum:
            raise Interrupted(signum)
