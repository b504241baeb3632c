"""Pictures from plain arrays, as PNG files. Matplotlib is imported where it is used: it takes a second."""

import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np

WIDEST = 1000  # about so wide may a picture made of tiles be, in pixels before SHARPNESS
LARGEST_SIDE = 256  # of an example in pixels; larger ones are shrunk
VECTOR = (56, 92)  # height and width of an example that is no image
MARGIN, GAP, BREAK, LINE, LETTER = 10, 2, 12, 15, 6.3  # pixels; the last two: of text
SHARPNESS = 2  # pixels of the file for each of these: screens of today are dense
BORDER, DIM, MARK, INACTIVE = 0.86, "0.4", "#d6006e", "#c3c7cc"
TRAIN, VALID = "#1f77b4", "#e8710a"


class Look(NamedTuple):
    """How the values of a dataset become shades."""

    low: float
    high: float
    ink: bool  # grey images that are mostly dark (digits) are drawn as ink on paper, photographs as they are


def look(x: np.ndarray) -> Look:
    """The look of examples x [n, ...]: values in [0, 1] keep that range, others are shown between their extremes."""
    low, high = float(np.min(x)), float(np.max(x))
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    high = high if high > low else low + 1.0
    return Look(low, high, bool((np.mean(x) - low) / (high - low) < 0.35))


def _figure(width: float, height: float, rows: int = 1, columns: int = 1):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _show(axis, x: np.ndarray, limits: tuple[float, float]) -> None:
    """One example: an image [H, W, 1 or 3], or else its values as a curve between `limits`."""
    if x.ndim == 3 and x.shape[-1] in (1, 3):
        axis.imshow(np.clip(x, 0, 1).squeeze(), cmap="gray_r" if x.shape[-1] == 1 else None, vmin=0, vmax=1)
        axis.set_axis_off()
    else:
        axis.plot(x.ravel(), linewidth=0.8)
        axis.set_ylim(limits)
        axis.set_xticks([])
        axis.set_yticks([])


def tile_size(shape: tuple[int, ...], columns: int = 1) -> tuple[int, int, int]:
    """(height, width, zoom) in pixels of an example of `shape`, one of `columns` in a row: small images are magnified
    by a whole number, so that their pixels stay equal squares; zoom -2 halves a large one, and so on."""
    if len(shape) != 3:
        return *VECTOR, 1
    height, width = shape[0], shape[1] * (1 if shape[2] in (1, 3) else shape[2])
    side = max(height, width)
    if side > LARGEST_SIDE:
        shrink = -(-side // LARGEST_SIDE)
        return -(-height // shrink), -(-width // shrink), -shrink
    zoom = max(1, min(round((84 if side <= 42 else 128) / side), WIDEST // (columns * (width + GAP))))
    return zoom * height, zoom * width, zoom


def that_fit(shape: tuple[int, ...], wanted: int, least: int = 3, axis: int = 1) -> int:
    """How many columns (rows with `axis` 0) of examples of `shape` to draw: `wanted`, fewer of large ones."""
    return min(wanted, max(least, WIDEST // (tile_size(shape)[axis] + GAP)))


def pixels(x: np.ndarray, style: Look, zoom: int, signed: bool = False) -> np.ndarray:
    """Images [n, H, W, C] as RGB [n, h, w, 3] in [0, 1]. One channel is grey, three are colours, others lie side by
    side. `signed`: differences, of one channel red below zero and blue above, of colours around a middle grey."""
    if x.shape[-1] not in (1, 3):
        x = np.moveaxis(x, -1, 2).reshape(*x.shape[:2], -1, 1)
    if zoom < 0:
        x = x[:, ::-zoom, ::-zoom]
    elif zoom > 1:
        x = x.repeat(zoom, axis=1).repeat(zoom, axis=2)
    if signed:
        from matplotlib import colormaps

        share = np.clip(0.5 + 0.5 * x / (style.high - style.low), 0.0, 1.0)
        return share if x.shape[-1] == 3 else colormaps["RdBu"](share[..., 0])[..., :3]
    x = np.clip((x - style.low) / (style.high - style.low), 0.0, 1.0)
    if x.shape[-1] == 3:
        return x
    return np.repeat(1.0 - x if style.ink else x, 3, axis=-1)


def tiles(
    path: Path,
    x: np.ndarray,
    title: str,
    style: Look,
    rows: tuple | list = (),
    columns: tuple | list = (),
    breaks: tuple[tuple, tuple] = ((), ()),
    signed: tuple | list = (),
    marked: tuple | list = (),
    names: tuple[str, str] = ("", ""),
) -> None:
    """Examples x [R, C, *shape] as a table; what is nan stays empty. The whole is one image: an axis each takes
    seconds for what this draws in a fraction of one.

    Args:
      title: its first line says what is shown, the others on which data.
      rows, columns: their labels, left and above.
      breaks: the rows, and the columns, before which there is more space.
      signed: the rows that are differences.
      marked: (row, column) of the tiles to outline.
      names: of the axes, whose values the labels then are: upwards, left, and to the right, below; without gaps.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    (num_rows, num_columns), shape = x.shape[:2], x.shape[2:]
    height, width, zoom = tile_size(shape, num_columns)
    gap = 0 if names[0] else GAP
    top = np.arange(num_rows) * (height + gap) + BREAK * np.searchsorted(breaks[0], np.arange(num_rows), "right")
    left = np.arange(num_columns) * (width + gap) + BREAK * np.searchsorted(breaks[1], np.arange(num_columns), "right")
    canvas = np.ones((top[-1] + height + 2, left[-1] + width + 2, 3))
    figure, axis = _page(canvas.shape[1], canvas.shape[0], title, rows, columns, names)
    curves = []
    for (r, y), (c, z) in ((a, b) for a in enumerate(top) for b in enumerate(left)):
        if not np.isfinite(x[r, c]).all():
            continue
        if gap:
            canvas[y : y + height + 2, z : z + width + 2] = BORDER
            canvas[y + 1 : y + 1 + height, z + 1 : z + 1 + width] = 1.0
        if len(shape) == 3:
            canvas[y + 1 : y + 1 + height, z + 1 : z + 1 + width] = pixels(x[r, c][None], style, zoom, r in signed)[0]
        else:
            low = (style.low - style.high) / 2 if r in signed else style.low
            share = np.clip((x[r, c].ravel() - low) / (style.high - style.low), 0, 1)
            across = np.linspace(z + 4, z + width - 3, share.size)
            curves.append(np.stack([across, y + height - 3 - share * (height - 6)], axis=1))
    axis.imshow(canvas, extent=(0, canvas.shape[1], canvas.shape[0], 0), interpolation="nearest", aspect="auto")
    axis.add_collection(LineCollection(curves, linewidths=0.8, colors=TRAIN))
    for r, c in marked:
        axis.add_patch(Rectangle((left[c] + 1, top[r] + 1), width, height, fill=False, ec=MARK, lw=1.6))
    for y, label in zip(top, rows, strict=bool(rows)):
        axis.text(-6, y + height / 2, label, ha="right", va="center", fontsize=8)
    every = 1 + int(max((len(label) for label in columns), default=0) * LETTER > width)  # lest labels touch
    for z, label in list(zip(left, columns, strict=bool(columns)))[::every]:
        below = {"y": canvas.shape[0] + 4, "va": "top"} if names[1] else {"y": -5, "va": "bottom"}
        axis.text(z + width / 2, s=label, ha="center", fontsize=8, **below)
    figure.savefig(path)


def _page(width: int, height: int, title: str, rows, columns, names: tuple[str, str]):
    """A figure whose one axis is exactly `width` x `height` pixels, with room for the title and the labels."""
    from matplotlib.figure import Figure

    left = MARGIN + round(max((len(label) for label in rows), default=0) * LETTER) + (8 if rows else 0)
    left += LINE if names[0] else 0
    whole = max(left + width + MARGIN, 430)
    first, *rest = title.split("\n")
    fits = int((whole - 2 * MARGIN) / LETTER)
    lines = [textwrap.wrap(first, int(0.85 * fits)), [line for text in rest for line in textwrap.wrap(text, fits)]]
    above = LINE * (len(lines[0]) + len(lines[1])) + MARGIN + 8 + (LINE if columns and not names[1] else 0)
    below = MARGIN + (2 * LINE + 4 if names[1] else 0)
    tall = above + height + below
    figure = Figure(figsize=(whole / 100, tall / 100), dpi=100 * SHARPNESS)
    axis = figure.add_axes((left / whole, below / tall, width / whole, height / tall))
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    if any(names):
        at = {"ha": "center", "va": "center", "fontsize": 9}
        axis.text(MARGIN + LINE / 2 - left, height / 2, names[0], rotation=90, **at)
        axis.text(width / 2, height + 2 * LINE + 2, names[1], **at)
    at = {"x": MARGIN / whole, "ha": "left", "va": "top", "fontsize": 9, "linespacing": 1.25}
    figure.text(y=1 - MARGIN / tall, s="\n".join(lines[0]), weight="bold", **at)
    figure.text(y=1 - (MARGIN + LINE * len(lines[0])) / tall, s="\n".join(lines[1]), color=DIM, **at)
    return figure, axis


def head(figure, title: str) -> None:
    """The title of a figure whose layout is constrained, as `tiles` has it: the first line bold, the others dim."""
    first, *rest = title.split("\n")
    height, line = figure.get_figheight(), 0.155  # inches
    at = {"x": 0.07 / figure.get_figwidth(), "ha": "left", "va": "top", "fontsize": 9, "linespacing": 1.25}
    figure.text(y=1 - 0.07 / height, s=first, weight="bold", **at)
    figure.text(y=1 - (0.07 + line) / height, s="\n".join(rest), color=DIM, **at)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - (0.14 + line * (1 + len(rest))) / height))


def curves(path: Path, rows: list[dict], title: str) -> None:
    """The training curves from the rows of metrics.jsonl, train beside valid, against the epoch."""
    panels = {
        "elbo": "ELBO (beta = 1): higher is better",
        "distortion": "distortion: lower is better",
        "rate": "rate",
        "loss": "loss, which training minimizes",
        "grad_norm": "gradient norm",
        "learning_rate": "learning rate",
    }
    found = {
        (name, split): [(r["epoch"], r[name]) for r in rows if r["split"] == split and r.get(name) is not None]
        for name in panels
        for split in ("train", "valid")
    }
    shown = [name for name in panels if found[name, "train"] or found[name, "valid"]]
    across = 2 if len(shown) == 4 else min(3, max(1, len(shown)))
    down = max(1, -(-len(shown) // across))
    figure, axes = _figure(3.7 * across, 2.6 * down + 0.3, down, across)
    for axis in axes.flat[len(shown) :]:
        axis.remove()
    for axis, name in zip(axes.flat, shown, strict=False):
        styles = {"train": {"color": TRAIN, "linewidth": 1.0}, "valid": {"color": VALID, "linewidth": 1.6}}
        for split, style in styles.items():
            if points := found[name, split]:
                marker = "o" if len(points) == 1 else ""
                axis.plot(*zip(*points, strict=True), label=split, marker=marker, markersize=3, **style)
        _zoom(axis, name)
        axis.set_title(panels[name], fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        axis.set_ylabel("" if name == "learning_rate" else "nats per example", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=8, frameon=False)
    head(figure, title)
    figure.savefig(path)


def _zoom(axis, name: str) -> None:
    """The first steps are far from the rest: show the range of the last nine tenths."""
    if name in ("elbo", "distortion", "loss"):
        tails = np.concatenate([line.get_ydata()[len(line.get_ydata()) // 10 :] for line in axis.lines])
        low, high = tails.min(), tails.max()
        margin = 0.05 * (high - low) or 1.0
        axis.set_ylim(low - margin, high + margin)
