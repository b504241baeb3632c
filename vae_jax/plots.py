"""The pictures of a run, from plain arrays. Matplotlib is imported where it is used: it takes a second."""

import math
from pathlib import Path

import numpy as np


def _figure(width: float, height: float, rows: int = 1, columns: int = 1):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _show(axis, x: np.ndarray, limits: tuple[float, float]) -> None:
    """One example: an image [H, W, 1 or 3], or else its values as a curve between `limits`."""
    if x.ndim == 3 and x.shape[-1] in (1, 3):
        axis.imshow(np.clip(x, 0, 1).squeeze(), cmap="gray_r" if x.shape[-1] == 1 else None, vmin=0, vmax=1)
        axis.set_axis_off()
    else:
        axis.plot(x.ravel(), linewidth=0.8)
        axis.set_ylim(limits)
        axis.set_xticks([])
        axis.set_yticks([])


def samples(path: Path, images: np.ndarray, title: str) -> None:
    """A square grid of decoded draws from the prior, [n, ...]."""
    side = math.isqrt(len(images))
    figure, axes = _figure(0.7 * side, 0.7 * side + 0.4, side, side)
    for axis, image in zip(axes.flat, images, strict=False):
        _show(axis, image, (images.min(), images.max()))
    figure.suptitle(title, fontsize=9)
    figure.savefig(path)


def reconstructions(path: Path, originals: np.ndarray, decoded: np.ndarray, title: str) -> None:
    """Pairs of rows: above what the encoder saw, below the mean of p(x|z); both [n, ...]."""
    columns = 10
    pairs = max(1, len(originals) // columns)
    columns = min(columns, len(originals))
    limits = (min(originals.min(), decoded.min()), max(originals.max(), decoded.max()))
    figure, axes = _figure(0.75 * columns + 0.6, 1.5 * pairs + 0.4, 2 * pairs, columns)
    for i in range(pairs * columns):
        row, column = divmod(i, columns)
        _show(axes[2 * row, column], originals[i], limits)
        _show(axes[2 * row + 1, column], decoded[i], limits)
    for row in range(2 * pairs):
        label = ("x", "decoded")[row % 2]
        axes[row, 0].text(-0.15, 0.5, label, transform=axes[row, 0].transAxes, ha="right", va="center", fontsize=7)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path)


def _plane(means: np.ndarray, labels: np.ndarray | None) -> tuple[np.ndarray, tuple[str, str]]:
    """(points [n, 2], the names of the axes) to show posterior means [n, Z] in."""
    if means.shape[1] == 1:
        return np.concatenate([means, np.zeros_like(means)], 1), ("z[0]", "")
    if means.shape[1] == 2:
        return means, ("z[0]", "z[1]")
    spread = np.sum(means.std(axis=0) > 1e-6) >= 2  # no collapsed posterior
    if labels is not None and spread and 2 < len(np.unique(labels)) < len(labels):
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        points = LinearDiscriminantAnalysis(n_components=2).fit_transform(means, labels)
        if points.shape[1] == 2:  # fewer where the classes' means lie on a line
            return points, tuple(f"linear discriminant {i} of the labels" for i in (1, 2))
    centred = means - means.mean(0)
    if len(means) == 1:
        return means[:, :2], ("z[0]", "z[1]")
    _, scale, directions = np.linalg.svd(centred, full_matrices=False)
    share = scale**2 / max(np.sum(scale**2), 1e-12)
    return centred @ directions[:2].T, tuple(
        f"principal component {i + 1} ({share[i]:.0%} of the variance)" for i in range(2)
    )


def latents(path: Path, means: np.ndarray, labels: np.ndarray | None, title: str) -> None:
    """Posterior means [n, Z], coloured by label, in a plane: z itself where it is 2-D, else the linear
    discriminants of the labels or, without labels, the principal components."""
    points, names = _plane(means, labels)
    size = 3 if len(points) > 2000 else 12
    figure, axes = _figure(6.4, 5.6)
    axis = axes[0, 0]
    kinds = None if labels is None else np.unique(labels)
    if kinds is None or len(kinds) > 20:
        colours = {} if labels is None else {"c": labels, "cmap": "viridis"}
        drawn = axis.scatter(*points.T, s=size, linewidths=0, alpha=0.6, **colours)
        if labels is not None:
            figure.colorbar(drawn, ax=axis, label="label")
    else:
        from matplotlib import colormaps

        colours = colormaps["tab10" if len(kinds) <= 10 else "tab20"].colors
        for colour, kind in zip(colours, kinds, strict=False):
            chosen = labels == kind
            axis.scatter(*points[chosen].T, s=size, linewidths=0, alpha=0.6, color=colour, label=str(kind))
        axis.legend(markerscale=4, fontsize=8, title="label", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axis.set(xlabel=names[0], ylabel=names[1])
    axis.set_title(title, fontsize=9)
    figure.savefig(path)


def curves(path: Path, rows: list[dict], title: str) -> None:
    """The training curves from the rows of metrics.jsonl, train beside valid, against the epoch."""
    panels = ("elbo", "distortion", "rate", "loss", "grad_norm", "learning_rate")
    ylabels = ("nats per example",) * 5 + ("",)
    figure, axes = _figure(11, 5.4, 2, 3)
    for axis, name, ylabel in zip(axes.flat, panels, ylabels, strict=True):
        for split, style in (("train", {"linewidth": 1.0}), ("valid", {"linewidth": 1.4, "linestyle": "--"})):
            points = [(r["epoch"], r[name]) for r in rows if r["split"] == split and r.get(name) is not None]
            if points:
                axis.plot(*zip(*points, strict=True), label=split, **style)
        if axis.lines:
            _zoom(axis, name)
            axis.legend(fontsize=7)
        axis.set_title({"elbo": "ELBO (beta = 1)"}.get(name, name.replace("_", " ")), fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        axis.set_ylabel(ylabel, fontsize=8)
        axis.grid(alpha=0.3)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path)


def _zoom(axis, name: str) -> None:
    """The first steps are far from the rest: show the range of the last nine tenths."""
    if name in ("elbo", "distortion", "loss"):
        tails = np.concatenate([line.get_ydata()[len(line.get_ydata()) // 10 :] for line in axis.lines])
        low, high = tails.min(), tails.max()
        margin = 0.05 * (high - low) or 1.0
        axis.set_ylim(low - margin, high + margin)
