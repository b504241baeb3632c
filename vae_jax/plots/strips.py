"""Samples of every member of a sweep, a row each (strips.png)."""

import math
from pathlib import Path

import numpy as np

from vae_jax.data.kinds.kind import Picture
from vae_jax.plots import base
from vae_jax.plots.examples import Style
from vae_jax.workdir import ranking

MOST_STRIPS, STRIPS_PER_COLUMN = 64, 32
ROW = 0.34  # inches
CURVES_RATIO = 8.0  # width of a row of curves by its height


def draw(path: Path, members: list[dict], samples: np.ndarray, title: str, style: Style) -> None:
    """Draws decoded prior samples [N, k, *example_shape], a row per member.

    The samples of one column come from the same noise.
    """
    best = ranking.best(members)
    if len(members) > MOST_STRIPS:
        shown = np.linspace(0, len(members) - 1, MOST_STRIPS).round().astype(int)
        title += f"\n{MOST_STRIPS} of {len(members)} members, evenly picked"
        members, samples = [members[i] for i in shown], samples[shown]
    columns = math.ceil(len(members) / STRIPS_PER_COLUMN)
    rows = math.ceil(len(members) / columns)
    labels = [_label(member, best) for member in members]
    strips = [[style.show(x, None) for x in of_member] for of_member in samples]
    width = ROW * _ratio(strips[0]) + 0.075 * max(map(len, labels)) + 0.3
    figure, axes = base.figure(columns * width, ROW * rows + 0.6, rows, columns)
    for axis, member, label, strip in zip(axes.T.flat, members, labels, strips, strict=False):
        _strip(axis, strip)
        at = {"transform": axis.transAxes, "ha": "right", "va": "center", "fontsize": 7.5}
        if member["member"] == best:
            at |= {"color": base.HIGHLIGHT, "weight": "bold"}
        axis.text(-0.02, 0.5, label, **at)
    for axis in axes.T.flat[len(members) :]:
        axis.remove()
    figure.suptitle(title, fontsize=9.5)
    base.save(figure, path, bbox_inches="tight")  # rows may have moved to keep pixels square


def _label(member: dict, best: int | None) -> str:
    label = ranking.label(member) or ranking.named(member)
    if member["member"] == best:
        return f"{label} (best)"
    return label if member["diverged_at"] is None else f"{label} (diverged)"


def _ratio(strip: list[Picture]) -> float:
    """The width of a row by its height."""
    if strip[0].pixels is None:
        return CURVES_RATIO
    height, width, _ = strip[0].pixels.shape
    return len(strip) * width / height


def _strip(axis, strip: list[Picture]) -> None:
    """Images side by side, curves on top of one another."""
    images = [shown.pixels for shown in strip if shown.pixels is not None]
    if images:
        row = np.concatenate(images, axis=1)
        axis.imshow(np.nan_to_num(row, nan=1.0))  # of a diverged member
        axis.set_axis_off()
        return
    for shown in strip:
        if shown.curve is not None:
            axis.plot(*shown.curve.T, linewidth=0.8)
    axis.set(xticks=[], yticks=[], ylim=(0, 1))
