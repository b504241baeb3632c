"""What is q(z|x) for an 8, and for each digit? Its mean and spread, against the prior N(0, I).

    python -m vae_jax.main --config=configs/mnist.py
    python experiments/posteriors.py --workdir=runs/mnist

Looks at the finished run of configs/mnist.py unit by unit, and trains a VAE of 2 units to look at
the plane. Over the active units, of the test images of each digit:

    spread of q(z|x)    root of the mean variance of q(z|x): how far one image's codes lie apart
    spread of means     root of the mean variance of its mean between the images
    distance            of the mean of all their codes from 0, per unit (root mean square)
    rate                KL(q(z|x) || p(z)), nats

For all images together the squares of the two spreads add up to the variance of the aggregate
posterior q(z), the mean of all q(z|x), which the prior has as 1.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from drawing import show, table, write
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from two_terms import aggregate_bounds

import vae_jax
from vae_jax.distributions import Gaussian, kl_to_standard_normal
from vae_jax.metrics.active_units import ACTIVE
from vae_jax.run import Codes, Run

COLOURS = colormaps["tab10"].colors
SIDES = np.array([-1, 1])
GRID = 3.6  # of the plane that is drawn, in standard deviations of the prior


def trained(args) -> Run:
    """A VAE of two units."""
    config = vae_jax.default()
    config.data.data_dir = args.data_dir
    if args.data:
        config.data.name, config.data.num_valid, config.data.num_test = args.data, 200, 300
    config.hypers.latent_dim = 2
    config.train.num_epochs = args.epochs
    config.eval.nll_samples = 100
    config.eval.estimators = ("latents", "probes")
    return vae_jax.train(config, args.workdir_2d)


def with_estimates(workdir: str) -> Run:
    """The finished run, with the estimates that are looked at."""
    config = vae_jax.load(workdir).config.unlock()
    config.eval.estimators = ("latents", "probes")
    return vae_jax.evaluate(workdir, config)


def unit_rates(codes: Codes) -> np.ndarray:
    """KL(q(z_d|x) || N(0, 1)) of every image and unit, nats  [n, Z]."""
    return np.asarray(kl_to_standard_normal(Gaussian(codes.mean, codes.logvar)))


def spreads(codes: Codes, chosen: np.ndarray, active: np.ndarray) -> list[float]:
    """[spread of q(z|x), spread of means, distance, rate] of the chosen images."""
    mean = codes.mean[chosen][:, active]
    variance = np.exp(codes.logvar[chosen][:, active])
    return [
        float(np.sqrt(variance.mean())),
        float(np.sqrt(mean.var(0).mean())),
        float(np.sqrt(np.mean(mean.mean(0) ** 2))),
        float(unit_rates(codes)[chosen].sum(1).mean()),
    ]


def by_digit(codes: Codes, first: int) -> list[list]:
    """Rows of the table: an image, all images of each digit, all images."""
    active = codes.mean.var(0) > ACTIVE
    one = spreads(codes, np.array([first]), active)
    rows = [[f"one {codes.label[first]}", *one]]
    rows += [
        [f"every {digit}", *spreads(codes, codes.label == digit, active)]
        for digit in np.unique(codes.label)
    ]
    rows.append(["all", *spreads(codes, np.full(len(codes.label), True), active)])
    cells = [[name, *(f"{value:.2f}" for value in values)] for name, *values in rows]
    cells[0][2] = ""  # one image has one mean
    return cells


def aggregate(run: Run) -> list[str]:
    """The cells of a run in the table of the aggregate posterior."""
    entry = run.results["evaluation"][0]
    found, probes = entry["latents"], entry["probes"]
    lower, upper = aggregate_bounds(found)
    cells = [f"{found[name]:.2f}" for name in ("mutual_information", "dimension_wise_kl")]
    cells += [f"{lower:.2f} to {upper:.2f}"]
    accuracy = probes["nearest_neighbours"]
    return [*cells, f"{accuracy:.3f}"]


# --- what is drawn


def draw(path: Path, flat: Run, wide: Run, dataset, first: int) -> None:
    figure = Figure(figsize=(13, 9), layout="constrained", dpi=110)
    axes = figure.subplots(2, 3)
    codes, units = flat.codes(dataset, "test"), wide.codes(dataset, "test")
    _one(axes[0, 0], codes, first, dataset)
    _classes(axes[0, 1], codes)
    _density(axes[0, 2], codes)
    order = np.argsort(-unit_rates(units).mean(0))
    _units(axes[1, 0], units, first, order)
    _rates(axes[1, 1], units, order)
    _marginals(axes[1, 2], units, order)
    for axis in axes.ravel():
        axis.title.set_fontsize(10)
    figure.savefig(path)


def _plane(axis, title: str) -> None:
    axis.set(xlim=(-GRID, GRID), ylim=(-GRID, GRID), aspect="equal", title=title)
    axis.spines[["top", "right"]].set_visible(False)


def _prior(axis, **how) -> None:
    """The prior's circles of 1, 2 and 3 standard deviations."""
    for radius in (1, 2, 3):
        axis.add_patch(Ellipse((0, 0), 2 * radius, 2 * radius, fill=False, lw=0.8, **how))


def _ellipse(axis, mean, logvar, radius: float, **how) -> None:
    width, height = 2 * radius * np.exp(0.5 * logvar)
    axis.add_patch(Ellipse(mean, width, height, **how))


def _one(axis, codes: Codes, first: int, dataset) -> None:
    """q(z|x) of one image, and of others of its label."""
    label = codes.label[first]
    _plane(axis, f"q(z|x), 2 sd, of one {label} and of others; 2 units")
    _prior(axis, color="0.6", ls=":")
    zoom = axis.inset_axes((0.02, 0.02, 0.36, 0.36))
    mean, reach = codes.mean[first], 8 * np.exp(0.5 * codes.logvar[first]).max()
    zoom.set(xlim=mean[0] + reach * SIDES, ylim=mean[1] + reach * SIDES, xticks=[], yticks=[])
    axis.indicate_inset_zoom(zoom, edgecolor="0.4")
    chosen = np.flatnonzero(codes.label == label)
    for where, others in ((axis, chosen[:41]), (zoom, chosen)):
        for other in others:
            q = codes.mean[other], codes.logvar[other]
            _ellipse(where, *q, 2, fill=False, color="0.45", lw=0.7)
        for radius in (1, 2):
            q = codes.mean[first], codes.logvar[first]
            _ellipse(where, *q, radius, color="#d6006e", alpha=0.4, lw=0)
    inset = axis.inset_axes((0.02, 0.74, 0.24, 0.24))
    show(inset, dataset.test.take(np.array([first])) / 255.0, 1)
    axis.text(2.2, -2.4, "prior", fontsize=8, color="0.5")


def _classes(axis, codes: Codes) -> None:
    """The means of all test images, coloured by digit."""
    _plane(axis, "means of q(z|x) by digit")
    _prior(axis, color="0.6", ls=":")
    for digit in np.unique(codes.label):
        chosen, colour = codes.mean[codes.label == digit], COLOURS[digit % 10]
        axis.scatter(*chosen.T, s=2, linewidths=0, color=colour, alpha=0.6, label=str(digit))
    axis.legend(
        markerscale=7, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False
    )


def _density(axis, codes: Codes, draws: int = 50) -> None:
    """The density of draws of the aggregate posterior, with the prior's circles."""
    eps = np.random.default_rng(0).normal(size=(draws, *codes.mean.shape))
    z = (codes.mean + np.exp(0.5 * codes.logvar) * eps).reshape(-1, 2)
    side = (-GRID, GRID)
    density, *_ = np.histogram2d(*z.T, bins=144, range=(side, side))
    density /= len(z) * (2 * GRID / 144) ** 2
    extent = (*side, *side)
    how = {"cmap": "Blues", "vmin": 0, "vmax": np.quantile(density, 0.995)}
    shown = axis.imshow(density.T, origin="lower", extent=extent, **how)
    _plane(axis, "density of the aggregate posterior q(z); circles: the prior")
    _prior(axis, color="#d62728", ls="-")
    axis.figure.colorbar(shown, ax=axis, shrink=0.7)


def _units(axis, codes: Codes, first: int, order: np.ndarray) -> None:
    """Mean and standard deviation of q(z|x) of one image by unit."""
    at = np.arange(len(order))
    mean, spread = codes.mean[first, order], np.exp(0.5 * codes.logvar[first, order])
    axis.axhspan(-1, 1, color="0.92", label="prior, mean +- 1 sd")
    axis.errorbar(at, mean, spread, fmt="o", ms=3, lw=1.2, color="#d6006e", label="q(z|x)")
    axis.set(
        title=f"q(z|x) of the same {codes.label[first]}, {len(order)} units", xlabel="unit, by rate"
    )
    axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def _rates(axis, codes: Codes, order: np.ndarray) -> None:
    """The mean rate of each digit by unit."""
    digits, rates = np.unique(codes.label), unit_rates(codes)[:, order]
    shown = axis.imshow(
        [rates[codes.label == digit].mean(0) for digit in digits], aspect="auto", cmap="magma_r"
    )
    axis.set_yticks(range(len(digits)), digits)
    axis.set(title="rate of each unit, nats, by digit", xlabel="unit, by rate", ylabel="digit")
    axis.figure.colorbar(shown, ax=axis, shrink=0.7)


def _marginals(axis, codes: Codes, order: np.ndarray) -> None:
    """The aggregate posterior of three units against the prior."""
    z = np.linspace(-4, 4, 200)
    normal = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    axis.plot(z, normal, color="#d62728", lw=3, alpha=0.4, label="prior")
    rates = unit_rates(codes).mean(0)
    num_active = int(np.sum(codes.mean.var(0) > ACTIVE))
    for place in (0, num_active // 2, min(num_active, len(order) - 1)):
        unit = order[place]
        mean, spread = codes.mean[:, unit, None], np.exp(0.5 * codes.logvar[:, unit, None])
        density = np.mean(np.exp(-0.5 * ((z - mean) / spread) ** 2) / spread, 0) / np.sqrt(
            2 * np.pi
        )
        name = f"unit {place}, rate {rates[unit]:.2f}"
        axis.plot(z, density, lw=1.2, label=name)
    axis.set(title="q(z) of single units", xlabel="z", ylim=(0, None))
    axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/mnist", help="of a finished run")
    parser.add_argument("--workdir_2d", default="runs/posteriors_2d")
    parser.add_argument("--epochs", type=float, default=30.0)
    parser.add_argument("--digit", type=int, default=8, help="whose first test image is shown")
    parser.add_argument("--data", default="", help="another dataset; by default MNIST")
    parser.add_argument("--data_dir", default="", help="where prepared TFDS data lies")
    parser.add_argument("--output", default="experiments/posteriors")
    args = parser.parse_args(argv)
    began = time.monotonic()
    flat, wide = trained(args), with_estimates(args.workdir)
    dataset = flat.dataset()
    first = int(np.flatnonzero(dataset.test.labels(slice(None), "") == args.digit)[0])
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    draw(output / "figure.png", flat, wide, dataset, first)
    lines = []
    names = ["test images", "spread of q(z\\|x)", "spread of means", "distance", "rate"]
    for run in (flat, wide):
        title = (
            f"{run.latent_dim} units, {run.results['members'][0]['test']['active_units']} active"
        )
        lines += [title + ":", "", *table(names, by_digit(run.codes(dataset, "test"), first)), ""]
    names = ["units", "I(x; z) of the images", "dimension-wise KL", "KL(q(z) \\|\\| p(z))"]
    cells = [[run.latent_dim, *aggregate(run)] for run in (flat, wide)]
    lines += ["The aggregate posterior of all test images, nats:", ""]
    lines += table([*names, "accuracy of 10 neighbours"], cells)
    write(output / "table.md", began, lines, [flat.results])


if __name__ == "__main__":
    main()
