"""The pictures of a sweep. Matplotlib is imported where it is used: it takes a second."""

import itertools
import math
import textwrap
from pathlib import Path

import numpy as np

from vae_jax.plots import base, pivot
from vae_jax.workdir import ranking

PANELS = {
    "nll": "NLL in nats: lower is better",
    "elbo": "ELBO in nats: higher is better",
    "rate": "rate in nats: neither end is better",
    "active_units": "active units: neither end is better",
}
MARKERS = "os^DvPph<>*8"
MEAN, BEST, LOST = "#1f6f4a", "#d6006e", "#d62728"  # the colours of means, the best member, diverged ones
CENTRED, WHITE = {"ha": "center", "va": "center"}, {"facecolor": "w", "edgecolor": "none", "pad": 0.6}
RING = {"facecolors": "none", "edgecolors": BEST, "linewidths": 2.2, "zorder": 5}
MOST_STRIPS, STRIPS_PER_COLUMN, MOST_ANNOTATED = 64, 32, 16  # the last: rows or columns of a map with its numbers


def _ordered(values: list, field: str | None) -> bool:
    """Whether a line may join neighbours: not between words or seeds."""
    return field != ranking.SEED and ranking.numeric(values)


def _places(values: list, field: str | None) -> np.ndarray:
    """Where values lie on an axis or a colour scale: at their logarithms where they span more than a decade, else at
    themselves; evenly spaced where that cannot be (words, seeds, a zero below several decades)."""
    even = np.arange(len(values), dtype=float)
    numbers = np.array(values, float) if _ordered(values, field) else even
    positive = numbers[numbers > 0]
    if numbers is even or positive.size == 0 or positive.max() <= 10 * positive.min():
        return numbers
    return np.log10(numbers) if positive.size == numbers.size else even


def _ticks(places: np.ndarray, gap: float) -> list[int]:
    """The indices of values that lie at least `gap` of the whole range apart."""
    shown = [0]
    for i in range(1, len(places)):
        if places[i] - places[shown[-1]] >= gap * np.ptp(places):
            shown.append(i)
    return shown


def _best_note(members: list[dict]) -> str:
    metric, ranked = ranking.ranking(members)
    return f"best by validation {ranking.NAMES[metric]}: {ranking.named(ranked[0])}" if ranked else "no best member"


def rate_distortion(path: Path, members: list[dict], title: str) -> None:
    """The test rate against the test distortion, a point per member; from eight members on beside it the third
    with the highest ELBO, closer."""
    points = {m["member"]: [ranking.metric_of(m, "test", x) for x in ("rate", "distortion")] for m in members}
    kept = {m["member"] for m in members if m["diverged_at"] is None and np.isfinite(sum(points[m["member"]]))}
    where = np.array(sorted((points[n] for n in kept), key=sum)).reshape(-1, 2)
    views = [where, where[: max(4, len(where) // 3)]][: 2 if len(where) >= 8 else 1]
    titles, handles = (f"all {len(where)} that finished", "the third with the highest ELBO"), []
    figure, axes = base._figure(5.8 * len(views) + 3.2, 5.8, 1, len(views))
    for axis, view, about in zip(axes[0], views, titles, strict=False):
        low, high = (view.min(0), view.max(0)) if len(view) else np.array([[0.0, 0.0], [1.0, 1.0]])
        span = np.maximum(high - low, np.maximum(0.2 * (high - low)[::-1], 0.1))  # noise is not blown up
        limits = np.stack([(low + high) / 2 - 0.57 * span, (low + high) / 2 + 0.57 * span], 1)
        axis.set(xlim=limits[0], ylim=limits[1], xlabel="rate, nats", ylabel="distortion, nats")
        axis.set_title(about, fontsize=9)
        entries = _members(figure, axis, members, {n: points[n] for n in kept}, axis is axes[0, -1]) if kept else []
        _equal_elbo(axis, where)
        if ranking.best(members) in kept:
            note = textwrap.fill(_best_note(members), 30)
            entries.append(axis.scatter(*points[ranking.best(members)], s=190, label=note, **RING))
        handles = handles or entries
    handles += _lost(axes[0, 0], members, points)
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False, labelspacing=0.7)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def _members(figure, axis, members: list[dict], points: dict, bar: bool) -> list:
    """Points, and lines of the means along the colour's field; returns the legend's entries."""
    from matplotlib import cm, colormaps, colors, lines

    rates, distortions = (pivot.cells(members, "test", name) for name in ("rate", "distortion"))
    means = np.stack([rates.mean, distortions.mean], -1)  # [rows, columns, 2]
    field, values, kinds = rates.column, rates.columns, rates.rows
    if field is None:  # one axis: its values are the colours
        field, values, kinds, means = rates.row, rates.rows, [None], means.swapaxes(0, 1)
    places, colours = _places(values, field), colors.ListedColormap(colormaps["viridis"](np.linspace(0, 0.95, 256)))
    norm = (places - places.min()) / (np.ptp(places) or 1.0)
    if bar and len(values) > 1:
        shown = _ticks(places, 0.035)
        drawn = figure.colorbar(cm.ScalarMappable(cmap=colours), ax=axis, pad=0.01, fraction=0.045, aspect=30)
        drawn.set_ticks(norm[shown], labels=[ranking.show(values[i]) for i in shown], fontsize=8)
        drawn.set_label(ranking.short(field))
    few = len(kinds) <= len(MARKERS)
    handles = [lines.Line2D([], [], linestyle="", label=ranking.short(rates.row))] if few and rates.column else []
    for i, kind in enumerate(kinds):
        chosen = [m for m in members if m["member"] in points and kind in (None, ranking.value(m, rates.row))]
        marker, grey = MARKERS[i] if few else "o", str(0.75 - 0.6 * i / max(len(kinds) - 1, 1))
        shade, size = norm[[values.index(ranking.value(m, field)) for m in chosen]], 52 if len(points) < 80 else 34
        where = np.array([points[m["member"]] for m in chosen]).reshape(-1, 2)
        axis.scatter(*where.T, c=colours(shade), s=size, marker=marker, edgecolors="0.25", linewidths=0.5, zorder=3)
        if few and _ordered(values, field):
            axis.plot(*means[i][np.isfinite(means[i]).all(1)].T, color=grey, linewidth=1.3, zorder=2)
        if handles:
            look = {"color": grey, "marker": marker, "mfc": "w", "mec": "0.25"}
            handles.append(lines.Line2D([], [], label=ranking.show(kind), **look))
    return handles


def _lost(axis, members: list[dict], points: dict) -> list:
    """Diverged members where their last good parameters lie, or at the frame; returns their names for the legend."""
    lost = [member for member in members if member["diverged_at"] is not None]
    limits = np.array([axis.get_xlim(), axis.get_ylim()])
    style = {"color": LOST, "marker": "x", "linestyle": "", "markersize": 8, "markeredgewidth": 2, "zorder": 4}
    for member in lost:
        place = (np.array(points[member["member"]]) - limits[:, 0]) / np.ptp(limits, axis=1)
        axis.plot(*np.clip(place, 0.012, 0.988), transform=axis.transAxes, **style)
    names = [ranking.named(m) for m in lost] if len(lost) < 7 else [f"members {[m['member'] for m in lost]}"]
    label = "\n".join(["diverged (at the frame if beyond):", *(textwrap.fill(name, 30) for name in names)])
    return axis.plot([], [], label=label, **style) if lost else []


def _equal_elbo(axis, points: np.ndarray) -> None:
    """Lines of equal ELBO = -(rate + distortion) at round values, each labelled where there is most room."""
    from matplotlib.ticker import MaxNLocator

    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    scale, size = np.array([right - left, top - bottom]), np.array([5.2, 5.0])  # of the frame: nats, about inches
    lines = [np.linspace(a, b, 20) for line in axis.lines for a, b in itertools.pairwise(line.get_xydata())]
    taken = (np.concatenate([points, *lines]) - (left, bottom)) / scale * size
    style = {"fontsize": 7, "color": "0.45", "rotation": -45, "transform_rotates_text": True, "rotation_mode": "anchor"}
    style |= CENTRED | {"bbox": WHITE, "zorder": 1.5}
    for total in MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]).tick_values(left + bottom, right + top)[1:-1]:
        x = np.linspace(max(left, total - top), min(right, total - bottom), 60)
        axis.plot(x[[0, -1]], total - x[[0, -1]], color="0.8", linewidth=0.8, zorder=1)
        where = (np.stack([x, total - x], 1) - (left, bottom)) / scale * size
        inside = np.all((where > 0.42) & (where < size - 0.42), axis=1) & (x[0] < x[-1])
        room = np.linalg.norm(where[:, None] - taken, axis=-1).min(1, initial=1.5)
        i = np.argmax(np.where(inside, room, -1))
        if inside[i]:
            axis.text(x[i], total - x[i], f"ELBO {-total:g}", **style)
            taken = np.concatenate([taken, where[i][None]])


def heat_maps(path: Path, members: list[dict], title: str) -> None:
    """NLL, ELBO, rate and active units of the test split over the sweep's axes; curves where there is one axis."""
    tables = [pivot.cells(members, "test", name) for name in PANELS]
    rows, columns = tables[0].mean.shape
    maps = tables[0].column is not None
    width = (max(3.6, 0.62 * columns + 1.1) if columns <= MOST_ANNOTATED else 7.0) if maps else 5.2
    height = (max(2.6, 0.44 * rows + 1.0) if rows <= MOST_ANNOTATED else 6.0) if maps else 3.6
    figure, axes = base._figure(2 * width, 2 * height + 0.7, 2, 2)
    for axis, cells in zip(axes.flat, tables, strict=True):
        axis.set_title(PANELS[cells.metric], fontsize=9.5)
        if cells.count.any():
            (_map if maps else _curve)(axis, cells, members)
        else:
            axis.text(0.5, 0.5, "not known for these members", transform=axis.transAxes, ha="center", fontsize=9)
            axis.set_axis_off()
    note = f"{'outlined' if maps else 'ringed'}: {_best_note(members)}; {pivot.averaged(members, tables[1])}"
    note += "; ×: diverged, left out" if tables[0].diverged.any() else ""
    figure.suptitle(f"{title}\n" + textwrap.fill(note, int(2 * width * 13)), fontsize=9.5)
    figure.savefig(path)


def _map(axis, cells: pivot.Cells, members: list[dict]) -> None:
    """A cell per setting; of NLL and ELBO the greener the better, the finer shades for what is close to the best."""
    from matplotlib import colormaps, patches

    judged = cells.metric in ("nll", "elbo")
    gap = np.nanmax(cells.mean) - cells.mean if cells.metric != "nll" else cells.mean - np.nanmin(cells.mean)
    shades = 1 - (gap / (np.nanmax(gap) or 1.0)) ** (0.5 if judged else 1.0)
    axis.imshow(0.85 * shades, cmap=colormaps["YlGn" if judged else "Blues"], vmin=0, vmax=1, aspect="auto")
    texts = pivot.cell_texts(cells)
    for (i, j), lost in np.ndenumerate(cells.diverged):
        if max(shades.shape) <= MOST_ANNOTATED and (cells.count[i, j] or lost):
            colour = ("w" if shades[i, j] > 0.78 else "k") if cells.count[i, j] else LOST
            axis.text(j, i, texts[i][j].replace(" ± ", "\n±"), color=colour, fontsize=7.5, **CENTRED)
        if lost:
            axis.text(j + 0.45, i - 0.43, f"×{lost}", color=LOST, fontsize=6.5, ha="right", va="top", bbox=WHITE)
    for member in ranking.ranking(members)[1][:1]:
        i, j = cells.index(member)
        axis.add_patch(patches.Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec=BEST, lw=2.5, clip_on=False))
    for side, field, values in (("x", cells.column, cells.columns), ("y", cells.row, cells.rows)):
        gap = 0.012 * max(len(ranking.show(x)) for x in values) if side == "x" else 0.04
        shown = _ticks(np.arange(len(values)), gap)
        getattr(axis, f"set_{side}ticks")(shown, [ranking.show(values[i]) for i in shown], fontsize=8)
        getattr(axis, f"set_{side}label")(ranking.short(field), fontsize=9)


def _curve(axis, cells: pivot.Cells, members: list[dict]) -> None:
    """The mean and spread against the one axis, and every member as a point."""
    places, several = _places(cells.rows, cells.row), (cells.count > 1).any()
    mean, sd = cells.mean[:, 0], cells.sd[:, 0] if several else None
    where = {m["member"]: (places[cells.index(m)[0]], ranking.metric_of(m, "test", cells.metric)) for m in members}
    lost = [m["member"] for m in members if m["diverged_at"] is not None]
    frame = axis.get_xaxis_transform()
    axis.scatter(*np.array([where[n] for n in where if n not in lost]).T, s=16, color="0.4", alpha=0.7, zorder=3)
    axis.plot([where[n][0] for n in lost], [0.04] * len(lost), "x", color=LOST, ms=8, mew=2, transform=frame)
    line = "-" if _ordered(cells.rows, cells.row) else ""
    axis.errorbar(places, mean, sd, color=MEAN, linestyle=line, capsize=4, marker="" if several else "o", zorder=2)
    if cells.row == ranking.SEED and cells.count.sum() > 1:
        middle, spread = np.nanmean(mean), np.nanstd(mean, ddof=1)
        axis.axhspan(middle - spread, middle + spread, color=MEAN, alpha=0.12, linewidth=0)
        axis.axhline(middle, color=MEAN, linewidth=1)
        axis.set_title(f"{axis.get_title()} ({middle:.2f} ± {spread:.2f})", fontsize=9.5)
    if ranking.best(members) is not None:
        axis.scatter(*where[ranking.best(members)], s=150, **RING)
    shown = _ticks(places, 0.05)
    axis.set_xticks(places[shown], [ranking.show(cells.rows[i]) for i in shown], fontsize=8)
    axis.set_xlabel(ranking.short(cells.row or ""), fontsize=9)
    axis.tick_params(axis="y", labelsize=8)
    axis.margins(0.08, 0.12)
    axis.grid(alpha=0.3)
    if len(_ticks(places, 0.11)) == len(places):  # the numbers above the frame, where they fit
        for place, (text,) in zip(places, pivot.cell_texts(cells), strict=True):
            axis.text(place, 1.02, text.replace(" ± ", "\n±"), ha="center", fontsize=7.5, transform=frame)
        axis.set_title(axis.get_title(), fontsize=9.5, pad=30 if several else 18)


def strips(path: Path, members: list[dict], images: np.ndarray, title: str) -> None:
    """Decoded prior samples [N, k, *example_shape], a row per member: the same prior noise down every column."""
    best, limits = ranking.best(members), (np.nanmin(images), np.nanmax(images))
    if len(members) > MOST_STRIPS:
        shown = np.linspace(0, len(members) - 1, MOST_STRIPS).round().astype(int)
        title += f"\n{MOST_STRIPS} of {len(members)} members, evenly picked"
        members, images = [members[i] for i in shown], images[shown]
    columns = math.ceil(len(members) / STRIPS_PER_COLUMN)
    rows = math.ceil(len(members) / columns)
    pictures = images.ndim == 5 and images.shape[-1] in (1, 3)
    ratio = images.shape[1] * images.shape[3] / images.shape[2] if pictures else 8.0
    ends = [" (best)" if m["member"] == best else "" if m["diverged_at"] is None else " (diverged)" for m in members]
    labels = [(ranking.label(member) or ranking.named(member)) + end for member, end in zip(members, ends, strict=True)]
    width = 0.34 * ratio + 0.075 * max(map(len, labels)) + 0.3
    figure, axes = base._figure(columns * width, 0.34 * rows + 0.6, rows, columns)
    for axis, label, end, x in zip(axes.T.flat, labels, ends, images, strict=False):
        for one in [np.concatenate(list(x), 1)] if pictures else x:
            base._show(axis, one, limits)
        style = {"color": BEST, "weight": "bold"} if end == " (best)" else {}
        axis.text(-0.02, 0.5, label, transform=axis.transAxes, ha="right", va="center", fontsize=7.5, **style)
    for axis in axes.T.flat[len(members) :]:
        axis.remove()
    figure.suptitle(title, fontsize=9.5)
    figure.savefig(path, bbox_inches="tight")  # wherever equal aspects have moved the rows to
