"""Why is sampling not differentiable, and what does the reparameterization trick give?

    python experiments/reparameterization.py

Three parts, each with the package's own functions:

    the sample      z ~ N(mean, exp(logvar)) at mean and at mean + h. Drawn anew, (z' - z) / h grows
                    like 1 / h; with epsilon fixed it converges to the derivative. In float64.
    the gradient    of the negative ELBO with respect to the encoder, by three estimators: of a
                    quadratic, whose gradient is exact, over its dimension; and of a VAE that has
                    been trained for one epoch, and for all
    the training    of the same network with each of the three, at the best of some learning rates
                    by the ELBO of the validation set

The estimators differ in one term alone, the gradient of E_q[f(z)] with respect to the parameters
phi of q(z|x), for f(z) = -log p(x|z). The KL is in closed form in all of them.

    pathwise        d f(mean + sigma eps) / d phi
    score           f(z) d log q(z|x) / d phi, the score function (REINFORCE)
    score_loo       the same with f(z) less the mean of f at the other draws of the same image

"""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from drawing import table, write
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure

import vae_jax
from vae_jax import data, distributions
from vae_jax.errors import UserError
from vae_jax.likelihoods.gaussian import gaussian
from vae_jax.models.draws import batch_size, total
from vae_jax.models.generator import generator
from vae_jax.models.vae import vae
from vae_jax.objectives import make_loss_fn
from vae_jax.objectives.elbo import BETA, no_networks, terms
from vae_jax.priors.standard_normal import standard_normal
from vae_jax.types import Draw, Field, Network, Objective, Part

GRADIENTS = ("pathwise", "score_loo", "score")
NAMES = {
    "pathwise": "pathwise",
    "score_loo": "score function, leave-one-out",
    "score": "score function",
}
COLOURS = {"pathwise": "#1f77b4", "score_loo": "#e8710a", "score": "#d62728"}
STEPS = 10.0 ** -np.arange(0, 9)  # h
DIMENSIONS = (1, 3, 10, 30, 100, 300, 1000)
DIRECTIONS = 64
SAMPLES = (2, 10)  # draws of z of each image


# The objective.


def without_others(value: jax.Array) -> jax.Array:
    """Each value [B, K] less the mean of the K - 1 others of its example."""
    num = value.shape[1]
    return (value - jnp.mean(value, axis=1, keepdims=True)) * num / (num - 1)


def estimated_distortion(draw: Draw, gradient: str) -> jax.Array:
    """The distortion [], whose gradient is that of the estimator.

    Args:
      draw: [B, K], for a score function those whose path through z is closed.
    """
    if gradient == "pathwise":
        return jnp.mean(draw.distortion)
    # log q(z|x) - log p(z), of which p(z) has no parameters: its gradient is the score of q.
    log_q = -(draw.log_w + draw.distortion)
    score = log_q - jax.lax.stop_gradient(log_q)  # its value is 0
    weight = draw.distortion if gradient == "score" else without_others(draw.distortion)
    return jnp.mean(draw.distortion + jax.lax.stop_gradient(weight) * score)


def make_objective(gradient: str, num_samples: int) -> Objective:
    """The negative ELBO with a gradient estimator for the distortion, for a prior N(0, I)."""

    def loss(params, draws, x, _rng, hypers):
        if gradient == "pathwise":
            draw = draws(params)
        else:
            closed = jnp.zeros((batch_size(x), num_samples))
            draw = draws(params, path_weight=closed, score=True)
        rate = jnp.mean(total(draw.rate, batch_axes=2))
        return estimated_distortion(draw, gradient) + hypers["beta"] * rate, terms(draw)

    return Objective(no_networks, loss)


PART = Part(
    "objective",
    "elbo_gradient",
    lambda section, _z_like: make_objective(section.estimator, section.num_samples),
    "the negative ELBO, by a chosen estimator of the encoder's gradient",
    fields={"estimator": Field("pathwise", "estimator of the gradient", choices=GRADIENTS)},
    hypers={"beta": BETA},
    needs=("a rate",),
)


# The sample.


def quotients(num: int) -> dict[str, np.ndarray]:
    """Mean distance of (z' - z) / h from the derivative of z, over h, {what: [len(STEPS)]}.

    The derivatives are JAX's own, of the package's `distributions.sample`, in float64.
    """
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        eps, anew = jax.random.normal(jax.random.key(0), (2, num))
        mean, logvar = jnp.full(num, 0.3), jnp.full(num, -0.5)

        def z(mean, logvar, eps):
            return distributions.sample(distributions.Gaussian(mean, logvar), eps)

        def slope(argument: int):
            one = jax.grad(z, argument)
            return jax.vmap(one)(mean, logvar, eps)

        start, found = z(mean, logvar, eps), {}
        cases = {
            "drawn anew, in the mean": (lambda h: z(mean + h, logvar, anew), 0),
            "epsilon fixed, in the mean": (lambda h: z(mean + h, logvar, eps), 0),
            "epsilon fixed, in log sigma²": (lambda h: z(mean, logvar + h, eps), 1),
        }
        for name, (moved, argument) in cases.items():
            errors = [(moved(h) - start) / h - slope(argument) for h in STEPS]
            found[name] = np.mean(np.abs(np.asarray(errors)), axis=1)
        return found
    finally:
        jax.config.update("jax_enable_x64", before)


# The gradient.


class Gradients(NamedTuple):
    """Of many gradients with respect to the P parameters of the encoder."""

    mean: np.ndarray  # [P]
    variance: float  # the sum over parameters
    along: np.ndarray  # [R, V]: each of R gradients along V directions

    def noise(self, true: np.ndarray) -> float:
        """The standard deviation of a gradient over the length of the true one."""
        return float(np.sqrt(self.variance) / np.linalg.norm(true))


def gradients(model, params, hypers, x, gradient, keys, samples=2, directions=None) -> Gradients:
    """Gradients of the loss of a batch x [B, ...], one for each of `keys` [R]."""
    loss_fn = make_loss_fn(
        model, make_objective(gradient, samples), hypers | {"beta": 1.0}, samples
    )
    flat, unravel = ravel_pytree(params["encoder"])
    directions = jnp.zeros((1, flat.size)) if directions is None else directions

    def loss(flat, key):
        return loss_fn(params | {"encoder": unravel(flat)}, x, key)[0]

    @jax.jit
    def moments(keys, directions):
        def add(carry, key):  # Welford's sums of a mean and of squared deviations
            num, mean, squares = carry
            found = jax.grad(loss)(flat, key)
            difference = found - mean
            mean = mean + difference / (num + 1)
            squares = squares + difference * (found - mean)
            return (num + 1, mean, squares), directions @ found

        start = jnp.zeros(()), jnp.zeros_like(flat), jnp.zeros_like(flat)
        (num, mean, squares), along = jax.lax.scan(add, start, keys)
        return mean, jnp.sum(squares) / (num - 1), along

    mean, variance, along = moments(keys, directions)
    return Gradients(np.asarray(mean), float(variance), np.asarray(along))


class Quadratic(NamedTuple):
    """q(z) = N(0, 1/4 I) and p(x|z) = N(z, I) at x = 1 in D dimensions: f(z) is a quadratic."""

    dim: int

    @property
    def model(self):
        encoder = Network(lambda *_: {}, lambda p, _x: (p["mean"], p["logvar"]))
        decoder = Network(lambda *_: {}, lambda _p, z: z[:, None])
        p_x = generator(decoder, gaussian(1.0, False), (self.dim,))
        return vae(encoder, p_x, lambda _encode: standard_normal(self.dim), self.dim)

    @property
    def params(self):
        start = self.model.init(jax.random.key(0), self.hypers)
        logvar = jnp.full(self.dim, jnp.log(0.25))
        return start | {"encoder": {"mean": jnp.zeros(self.dim), "logvar": logvar}}

    @property
    def hypers(self):
        return {"latent_dim": jnp.int32(self.dim)}

    @property
    def x(self):
        return jnp.ones((1, self.dim))

    def exact(self) -> np.ndarray:
        """The gradient of E_q[f(z)] + KL, in the order of `ravel_pytree`: logvar, mean."""
        variance = 0.25
        of_logvar = 0.5 * variance + 0.5 * (variance - 1)
        of_mean = (0.0 - 1.0) + 0.0
        return np.repeat([of_logvar, of_mean], self.dim)

    def found(self, gradient: str, num: int, samples: int = 2, directions=None) -> Gradients:
        """`num` gradients of an estimator."""
        keys = jax.random.split(jax.random.key(1), num)
        args = self.model, self.params, self.hypers, self.x, gradient, keys
        return gradients(*args, samples, directions)


def of_run(run, x, num: int, samples: tuple[int, ...]) -> dict:
    """{(estimator, K): (noise, mean and its error along the gradient, largest t)} of a run."""
    args = run.model, run.params, run.hypers, x
    keys = jax.random.split(jax.random.key(2), 1 + len(GRADIENTS) * len(samples))
    reference = gradients(*args, "pathwise", jax.random.split(keys[0], num), max(samples)).mean
    size = reference.size
    directions = np.random.default_rng(0).normal(size=(DIRECTIONS, size)) / np.sqrt(size)
    directions = np.concatenate([[reference / np.linalg.norm(reference)], directions])
    all_found, rows = {}, {}
    cases = [(gradient, k) for k in samples for gradient in GRADIENTS]
    for key, (gradient, k) in zip(keys[1:], cases, strict=True):
        key_of_each = jax.random.split(key, num)
        directed = jnp.float32(directions)
        found = gradients(*args, gradient, key_of_each, k, directed)
        all_found[gradient, k] = found
        along, error = mean_and_error(found.along[:, 0])
        largest = largest_t(found.along[:, 1:], all_found["pathwise", k].along[:, 1:])
        rows[gradient, k] = found.noise(reference), along, error, largest
        print(f"{gradient}, K = {k}: {rows[gradient, k]}", flush=True)
    return rows


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def largest_t(one: np.ndarray, other: np.ndarray) -> float:
    """The largest |t| of Welch's test over directions, of gradients [R, V]."""
    error = one.var(0, ddof=1) / len(one) + other.var(0, ddof=1) / len(other)
    return float(np.max(np.abs(one.mean(0) - other.mean(0)) / np.sqrt(np.maximum(error, 1e-30))))


# The training.


def make_config(args):
    config = vae_jax.default(parts=(PART,))
    config.data.name, config.data.data_dir = args.data, args.data_dir
    config.data.num_valid = args.num_valid
    config.network.hidden, config.hypers.latent_dim = (args.hidden,), args.latent_dim
    config.objective.name, config.objective.num_samples = "elbo_gradient", 2
    config.hypers.clip_norm = 1e9  # clipping would make the gradients biased
    config.hypers.beta_warmup_epochs = 0.0
    config.train.num_epochs = args.epochs
    config.eval.every_epochs = min(args.every_epochs, args.epochs)
    config.eval.nll_samples = 10
    config.checkpoint.every_epochs = args.epochs
    return config


def train_all(args):
    """A run for each estimator and learning rate, in one workdir."""
    config = make_config(args)
    config.sweep.objective_estimator = GRADIENTS
    config.sweep.learning_rate = tuple(args.learning_rates)
    return vae_jax.train(config, Path(args.workdir, "all"), parts=(PART,))


def train_briefly(args, learning_rate: float):
    """The first epoch of the pathwise training."""
    config = make_config(args)
    config.hypers.learning_rate = learning_rate
    config.train.schedule_epochs = args.epochs
    config.train.num_epochs = config.eval.every_epochs = min(1.0, args.epochs)
    return vae_jax.train(config, Path(args.workdir, "one_epoch"), parts=(PART,))


class Curve(NamedTuple):
    """A member's ELBO of the validation set, and how it ended."""

    learning_rate: float
    member: int
    epoch: np.ndarray
    elbo: np.ndarray
    test: float

    @property
    def reached(self) -> float:
        return float(self.elbo[-1]) if len(self.elbo) else -np.inf


def curves(workdir: Path, members: list[dict]) -> dict[str, list[Curve]]:
    """{estimator: the curve of each learning rate}."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["split"] == "valid"]
    found: dict[str, list[Curve]] = {gradient: [] for gradient in GRADIENTS}
    for entry in members:
        mine = [row for row in rows if row["member"] == entry["member"]]
        curve = Curve(
            entry["swept"]["hypers.learning_rate"],
            entry["member"],
            np.array([row["epoch"] for row in mine]),
            np.array([row["elbo"] if row["elbo"] is not None else -np.inf for row in mine]),
            entry["test"]["elbo"],
        )
        found[entry["swept"]["objective.estimator"]].append(curve)
    return found


def first_epoch(curve: Curve, elbo: float) -> float:
    """When a curve first reaches an ELBO; inf where it does not."""
    there = curve.epoch[curve.elbo >= elbo]
    return float(there[0]) if len(there) else np.inf


# The figure and the table.


def plain(axis, **names) -> None:
    axis.set(**names)
    axis.grid(color="0.92")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)


def draw_quotients(axis, errors: dict[str, np.ndarray]) -> None:
    for (name, values), colour in zip(
        errors.items(), ("#d62728", "#1f77b4", "#2ca02c"), strict=True
    ):
        axis.loglog(STEPS, values, "o-", ms=3, color=colour, label=name)
    axis.invert_xaxis()
    names = {"xlabel": "h, smaller to the right", "ylabel": "|(z' - z) / h - derivative|, mean"}
    plain(axis, title="The sample has a derivative once epsilon is fixed", **names)


def draw_quadratic(axis, noise: dict[str, list[float]]) -> None:
    for gradient, values in noise.items():
        label = NAMES[gradient]
        axis.loglog(DIMENSIONS, values, "o-", ms=3, color=COLOURS[gradient], label=label)
    names = {"xlabel": "latent units", "ylabel": "standard deviation / length"}
    plain(axis, title="Noise of the gradient of a quadratic, K = 2", **names)


def draw_noise(axis, found: dict[str, dict]) -> None:
    """Bars of noise, for each state of training and K."""
    groups = [(when, k) for when in found for k in SAMPLES]
    places = np.arange(len(groups))
    for i, gradient in enumerate(GRADIENTS):
        heights = [found[when][gradient, k][0] for when, k in groups]
        where = places + 0.27 * (i - 1)
        bars = axis.bar(where, heights, 0.25, color=COLOURS[gradient], label=NAMES[gradient])
        axis.bar_label(bars, [f"{height:.3g}" for height in heights], fontsize=8)
    axis.set_yscale("log")
    axis.set_ylim(top=axis.get_ylim()[1] * 12)
    axis.set_xticks(places, [f"{when}\nK = {k}" for when, k in groups])
    plain(axis, title="Noise of the gradient of the ELBO", ylabel="standard deviation / length")


def draw_curves(axis, best: dict[str, Curve]) -> None:
    for gradient, curve in best.items():
        label = f"{NAMES[gradient]}, learning rate {curve.learning_rate:g}"
        axis.plot(curve.epoch, curve.elbo, color=COLOURS[gradient], label=label)
    names = {"xlabel": "epoch", "ylabel": "ELBO of the validation set, nats"}
    plain(axis, title="Training with each, K = 2", **names)
    axis.legend(fontsize=8, frameon=False, loc="lower right")


def quotient_table(errors: dict[str, np.ndarray]) -> list[str]:
    shown = range(0, len(STEPS), 2)
    names = ["mean distance from the derivative", *(f"h = {STEPS[i]:.0e}" for i in shown)]
    return table(names, [[name, *(f"{v[i]:.1e}" for i in shown)] for name, v in errors.items()])


def quadratic_table(noise: dict[str, list[float]], off: dict[str, float]) -> list[str]:
    names = ["noise over the latent units", *DIMENSIONS, "from the exact gradient, standard errors"]
    return table(names, [[NAMES[g], *map(short, noise[g]), f"{off[g]:.2f}"] for g in GRADIENTS])


def noise_table(found: dict[str, dict]) -> list[str]:
    rows = []
    for when, cases in found.items():
        for (gradient, k), (noise, along, error, largest) in cases.items():
            ratio = (noise / cases["pathwise", k][0]) ** 2
            t = "" if gradient == "pathwise" else f"{largest:.2f}"
            mean = f"{along:.2f} +- {error:.2f}"
            rows.append([when, k, NAMES[gradient], f"{noise:.3g}", f"{ratio:,.1f}", mean, t])
    ratio = "variance, of the pathwise one's"
    return table(["at", "K", "estimator", "noise", ratio, "along the gradient", "largest t"], rows)


def curve_table(found: dict[str, list[Curve]]) -> list[str]:
    rates = [f"{curve.learning_rate:g}" for curve in found["pathwise"]]
    rows = [[NAMES[g], *(f"{curve.reached:,.2f}" for curve in some)] for g, some in found.items()]
    return table(["validation ELBO by learning rate", *rates], rows)


def best_table(best: dict[str, Curve]) -> list[str]:
    rows = []
    for gradient, curve in best.items():
        when = first_epoch(best["pathwise"], curve.reached)
        cells = f"{curve.learning_rate:g}", f"{curve.test:.2f}", f"{curve.reached:.2f}"
        rows.append([NAMES[gradient], *cells, f"{when:.2f} of {curve.epoch[-1]:.2f}"])
    names = ["at its best learning rate", "learning rate", "test ELBO", "validation ELBO"]
    return table([*names, "epochs until the pathwise one had that"], rows)


def measure_quadratic(num: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """({estimator: noise over DIMENSIONS}, {estimator: |mean - exact| in standard errors})."""
    noise, off = {}, {}
    for gradient in GRADIENTS:
        found = [(Quadratic(dim).found(gradient, num), Quadratic(dim)) for dim in DIMENSIONS]
        noise[gradient] = [some.noise(case.exact()) for some, case in found]
        some, case = found[DIMENSIONS.index(10)]
        distance = np.linalg.norm(some.mean - case.exact())
        off[gradient] = float(distance / np.sqrt(some.variance / num))
    return noise, off


class Measured(NamedTuple):
    """All that the page reports."""

    errors: dict[str, np.ndarray]  # of `quotients`
    noise: dict[str, list[float]]  # of `measure_quadratic`
    off: dict[str, float]  # likewise
    states: dict[str, dict]  # {when: of `of_run`}
    curves: dict[str, list[Curve]]
    size: int  # parameters of the encoder
    trainings: list[dict]  # results.json of each

    @property
    def best(self) -> dict[str, Curve]:
        """{estimator: the curve with the highest validation ELBO at its end}."""
        return {name: max(some, key=lambda c: c.reached) for name, some in self.curves.items()}


def measure(args) -> Measured:
    """Everything that is measured."""
    run = train_all(args)
    found = curves(run.workdir, run.results["members"])
    pathwise = max(found["pathwise"], key=lambda curve: curve.reached)
    trained = vae_jax.load(run.workdir, member=pathwise.member, parts=(PART,))
    brief = train_briefly(args, pathwise.learning_rate)
    dataset = data.load(args.data, data_dir=args.data_dir, num_valid=args.num_valid)
    x = trained.as_evaluated(dataset, "valid", np.arange(min(args.batch, dataset.valid.num))).x
    states = {f"epoch {some.results['epoch']:.2g}": some for some in (brief, trained)}
    states = {when: of_run(some, x, args.gradients, SAMPLES) for when, some in states.items()}
    noise, off = measure_quadratic(args.gradients)
    size = ravel_pytree(trained.params["encoder"])[0].size
    trainings = [some.results for some in (run, brief)]
    return Measured(quotients(1000), noise, off, states, found, size, trainings)


def draw(found: Measured) -> Figure:
    figure = Figure(figsize=(12, 8), layout="constrained", dpi=100)
    axes = figure.subplots(2, 2)
    draw_quotients(axes[0, 0], found.errors)
    draw_quadratic(axes[0, 1], found.noise)
    draw_noise(axes[1, 0], found.states)
    draw_curves(axes[1, 1], found.best)
    return figure


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist", help="a dataset of images")
    parser.add_argument("--data_dir", default="", help="where prepared TFDS data lies")
    parser.add_argument("--num_valid", type=int, default=5000)
    parser.add_argument("--workdir", default="runs/reparameterization", help="of the trainings")
    parser.add_argument("--output", default="experiments/reparameterization")
    parser.add_argument("--epochs", type=float, default=8.0)
    parser.add_argument("--every_epochs", type=float, default=0.25, help="between validations")
    parser.add_argument("--hidden", type=int, default=100, help="units of the hidden layer")
    parser.add_argument("--latent_dim", type=int, default=10)
    parser.add_argument("--gradients", type=int, default=1000, help="of each estimator")
    parser.add_argument("--batch", type=int, default=100, help="images of each gradient")
    parser.add_argument(
        "--learning_rates", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
    )
    return parser


def lines_of(found: Measured, args) -> list[str]:
    """All tables, and what is counted in them."""
    compared = 2 * len(found.states) * len(SAMPLES) * DIRECTIONS
    chance = NormalDist().inv_cdf(0.5 + 0.5 ** (1 / compared) / 2)
    about = (
        "Noise: the standard deviation of a gradient, all parameters together, over the length of "
        f"the true one. The VAE has {args.hidden} hidden and {args.latent_dim} latent units, and "
        f"{found.size:,} parameters of the encoder; {args.batch} validation images, "
        f"{args.gradients:,} gradients of each estimator, along {DIRECTIONS} random directions. "
        "Along the gradient: that of as many others. t: Welch's, of the means against those of the "
        f"pathwise one; the largest of {compared} independent ones is about {chance:.1f}."
    )
    parts = [
        quotient_table(found.errors),
        quadratic_table(found.noise, found.off),
        [about],
        noise_table(found.states),
        curve_table(found.curves),
        best_table(found.best),
    ]
    return [line for part in parts for line in (*part, "")][:-1]


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    began = time.monotonic()
    if args.gradients < 10:
        parser.error(f"--gradients is too small: {args.gradients}")
    try:
        found = measure(args)
    except UserError as error:
        sys.exit(str(error))
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    draw(found).savefig(output / "figure.png")
    write(output / "table.md", began, lines_of(found, args), found.trainings)


if __name__ == "__main__":
    main()
