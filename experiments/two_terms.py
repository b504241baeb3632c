"""What do the two terms of the ELBO do? MNIST over beta, from 0 to where the code is empty.

    python experiments/two_terms.py

The objective is distortion + beta * rate, where beta rises from 0 in the first epochs: without that
(--warmup=0) codes are empty at smaller beta already. One program trains a VAE for each beta. Three
divergences are easily confused; each is measured on test images, in nats:

    KL(q(z|x) || p(z))      the rate, the second term of the objective. It is 0 if and only if
                            q(z|x) is the prior; then the code says nothing of x. (The converse is
                            false: q(z|x) might be the same for every x, and not the prior.)
    KL(q(z|x) || p(z|x))    the gap, log p(x) - ELBO, which is 0 if and only if q(z|x) is the true
                            posterior. log p(x) is estimated by annealed importance sampling, a
                            lower bound, so the gap is one, too. Objectives with beta other than 1
                            ask for another q, in proportion to p(z) p(x|z)^(1/beta): for a gap.
    KL(q(z) || p(z))        of the aggregate posterior, the mean of all q(z|x): how far the codes of
                            all images together are from the prior. Of 10,000 images there are two
                            bounds, far apart where the code tells more than 10,000 images
                            (metrics/aggregate_posterior.py).

Where the decoder ignores z, p(z|x) is p(z): then q(z|x) = p(z) makes all three 0.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np
from drawing import show, table, write
from matplotlib import colormaps
from matplotlib.figure import Figure

import vae_jax
from vae_jax.run import Run

SHOWN = 12  # images in a row


def make_config(args):
    config = vae_jax.default()
    config.data.data_dir = args.data_dir
    if args.data:
        config.data.name, config.data.num_valid, config.data.num_test = args.data, 200, 300
    config.hypers.latent_dim = args.units
    config.hypers.beta_warmup_epochs = args.warmup
    config.train.num_epochs = args.epochs
    config.sweep.beta = tuple(args.betas)
    config.eval.all_members = True
    config.eval.nll_samples = args.samples
    config.eval.estimators = ("ais", "gaps", "latents")
    config.eval.bounds_examples = args.examples
    config.eval.ais_distributions = args.distributions
    config.eval.ais_chains, config.eval.gap_steps = 8, 500
    return config


def measured(run: Run) -> list[dict]:
    """For each beta its numbers on test images, nats."""
    estimates = {entry["member"]: entry for entry in run.results["evaluation"]}
    rows = []
    for member in run.results["members"]:
        test, found = member["test"], estimates[member["member"]]
        gaps, latents = found["gaps"], found["latents"]
        rows.append(
            {
                "beta": member["hypers"]["beta"],
                "distortion": test["distortion"],
                "rate": test["rate"],
                "nll": test["nll"],
                "active": test["active_units"],
                "gap": gaps["log_p"] - gaps["elbo"],
                "family": gaps["approximation"],
                "encoder": gaps["amortization"],
                "aggregate": aggregate_bounds(latents),
                "log_p": gaps["log_p"],
                "errors": (gaps["approximation_stderr"], gaps["amortization_stderr"]),
            }
        )
    return rows


def aggregate_bounds(latents: dict) -> tuple[float, float]:
    """The bounds on KL(q(z) || p(z)) of the population, nats; that of all units is at least the
    sum of the single ones."""
    lower = max(latents["aggregate_kl_lower"], latents["dimension_wise_kl_lower"], 0.0)
    return lower, max(latents["aggregate_kl"], lower)


def histories(workdir: Path) -> dict[int, dict[str, np.ndarray]]:
    """The training rows of each member: epoch, distortion and rate."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "train"]
    members = sorted({row["member"] for row in rows})
    return {
        member: {
            name: np.array([row[name] for row in rows if row["member"] == member])
            for name in ("epoch", "distortion", "rate")
        }
        for member in members
    }


def draw(path: Path, runs: list[Run], rows: list[dict]) -> None:
    figure = Figure(figsize=(13, 5.2 + 0.62 * len(runs)), layout="constrained", dpi=110)
    upper, lower = figure.subfigures(2, 1, height_ratios=(4.4, 0.6 + 0.62 * len(runs)))
    colours = colormaps["viridis"](np.linspace(0.0, 0.92, len(runs)))
    axes = upper.subplots(1, 4)
    curves = histories(runs[0].workdir).values()
    for i, (colour, row, history) in enumerate(zip(colours, rows, curves, strict=True)):
        label = f"{row['beta']:g}"
        axes[0].plot(history["epoch"], history["distortion"], color=colour, label=label)
        axes[1].plot(history["epoch"], history["rate"], color=colour)
        axes[2].scatter(row["rate"], row["distortion"], color=colour, zorder=3)
        axes[2].annotate(
            label,
            (row["rate"], row["distortion"]),
            xytext=(4, 5) if i % 2 else (-4, -12),  # neighbours on either side of the line
            textcoords="offset points",
            fontsize=8,
        )
    rises = f"beta rises for {runs[0].config.hypers.beta_warmup_epochs:g} epochs"
    axes[0].set(title=f"distortion in training; {rises}", ylim=(0, 220))
    axes[1].set(title="rate in training", yscale="symlog")
    axes[0].legend(title="beta", fontsize=8, frameon=False, ncols=2, title_fontsize=8)
    for axis in axes[:2]:
        axis.set_xlabel("epoch")
    _plane(axes[2], rows)
    _divergences(axes[3], rows)
    for axis in axes:
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(10)
    _images(lower, runs, rows)
    figure.savefig(path)


def _plane(axis, rows: list[dict]) -> None:
    """Rate and distortion of test images, and the line of the best ELBO."""
    best = min(row["rate"] + row["distortion"] for row in rows)
    reach = np.linspace(0, best, 50)
    axis.plot(reach, best - reach, ":", color="0.4", lw=1)
    points = sorted((row["rate"], row["distortion"]) for row in rows)
    axis.plot(*zip(*points, strict=True), color="0.7", lw=1)
    axis.set(title="the trade, on test images", xlabel="rate, nats", ylabel="distortion, nats")
    axis.set_xscale("symlog")
    axis.set_ylim(0, 1.08 * max(row["distortion"] for row in rows))
    axis.annotate(
        f"rate + distortion = {best:.1f}",
        (1, 0.03),
        xycoords="axes fraction",
        ha="right",
        fontsize=8,
        color="0.4",
    )


def _divergences(axis, rows: list[dict]) -> None:
    betas = [f"{row['beta']:g}" for row in rows]
    names = {"rate": ("KL(q(z|x) || p(z))", "#1f77b4"), "gap": ("KL(q(z|x) || p(z|x))", "#d62728")}
    for name, (label, colour) in names.items():
        axis.plot(betas, [max(row[name], 0) for row in rows], "o-", ms=4, color=colour, label=label)
    lower, upper = np.array([row["aggregate"] for row in rows]).T
    label = "KL(q(z) || p(z)), bounds"
    axis.fill_between(betas, lower, upper, color="#2ca02c", alpha=0.25, label=label)
    axis.set(title="three divergences", xlabel="beta", ylabel="nats")
    axis.set_yscale("symlog", linthresh=0.1)
    axis.legend(fontsize=8, frameon=False)


def _images(figure, runs: list[Run], rows: list[dict]) -> None:
    dataset = runs[0].dataset()
    x = runs[0].as_evaluated(dataset, "test", np.arange(SHOWN)).x
    x = np.asarray(x).reshape(SHOWN, *runs[0].example_shape)
    axes = figure.subplots(len(runs) + 1, 2)
    show(axes[0, 0], x, SHOWN, "test images, binarized; below, their reconstructions", 10)
    axes[0, 1].set_axis_off()
    axes[0, 1].set_title("decoded draws from the prior", fontsize=10, y=-0.5)
    for (left, right), run, row in zip(axes[1:], runs, rows, strict=True):
        show(left, run.reconstruct(jax.random.key(1), x), SHOWN)
        show(right, run.sample(jax.random.key(2), SHOWN), SHOWN)
        label = f"beta {row['beta']:g}"
        left.text(-0.02, 0.5, label, transform=left.transAxes, ha="right", va="center", fontsize=9)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    betas = [0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
    parser.add_argument("--betas", type=float, nargs="+", default=betas)
    parser.add_argument("--units", type=int, default=20)
    parser.add_argument("--epochs", type=float, default=15.0)
    parser.add_argument(
        "--warmup", type=float, default=5.0, help="epochs in which beta rises from 0"
    )
    parser.add_argument("--samples", type=int, default=100, help="importance samples of the NLL")
    parser.add_argument("--examples", type=int, default=50, help="test images of AIS")
    parser.add_argument("--distributions", type=int, default=200, help="of AIS")
    parser.add_argument("--data", default="", help="another dataset; by default MNIST")
    parser.add_argument("--data_dir", default="", help="where prepared TFDS data lies")
    parser.add_argument("--workdir", default="runs/two_terms")
    parser.add_argument("--output", default="experiments/two_terms")
    args = parser.parse_args(argv)
    began = time.monotonic()
    best = vae_jax.train(make_config(args), args.workdir)
    runs = [vae_jax.load(args.workdir, member=i) for i in range(len(args.betas))]
    rows = measured(best)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    draw(output / "figure.png", runs, rows)
    names = ["beta", "distortion", "rate, KL(q(z\\|x) \\|\\| p(z))", "NLL", "active units"]
    names += [f"log p(x) by AIS, {args.examples} images", "gap, KL(q(z\\|x) \\|\\| p(z\\|x))"]
    names += ["of it, to the best Gaussian", "of it, from that to q(z\\|x)", "KL(q(z) \\|\\| p(z))"]
    lines = table(names, [_cells(row) for row in rows])
    write(output / "table.md", began, lines, [best.results])


def _cells(row: dict) -> list[str]:
    numbers = [f"{row[name]:.2f}" for name in ("distortion", "rate", "nll")]
    bounds = [f"{row[name]:.2f}" for name in ("log_p", "gap")]
    parts = zip((row["family"], row["encoder"]), row["errors"], strict=True)
    gaps = [f"{value:.2f} +- {error:.2f}" for value, error in parts]
    lower, upper = (f"{value:.2f}" for value in row["aggregate"])
    aggregate = lower if lower == upper else f"{lower} to {upper}"
    return [f"{row['beta']:g}", *numbers, str(row["active"]), *bounds, *gaps, aggregate]


if __name__ == "__main__":
    main()
