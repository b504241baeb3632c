"""What all plots share: figures, their titles, the colours."""

import io
from pathlib import Path

from vae_jax.workdir import files

TRAIN, VALID = "#1f77b4", "#e8710a"
INACTIVE = "#c3c7cc"  # latent units that hold nothing
HIGHLIGHT = "#d6006e"  # the best member of a sweep, an outlined example
MEAN, DIVERGED = "#1f6f4a", "#d62728"  # over the members of a sweep; members that diverged
DIM = "0.4"  # secondary text

COLOURS = 64  # of a picture in a notebook
CENTRED = {"ha": "center", "va": "center"}


def figure(width: float, height: float, rows: int = 1, columns: int = 1):
    """(figure, axes [rows, columns]) of `width` x `height` inches."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained", dpi=120)
    return made, made.subplots(rows, columns, squeeze=False)


def head(figure, title: str) -> None:
    """Writes the title above the axes: its first line bold, the others dim."""
    first, *rest = title.split("\n")
    height, line = figure.get_figheight(), 0.155  # inches
    at = {"x": 0.07 / figure.get_figwidth(), "ha": "left", "va": "top"}
    at |= {"fontsize": 9, "linespacing": 1.25}
    figure.text(y=1 - 0.07 / height, s=first, weight="bold", **at)
    figure.text(y=1 - (0.07 + line) / height, s="\n".join(rest), color=DIM, **at)
    top = (0.14 + line * (1 + len(rest))) / height
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - top))


def save(figure, path: Path, **how) -> None:
    """Writes the PNG file, whole or not at all."""
    _without_mathematics(figure)
    with files.replacement(path) as temporary:
        figure.savefig(temporary, **how)


def png(figure, dpi: int = 80) -> bytes:
    """The content of a PNG file of the figure, of few colours, so that a notebook stays small."""
    from PIL import Image

    _without_mathematics(figure)
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(small, "PNG", optimize=True)
    return small.getvalue()


def _without_mathematics(figure) -> None:
    """A dollar sign in a name is no mathematics."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)


def own_style():
    """A context in which pictures do not depend on the user's settings of matplotlib."""
    from matplotlib import style

    return style.context("default")


def open_frame(axis) -> None:
    """Leaves out the frame above and at the right."""
    axis.spines[["top", "right"]].set_visible(False)
