"""Tables of examples, such as samples: a PNG file in which every example is a tile."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax.data.kinds.kind import GAP, WIDEST, Kind, Look, Picture
from vae_jax.plots import base

MARGIN, BREAK = 10, 12  # pixels around a table; more space between some rows or columns
LINE, LETTER = 15, 6.3  # pixels: the height of a line of text, the width of a letter
LEAST_WIDTH = 430  # pixels, for the title
SHARPNESS = 2  # pixels of the file per pixel of the table, for dense screens
BORDER = 0.86  # shade around a tile


class Style(NamedTuple):
    """How the examples of one dataset are drawn."""

    kind: Kind
    shape: tuple[int, ...]  # of an example
    look: Look

    def tile_size(self, columns: int = 1) -> tuple[int, int]:
        """(height, width) of a tile in pixels, one of `columns` in a row."""
        return self.kind.tile_size(self.shape, columns)

    def show(self, x: np.ndarray, size: tuple[int, int] | None, signed: bool = False) -> Picture:
        """The picture of one example; `signed`: of a difference. See `Kind.show`."""
        return self.kind.show(x, self.look, size, signed)


class Layout(NamedTuple):
    """The labels, gaps and marks of a table."""

    rows: Sequence[str] = ()  # labels at the left; () for none
    columns: Sequence[str] = ()  # labels above
    row_breaks: Sequence[int] = ()  # rows with more space before them
    column_breaks: Sequence[int] = ()
    signed: Sequence[int] = ()  # rows that are differences
    outlined: Sequence[tuple[int, int]] = ()  # (row, column)
    # Names of the vertical and the horizontal axis, whose values the labels then are. The tiles
    # touch, and the labels of the columns are below.
    axes: tuple[str, str] | None = None


class _Grid(NamedTuple):
    """Where the tiles are, in pixels from the upper left corner of the table."""

    top: np.ndarray  # of each row  [R]
    left: np.ndarray  # of each column  [C]
    height: int  # of a tile
    width: int
    framed: bool  # whether a tile has a border of one pixel

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the table, with borders."""
        return self.top[-1] + self.height + 2, self.left[-1] + self.width + 2


def columns_that_fit(style: Style, wanted: int, least: int = 3) -> int:
    """How many columns of examples to draw: `wanted`, or fewer of large ones."""
    return min(wanted, max(least, WIDEST // (style.tile_size()[1] + GAP)))


def rows_that_fit(style: Style, wanted: int, least: int = 3) -> int:
    """How many rows of examples to draw: `wanted`, or fewer of large ones."""
    return min(wanted, max(least, WIDEST // (style.tile_size()[0] + GAP)))


def draw(path: Path, x: np.ndarray, title: str, style: Style, layout: Layout | None = None) -> None:
    """Draws examples x [R, C, *shape] as a table; where one is nan, its tile stays empty.

    All tiles are one image: an axis for each would take seconds.

    Args:
      title: the first line says what is shown, the others on which data.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    layout = layout or Layout()
    grid = _grid(x.shape[0], x.shape[1], style, layout)
    canvas, curves = _tiles(x, style, layout, grid)
    height, width = grid.size
    figure, axis = _page(height, width, title, layout)
    extent = (0, width, height, 0)
    axis.imshow(canvas, extent=extent, interpolation="nearest", aspect="auto")
    axis.add_collection(LineCollection(curves, linewidths=0.8, colors=base.TRAIN))
    for r, c in layout.outlined:
        corner = (grid.left[c] + 1, grid.top[r] + 1)
        frame = {"fill": False, "ec": base.HIGHLIGHT, "lw": 1.6}
        axis.add_patch(Rectangle(corner, grid.width, grid.height, **frame))
    _label_rows(axis, grid, layout)
    _label_columns(axis, grid, layout)
    base.save(figure, path)


def _grid(rows: int, columns: int, style: Style, layout: Layout) -> _Grid:
    height, width = style.tile_size(columns)
    gap = 0 if layout.axes else GAP
    r, c = np.arange(rows), np.arange(columns)
    top = r * (height + gap) + BREAK * np.searchsorted(layout.row_breaks, r, "right")
    left = c * (width + gap) + BREAK * np.searchsorted(layout.column_breaks, c, "right")
    return _Grid(top, left, height, width, framed=gap > 0)


def _tiles(
    x: np.ndarray, style: Style, layout: Layout, grid: _Grid
) -> tuple[np.ndarray, list[np.ndarray]]:
    """(the table's pixels [h, w, 3], the curves on it, points [n, 2] each)."""
    canvas, curves = np.ones((*grid.size, 3)), []
    height, width = grid.height, grid.width
    for r, c in np.ndindex(*x.shape[:2]):
        if not np.isfinite(x[r, c]).all():
            continue
        top, left = grid.top[r], grid.left[c]
        tile = canvas[top + 1 : top + 1 + height, left + 1 : left + 1 + width]
        if grid.framed:
            canvas[top : top + height + 2, left : left + width + 2] = BORDER
            tile[:] = 1.0
        shown = style.show(x[r, c], (height, width), r in layout.signed)
        if shown.pixels is not None:
            tile[:] = shown.pixels
        if shown.curve is not None:
            across = left + 4 + shown.curve[:, 0] * (width - 7)
            down = top + height - 3 - shown.curve[:, 1] * (height - 6)
            curves.append(np.stack([across, down], axis=1))
    return canvas, curves


def _label_rows(axis, grid: _Grid, layout: Layout) -> None:
    for y, label in zip(grid.top, layout.rows, strict=bool(layout.rows)):
        axis.text(-6, y + grid.height / 2, label, ha="right", va="center", fontsize=8)


def _label_columns(axis, grid: _Grid, layout: Layout) -> None:
    """The labels of the columns; every second one where they would touch."""
    every = 2 if _longest(layout.columns) * LETTER > grid.width else 1
    y, side = (grid.size[0] + 4, "top") if layout.axes else (-5, "bottom")
    labelled = list(zip(grid.left, layout.columns, strict=bool(layout.columns)))
    for x, label in labelled[::every]:
        axis.text(x + grid.width / 2, y, label, ha="center", va=side, fontsize=8)


def _longest(labels: Sequence[str]) -> int:
    return max((len(label) for label in labels), default=0)


def _page(height: int, width: int, title: str, layout: Layout):
    """(figure, its one axis of exactly `width` x `height` pixels), with room for all text."""
    from matplotlib.figure import Figure

    left = MARGIN + round(_longest(layout.rows) * LETTER) + (8 if layout.rows else 0)
    left += LINE if layout.axes else 0
    whole = max(left + width + MARGIN, LEAST_WIDTH)
    heading, details = _wrapped(title, int((whole - 2 * MARGIN) / LETTER))
    above = LINE * (len(heading) + len(details)) + MARGIN + 8
    above += LINE if layout.columns and not layout.axes else 0
    below = MARGIN + (2 * LINE + 4 if layout.axes else 0)
    tall = above + height + below
    figure = Figure(figsize=(whole / 100, tall / 100), dpi=100 * SHARPNESS)
    axis = figure.add_axes((left / whole, below / tall, width / whole, height / tall))
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    if layout.axes:
        at = {"fontsize": 9, **base.CENTRED}
        axis.text(MARGIN + LINE / 2 - left, height / 2, layout.axes[0], rotation=90, **at)
        axis.text(width / 2, height + 2 * LINE + 2, layout.axes[1], **at)
    at = {"x": MARGIN / whole, "ha": "left", "va": "top", "fontsize": 9, "linespacing": 1.25}
    figure.text(y=1 - MARGIN / tall, s="\n".join(heading), weight="bold", **at)
    start = MARGIN + LINE * len(heading)
    figure.text(y=1 - start / tall, s="\n".join(details), color=base.DIM, **at)
    return figure, axis


def _wrapped(title: str, letters: int) -> tuple[list[str], list[str]]:
    """(the first line of a title, its other lines), in lines of at most `letters`."""
    first, *others = title.split("\n")
    details = [line for text in others for line in textwrap.wrap(text, letters)]
    return textwrap.wrap(first, int(0.85 * letters)), details  # bold letters are wider
