"""What does the reparameterization trick buy, and what do K samples make of it?

    python experiments/gradient_estimators.py

The estimators of the encoder's gradient that the package has (objectives/gradients.py), of the ELBO
and of IWAE with K samples each, and the score function without a baseline.

    the signal    on the toy of Rainforth et al. 2018 (arXiv:1802.04537, section 4):
                  z ~ N(mu, I), x|z ~ N(z, I), q(z|x) = N(A x + b, 2/3 I) in 20 dimensions, every
                  parameter a little off its optimum. As K grows IWAE depends less on q, and its
                  gradient falls like 1/K. The noise of the reparameterized estimator falls like
                  K^(-1/2), that of DReG like K^(-3/2) (Tucker et al. 2019, arXiv:1810.04152), so
                  the signal-to-noise ratio goes like K^(-1/2) and like K^(1/2).
    the bias      on the same toy: the mean of each estimator against the reparameterized one's
    the noise     on a trained VAE: the variance of each for one minibatch of training images

The signal is the length of the expected gradient, the noise the root of the variance summed over
the parameters. All estimators of a bound are given the signal that the least noisy unbiased one
measures, STL of the ELBO and DReG of IWAE. What noise adds to the squared length of a mean is
subtracted.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from drawing import table, write
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure
from reparameterization import plain, short

import vae_jax
from vae_jax.distributions import Gaussian, log_prob
from vae_jax.errors import UserError
from vae_jax.likelihoods.gaussian import gaussian
from vae_jax.models.draws import batch_size
from vae_jax.models.generator import generator
from vae_jax.models.vae import vae
from vae_jax.objectives import OBJECTIVES, make_loss_fn
from vae_jax.objectives.elbo import mean, no_networks
from vae_jax.objectives.iwae import log_mean
from vae_jax.types import Model, Network, Objective, Prior

PLAIN, BARE = "reparameterized", "score function, no baseline"
# {objective: {estimator: its name in the package, None: it is not there}}
ESTIMATORS = {
    "elbo": {PLAIN: PLAIN, "STL": "stl", "VarGrad": "score_function", BARE: None},
    "iwae": {PLAIN: PLAIN, "STL": "stl", "DReG": "dreg", "VIMCO": "score_function", BARE: None},
}
BOUNDS = {"elbo": mean, "iwae": log_mean}
LEAST_NOISY = {"elbo": "STL", "iwae": "DReG"}  # of those without a bias
COLOURS = {PLAIN: "#1f77b4", "STL": "#9467bd", "DReG": "#2ca02c", "VIMCO": "#e8710a"}
COLOURS |= {"VarGrad": "#e8710a", BARE: "#d62728"}
DIM, POINTS, OFFSET = 20, 1024, 0.01  # of the toy
MOST_OF_VIMCO = 64  # K on the toy
TESTED = (1, 4, 16, 64)  # K of the tests for a bias
FITTED = (1, 16, 64)  # the K that slopes are fitted from; the figure has the second


# The estimators.


def without_baseline(bound: str, num_samples: int) -> Objective:
    """-F, a function of K log-weights, with the score function's gradient.

    It is F_k d log w_k without the path through z, and weight_k d log q(z_k|x), where the weight is
    what depends on z_k: log w_k / K of the ELBO, F of IWAE.
    """

    def loss(params, draws, x, _rng, _hypers):
        closed = jnp.zeros((batch_size(x), num_samples))
        log_w = draws(params, closed, True).log_w
        log_q = draws(params, closed, False).log_w - log_w  # but for its value, which is zero
        value = jax.vmap(BOUNDS[bound])(log_w)
        weight = log_w / num_samples if bound == "elbo" else value[:, None]
        score = jnp.sum(jax.lax.stop_gradient(weight) * log_q, axis=1)
        return -jnp.mean(value + score), {}

    return Objective(no_networks, loss)


def loss_of(bound: str, estimator: str, model: Model, hypers, num_samples: int) -> Callable:
    """The loss function whose gradient is the estimate."""
    gradient = ESTIMATORS[bound][estimator]
    if gradient is None:
        objective = without_baseline(bound, num_samples)
    else:
        objective = OBJECTIVES[bound].make(SimpleNamespace(gradient=gradient), None)
    return make_loss_fn(model, objective, hypers | {"beta": jnp.float32(1)}, num_samples)


# The measures.


class Moments(NamedTuple):
    """Of `num` independent estimates of P values."""

    mean: np.ndarray  # [P]
    variance: np.ndarray  # [P]
    num: int
    error: float = 0.0  # the relative standard error of the summed variance

    def of(self, chosen: slice) -> "Moments":
        """Of some of the values."""
        return self._replace(mean=self.mean[chosen], variance=self.variance[chosen])

    def signal(self) -> float:
        """The length of the expectation; 0 where noise alone would make the mean longer."""
        square = np.sum(self.mean**2 - self.variance / self.num)
        return float(np.sqrt(np.maximum(square, 0.0)))

    def noise(self) -> float:
        """The root of the summed variance."""
        return float(np.sqrt(np.sum(self.variance)))

    def t(self) -> np.ndarray:
        """The means over their standard errors [P]; 0 of what is always 0."""
        return self.mean / np.sqrt(np.maximum(self.variance / self.num, 1e-30))


def moments(losses: dict[str, Callable], params, blocks, keys, pairs=()) -> dict:
    """{estimator or pair: Moments} of the gradient with respect to the encoder's parameters.

    Args:
      losses: {estimator: loss function}; all are given the same noise.
      blocks: examples [S, B, ...]. A gradient is the mean over the S blocks, so that memory is that
        of one.
      keys: [R], one for each gradient.
      pairs: of estimators: the difference of the two, gradient by gradient.
    """
    flat, unravel = ravel_pytree(params["encoder"])
    names = list(losses)

    def gradients(key, params, blocks):
        """[estimators and pairs, P]"""

        def of_block(block):
            def loss(flat, loss_fn):
                return loss_fn(params | {"encoder": unravel(flat)}, *block)[0]

            return jnp.stack([jax.grad(loss)(flat, loss_fn) for loss_fn in losses.values()])

        flat, _ = ravel_pytree(params["encoder"])
        keys = jax.random.split(key, len(blocks))
        found = jnp.mean(jax.lax.map(of_block, (blocks, keys)), axis=0)
        differences = [found[names.index(one)] - found[names.index(other)] for one, other in pairs]
        return jnp.stack([*found, *differences])

    @jax.jit
    def sums(keys, params, blocks):
        def add(carry, key):  # Welford's sums of a mean and of squared deviations
            num, mean, squares = carry
            found = gradients(key, params, blocks)
            difference = found - mean
            mean = mean + difference / (num + 1)
            added = difference * (found - mean)
            return (num + 1, mean, squares + added), jnp.sum(added, axis=1)

        zeros = jnp.zeros((len(losses) + len(pairs), flat.size))
        (_, mean, squares), added = jax.lax.scan(add, (0.0, zeros, zeros), keys)
        return mean, squares / (len(keys) - 1), added[1:]  # the first one has no deviation

    mean, variance, added = jax.device_get(sums(keys, params, blocks))
    error = added.std(0) / np.maximum(added.mean(0), 1e-30) / math.sqrt(len(added))
    found = map(Moments, mean, variance, [len(keys)] * len(mean), error)
    return dict(zip([*names, *pairs], found, strict=True))


def slope(values: dict[int, float], start: int) -> float:
    """Of log value over log K, least squares over K >= start; nan of fewer than two K."""
    fitted = {k: value for k, value in values.items() if k >= start}
    if len(fitted) < 2:
        return math.nan
    return float(np.polyfit(np.log(list(fitted)), np.log(list(fitted.values())), 1)[0])


def largest_by_chance(num: int) -> float:
    """The median of the largest |t| of `num` independent ones."""
    return NormalDist().inv_cdf(0.5 + 0.5 ** (1 / num) / 2)


# The toy.


class Toy:
    """The Gaussian model, data of it [POINTS, DIM], and parameters beside their optimum."""

    PARTS = {"A": slice(-DIM), "b": slice(-DIM, None)}  # noqa: RUF012  of the flat encoder

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=DIM) + rng.normal(size=(POINTS, DIM))
        self.x = jnp.float32(z + rng.normal(size=z.shape))

        def beside(optimum):
            return jnp.float32(optimum + OFFSET * rng.normal(size=np.shape(optimum)))

        mu = np.mean(self.x, axis=0)
        start = {"A": beside(np.eye(DIM) / 2), "b": beside(mu / 2)}
        of_prior = {"mean": beside(mu)}
        logvar = jnp.full(DIM, math.log(2 / 3))
        encoder = Network(lambda *_: start, lambda p, x: (p["A"] @ x + p["b"], logvar))
        decoder = Network(lambda *_: {}, lambda _p, z: z[:, None])

        def log_prior(params, z, _latent_dim):
            return jnp.sum(log_prob(Gaussian(params["prior"]["mean"], jnp.zeros(DIM)), z))

        def sample(params, rng, _latent_dim):
            return params["prior"]["mean"] + jax.random.normal(rng, (DIM,))

        prior = Prior(lambda *_: of_prior, log_prior, sample)
        p_x = generator(decoder, gaussian(1.0, False), (DIM,))
        self.model = vae(encoder, p_x, lambda _encode: prior, DIM)
        self.hypers = {"latent_dim": jnp.int32(DIM)}
        self.params = self.model.init(jax.random.key(0), self.hypers)

    def found(self, num_samples: int, num: int) -> dict:
        """`moments` of `num` gradients of IWAE, each of all points."""
        names = [PLAIN, "STL", "DReG"] + ["VIMCO"] * (1 < num_samples <= MOST_OF_VIMCO)
        losses = {n: loss_of("iwae", n, self.model, self.hypers, num_samples) for n in names}
        pairs = [(name, PLAIN) for name in names[1:]] + [("STL", "DReG")]
        block = min(POINTS, max(1, 2**20 // num_samples**2))  # DReG has K^2 numbers for each point
        keys = jax.random.split(jax.random.key(num_samples), num)
        return moments(losses, self.params, self.x.reshape(-1, block, DIM), keys, pairs)


def measure_toy(largest: int, draws: int) -> dict[int, dict]:
    """{K: of `Toy.found`} over the powers of 2."""
    toy, found = Toy(), {}
    for samples in (2**i for i in range(largest.bit_length())):
        began = time.monotonic()
        found[samples] = toy.found(samples, max(draws // samples, 16))
        print(f"toy, K = {samples}: {time.monotonic() - began:.1f} s", flush=True)
    return found


def ratios(toy: dict[int, dict], estimator: str, part: str) -> dict[int, float]:
    """{K: the signal-to-noise ratio} of an estimator for b or A."""
    chosen = Toy.PARTS[part]
    return {
        samples: some[LEAST_NOISY["iwae"]].of(chosen).signal() / some[estimator].of(chosen).noise()
        for samples, some in toy.items()
        if estimator in some
    }


def bias(some: dict) -> tuple[float, float]:
    """(length, standard error) of STL's bias, both over the length of the gradient."""
    off, true = some["STL", "DReG"], some["DReG"].signal()
    return off.signal() / true, off.noise() / math.sqrt(off.num) / true


# The trained model.


def trained(args):
    """The run of configs/mnist.py, or a shorter one."""
    config = vae_jax.default()
    config.data.data_dir = args.data_dir
    if args.data:
        config.data.name, config.data.num_valid, config.data.num_test = args.data, 200, 300
    if args.epochs:
        config.train.num_epochs = args.epochs
    return vae_jax.train(config, args.workdir)


def measure_run(run, args) -> dict[tuple[str, int], dict[str, Moments]]:
    """{(objective, K): {estimator: Moments}} for one minibatch of training images."""
    dataset, found = run.dataset(), {}
    x = run.as_evaluated(dataset, "train", np.arange(min(args.batch, dataset.train.num))).x
    keys = jax.random.split(jax.random.key(0), args.gradients)
    for samples in args.samples:
        for bound, estimators in ESTIMATORS.items():
            began = time.monotonic()
            losses = {n: loss_of(bound, n, run.model, run.hypers, samples) for n in estimators}
            found[bound, samples] = moments(losses, run.params, x[None], keys)
            print(f"{bound}, K = {samples}: {time.monotonic() - began:.1f} s", flush=True)
    return found


# The figure and the table.


def draw(toy: dict[int, dict], of_run: dict) -> Figure:
    figure = Figure(figsize=(15, 5), layout="constrained", dpi=100)
    axes = figure.subplots(1, 3)
    draw_ratios(axes[0], toy)
    draw_bias(axes[1], toy)
    draw_variances(axes[2], of_run)
    return figure


def draw_ratios(axis, toy: dict[int, dict]) -> None:
    """Of b, with the fitted lines."""
    for name in ("DReG", "VIMCO", PLAIN):
        found = ratios(toy, name, "b")
        power = slope(found, FITTED[1])
        fitted = np.array([k for k in found if k >= FITTED[1]])
        height = np.exp(np.mean([math.log(found[k] / k**power) for k in fitted]))
        axis.loglog(*zip(*found.items(), strict=True), "o", ms=4, color=COLOURS[name])
        label = f"{name}, slope {power:+.2f}"
        axis.loglog(fitted, height * fitted**power, color=COLOURS[name], label=label)
    ticks_of_samples(axis, toy)
    names = {"xlabel": f"K; slopes from K = {FITTED[1]}", "ylabel": "signal-to-noise ratio"}
    plain(axis, title="IWAE on the toy: the gradient of b", **names)


def ticks_of_samples(axis, toy: dict[int, dict]) -> None:
    """At every second K of a logarithmic axis."""
    axis.set_xticks(list(toy)[::2], list(toy)[::2])
    axis.minorticks_off()


def draw_bias(axis, toy: dict[int, dict]) -> None:
    found = {k: bias(some) for k, some in toy.items() if k > 1}
    values, errors = zip(*found.values(), strict=True)
    label = f"STL, slope {slope({k: v for k, (v, _) in found.items()}, FITTED[1]):+.2f}"
    axis.errorbar(list(found), values, errors, fmt="o-", ms=4, color=COLOURS["STL"], label=label)
    axis.axhline(1, color="0.6", lw=0.8)
    axis.set_yscale("log")
    axis.set_xscale("log")
    ticks_of_samples(axis, toy)
    names = {"xlabel": f"K; slope from K = {FITTED[1]}", "ylabel": "bias / length of the gradient"}
    plain(axis, title="IWAE on the toy: the bias of STL", **names)


def draw_variances(axis, found: dict) -> None:
    """A row for each estimator, those of a bound and K together."""
    place, ticks = 0.0, {}
    for (bound, samples), some in found.items():
        for name, each in some.items():
            ratio = (each.noise() / some[PLAIN].noise()) ** 2
            axis.plot(ratio, place, "o", ms=5, color=COLOURS[name])
            how = {"xytext": (7, -3), "textcoords": "offset points", "fontsize": 8}
            axis.annotate(short(ratio), (ratio, place), **how)
            ticks[place] = name
            place += 1
        where = (0.98, place - len(some))
        how = {"transform": axis.get_yaxis_transform(), "ha": "right", "va": "center"}
        axis.text(*where, f"{bound.upper()}, K = {samples}", fontsize=9, **how)
        place += 0.8
    axis.axvline(1, color="0.6", lw=0.8)
    axis.set_yticks(list(ticks), ticks.values(), fontsize=8)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="variance, relative to the reparameterized estimate")
    axis.set_xlim(right=axis.get_xlim()[1] * 30)
    axis.set_title("A trained VAE: the encoder's gradient")
    axis.grid(axis="x", color="0.92")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def ratio_table(toy: dict[int, dict]) -> list[str]:
    columns = {
        "b: signal": {k: some["DReG"].of(Toy.PARTS["b"]).signal() for k, some in toy.items()}
    }
    for part in ("b", "A"):
        for name in (PLAIN, "DReG", "VIMCO"):
            columns[f"{part}: SNR, {name}"] = ratios(toy, name, part)
    rows = []
    for samples, some in toy.items():
        cells = [short(each[samples]) if samples in each else "" for each in columns.values()]
        rows.append([samples, f"{some[PLAIN].num:,}", *cells])
    for start in (start for start in FITTED if start < max(toy)):
        slopes = [slope(each, start) for each in columns.values()]
        cells = ["" if math.isnan(value) else f"{value:+.3f}" for value in slopes]
        rows.append([f"slope from K = {start}", "", *cells])
    return table(["K", "gradients", *columns], rows)


def bias_table(toy: dict[int, dict]) -> list[str]:
    rows = []
    for samples, some in ((k, some) for k, some in toy.items() if k in TESTED):
        for name in [name for name in some if (name, PLAIN) in some]:
            t = some[name, PLAIN].t()
            size = "{:.3g} +- {:.1g}".format(*bias(some)) if name == "STL" and samples > 1 else ""
            root = f"{np.sqrt(np.mean(t**2)):.2f}"
            rows.append([samples, name, root, f"{np.abs(t).max():.2f}", size])
    return table(["K", "estimator", "t, root mean square", "largest t", "bias / gradient"], rows)


def variance_table(found: dict) -> list[str]:
    rows = []
    for (bound, samples), some in found.items():
        signal = some[LEAST_NOISY[bound]].signal()
        for name, each in some.items():
            ratio = (each.noise() / some[PLAIN].noise()) ** 2
            error = ratio * math.hypot(each.error, some[PLAIN].error)
            cell = "1" if name == PLAIN else f"{short(ratio)} +- {short(error)}"
            rows.append([bound.upper(), samples, name, cell, short(signal / each.noise())])
    names = ["objective", "K", "estimator", "variance, of the reparameterized one's", "SNR"]
    return table(names, rows)


def lines_of(toy: dict[int, dict], of_run: dict, args) -> list[str]:
    size = len(toy[1][PLAIN].mean)
    of_vae = len(of_run["elbo", args.samples[0]][PLAIN].mean)
    about_toy = (
        f"The toy: IWAE's gradient over {POINTS:,} points, each parameter off its optimum by "
        f"N(0, {OFFSET:g}²). SNR: the signal-to-noise ratio. Slopes: of the logarithms over log K, "
        "up to the last K of a column. The powers -1/2 and 1/2 are those of large K, where the "
        "signal falls like 1/K and the noise of DReG like K^(-3/2)."
    )
    about_bias = (
        f"t: of the difference from the reparameterized estimate with the same noise, {size} "
        "parameters. Its root mean square is about 1 without a bias, the largest of as many "
        f"independent ones about {largest_by_chance(size):.1f}. Bias / gradient: the length of the "
        "mean of STL less that of DReG, over the length of the gradient."
    )
    about_run = (
        f"The trained VAE: {of_vae:,} parameters of the encoder, {args.batch} training images, "
        f"{args.gradients} gradients of each estimator. The reparameterized estimate of the ELBO "
        "has the KL in closed form, the others have log q(z|x) - log p(z) of the draws."
    )
    parts = [[about_toy], ratio_table(toy), [about_bias], bias_table(toy)]
    parts += [[about_run], variance_table(of_run)]
    return [line for part in parts for line in (*part, "")][:-1]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/mnist", help="of the run, trained if need be")
    parser.add_argument("--epochs", type=float, default=0.0, help="0: those of configs/mnist.py")
    parser.add_argument("--data", default="", help="another dataset; by default MNIST")
    parser.add_argument("--data_dir", default="", help="where prepared TFDS data lies")
    parser.add_argument("--output", default="experiments/gradient_estimators")
    parser.add_argument("--largest", type=int, default=1024, help="K on the toy")
    parser.add_argument("--draws", type=int, default=4096, help="of each point and K on the toy")
    parser.add_argument("--samples", type=int, nargs="+", default=[5, 50], help="K on the run")
    parser.add_argument("--gradients", type=int, default=64, help="of each estimator on the run")
    parser.add_argument("--batch", type=int, default=100, help="images of each gradient")
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = parser.parse_args(argv)
    began = time.monotonic()
    least = {"largest": 2 * FITTED[1], "samples": 2, "gradients": 10, "batch": 1, "draws": 1}
    for name, low in least.items():
        if np.min(getattr(args, name)) < low:
            parser.error(f"--{name} is too small: {np.min(getattr(args, name))}")
    try:
        run = trained(args)
        of_run = measure_run(run, args)
    except UserError as error:
        sys.exit(str(error))
    toy = measure_toy(args.largest, args.draws)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    draw(toy, of_run).savefig(output / "figure.png")
    write(output / "table.md", began, lines_of(toy, of_run, args), [run.results])


if __name__ == "__main__":
    main()
