"""The test rate against the test distortion of every member (rate_distortion.png)."""

import itertools
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax.plots import base, pivot, sweep
from vae_jax.workdir import ranking

MARKERS = "os^DvPph<>*8"
COLOURS, DARKEST, LIGHTEST = "viridis", 0.0, 0.95  # of the swept field, and the part that is used
TWO_VIEWS = 8  # members, from which on the best are also shown closer
FRAME = (5.2, 5.0)  # inches of an axis, about
LEGEND_WIDTH = 30  # letters


class Groups(NamedTuple):
    """How members are told apart: by the colours of one swept field and the markers of another."""

    colour: str | None  # field; None: nothing is swept
    values: list  # of that field
    marker: str | None  # field; None: all members have the same marker
    kinds: list  # its values
    means: np.ndarray  # mean rate and distortion  [kinds, values, 2]

    @property
    def few(self) -> bool:
        """Whether there are enough markers."""
        return len(self.kinds) <= len(MARKERS)


def draw(path: Path, members: list[dict], title: str) -> None:
    """Draws a point per member in the plane of rate and distortion.

    From eight members on, the third with the highest ELBO is shown closer beside it.
    """
    points = {
        member["member"]: [ranking.metric_of(member, "test", x) for x in ("rate", "distortion")]
        for member in members
    }
    finished = [member for member in members if member["diverged_at"] is None]
    finished = [member for member in finished if np.isfinite(sum(points[member["member"]]))]
    where = sorted((points[member["member"]] for member in finished), key=sum)
    where = np.array(where).reshape(-1, 2)
    views = {f"all {len(where)} that finished": where}
    if len(where) >= TWO_VIEWS:
        views["the third with the highest ELBO"] = where[: max(4, len(where) // 3)]
    groups = _groups(members)
    figure, axes = base.figure(5.8 * len(views) + 3.2, 5.8, 1, len(views))
    for axis, (name, view) in zip(axes[0], views.items(), strict=True):
        _set_limits(axis, view)
        axis.set(xlabel="rate, nats", ylabel="distortion, nats")
        axis.set_title(name, fontsize=9)
        if finished:
            _draw_members(axis, finished, points, groups)
    if finished and len(groups.values) > 1:
        _colour_bar(figure, axes[0, -1], groups)
    handles = _legend(groups) if finished else []
    for axis in axes[0]:
        _equal_elbo(axis, where)
    best = ranking.best(members)
    if best in [member["member"] for member in finished]:
        note = textwrap.fill(sweep.best_in_words(members), LEGEND_WIDTH)
        rings = [axis.scatter(*points[best], s=190, label=note, **sweep.RING) for axis in axes[0]]
        handles.append(rings[0])
    handles += _draw_diverged(axes[0, 0], members, points)
    style = {"fontsize": 8, "frameon": False, "labelspacing": 0.7}
    figure.legend(handles=handles, loc="outside right upper", **style)
    figure.suptitle(title, fontsize=10)
    base.save(figure, path)


def _groups(members: list[dict]) -> Groups:
    rates = pivot.cells(members, "test", "rate")
    distortions = pivot.cells(members, "test", "distortion")
    means = np.stack([rates.mean, distortions.mean], -1)  # [rows, columns, 2]
    if rates.column is None:  # one axis: its values are the colours
        return Groups(rates.row, rates.rows, None, [None], means.swapaxes(0, 1))
    return Groups(rates.column, rates.columns, rates.row, rates.rows, means)


def _set_limits(axis, view: np.ndarray) -> None:
    """The limits that show all points of `view` [n, 2]; small differences are not blown up."""
    low, high = np.array([0.0, 0.0]), np.array([1.0, 1.0])
    if len(view):
        low, high = view.min(0), view.max(0)
    span = np.maximum(high - low, np.maximum(0.2 * (high - low)[::-1], 0.1))
    middle = (low + high) / 2
    limits = np.stack([middle - 0.57 * span, middle + 0.57 * span], 1)
    axis.set(xlim=limits[0], ylim=limits[1])


def _shares(groups: Groups) -> np.ndarray:
    """The places of the values on the colour scale, in [0, 1]."""
    places = sweep.places(groups.values, groups.colour)
    return (places - places.min()) / (np.ptp(places) or 1.0)


def _colours():
    from matplotlib import colormaps, colors

    return colors.ListedColormap(colormaps[COLOURS](np.linspace(DARKEST, LIGHTEST, 256)))


def _colour_bar(figure, axis, groups: Groups) -> None:
    from matplotlib import cm

    shares = _shares(groups)
    shown = sweep.ticks(shares, 0.035)
    scale = cm.ScalarMappable(cmap=_colours())
    bar = figure.colorbar(scale, ax=axis, pad=0.01, fraction=0.045, aspect=30)
    labels = [ranking.show(groups.values[i]) for i in shown]
    bar.set_ticks(shares[shown], labels=labels, fontsize=8)
    bar.set_label(ranking.short(groups.colour or ""))


def _marker(groups: Groups, i: int) -> tuple[str, str]:
    """(the marker of the members of kind `i`, the grey of its line)."""
    marker = MARKERS[i] if groups.few else "o"
    return marker, str(0.75 - 0.6 * i / max(len(groups.kinds) - 1, 1))


def _draw_members(axis, finished: list[dict], points: dict, groups: Groups) -> None:
    """Draws the points, and lines through the means along the colour's field."""
    shares, colours = _shares(groups), _colours()
    style = {"s": 52 if len(finished) < 80 else 34, "edgecolors": "0.25", "linewidths": 0.5}
    for i, kind in enumerate(groups.kinds):
        marker, grey = _marker(groups, i)
        chosen = finished
        if groups.marker:
            chosen = [m for m in finished if ranking.value(m, groups.marker) == kind]
        of_value = [groups.values.index(ranking.value(m, groups.colour)) for m in chosen]
        where = np.array([points[m["member"]] for m in chosen]).reshape(-1, 2)
        axis.scatter(*where.T, c=colours(shares[of_value]), marker=marker, zorder=3, **style)
        if groups.few and sweep.ordered(groups.values, groups.colour):
            means = groups.means[i][np.isfinite(groups.means[i]).all(1)]
            axis.plot(*means.T, color=grey, linewidth=1.3, zorder=2)


def _legend(groups: Groups) -> list:
    """The entries of the markers; none where there is only one, or too many kinds."""
    from matplotlib.lines import Line2D

    if groups.marker is None or not groups.few:
        return []
    entries = [Line2D([], [], linestyle="", label=ranking.short(groups.marker))]
    for i, kind in enumerate(groups.kinds):
        marker, grey = _marker(groups, i)
        entry = Line2D([], [], color=grey, marker=marker, mfc="w", mec="0.25")
        entry.set_label(ranking.show(kind))
        entries.append(entry)
    return entries


def _draw_diverged(axis, members: list[dict], points: dict) -> list:
    """Draws diverged members at their last good parameters, or at the frame if that is beyond.

    Returns the entry of the legend that names them.
    """
    diverged = [member for member in members if member["diverged_at"] is not None]
    if not diverged:
        return []
    limits = np.array([axis.get_xlim(), axis.get_ylim()])
    style = {"color": base.DIVERGED, "marker": "x", "markersize": 8, "markeredgewidth": 2}
    style |= {"linestyle": "", "zorder": 4}
    for member in diverged:
        place = (np.array(points[member["member"]]) - limits[:, 0]) / np.ptp(limits, axis=1)
        axis.plot(*np.clip(place, 0.012, 0.988), transform=axis.transAxes, **style)
    names = [ranking.named(member) for member in diverged]
    if len(diverged) >= 7:
        names = [f"members {[member['member'] for member in diverged]}"]
    names = [textwrap.fill(name, LEGEND_WIDTH) for name in names]
    label = "\n".join(["diverged (at the frame if beyond):", *names])
    return axis.plot([], [], label=label, **style)


def _equal_elbo(axis, points: np.ndarray) -> None:
    """Lines of equal ELBO = -(rate + distortion), each labelled where there is most room."""
    from matplotlib.ticker import MaxNLocator

    left, right = axis.get_xlim()
    bottom, top = axis.get_ylim()
    origin = np.array([left, bottom])
    scale = np.array([right - left, top - bottom]) / FRAME  # nats per inch
    segments = [pair for line in axis.lines for pair in itertools.pairwise(line.get_xydata())]
    lines = [np.linspace(start, end, 20) for start, end in segments]
    taken = (np.concatenate([points, *lines]) - origin) / scale  # inches
    style = {"rotation": -45, "transform_rotates_text": True, "rotation_mode": "anchor"}
    style |= {"fontsize": 7, "color": "0.45", "bbox": sweep.WHITE, "zorder": 1.5} | base.CENTRED
    round_values = MaxNLocator(8, steps=[1, 2, 2.5, 5, 10])
    for total in round_values.tick_values(left + bottom, right + top)[1:-1]:
        x = np.linspace(max(left, total - top), min(right, total - bottom), 60)
        axis.plot(x[[0, -1]], total - x[[0, -1]], color="0.8", linewidth=0.8, zorder=1)
        where = (np.stack([x, total - x], 1) - origin) / scale
        inside = np.all((where > 0.42) & (where < np.array(FRAME) - 0.42), axis=1) & (x[0] < x[-1])
        room = np.linalg.norm(where[:, None] - taken, axis=-1).min(1, initial=1.5)
        i = np.argmax(np.where(inside, room, -1))
        if inside[i]:
            axis.text(x[i], total - x[i], f"ELBO {-total:g}", **style)
            taken = np.concatenate([taken, where[i][None]])
