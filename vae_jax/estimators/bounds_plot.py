"""bounds.png: all estimates of log p(x), and bounds on it, of one member."""

from pathlib import Path

from vae_jax.estimators.estimator import Row
from vae_jax.plots import base

FILE = "bounds.png"
CAPTION = (
    "**Bounds on log p(x).** Rows of test examples are lower bounds: the further right, the closer "
    "to the truth. Of simulated examples there is an upper bound too, and the truth lies between: "
    "how far the two are apart is how far to trust AIS. The error over examples is the same for "
    "all rows and says nothing of their order."
)
LOWER, UPPER = "#1f77b4", "#d62728"


def draw(path: Path, rows: list[Row], title: str) -> None:
    """Rows of each group, from the lowest value to the highest.

    A thin bar is the error over examples, a thick one the noise of the estimate.
    """
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.bound["log_p"]):
        groups.setdefault(row.group, []).append(row)
    names = sorted(groups, reverse=True)  # test examples before simulated ones
    height = 1.0 + sum(0.9 + 0.33 * len(some) for some in groups.values())
    figure, axes = base.figure(7.5, height, len(groups), 1)
    for axis, name in zip(axes[:, 0], names, strict=True):
        _draw_group(axis, groups[name])
        axis.set_xlabel(f"log p(x), nats, mean of {name}")
    first = "Bounds on log p(x); thin: error over the examples, which all rows share; thick: noise"
    base.head(figure, f"{first}\n{title}")
    base.save(figure, path)


def _draw_group(axis, rows: list[Row]) -> None:
    for y, (_, _, bound, upper) in enumerate(rows):
        centre, noise = bound["log_p"], bound.get("noise_stderr") or 0.0
        colour = UPPER if upper else LOWER
        axis.errorbar(centre, y, xerr=bound["stderr"], color=colour, lw=1, capsize=3, alpha=0.45)
        axis.errorbar(centre, y, xerr=noise, color=colour, lw=4, fmt="o", ms=5)
        at = {"xytext": (0, 7), "textcoords": "offset points", "fontsize": 8, "ha": "center"}
        axis.annotate(f"{centre:.2f}", (centre, y), **at)
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.9)
    axis.grid(axis="x", color="0.9")
    axis.spines[["top", "right", "left"]].set_visible(False)
