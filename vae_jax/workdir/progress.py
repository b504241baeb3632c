"""The progress of a training on a terminal or in a log file."""

import sys
import time
from collections.abc import Sequence

from vae_jax.parallel import processes


class Progress:
    """A bar on a terminal, else a plain line every `seconds`; only process 0 prints."""

    def __init__(self, total: int, start: int, name: str = "", seconds: float = 10.0):
        """`total` steps, of which `start` have been taken; `name` of the part of a sweep."""
        self.total = total
        self.seconds = seconds
        self.prefix = f"{name}  " if name else ""
        self.first: tuple[int, float] | None = None  # step and time of the first line
        self.printed = time.monotonic()
        self.bar = None
        if sys.stderr.isatty() and processes.is_main() and start < total:
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True)

    def update(
        self,
        step: int,
        epoch: float,
        shown: list[tuple[float, float | None]],
        examples_per_s: float,
    ) -> None:
        """Shows that `step` steps have been taken.

        Args:
          shown: (loss, elbo) of each member that is still training; the elbo is None where the
            model has no rate.
        """
        losses, elbos = zip(*shown, strict=True)
        numbers = f"loss {_range(losses)}"
        if None not in elbos:
            numbers += f"  elbo {_range(elbos)}"
        text = f"{self.prefix}epoch {epoch:.1f}  {numbers}  {examples_per_s:,.0f} examples/s"
        if self.bar is not None:
            self.bar.set_description_str(text, refresh=False)
            self.bar.update(step - self.bar.n)
        elif processes.is_main():
            self._print(step, text)

    def _print(self, step: int, text: str) -> None:
        """Prints a line if the last one is old enough, or this is the last step."""
        if time.monotonic() - self.printed < self.seconds and step != self.total:
            return
        self.printed = time.monotonic()
        line = f"step {step}/{self.total}  {text}  {self._left(step)} left"
        print(line, file=sys.stderr, flush=True)

    def _left(self, step: int) -> str:
        """The time left, at the pace since the first line, before which programs are compiled."""
        if self.first is None:
            self.first = (step, time.monotonic())
        first_step, began = self.first
        if step == first_step and step < self.total:
            return "some time"
        pace = (time.monotonic() - began) / max(step - first_step, 1)
        return time.strftime("%H:%M:%S", time.gmtime(pace * (self.total - step)))

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _range(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{min(values):.2f} to {max(values):.2f}"
