"""The progress of a training on a terminal, in a notebook or in a log file."""

import sys
import time
from collections.abc import Sequence

from vae_jax.parallel import processes
from vae_jax.workdir import notebook

BAR = 20  # characters of the bar in a notebook


class Progress:
    """A bar on a terminal, one line that changes in a notebook, else a plain line every `seconds`;
    only process 0 prints."""

    def __init__(
        self, total: int, start: int, examples: int, name: str = "", seconds: float = 10.0
    ):
        """`total` steps of so many `examples` each, of which `start` have been taken; `name` of the
        part of a sweep."""
        self.total = total
        self.examples = examples
        self.seconds = seconds
        self.prefix = f"{name}  " if name else ""
        self.first: tuple[int, float] | None = None  # step and time of the first update
        self.printed = time.monotonic()
        self.bar = None
        self.output = notebook.Output() if notebook.is_running() else None
        if self.output:
            self.seconds = min(seconds, 0.25)
        elif sys.stderr.isatty() and processes.is_main() and start < total:
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True)

    def update(self, step: int, epoch: float, shown: list[tuple[float, float | None]]) -> None:
        """Shows that `step` steps have been taken.

        Args:
          shown: (loss, elbo) of each member that is still training; the elbo is None where the
            model has no rate.
        """
        losses, elbos = zip(*shown, strict=True)
        numbers = f"loss {_range(losses)}"
        if None not in elbos:
            numbers += f"  elbo {_range(elbos)}"
        text = f"{self.prefix}epoch {epoch:.1f}  {numbers}"
        seconds = self._seconds_a_step(step)
        if seconds is not None:
            text += f"  {self.examples / seconds:,.0f} examples/s"
        if self.bar is not None:
            self.bar.set_description_str(text, refresh=False)
            self.bar.update(step - self.bar.n)
        elif processes.is_main():
            self._print(step, text, seconds)

    def _print(self, step: int, text: str, seconds: float | None) -> None:
        """Shows a line if the last one is old enough, or this is the last step."""
        if time.monotonic() - self.printed < self.seconds and step != self.total:
            return
        self.printed = time.monotonic()
        left = time.gmtime((seconds or 0.0) * (self.total - step))
        known = seconds is not None or step == self.total
        left = f"{time.strftime('%H:%M:%S', left)} left" if known else "some time left"
        if self.output:
            done = round(BAR * step / self.total)
            bar = "█" * done + "░" * (BAR - done)
            self.output.show(notebook.Line(f"{bar}  {text}  {left}"))
        else:
            print(f"step {step}/{self.total}  {text}  {left}", file=sys.stderr, flush=True)

    def _seconds_a_step(self, step: int) -> float | None:
        """The pace since the first update, before which programs are compiled; validations and
        checkpoints are in it. None at first.

        A device that runs ahead of what is written gives the time between two updates no meaning.
        """
        if self.first is None:
            self.first = (step, time.monotonic())
        first_step, began = self.first
        return (time.monotonic() - began) / (step - first_step) if step > first_step else None

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _range(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{min(values):.2f} to {max(values):.2f}"
