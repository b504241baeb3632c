"""What the scripts beside it share: images side by side, tables, the command that was run."""

import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np


def tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """[n, H, W, C] -> one image [rows * H, columns * W, C], of one channel [rows * H, columns * W].

    Raises:
      ValueError: n is no multiple of `columns`.
    """
    n, height, width, channels = images.shape
    grid = images.reshape(n // columns, columns, height, width, channels)
    grid = grid.transpose(0, 2, 1, 3, 4).reshape(n // columns * height, columns * width, channels)
    return grid[..., 0] if channels == 1 else grid


def show(axis, images, columns: int, title: str = "", titlesize: float = 9) -> None:
    """Draws images of values in [0, 1], ink dark where they are grey."""
    grid = np.clip(tiles(np.asarray(images, np.float32), columns), 0, 1)
    axis.imshow(grid, cmap="gray_r", vmin=0, vmax=1)
    axis.set_axis_off()
    axis.set_title(title, fontsize=titlesize)


def table(names: list, rows: list[list]) -> list[str]:
    """The lines of a Markdown table, whose first column is words and whose others are numbers."""
    lines = ["| " + " | ".join(map(str, names)) + " |", "|:--" + "|--:" * (len(names) - 1) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def squared_distances(rows: np.ndarray) -> np.ndarray:
    """Between all rows [n, d], [n, n]."""
    squares = np.sum(rows**2, axis=1)
    return squares[:, None] + squares - 2 * rows @ rows.T


def write(path: Path, began: float, lines: list[str], trainings: Sequence[dict] = ()) -> None:
    """Writes the numbers of a script: its command, where and how long it ran, then `lines`.

    Args:
      began: what `time.monotonic()` was when the script began.
      trainings: results.json of what it trained, now or in an earlier call.
    """
    training = sum(results["wall_time_s"] for results in trainings) / 60
    rest = (time.monotonic() - began) / 60
    rest = rest - training if rest > training else rest  # else it was trained before
    where = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} cores"
    took = f"{training:.1f} minutes of training and {rest:.1f}" if trainings else f"{rest:.1f}"
    took += f" minutes {'of the rest ' if trainings else ''}on {where}."
    head = [f"    {shlex.join(['python', *sys.argv])}", "", took, ""]
    path.write_text("\n".join(head + lines) + "\n")
    print(f"wrote {path}\n\n" + "\n".join(lines))
