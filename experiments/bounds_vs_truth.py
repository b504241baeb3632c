"""Which estimate of log p(x) can be believed? Every bound against the truth where it is known, and
then on MNIST.

    python experiments/bounds_vs_truth.py --part=truth
    python experiments/bounds_vs_truth.py --part=mnist --workdir=runs/mnist

`--part=truth`: linear-Gaussian models, whose log p(x) is exact: p(z) = N(0, I), p(x|z) = N(Wz + b,
sigma^2 I) in 50 dimensions. x is simulated, 20 points a model. The encoder is wrong on purpose: the
true posterior with 0.3 added to its means and log-variances. Errors are those of the mean over the
points, in nats:

    ELBO, IWAE-K     from that encoder, over K
    AIS              16 chains x 10 leapfrog steps, over the number of distributions: lower bounds
    BDMC             the same backward from the z that x was simulated with: upper bounds

and a table over four seeds of AIS and BDMC at 1,000 distributions, sigmoid schedule.
`--part=mnist`: the same bounds for 50 test images of a trained run, where nobody knows the truth,
and for 50 simulated ones, where it lies between.

Both write into experiments/bounds_vs_truth/.
"""

import argparse
import shlex
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

import vae_jax
from vae_jax.estimators import bdmc, iwae
from vae_jax.estimators.annealer import BACKWARD, FORWARD, TUNE, Annealer, log_means
from vae_jax.estimators.task import Study
from vae_jax.likelihoods.gaussian import gaussian
from vae_jax.metrics import annealing, importance_bound
from vae_jax.models.generator import generator
from vae_jax.models.vae import vae
from vae_jax.priors.standard_normal import standard_normal
from vae_jax.types import Network
from vae_jax.workdir import record

FOLDER = Path(__file__).with_suffix("")
DIM, POINTS, CHAINS, LEAPFROG, WRONG = 50, 20, 16, 10, 0.3
SAMPLES = (1, 10, 100, 1_000, 10_000, 100_000)
DISTRIBUTIONS = (1, 3, 10, 30, 100, 300, 1_000, 3_000)
LATENTS, SIGMAS = (2, 10, 50), (1.0, 0.3)
SLOW = {(0.3, 50, "prior"): 5_000}  # cases that need more distributions than 1,000
LOWER, UPPER, SAMPLED = "#1f77b4", "#d62728", "#e8710a"


class Linear:
    """A linear-Gaussian model with orthogonal columns of W, so that the true posterior is
    diagonal; and data of it."""

    def __init__(self, sigma: float, latent_dim: int, seed: int):
        rng = np.random.default_rng([seed, latent_dim])
        w = np.linalg.qr(rng.normal(size=(DIM, latent_dim)))[0] * rng.uniform(0.5, 2.0, latent_dim)
        b, variance = rng.normal(size=DIM), 1 / (1 + np.sum(w**2, 0) / sigma**2)
        to_mean, logvar = (
            jnp.float32((w * variance).T / sigma**2),
            jnp.float32(np.log(variance) + WRONG),
        )
        w32, b32 = jnp.float32(w), jnp.float32(b)
        encoder = Network(lambda *_: {}, lambda _p, x: (to_mean @ (x - b32) + WRONG, logvar))
        decoder = Network(lambda *_: {}, lambda _p, z: (w32 @ z + b32)[:, None])
        p_x, prior = generator(decoder, gaussian(sigma, False), (DIM,)), standard_normal(latent_dim)
        self.model = vae(encoder, p_x, lambda _encode: prior, latent_dim)
        self.hypers = {"latent_dim": jnp.int32(latent_dim)}
        self.params = self.model.init(jax.random.key(0), self.hypers)
        z = rng.normal(size=(POINTS, latent_dim))
        x = z @ w.T + b + sigma * rng.normal(size=(POINTS, DIM))
        self.z, self.x = jnp.float32(z), jnp.float32(x)
        self.truth = scipy.stats.multivariate_normal(b, w @ w.T + sigma**2 * np.eye(DIM)).logpdf(
            np.asarray(self.x)
        )

    def sampled(self, num: int, seed: int = 0) -> np.ndarray:
        """The errors of IWAE-`num` [POINTS]."""
        per_step = min(num, 1000)
        args = jax.random.key(seed), jnp.arange(POINTS), self.hypers, num, per_step
        return (
            np.asarray(importance_bound.bound(self.model, self.params, self.x, *args).log_p)
            - self.truth
        )

    def annealed(
        self, initial: str, num: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The errors of AIS, of BDMC's upper bound, and of AIS by the pass that still tunes,
        [POINTS] each."""
        rungs = annealing.ladder("sigmoid", num)

        def chain(x, z, key, step_sizes, backward):
            path = annealing.INITIAL[initial](self.model, self.params, x, self.hypers)
            draw, transitions = jax.random.split(key)
            start = annealing.starting(z if backward else path.draw(draw), 0.1)
            return annealing.anneal(path, start, rungs, transitions, LEAPFROG, step_sizes, backward)

        @partial(jax.jit, static_argnames="backward")
        def chains(key, step_sizes, backward=False):
            axes = None if step_sizes is None else 0
            of_point = jax.vmap(partial(chain, backward=backward), (None, None, 0, axes))
            keys = jax.random.split(key, (POINTS, CHAINS))
            found, trace = jax.vmap(of_point, (0, 0, 0, axes))(self.x, self.z, keys, step_sizes)
            return found.log_w, trace.step_size

        tune, forward, backward = jax.random.split(jax.random.key(seed), 3)
        tuning, sizes = chains(tune, None)
        lower, upper = chains(forward, sizes)[0], chains(backward, sizes, backward=True)[0]

        def of(log_w):
            return log_means(np.asarray(log_w))[0]

        return of(lower) - self.truth, -of(-upper) - self.truth, of(tuning) - self.truth


def table(seeds: int) -> list[str]:
    """AIS and BDMC of every case over seeds of models, data and noise."""
    lines = [
        "| sigma | latent | from | distributions | AIS error | BDMC width | AIS while tuning | s "
        "a case |"
    ]
    lines += ["|--:|--:|:--|--:|--:|--:|--:|--:|"]
    for sigma in SIGMAS:
        for latent_dim in LATENTS:
            for initial in annealing.INITIAL:
                num, errors, began = (
                    SLOW.get((sigma, latent_dim, initial), 1_000),
                    [],
                    time.monotonic(),
                )
                for seed in range(seeds):
                    errors.append(Linear(sigma, latent_dim, seed).annealed(initial, num, seed))
                seconds = (time.monotonic() - began) / seeds
                lower, upper, tuning = np.swapaxes(errors, 0, 1).reshape(3, -1)
                shown = " | ".join(
                    mean_and_error(values) for values in (lower, upper - lower, tuning)
                )
                lines.append(
                    f"| {sigma:g} | {latent_dim} | {initial} | {num:,} | {shown} | {seconds:.1f} |"
                )
                print(lines[-1], flush=True)
    return lines


def mean_and_error(values: np.ndarray) -> str:
    return f"{values.mean():+.3f} +- {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def truth_figure(path: Path) -> None:
    """Errors over K, and over the number of distributions, a column for each latent dimension."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), layout="constrained", dpi=120)
    axes = figure.subplots(2, len(LATENTS), sharey="row", sharex="row")
    for column, latent_dim in zip(axes.T, LATENTS, strict=True):
        for sigma, style in zip(SIGMAS, ("-", "--"), strict=True):
            linear = Linear(sigma, latent_dim, 0)
            sampled = [linear.sampled(num).mean() for num in SAMPLES]
            column[0].plot(
                SAMPLES, sampled, f"o{style}", color=SAMPLED, ms=4, label=f"IWAE, sigma {sigma:g}"
            )
            for initial, shade in (("prior", 0.45), ("encoder", 1.0)):
                found = [linear.annealed(initial, num, 0) for num in DISTRIBUTIONS]
                for i, colour, name in ((0, LOWER, "AIS"), (1, UPPER, "BDMC, upper")):
                    label = f"{name}, from the {initial}" if style == "-" else None
                    errors = [errors[i].mean() for errors in found]
                    column[1].plot(
                        DISTRIBUTIONS, errors, style, color=colour, alpha=shade, label=label
                    )
            print(f"drawn: sigma {sigma:g}, latent {latent_dim}", flush=True)
        column[0].set(title=f"{latent_dim} latent units", xlabel="K; K = 1 is the ELBO")
        column[1].set(xlabel="distributions; solid: sigma 1, dashed: 0.3")
    finish(axes, "error, nats")
    figure.savefig(path)


def finish(axes, name: str) -> None:
    for axis in axes.ravel():
        axis.set_xscale("log")
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
    for row in axes:
        row[0].set_ylabel(name)
        row[-1].legend(fontsize=7, frameon=False)
    if name == "error, nats":
        for axis in axes.ravel():
            axis.axhline(0, color="0.2", lw=0.8)
            axis.set_yscale("symlog", linthresh=0.1)


def truth_part(args) -> None:
    lines = [f"    {command()}", ""]
    lines += [
        "Errors of the mean over 20 simulated points, nats, +- over all points and seeds; BDMC "
        "width: upper - lower"
    ]
    (FOLDER / "truth.md").write_text("\n".join([*lines, "", *table(args.seeds)]) + "\n")
    truth_figure(FOLDER / "truth.png")


def command() -> str:
    return shlex.join(["python", "experiments/bounds_vs_truth.py", *sys.argv[1:]])


def mnist_part(args) -> None:
    from matplotlib.figure import Figure

    run = vae_jax.load(args.workdir)
    dataset = record.load_dataset(run.config, run.workdir)
    settings = run.config.unlock().eval
    positions = np.sort(np.random.default_rng(0).permutation(dataset.test.num)[: args.images])
    study = Study(run, dataset, positions, lambda: None)
    keys = jax.random.split(jax.random.key(1), args.images)
    z, simulated = bdmc.simulate(run.model, run.params, run.hypers, keys)
    sets = {"test images": (study.test_examples(), None), "simulated images": (simulated, z)}
    figure = Figure(figsize=(10, 4.4), layout="constrained", dpi=120)
    axes = figure.subplots(1, 2)
    lines = [f"    {command()}"]
    for axis, (name, (x, z)) in zip(axes, sets.items(), strict=True):
        found = iwae.bounds(study, x, jax.random.key(2), positions, SAMPLES)["log_p"].mean(0)
        axis.plot(SAMPLES, found, "o-", color=SAMPLED, ms=4, label="IWAE-K, over K")
        lines += [
            f"{name}: IWAE "
            + ", ".join(f"{k:,}: {v:.2f}" for k, v in zip(SAMPLES, found, strict=True))
        ]
        for initial, shade in (("prior", 0.45), ("encoder", 1.0)):
            lower, upper = [], []
            for num in args.distributions:
                settings.ais_distributions = num
                annealer = Annealer(study, bdmc.ESTIMATOR, initial)
                _, tuned = annealer.anneal(x, positions, TUNE)
                log_w, _ = annealer.anneal(x, positions, FORWARD, tuned.step_size)
                lower.append(log_means(log_w)[0].mean())
                if z is not None:
                    log_w, _ = annealer.anneal(x, positions, BACKWARD, tuned.step_size, z)
                    upper.append(-log_means(-log_w)[0].mean())
                print(name, initial, num, lower[-1], upper[-1:], flush=True)
            for values, colour, kind in ((lower, LOWER, "AIS"), (upper, UPPER, "BDMC, upper")):
                if values:
                    label = f"{kind}, from the {initial}, over distributions"
                    axis.plot(
                        args.distributions,
                        values,
                        "s-",
                        ms=3,
                        color=colour,
                        alpha=shade,
                        label=label,
                    )
                    shown = ", ".join(
                        f"{n:,}: {v:.2f}" for n, v in zip(args.distributions, values, strict=True)
                    )
                    lines += [f"{name}: {kind} from the {initial} {shown}"]
        axis.set(
            title=name, xscale="log", xlabel="K, or distributions", ylabel="mean log p(x), nats"
        )
        axis.grid(color="0.92")
        axis.legend(fontsize=7, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
        best = max(lower)
        axis.set_ylim(best - 25, best + (8 if z is not None else 3))
    figure.savefig(FOLDER / "mnist.png")
    (FOLDER / "mnist.md").write_text("\n\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("truth", "mnist"), default="truth")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument(
        "--workdir", default="runs/mnist", help="of a finished run of configs/mnist.py"
    )
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--distributions", type=int, nargs="+", default=[10, 30, 100, 300, 1000])
    args = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    {"truth": truth_part, "mnist": mnist_part}[args.part](args)


if __name__ == "__main__":
    main()
