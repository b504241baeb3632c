"""The pictures of what results.json holds under `evaluation`. Matplotlib is imported where it is used."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from vae_jax.estimators import words
from vae_jax.plots import base

LOWER, UPPER, ENCODER = "#1f77b4", "#d62728", "#e8710a"
PARTS = ("#8fb8de", "#e8b07a")
UNITS = 60  # at most so many latent units are drawn


def draw(folder: Path, entry: dict, unit_rate: list[float] | None, title: str) -> None:
    """Every picture that the estimates of one member allow, into `folder`; those of older estimates go."""
    entry = words.known(entry)
    for name, needed, picture in (
        ("bounds.png", {"iwae", "ais", "bdmc"}, lambda path: bounds(path, entry, title)),
        ("rate_distortion_curve.png", {"rate_distortion"}, lambda path: rate_distortion(path, entry, title)),
        ("gaps.png", {"gaps"}, lambda path: gaps(path, [("", entry)], title)),
        ("kl_spectrum.png", {"latents"}, lambda path: spectrum(path, entry["latents"], unit_rate, title)),
    ):
        _draw_or_remove(folder / name, bool(needed & entry.keys()), picture)


def draw_members(folder: Path, named: list[tuple[str, dict]], title: str) -> None:
    """Pictures that compare members, [(name, entry)]; those of older estimates go."""
    named = [(name, words.known(entry)) for name, entry in named]
    have = lambda name: len(named) > 1 and any(name in entry for _, entry in named)  # noqa: E731
    _draw_or_remove(folder / "gaps.png", have("gaps"), lambda path: gaps(path, named, title))
    curves_path = folder / "rate_distortion_curves.png"
    _draw_or_remove(curves_path, have("rate_distortion"), lambda path: curves(path, named, title))


def _draw_or_remove(path: Path, known: bool, picture: Callable[[Path], None]) -> None:
    if known:
        picture(path)
    else:
        path.unlink(missing_ok=True)


def bounds(path: Path, entry: dict, title: str) -> None:
    """Lower and upper bounds on log p(x), a row each: a thin bar is the error over examples, a thick one the noise."""
    real, simulated = [], []
    if "gaps" in entry:
        real.append(("ELBO", _elbo(entry["gaps"], "elbo"), LOWER))
        real.append(("ELBO, best q of each x", _elbo(entry["gaps"], "best_elbo"), LOWER))
    real += [(f"IWAE-{b['samples']:,}", b, LOWER) for b in entry.get("iwae", {}).get("bounds", ())]
    if "ais" in entry:
        real.append((f"AIS, {entry['ais']['ais_distributions']:,} distributions", entry["ais"], LOWER))
    if found := entry.get("bdmc"):
        simulated.append((f"IWAE-{found['iwae']['samples']:,}", found["iwae"], LOWER))
        simulated.append(("AIS, a lower bound", found["lower"], LOWER))
        simulated.append(("AIS backward, an upper bound", found["upper"], UPPER))
    groups = [(name, rows) for name, rows in (("test examples", real), ("simulated examples", simulated)) if rows]
    height = 1.0 + sum(0.9 + 0.33 * len(rows) for _, rows in groups)
    figure, axes = base._figure(7.5, height, len(groups), 1)
    for axis, (name, rows) in zip(axes[:, 0], groups, strict=True):
        for y, (_, bound, colour) in enumerate(rows):
            centre = bound["log_p"]
            axis.errorbar(centre, y, xerr=bound["stderr"], color=colour, lw=1, capsize=3, alpha=0.45)
            axis.errorbar(centre, y, xerr=bound.get("noise_stderr") or 0.0, color=colour, lw=4, fmt="o", ms=5)
            at = {"xytext": (0, 7), "textcoords": "offset points", "fontsize": 8, "ha": "center"}
            axis.annotate(f"{centre:.2f}", (centre, y), **at)
        axis.set_yticks(range(len(rows)), [label for label, _, _ in rows])
        axis.set_ylim(len(rows) - 0.4, -0.9)
        axis.set_xlabel(f"log p(x), nats, mean of {name}")
        axis.grid(axis="x", color="0.9")
        axis.spines[["top", "right", "left"]].set_visible(False)
    base.head(figure, f"Bounds on log p(x); thin: error over the examples, which all rows share; thick: noise\n{title}")
    figure.savefig(path)


def _elbo(found: dict, name: str) -> dict:
    return {"log_p": found[name], "stderr": found[f"{name}_stderr"]}


def rate_distortion(path: Path, entry: dict, title: str) -> None:
    """The decoder's curve, and the encoder beside it."""
    figure, ((axis, close),) = base._figure(9.6, 4.6, 1, 2)
    found = entry["rate_distortion"]
    rate, distortion, beta = (np.array(found[name]) for name in ("rate", "distortion", "beta"))
    one = int(np.abs(beta - 1).argmin())
    for panel in (axis, close):
        _decoder_and_encoder(panel, found, rate, distortion, one)
    axis.set(xlim=(0, None), ylim=(0, None))
    axis.legend(fontsize=8, frameon=False)
    points = np.array([[rate[one], distortion[one]], [found["elbo_rate"], found["elbo_distortion"]]])
    reach = max(3 * np.ptp(points, axis=0).max(), 0.1 * points.sum(1).max())
    close.set(
        xlim=points[:, 0].mean() + np.array([-reach, reach]), ylim=points[:, 1].mean() + np.array([-reach, reach])
    )
    close.set_title("around beta = 1", fontsize=9)
    base.head(figure, f"Rate against distortion; dashed: equal D + R\n{title}")
    figure.savefig(path)


def _decoder_and_encoder(axis, found: dict, rate, distortion, one: int) -> None:
    error = np.array(found["distortion_stderr"])
    axis.fill_between(rate, distortion - error, distortion + error, color=LOWER, alpha=0.15, lw=0)
    axis.plot(rate, distortion, color=LOWER, lw=1.6, label="the best code of every rate")
    axis.plot(rate[one], distortion[one], "o", color=LOWER, label="beta = 1, where D + R = -log p(x)")
    axis.plot(found["elbo_rate"], found["elbo_distortion"], "D", color=ENCODER, label="the encoder: its ELBO")
    for total in (rate[one] + distortion[one], found["elbo_rate"] + found["elbo_distortion"]):
        axis.plot([0, total], [total, 0], color="0.75", lw=0.8, ls=(0, (4, 3)), zorder=0)
    axis.set(xlabel="rate, nats", ylabel="distortion, nats")
    axis.spines[["top", "right"]].set_visible(False)


def curves(path: Path, named: list[tuple[str, dict]], title: str) -> None:
    """The curves of several decoders, each with its encoder's point."""
    from matplotlib import colormaps

    named = [(name, entry["rate_distortion"]) for name, entry in named if "rate_distortion" in entry]
    figure, ((axis,),) = base._figure(7.5, 5.2)
    for (name, found), colour in zip(named, colormaps["viridis"](np.linspace(0, 0.9, len(named))), strict=True):
        axis.plot(found["rate"], found["distortion"], color=colour, lw=1.4, label=name)
        axis.plot(found["elbo_rate"], found["elbo_distortion"], "D", color=colour, ms=5)
    axis.set(xlabel="rate, nats", ylabel="distortion, nats")
    axis.set_xlim(0, 1.1 * max(max(found["elbo_rate"], found["rate"][-1]) for _, found in named))
    axis.set_ylim(0)
    if len(named) <= 16:
        axis.legend(fontsize=7, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    base.head(figure, f"Lines: the best code of every rate; diamonds: the encoder\n{title}")
    figure.savefig(path)


def gaps(path: Path, named: list[tuple[str, dict]], title: str) -> None:
    """Both gaps, one after the other, from -log p(x) up to -ELBO: a bar for each member, [(name, entry)]."""
    named = [(name, entry["gaps"]) for name, entry in named if "gaps" in entry]
    figure, ((axis,),) = base._figure(7.5, 1.5 + 0.45 * len(named))
    for y, (_, found) in enumerate(named):
        left, texts = 0.0, []
        for name, colour in zip(("approximation", "amortization"), PARTS, strict=True):
            axis.barh(y, found[name], left=left, color=colour, height=0.55, label=f"{name} gap" if y == 0 else None)
            left += found[name]
            texts.append(f"{found[name]:.2f} ± {found[f'{name}_stderr']:.2f}")
        at = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axis.annotate(" + ".join(texts), (left, y), **at)
    axis.set_xlim(0, 1.6 * max(found["approximation"] + found["amortization"] for _, found in named))
    labels = (f"{name}\n-log p(x) = {-found['log_p']:.2f}" for name, found in named)
    axis.set_yticks(range(len(named)), [label.strip() for label in labels], fontsize=8)
    axis.set_ylim(len(named) - 0.4, -0.6)
    axis.set_xlabel("nats above -log p(x), by AIS; where the bar ends is -ELBO")
    axis.legend(fontsize=8, frameon=False, ncol=2, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    axis.spines[["top", "right", "left"]].set_visible(False)
    base.head(figure, f"Where the bound is lost\n{title}")
    figure.savefig(path)


def spectrum(path: Path, found: dict, unit_rate: list[float] | None, title: str) -> None:
    """Each unit's rate = what it tells about x + the KL of its marginal to the prior, the largest rate first."""
    information = np.array(found["unit_mutual_information"])
    marginal = np.array(found["unit_marginal_kl"])
    total = np.array(unit_rate) if unit_rate is not None else information + marginal
    order = np.argsort(-total)[:UNITS]
    figure, ((axis,),) = base._figure(max(6.0, 1.5 + 0.16 * len(order)), 3.6)
    places = np.arange(len(order))
    axis.bar(places, information[order], color=PARTS[0], label="I(x; z_d)")
    axis.bar(places, marginal[order], bottom=information[order], color=PARTS[1], label="KL(q(z_d) || p(z_d))")
    axis.plot(places, total[order], ".", color="0.2", ms=4, label="the unit's rate")
    axis.set_xticks(places, order, fontsize=6, rotation=90)
    axis.set(xlabel="latent unit", ylabel="nats", xlim=(-0.7, len(order) - 0.3))
    axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    base.head(figure, f"What each unit's rate is spent on\n{title}")
    figure.savefig(path)
