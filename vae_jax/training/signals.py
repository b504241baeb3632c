"""Signals that end a training: what runs is finished and saved first."""

import signal
import threading

from vae_jax.parallel import processes


class Interrupted(Exception):
    """SIGTERM or SIGINT came; everything is saved. `signum` is which."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class catch_signals:
    """Within it SIGTERM and SIGINT are remembered instead of acted on; the second SIGINT acts at once."""

    def __init__(self):
        self.signum = None

    def __enter__(self) -> "catch_signals":
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {s: signal.signal(s, self._remember) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _remember(self, signum: int, _frame) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum

    def __exit__(self, *_) -> None:
        for signum, handler in self.before.items():
            signal.signal(signum, handler)

    def arrived(self) -> int:
        """The number of a signal that any process has got, or 0: all processes ask at the same moments."""
        return processes.largest(self.signum or 0)

    def check(self) -> None:
        if signum := self.arrived():
            raise Interrupted(signum)
