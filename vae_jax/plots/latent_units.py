"""Pictures of latent units, from plain arrays."""

from pathlib import Path

import numpy as np

from vae_jax.metrics.active_units import ACTIVE
from vae_jax.plots import base

MOST_BARS, MOST_KINDS = 100, 20


def rates(path: Path, unit_rate: np.ndarray, activity: np.ndarray | None, title: str) -> None:
    """KL(q(z|x) || p(z)) of every unit in nats [Z], a bar each, the largest first; active units apart from others."""
    order = np.argsort(-unit_rate, kind="stable")
    shown = order[:MOST_BARS]
    active = np.full(len(shown), True) if activity is None else activity[shown] > ACTIVE
    figure, axes = base._figure(float(np.clip(0.16 * len(shown) + 2.4, 5.5, 11)), 3.4)
    axis = axes[0, 0]
    for kind, colour, name in ((True, base.TRAIN, "active"), (False, base.INACTIVE, "inactive")):
        where = np.flatnonzero(active == kind)
        if not len(where):
            continue
        label = f"{name}: {np.sum((activity > ACTIVE) == kind)} units" if activity is not None else None
        axis.bar(where, unit_rate[shown][where], width=0.8, color=colour, label=label)
    if activity is not None:
        legend = axis.legend(title=f"variance of the posterior mean > {ACTIVE}", fontsize=8, frameon=False)
        legend.get_title().set_fontsize(8)
    few = len(shown) <= 60
    axis.set_xticks(range(len(shown)) if few else [], [str(i) for i in shown] if few else [], fontsize=7)
    if len(shown) > 24:
        axis.tick_params(axis="x", rotation=90)
    left = f"; {len(order) - len(shown)} more, {unit_rate[order[MOST_BARS:]].sum():.3g} nats together"
    axis.set_xlabel(f"latent unit, by KL{left if len(order) > len(shown) else ''}", fontsize=8)
    axis.set_ylabel("KL, nats per example", fontsize=8)
    axis.set_xlim(-0.7, len(shown) - 0.3)
    axis.set_ylim(0, 1.3 * max(unit_rate.max(), 1e-6))  # room for the legend
    axis.tick_params(axis="y", labelsize=8)
    axis.grid(axis="y", alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    base.head(figure, title)
    figure.savefig(path)


def _plane(means: np.ndarray, labels: np.ndarray | None) -> tuple[np.ndarray, tuple[str, str]]:
    """(points [n, 2], the names of the axes) to show codes [n, Z >= 2] in."""
    if means.shape[1] == 2 or len(means) == 1:
        return means[:, :2], ("z[0]", "z[1]")
    spread = np.sum(means.std(axis=0) > 1e-6) >= 2  # no collapsed posterior
    if labels is not None and spread and 2 < len(np.unique(labels)) < len(labels):
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        points = LinearDiscriminantAnalysis(n_components=2).fit_transform(means, labels)
        if points.shape[1] == 2:  # fewer where the classes' means lie on a line
            return points, tuple(f"linear discriminant {i} of the labels" for i in (1, 2))
    _, scale, directions = np.linalg.svd(means - means.mean(0), full_matrices=False)
    share = scale**2 / max(np.sum(scale**2), 1e-12)
    return (means - means.mean(0)) @ directions[:2].T, tuple(
        f"principal component {i + 1} ({share[i]:.0%} of the variance)" for i in range(2)
    )


def latents(
    path: Path, means: np.ndarray, labels: np.ndarray | None, title: str, prior: bool, label_names: tuple = ()
) -> None:
    """Codes [n, Z], coloured by label: a histogram where Z is 1, else points in a plane: z itself where it is 2-D, the
    linear discriminants of the labels or, without labels, the principal components.

    Args:
      prior: whether z has the prior N(0, I), whose standard deviations are drawn where z itself is.
      label_names: of the labels 0, 1, ..., where they have names.
    """
    figure, axes = base._figure(6.4, 5.6)
    axis = axes[0, 0]
    kinds = None if labels is None else np.unique(labels)
    few = kinds is not None and len(kinds) <= MOST_KINDS
    named = dict(enumerate(label_names))
    groups = [(str(named.get(kind, kind)), labels == kind) for kind in kinds] if few else [(None, slice(None))]
    if means.shape[1] == 1:
        _histogram(axis, [(name, means[chosen, 0]) for name, chosen in groups])
    else:
        points, names = _plane(means, labels)
        _scatter(figure, axis, points, groups, labels if kinds is not None and not few else None)
        axis.set(xlabel=names[0], ylabel=names[1])
        if names == ("z[0]", "z[1]") and prior and means.shape[1] == 2:
            _deviations(axis, np.abs(points).max())
    if few:
        scale = 4 if len(means) > 2000 else 2
        axis.legend(markerscale=scale, fontsize=8, title="label", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axis.spines[["top", "right"]].set_visible(False)
    base.head(figure, title)
    figure.savefig(path)


def _colours(num: int):
    from matplotlib import colormaps

    return colormaps["tab10" if num <= 10 else "tab20"].colors[:num]


def _histogram(axis, groups: list) -> None:
    values = [x for _, x in groups]
    axis.hist(values, 60, stacked=True, color=_colours(len(groups)), label=[name for name, _ in groups])
    axis.set(xlabel="z[0]", ylabel="test examples")


def _scatter(figure, axis, points: np.ndarray, groups: list, shade: np.ndarray | None) -> None:
    """`shade`: numbers to colour by, where there are too many labels for a legend."""
    style = {"s": 3 if len(points) > 2000 else 12, "linewidths": 0, "alpha": 0.6}
    if shade is not None:
        figure.colorbar(axis.scatter(*points.T, c=shade, cmap="viridis", **style), ax=axis, label="label")
        return
    for (name, chosen), colour in zip(groups, _colours(len(groups)), strict=True):
        axis.scatter(*points[chosen].T, color=colour, label=name, **style)


def _deviations(axis, reach: float) -> None:
    """Circles at 1, 2, 3 standard deviations of the prior N(0, I), as far as the points reach."""
    from matplotlib.patches import Circle

    for radius in range(1, 4):
        if radius <= max(reach, 1.0) + 0.5:
            axis.add_patch(Circle((0, 0), radius, fill=False, ec="0.55", lw=0.8, ls=(0, (4, 3)), zorder=0))
            text = f"{radius} sd of the prior" if radius == 1 else f"{radius} sd"
            at = {"ha": "center", "va": "center", "bbox": {"facecolor": "w", "edgecolor": "none", "pad": 0.8}}
            axis.text(0, -radius, text, fontsize=7, color="0.35", **at)
    axis.set_aspect("equal", adjustable="datalim")
