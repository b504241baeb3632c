"""What does an autoencoder lack? The AE against the VAE of equal size, at 2, 8 and 32 units.

    python experiments/ae_vs_vae.py
    python experiments/ae_vs_vae.py --config=configs/folder.py --path=cats_and_dogs --output=out

Both have the same network, data and training; the AE has no rate and no prior. Of test data:

    squared error       of the reconstruction from the code (the VAE's: the mean of q(z|x))
    accuracy            of 10 nearest neighbours among the codes of training examples
    other label         share of pairs of other labels among the closest 1% of pairs of codes
    precision, coverage of draws of p(x|z) at random codes (metrics/sample_quality.py): z ~ N(0, I),
                        and for the AE also from a Gaussian fitted to its codes
    holes               share of these codes that are farther from every training code than 99% of
                        the codes of test examples are (the VAE's: draws of q(z|x))
    largest step        in x, over the mean step, for 20 equal steps in z from an example to one of
                        another label; the median over pairs. 1 is perfectly even
    midpoints           precision of draws of p(x|z) half way between two such codes

A dataset without labels has the numbers that need none.
"""

import argparse
import runpy
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from drawing import show, table, write
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from sklearn.neighbors import NearestNeighbors

import vae_jax
from vae_jax.data import Dataset
from vae_jax.distributions import sample
from vae_jax.estimators.features import make_features
from vae_jax.metrics.label_probes import nearest_neighbours
from vae_jax.metrics.sample_quality import neighbourhood
from vae_jax.run import Run
from vae_jax.types import Example

STEPS, CLOSEST, FAR = 20, 0.01, 0.99
OF_SAMPLES = ("precision", "coverage", "holes")
COLOURS = {"AE": "#e8710a", "AE, fitted": "#f5b37a", "VAE": "#1f77b4", "pixels": "0.5"}
TITLES = {
    "mse": "squared error",
    "accuracy": "accuracy of neighbours",
    "other": "other label among the closest",
    "precision": "precision of samples",
    "coverage": "coverage of samples",
    "holes": "holes",
    "step": "largest step",
    "midpoints": "precision of midpoints",
}


class Examples(NamedTuple):
    """Some examples of a split, as the models see them."""

    x: np.ndarray  # [n, D]
    label: np.ndarray | None


class Setting(NamedTuple):
    """What all models are measured with."""

    dataset: Dataset
    num: int  # test examples, samples and training examples whose features are compared
    features: object  # Example [n, D] -> [n, 64]; None without labels
    pairs: np.ndarray  # positions of test examples [n, 2]


def make_config(args, model: str):
    config = runpy.run_path(args.config)["get_config"]() if args.config else vae_jax.default()
    config.data.data_dir = args.data_dir
    if args.path:
        config.data.path = args.path
    config.model.name = model
    if model == "ae":
        config.model.code_sampler = "gaussian_fit"
    config.train.num_epochs = args.epochs
    config.eval.nll_samples = 10
    config.eval.all_members = True
    config.sweep.latent_dim = tuple(args.units)
    return config


def trained(args, model: str) -> list[Run]:
    """A run for each number of units."""
    workdir = Path(args.workdir, model)
    vae_jax.train(make_config(args, model), workdir)
    return [vae_jax.load(workdir, member=i) for i in range(len(args.units))]


def prepare(run: Run, num: int) -> Setting:
    dataset = run.dataset()
    num = min(num, dataset.test.num, dataset.train.num)
    positions = np.random.default_rng(0).permutation(dataset.test.num)
    pairs = positions[: 2 * (min(1000, dataset.test.num) // 2)].reshape(-1, 2)
    features, label = None, dataset.test.labels(slice(None), "")
    if label is not None:
        pairs = pairs[label[pairs[:, 0]] != label[pairs[:, 1]]]
        features = make_features(dataset, run.config.data.binarize).apply
    return Setting(dataset, num, features, pairs)


def examples(run: Run, setting: Setting, split: str) -> Examples:
    num = getattr(setting.dataset, split).num
    x = run.as_evaluated(setting.dataset, split, np.arange(min(num, 10 * setting.num))).x
    label = getattr(setting.dataset, split).labels(np.arange(len(x)), "")
    return Examples(np.asarray(x), label)


# --- what is measured


def other_label(codes: np.ndarray, label: np.ndarray) -> float:
    """The share of pairs of other labels among the closest 1% of all pairs of codes."""
    first, second = np.triu_indices(len(codes), 1)
    norms = np.sum(codes**2, 1)
    squared = (norms[:, None] + norms - 2 * codes @ codes.T)[first, second]
    closest = np.argpartition(squared, int(CLOSEST * len(squared)))[: int(CLOSEST * len(squared))]
    return float(np.mean(label[first[closest]] != label[second[closest]]))


def holes(train: np.ndarray, test: np.ndarray, drawn: np.ndarray) -> float:
    """The share of drawn codes farther from every training code than 99% of test codes are."""
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train)
    limit = np.quantile(nearest.kneighbors(test)[0], FAR)
    return float(np.mean(nearest.kneighbors(drawn)[0] > limit))


def line(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """[n, Z], [n, Z] -> codes at equal steps from one to the other  [n, STEPS + 1, Z]."""
    t = np.linspace(0, 1, STEPS + 1)[None, :, None]
    return np.float32((1 - t) * start[:, None] + t * end[:, None])


def largest_step(path: np.ndarray) -> float:
    """The largest over the mean step of paths [n, STEPS + 1, D]; the median over paths."""
    step = np.linalg.norm(np.diff(path, axis=1), axis=2)
    return float(np.median(step.max(1) / step.mean(1)))


def drawn_x(run: Run, z: np.ndarray, seed: int) -> np.ndarray:
    """A draw of p(x|z) for each code  [n, D]."""
    keys = jax.random.split(jax.random.key(seed), len(z))
    draw = jax.jit(
        lambda params, z, keys: jax.vmap(lambda z, key: run.model.decode(params, z, None, key))(
            z, keys
        )
    )
    return np.asarray(draw(run.params, z, keys)).reshape(len(z), -1)


def quality(setting: Setting, real: np.ndarray, x: np.ndarray):
    return neighbourhood(real, setting.features(Example(x)))


def random_codes(run: Run, num: int) -> dict[str, np.ndarray]:
    """Of N(0, I), and of an autoencoder also of the Gaussian fitted to its codes."""
    keys = jax.random.split(jax.random.key(1), num)
    drawn = jax.vmap(lambda key: run.model.sample_prior(run.params, key, run.hypers))(keys)
    if run.config.model.name != "ae":
        return {"VAE": np.asarray(drawn)}
    standard = jax.random.normal(jax.random.key(2), drawn.shape)
    return {"AE": np.asarray(standard), "AE, fitted": np.asarray(drawn)}


def occupied(run: Run, x: np.ndarray, seed: int) -> np.ndarray:
    """Where the examples lie in code space: a draw of q(z|x), of an autoencoder the code."""
    q = run.encode(x)
    if run.config.model.name == "ae":
        return np.asarray(q.mean)
    return np.asarray(sample(q, jax.random.normal(jax.random.key(seed), q.mean.shape)))


def measure(run: Run, setting: Setting) -> dict[str, dict[str, float]]:
    """{"AE": {"mse": ..., ...}, ...}: a row for each way to draw codes."""
    train, test = (examples(run, setting, split) for split in ("train", "test"))
    train_codes, test_codes = (np.asarray(run.encode(each.x).mean) for each in (train, test))
    path = line(*np.asarray(test_codes[setting.pairs.T]))
    decoded = np.asarray(run.decode(path.reshape(-1, run.latent_dim)))
    member = next(m for m in run.results["members"] if m["member"] == run.member)
    common = {"mse": member["test"]["mse"]}
    common["step"] = largest_step(decoded.reshape(*path.shape[:2], -1))
    if setting.features:
        real = setting.features(Example(train.x[: setting.num]))
        common["accuracy"] = nearest_neighbours(train_codes, train.label, test_codes, test.label)
        some = slice(min(2000, setting.num))
        common["other"] = other_label(test_codes[some], test.label[some])
        midpoints = drawn_x(run, path[:, STEPS // 2], 3)
        common["midpoints"] = quality(setting, real, midpoints).precision
    there, rows = (occupied(run, train.x, 5), occupied(run, test.x, 6)), {}
    for name, z in random_codes(run, setting.num).items():
        rows[name] = common | {"holes": holes(*there, z)}
        if setting.features:
            found = quality(setting, real, drawn_x(run, z, 4))
            rows[name] |= {"precision": found.precision, "coverage": found.coverage}
    return rows


def of_pixels(run: Run, setting: Setting) -> dict[str, float]:
    """The same of the examples themselves, where there is a meaning in it."""
    if not setting.features:
        return {}
    train, test = (examples(run, setting, split) for split in ("train", "test"))
    real = setting.features(Example(train.x[: setting.num]))
    ends = test.x[setting.pairs.T]
    blend = np.float32((ends[0] + ends[1]) / 2)
    if run.config.data.binarize != "none":
        blend = np.float32(np.random.default_rng(0).random(blend.shape) < blend)
    reference = quality(setting, real, test.x[: setting.num])
    some = slice(min(2000, setting.num))
    return {
        "accuracy": nearest_neighbours(train.x, train.label, test.x, test.label),
        "other": other_label(test.x[some], test.label[some]),
        "midpoints": quality(setting, real, blend).precision,
        "precision": reference.precision,
        "coverage": reference.coverage,
        "step": 1.0,
    }


# --- what is shown


def draw(path: Path, runs: dict[str, list[Run]], setting: Setting, rows: dict, units) -> None:
    figure = Figure(figsize=(13, 13.4), layout="constrained", dpi=100)
    parts = figure.subfigures(4, 1, height_ratios=(3.6, 2.6, 2.6, 4.4))
    middle = len(units) // 2
    _code_maps(parts[0], runs["ae"][0], runs["vae"][0], setting)
    _random_codes(parts[1], runs["ae"][middle], runs["vae"][middle])
    _interpolations(parts[2], runs["ae"][middle], runs["vae"][middle], setting)
    _numbers(parts[3], rows, units)
    figure.savefig(path)


def _code_maps(figure, ae: Run, vae: Run, setting: Setting) -> None:
    """Where the codes of test examples lie in the first two units, by label."""
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 1))
    test = examples(ae, setting, "test")
    maps = {
        "AE: codes": np.asarray(ae.encode(test.x).mean),
        "VAE: means of q(z|x)": np.asarray(vae.encode(test.x).mean),
        "VAE: draws of q(z|x)": occupied(vae, test.x, 6),
    }
    colour = "0.3" if test.label is None else test.label % 10
    for axis, (name, codes) in zip(axes, maps.items(), strict=True):
        axis.scatter(*codes[:, :2].T, c=colour, cmap="tab10", s=2, linewidths=0)
        axis.add_patch(Circle((0, 0), 2, fill=False, lw=1, ls=":", color="0.2"))
        axis.set(title=name, aspect="equal")
        axis.title.set_fontsize(10)
        axis.spines[["top", "right"]].set_visible(False)
    title = f"Codes of test examples, {ae.latent_dim} units, by label; circle: 2 sd of N(0, I)"
    figure.suptitle(title, fontsize=11)


def _random_codes(figure, ae: Run, vae: Run) -> None:
    axes = figure.subplots(1, 3)
    codes = random_codes(ae, 60) | random_codes(vae, 60)
    names = ("AE: codes ~ N(0, I)", "AE: codes ~ a Gaussian fitted to its codes", "VAE: the prior")
    for axis, name, (kind, z) in zip(axes, names, codes.items(), strict=True):
        run = vae if kind == "VAE" else ae
        show(axis, run.decode(z), 12, name, 10)
    figure.suptitle(f"Random codes of {ae.latent_dim} units, decoded", fontsize=11)


def _interpolations(figure, ae: Run, vae: Run, setting: Setting) -> None:
    axes = figure.subplots(1, 3)
    pairs = setting.pairs[:5]
    x = ae.as_evaluated(setting.dataset, "test", pairs.ravel()).x
    x = np.asarray(x).reshape(len(pairs), 2, *ae.example_shape)
    every = np.arange(0, STEPS + 1, 2)
    t = np.linspace(0, 1, STEPS + 1)[every][None, :, None, None, None]
    rows = {"pixels": (1 - t) * x[:, :1] + t * x[:, 1:]}
    for name, run in (("AE", ae), ("VAE", vae)):
        z = np.asarray(run.encode(x.reshape(-1, *run.example_shape)).mean)
        z = z.reshape(len(pairs), 2, -1)
        path = line(z[:, 0], z[:, 1])[:, every]
        rows[name] = np.asarray(run.decode(path.reshape(-1, run.latent_dim)))
    for axis, (name, images) in zip(axes, rows.items(), strict=True):
        show(axis, images.reshape(-1, *ae.example_shape), len(every), name, 10)
    figure.suptitle("From one test image to another, along a line", fontsize=11)


def _numbers(figure, rows: dict, units) -> None:
    shown = [key for key in TITLES if any(key in row for row in rows.values())]
    axes = figure.subplots(2, 4).ravel()
    for axis, key in zip(axes, shown, strict=False):
        for name, colour in COLOURS.items():
            values = [rows.get((name, unit), rows.get((name, "-"), {})).get(key) for unit in units]
            if None not in values and (name != "AE, fitted" or key in OF_SAMPLES):
                style = "--" if name == "pixels" else "o-"
                axis.plot(range(len(units)), values, style, color=colour, ms=4, label=name)
        axis.set_title(TITLES[key], fontsize=10)
        axis.set_xticks(range(len(units)), units)
        axis.set_ylim(bottom=0)
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    figure.supxlabel("latent units", fontsize=10)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower right", ncols=4, frameon=False, fontsize=9)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="", help="a file of configs/; by default MNIST's")
    parser.add_argument("--path", default="", help="config.data.path: your file or folder")
    parser.add_argument("--data_dir", default="", help="where prepared TFDS data lies")
    parser.add_argument("--units", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--epochs", type=float, default=20.0)
    parser.add_argument("--num", type=int, default=5000, help="examples that are compared")
    parser.add_argument("--workdir", default="runs/ae_vs_vae")
    parser.add_argument("--output", default="experiments/ae_vs_vae")
    args = parser.parse_args(argv)
    began = time.monotonic()
    runs = {model: trained(args, model) for model in ("ae", "vae")}
    setting = prepare(runs["vae"][0], args.num)
    rows = {("pixels", "-"): of_pixels(runs["vae"][0], setting)}
    for unit, *pair in zip(args.units, runs["ae"], runs["vae"], strict=True):
        for run in pair:
            rows |= {(name, unit): row for name, row in measure(run, setting).items()}
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    draw(output / "figure.png", runs, setting, rows, args.units)
    cells = [_cells(name, unit, row) for (name, unit), row in rows.items()]
    write(output / "table.md", began, table(["codes", *TITLES.values()], cells))


def _cells(name: str, unit, row: dict) -> list[str]:
    digits = dict.fromkeys(TITLES, 3) | {"mse": 4, "step": 2}
    values = [f"{row[key]:.{digits[key]}f}" if key in row else "" for key in TITLES]
    return [name if unit == "-" else f"{name}, {unit} units", *values]


if __name__ == "__main__":
    main()
