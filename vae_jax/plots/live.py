"""Training curves in a notebook, drawn while the model trains."""

import time
from collections.abc import Sequence

from vae_jax.plots import base, training_curves
from vae_jax.workdir import notebook

LEAST_ROWS = 3  # before the first picture


class Live:
    """Draws the curves as rows of metrics come:

        with vae_jax.Live() as live:
            run = vae_jax.train(config, "runs/mine", on_row=live)

    The picture is one output of the cell, which is replaced at most every `seconds`, and drawn once
    more at the end. Of a sweep every member has a line. Outside of a notebook rows are only kept;
    `live.figure()` then is the picture.
    """

    def __init__(
        self, panels: Sequence[str] = ("elbo", "distortion", "rate"), seconds: float = 1.0
    ):
        """`panels`: keys of `plots.training_curves.PANELS`."""
        self.panels = tuple(panels)
        self.seconds = seconds
        self.rows: list[dict] = []
        self.drawn = time.monotonic()
        self.output = notebook.Output() if notebook.is_running() else None

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *_) -> None:
        self.draw()

    def __call__(self, row: dict) -> None:
        """Takes a row of metrics.jsonl."""
        self.rows.append(row)
        # Drawing takes a tenth of a second: never more than a fifth of the time is spent on it.
        if len(self.rows) >= LEAST_ROWS and time.monotonic() - self.drawn > self.seconds:
            begin = time.monotonic()
            self.draw()
            self.drawn = time.monotonic()
            self.seconds = max(self.seconds, 4 * (self.drawn - begin))

    def draw(self) -> None:
        """Shows the curves of the rows so far."""
        if self.output and self.rows:
            self.output.show(self)

    def figure(self):
        """The curves of the rows so far, a matplotlib Figure."""
        epoch = self.rows[-1]["epoch"] if self.rows else 0
        title = f"Training, nats per example\nepoch {epoch:.4g}"
        return training_curves.curves(self.rows, title, self.panels)

    def _repr_png_(self) -> bytes | None:
        if not self.rows:
            return None
        with base.own_style():
            return base.png(self.figure())
