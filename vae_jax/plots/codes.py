"""The codes of test examples (latents.png): a histogram, or points in a plane."""

from pathlib import Path

import numpy as np

from vae_jax.plots import base

MOST_LABELS = 20  # in a legend; more become a colour scale
MANY = 2000  # points, which are then drawn smaller
AXES = ("z[0]", "z[1]")
Groups = list[tuple[str, np.ndarray]]  # (name of a label, whether each code has it [n])


def draw(
    path: Path,
    means: np.ndarray,
    labels: np.ndarray | None,
    title: str,
    standard_normal: bool,
    label_names: tuple[str, ...] = (),
) -> None:
    """Draws codes [n, Z], coloured by label.

    One dimension is a histogram and two are the plane of z itself. More are shown in the plane of
    the linear discriminants of the labels or, without labels, of the principal components.

    Args:
      standard_normal: whether the prior is N(0, I), whose standard deviations are then drawn.
      label_names: of the labels 0, 1, ..., where they have names.
    """
    figure, axes = base.figure(6.4, 5.6)
    axis = axes[0, 0]
    groups = _groups(labels, label_names)
    if means.shape[1] == 1:
        _histogram(axis, means[:, 0], groups)
    else:
        points, names = _plane(means, labels)
        if labels is None or groups:
            _scatter(axis, points, groups)
        else:
            style = _point_style(len(points))
            drawn = axis.scatter(*points.T, c=labels, cmap="viridis", **style)
            figure.colorbar(drawn, ax=axis, label="label")
        axis.set(xlabel=names[0], ylabel=names[1])
        if standard_normal and means.shape[1] == 2 and names == AXES:
            _deviations(axis, np.abs(points).max())
    if groups:
        scale = 4 if len(means) > MANY else 2
        style = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "fontsize": 8}
        axis.legend(markerscale=scale, title="label", **style)
    base.open_frame(axis)
    base.head(figure, title)
    base.save(figure, path)


def _groups(labels: np.ndarray | None, label_names: tuple[str, ...]) -> Groups:
    """The codes of each label; empty without labels, or where they are too many."""
    kinds = [] if labels is None else np.unique(labels)
    if len(kinds) > MOST_LABELS:
        return []
    named = dict(enumerate(label_names))
    return [(str(named.get(kind, kind)), labels == kind) for kind in kinds]


def _plane(means: np.ndarray, labels: np.ndarray | None) -> tuple[np.ndarray, tuple[str, str]]:
    """(points [n, 2], the names of the axes) of codes [n, Z >= 2]."""
    if means.shape[1] == 2 or len(means) == 1:
        return means[:, :2], AXES
    spread = np.sum(means.std(axis=0) > 1e-6) >= 2  # no collapsed posterior
    if labels is not None and spread and 2 < len(np.unique(labels)) < len(labels):
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        points = LinearDiscriminantAnalysis(n_components=2).fit_transform(means, labels)
        if points.shape[1] == 2:  # fewer where the classes' means lie on a line
            first, second = (f"linear discriminant {i} of the labels" for i in (1, 2))
            return points, (first, second)
    _, scale, directions = np.linalg.svd(means - means.mean(0), full_matrices=False)
    share = scale**2 / max(np.sum(scale**2), 1e-12)
    first, second = (
        f"principal component {i + 1} ({share[i]:.0%} of the variance)" for i in range(2)
    )
    return (means - means.mean(0)) @ directions[:2].T, (first, second)


def _colours(num: int):
    from matplotlib import colormaps

    return colormaps["tab10" if num <= 10 else "tab20"](np.arange(max(num, 1)))


def _histogram(axis, z: np.ndarray, groups: Groups) -> None:
    values = [z[chosen] for _, chosen in groups] or [z]
    names = [name for name, _ in groups] or [None]
    axis.hist(values, 60, stacked=True, color=_colours(len(values)), label=names)
    axis.set(xlabel="z[0]", ylabel="test examples")


def _point_style(num: int) -> dict:
    return {"s": 3 if num > MANY else 12, "linewidths": 0, "alpha": 0.6}


def _scatter(axis, points: np.ndarray, groups: Groups) -> None:
    style = _point_style(len(points))
    colours = _colours(len(groups))
    if not groups:
        axis.scatter(*points.T, color=colours[0], **style)
    for (name, chosen), colour in zip(groups, colours, strict=False):
        axis.scatter(*points[chosen].T, color=colour, label=name, **style)


def _deviations(axis, reach: float) -> None:
    """Circles at 1, 2, 3 standard deviations of the prior N(0, I), as far as the points reach."""
    from matplotlib.patches import Circle

    box = {"facecolor": "w", "edgecolor": "none", "pad": 0.8}
    for radius in range(1, 4):
        if radius <= max(reach, 1.0) + 0.5:
            circle = {"fill": False, "ec": "0.55", "lw": 0.8, "ls": (0, (4, 3)), "zorder": 0}
            axis.add_patch(Circle((0, 0), radius, **circle))
            text = f"{radius} sd of the prior" if radius == 1 else f"{radius} sd"
            axis.text(0, -radius, text, fontsize=7, color="0.35", bbox=box, **base.CENTRED)
    axis.set_aspect("equal", adjustable="datalim")
