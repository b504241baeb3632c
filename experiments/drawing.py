"""What the scripts beside it share: images side by side, tables, the command that was run."""

import os
import shlex
import sys
import time
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


def table(names: list[str], rows: list[list]) -> list[str]:
    """The lines of a Markdown table, whose first column is words and whose others are numbers."""
    lines = ["| " + " | ".join(names) + " |", "|:--" + "|--:" * (len(names) - 1) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def write(path: Path, began: float, lines: list[str]) -> None:
    """Writes the numbers of a script: its command, where and how long it ran, then `lines`.

    Args:
      began: what `time.monotonic()` was when the script began.
    """
    minutes = (time.monotonic() - began) / 60
    where = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} cores"
    head = [
        f"    {shlex.join(['python', *sys.argv])}",
        "",
        f"{minutes:.1f} minutes on {where}.",
        "",
    ]
    path.write_text("\n".join(head + lines) + "\n")
    print(f"wrote {path}\n\n" + "\n".join(lines))
