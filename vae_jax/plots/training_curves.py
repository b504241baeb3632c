"""The training curves (curves.png)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vae_jax.plots import base

PANELS = {
    "elbo": "ELBO (beta = 1): higher is better",
    "distortion": "distortion: lower is better",
    "rate": "rate",
    "loss": "loss, which training minimizes",
    "grad_norm": "gradient norm",
    "learning_rate": "learning rate",
}
STYLES = {
    "train": {"color": base.TRAIN, "linewidth": 1.0},
    "valid": {"color": base.VALID, "linewidth": 1.6},
}


def draw(path: Path, rows: list[dict], title: str) -> None:
    """Draws the metrics that the rows of metrics.jsonl hold, train beside valid, per epoch."""
    base.save(curves(rows, title), path)


def curves(rows: list[dict], title: str, panels: Sequence[str] = tuple(PANELS)):
    """The figure of those of `panels` that the rows of metrics.jsonl hold, a line per member."""
    shown = [name for name in panels if any(_points(rows, name, split) for split in STYLES)]
    across = 2 if len(shown) == 4 else min(3, max(1, len(shown)))
    down = max(1, -(-len(shown) // across))
    figure, axes = base.figure(3.7 * across, 2.6 * down + 0.3, down, across)
    for axis in axes.flat[len(shown) :]:
        axis.remove()
    for axis, name in zip(axes.flat, shown, strict=False):
        for split in STYLES:
            for of_member in _members(rows):
                _line(axis, _points(of_member, name, split), split)
        if name in ("elbo", "distortion", "loss"):
            _leave_out_the_start(axis)
        axis.set_title(PANELS[name], fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        without_unit = name in ("learning_rate", "grad_norm")
        axis.set_ylabel("" if without_unit else "nats per example", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25, linewidth=0.6)
        base.open_frame(axis)
        axis.legend(fontsize=8, frameon=False)
    base.head(figure, title)
    return figure


def _members(rows: list[dict]) -> list[list[dict]]:
    """The rows of each member."""
    found: dict[int, list[dict]] = {}
    for row in rows:
        found.setdefault(row.get("member", 0), []).append(row)
    return list(found.values())


def _points(rows: list[dict], name: str, split: str) -> list[tuple[float, float]]:
    """(epoch, value) of a metric."""
    of_split = [row for row in rows if row["split"] == split]
    return [(row["epoch"], row[name]) for row in of_split if row.get(name) is not None]


def _line(axis, points: list[tuple[float, float]], split: str) -> None:
    if not points:
        return
    marker = "o" if len(points) == 1 else ""
    epochs, values = zip(*points, strict=True)
    label = None if any(line.get_label() == split for line in axis.lines) else split
    axis.plot(epochs, values, label=label, marker=marker, markersize=3, **STYLES[split])


def _leave_out_the_start(axis) -> None:
    """Shows the range of the last nine tenths: the first steps are far from the rest."""
    lines = [line.get_ydata() for line in axis.lines]
    tails = np.concatenate([values[len(values) // 10 :] for values in lines])
    low, high = tails.min(), tails.max()
    margin = 0.05 * (high - low) or 1.0
    axis.set_ylim(low - margin, high + margin)
