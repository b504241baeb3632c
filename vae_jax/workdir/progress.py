"""The progress of a training on a terminal or in a log file."""

import sys
import time

from vae_jax.parallel import processes


class Progress:
    """A bar on a terminal, a plain line every `seconds` elsewhere; silent but in process 0."""

    def __init__(self, total: int, start: int, name: str = "", seconds: float = 10.0):
        self.total, self.first, self.seconds = total, None, seconds
        self.name = f"{name}  " if name else ""
        self.printed = time.monotonic()
        self.bar = None
        if sys.stderr.isatty() and processes.is_main() and start < total:
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True)

    def update(self, step: int, epoch: float, shown: list[tuple[float, float | None]], examples_per_s: float) -> None:
        """`shown`: (loss, elbo) of every member that still learns; its elbo is None where there is no rate."""
        losses, elbos = zip(*shown, strict=True)
        elbo = "" if None in elbos else f"  elbo {_range(elbos)}"
        text = f"{self.name}epoch {epoch:.1f}  loss {_range(losses)}{elbo}  {examples_per_s:,.0f} examples/s"
        if self.bar is not None:
            self.bar.set_description_str(text, refresh=False)
            self.bar.update(step - self.bar.n)
        elif processes.is_main() and (time.monotonic() - self.printed >= self.seconds or step == self.total):
            self.printed = time.monotonic()
            print(f"step {step}/{self.total}  {text}  {self._left(step)} left", file=sys.stderr, flush=True)

    def _left(self, step: int) -> str:
        """The time left, at the pace since the first update: what came before it is compilation."""
        first_step, began = self.first = self.first or (step, time.monotonic())
        if step == first_step and step < self.total:
            return "some time"
        pace = (time.monotonic() - began) / max(step - first_step, 1)
        return time.strftime("%H:%M:%S", time.gmtime(pace * (self.total - step)))

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _range(values: tuple[float, ...]) -> str:
    return f"{values[0]:.2f}" if len(values) == 1 else f"{min(values):.2f} to {max(values):.2f}"
