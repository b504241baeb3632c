"""NLL, ELBO, rate and active units over the axes of a sweep (heat_maps.png)."""

import textwrap
from pathlib import Path

import numpy as np

from vae_jax.plots import base, pivot, sweep
from vae_jax.workdir import ranking

PANELS = {
    "nll": "NLL in nats: lower is better",
    "elbo": "ELBO in nats: higher is better",
    "rate": "rate in nats: neither end is better",
    "active_units": "active units: neither end is better",
}
HAVE_A_BEST = ("nll", "elbo")  # metrics that say which member is better
COLOURS_TO_THE_BEST = "YlGn"  # of these metrics
COLOURS = "Blues"  # of the others
DARKEST = 0.85  # the part of a colour map that is used, from its beginning
MOST_ANNOTATED = 16  # rows or columns of a map with its numbers


def draw(path: Path, members: list[dict], title: str) -> None:
    """Draws the four test metrics as maps over two axes, as curves over one."""
    tables = [pivot.cells(members, "test", name) for name in PANELS]
    are_maps = tables[0].column is not None
    width, height = _panel_size(tables[0]) if are_maps else (5.2, 3.6)
    figure, axes = base.figure(2 * width, 2 * height + 0.7, 2, 2)
    for axis, table in zip(axes.flat, tables, strict=True):
        axis.set_title(PANELS[table.metric], fontsize=9.5)
        if not table.count.any():
            at = {"transform": axis.transAxes, "ha": "center", "fontsize": 9}
            axis.text(0.5, 0.5, "not known for these members", **at)
            axis.set_axis_off()
        elif are_maps:
            _map(axis, table, members)
        else:
            _curve(axis, table, members)
    mark = "outlined" if are_maps else "ringed"
    note = f"{mark}: {sweep.best_in_words(members)}; {pivot.averaged(members, tables[1])}"
    note += "; ×: diverged, left out" if tables[0].diverged.any() else ""
    figure.suptitle(f"{title}\n" + textwrap.fill(note, int(2 * width * 13)), fontsize=9.5)
    base.save(figure, path)


def _panel_size(table: pivot.Cells) -> tuple[float, float]:
    """(width, height) of a map in inches."""
    rows, columns = table.mean.shape
    width = max(3.6, 0.62 * columns + 1.1) if columns <= MOST_ANNOTATED else 7.0
    height = max(2.6, 0.44 * rows + 1.0) if rows <= MOST_ANNOTATED else 6.0
    return width, height


def _shades(table: pivot.Cells) -> np.ndarray:
    """The shade of each cell in [0, 1], 1 for the best NLL or ELBO and for the highest of others.

    The square root gives finer shades to what is close to the best.
    """
    mean = table.mean
    gap = mean - np.nanmin(mean) if table.metric == "nll" else np.nanmax(mean) - mean
    return 1 - (gap / (np.nanmax(gap) or 1.0)) ** (0.5 if table.metric in HAVE_A_BEST else 1.0)


def _map(axis, table: pivot.Cells, members: list[dict]) -> None:
    """A cell per setting."""
    from matplotlib import patches

    colours = COLOURS_TO_THE_BEST if table.metric in HAVE_A_BEST else COLOURS
    image = axis.imshow(DARKEST * _shades(table), cmap=colours, vmin=0, vmax=1, aspect="auto")
    _numbers(axis, table, image.to_rgba(image.get_array()))
    for member in ranking.ranking(members)[1][:1]:
        i, j = table.index(member)
        frame = {"fill": False, "ec": base.HIGHLIGHT, "lw": 2.5, "clip_on": False}
        axis.add_patch(patches.Rectangle((j - 0.5, i - 0.5), 1, 1, **frame))
    across, down = [ranking.show(x) for x in table.columns], [ranking.show(x) for x in table.rows]
    shown = sweep.ticks(np.arange(len(across)), 0.012 * max(map(len, across)))
    axis.set_xticks(shown, [across[i] for i in shown], fontsize=8)
    axis.set_xlabel(ranking.short(table.column or ""), fontsize=9)
    shown = sweep.ticks(np.arange(len(down)), 0.04)
    axis.set_yticks(shown, [down[i] for i in shown], fontsize=8)
    axis.set_ylabel(ranking.short(table.row or ""), fontsize=9)


def _numbers(axis, table: pivot.Cells, colours: np.ndarray) -> None:
    """The number in each cell where there is room, and how many members diverged.

    Args:
      colours: of the cells [rows, columns, RGBA]; dark ones have white numbers.
    """
    annotated = max(table.count.shape) <= MOST_ANNOTATED
    luminance = colours[..., :3] @ np.array([0.299, 0.587, 0.114])
    texts = pivot.cell_texts(table)
    for (i, j), diverged in np.ndenumerate(table.diverged):
        if annotated and (table.count[i, j] or diverged):
            colour = "w" if luminance[i, j] < 0.5 else "k"
            colour = colour if table.count[i, j] else base.DIVERGED
            text = texts[i][j].replace(" ± ", "\n±")
            axis.text(j, i, text, color=colour, fontsize=7.5, **base.CENTRED)
        if diverged:
            style = {"color": base.DIVERGED, "fontsize": 6.5, "ha": "right", "va": "top"}
            axis.text(j + 0.45, i - 0.43, f"×{diverged}", bbox=sweep.WHITE, **style)


def _curve(axis, table: pivot.Cells, members: list[dict]) -> None:
    """The mean and spread against the one axis, and every member as a point."""
    places = sweep.places(table.rows, table.row)
    several = (table.count > 1).any()
    _points(axis, table, members, places)
    mean, sd = table.mean[:, 0], table.sd[:, 0] if several else None
    style = {"color": base.MEAN, "capsize": 4, "zorder": 2}
    style |= {"linestyle": "-" if sweep.ordered(table.rows, table.row) else ""}
    axis.errorbar(places, mean, sd, marker="" if several else "o", **style)
    if table.row == ranking.SEED and table.count.sum() > 1:
        _over_seeds(axis, mean)
    shown = sweep.ticks(places, 0.05)
    axis.set_xticks(places[shown], [ranking.show(table.rows[i]) for i in shown], fontsize=8)
    axis.set_xlabel(ranking.short(table.row or ""), fontsize=9)
    axis.tick_params(axis="y", labelsize=8)
    axis.margins(0.08, 0.12)
    axis.grid(alpha=0.3)
    if len(sweep.ticks(places, 0.11)) == len(places):  # the numbers above the frame, where they fit
        at = {"ha": "center", "fontsize": 7.5, "transform": axis.get_xaxis_transform()}
        for place, (text,) in zip(places, pivot.cell_texts(table), strict=True):
            axis.text(place, 1.02, text.replace(" ± ", "\n±"), **at)
        axis.set_title(axis.get_title(), fontsize=9.5, pad=30 if several else 18)


def _points(axis, table: pivot.Cells, members: list[dict], places: np.ndarray) -> None:
    """Every member, the best one ringed; diverged ones at the bottom."""
    best = ranking.best(members)
    where, diverged = [], []
    for member in members:
        place = places[table.index(member)[0]]
        if member["diverged_at"] is not None:
            diverged.append(place)
            continue
        where.append((place, ranking.metric_of(member, "test", table.metric)))
        if member["member"] == best:
            axis.scatter(*where[-1], s=150, **sweep.RING)
    axis.scatter(*np.array(where).T, s=16, color="0.4", alpha=0.7, zorder=3)
    style = {"color": base.DIVERGED, "ms": 8, "mew": 2, "transform": axis.get_xaxis_transform()}
    axis.plot(diverged, [0.04] * len(diverged), "x", **style)


def _over_seeds(axis, mean: np.ndarray) -> None:
    """The mean and spread over seeds, as a line and a band, and in the title."""
    middle, spread = np.nanmean(mean), np.nanstd(mean, ddof=1)
    axis.axhspan(middle - spread, middle + spread, color=base.MEAN, alpha=0.12, linewidth=0)
    axis.axhline(middle, color=base.MEAN, linewidth=1)
    axis.set_title(f"{axis.get_title()} ({middle:.2f} ± {spread:.2f})", fontsize=9.5)
