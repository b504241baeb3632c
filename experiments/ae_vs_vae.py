"""What does an autoencoder lack? The AE against the VAE of equal size, at 2, 8 and 32 units.

    python experiments/ae_vs_vae.py
    python experiments/ae_vs_vae.py --config=configs/folder.py --path=cats_and_dogs --output=out

Both have the same network, data and training; the AE has no rate and no prior. Of test data:

    squared error       of the reconstruction from the code (the VAE's: the mean of q(z|x))
    accuracy            of 10 nearest neighbours among the codes of training examples
    other label         share of pairs of other labels among the closest 1% of pairs of codes
    largest step        in x, over the mean step, for 20 equal steps in z from an example to one of
                        another label; the median over pairs. 1 is perfectly even
    purity half way     draws of p(x|z) in the middle of these lines: the share of the most frequent
                        label among their 10 nearest training examples in a feature space, the mean

and of random codes, which are drawn from N(0, I), and for the AE also from a Gaussian and from a
mixture of 10 Gaussians fitted to its training codes (Ghosh et al. 2020, arXiv:1903.12436):

    precision           share of draws of p(x|z) that are nearer to some real example than its 5th
                        neighbour is
    coverage            share of real examples that have a draw nearer than their 5th neighbour
    holes               share of these codes that are farther from every code of training examples
                        than 99% of the codes of test examples are; over active units; the codes of
                        the VAE are draws of q(z|x), for these are what the decoder has seen

A dataset without labels has the numbers that need none.
"""

import argparse
import runpy
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from drawing import show, squared_distances, table, write
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

import vae_jax
from vae_jax.data import Dataset
from vae_jax.distributions import sample
from vae_jax.estimators.features import make_features
from vae_jax.metrics.active_units import ACTIVE
from vae_jax.metrics.label_probes import nearest_neighbours
from vae_jax.metrics.sample_quality import neighbourhood
from vae_jax.run import Run
from vae_jax.types import Example

STEPS, CLOSEST, FAR, NEAR, COMPONENTS = 20, 0.01, 0.99, 10, 10
COLOURS = {
    "AE": "#e8710a",
    "VAE": "#1f77b4",
    "AE, Gaussian": "#f0a35e",
    "AE, mixture": "#8c564b",
    "pixels": "0.5",
}
OF_MODELS = {
    "mse": "squared error",
    "accuracy": "accuracy of neighbours",
    "other": "other label among the closest",
    "step": "largest step",
    "purity": "purity half way",
}
OF_SAMPLES = {
    "precision": "precision of samples",
    "coverage": "coverage of samples",
    "holes": "holes",
}


class Examples(NamedTuple):
    """Some examples of a split, as the models see them."""

    x: np.ndarray  # [n, D]
    label: np.ndarray | None


class Setting(NamedTuple):
    """What all models are measured with."""

    train: Examples
    test: Examples
    num: int  # test examples, samples and training examples whose features are compared
    features: object  # Example [n, D] -> [n, 64]; None without labels
    known: np.ndarray | None  # the features of the training examples
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
    train, test = (examples(run, dataset, split, 10 * num) for split in ("train", "test"))
    positions = np.random.default_rng(0).permutation(len(test.x))
    pairs = positions[: 2 * (min(1000, len(positions)) // 2)].reshape(-1, 2)
    features = known = None
    if test.label is not None:
        pairs = pairs[test.label[pairs[:, 0]] != test.label[pairs[:, 1]]]
        features = make_features(dataset, run.config.data.binarize).apply
        known = features(Example(train.x))
    return Setting(train, test, num, features, known, pairs)


def examples(run: Run, dataset: Dataset, split: str, most: int) -> Examples:
    # In an order of their own: a folder's are sorted by label.
    positions = np.random.default_rng(1).permutation(getattr(dataset, split).num)[:most]
    x = np.asarray(run.as_evaluated(dataset, split, positions).x)
    return Examples(x, getattr(dataset, split).labels(positions, ""))


# --- what is measured


def other_label(codes: np.ndarray, label: np.ndarray) -> float:
    """The share of pairs of other labels among the closest 1% of all pairs of codes."""
    first, second = np.triu_indices(len(codes), 1)
    squared = squared_distances(codes)[first, second]
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

    @jax.jit
    def draw(params, z, keys):
        return jax.vmap(lambda z, key: run.model.decode(params, z, None, key))(z, keys)

    keys = jax.random.split(jax.random.key(seed), len(z))
    return np.asarray(draw(run.params, z, keys)).reshape(len(z), -1)


def random_codes(run: Run, num: int, train: np.ndarray) -> dict[str, np.ndarray]:
    """Of N(0, I), and of an autoencoder also of distributions fitted to its codes `train`."""
    keys = jax.random.split(jax.random.key(1), num)
    drawn = jax.vmap(lambda key: run.model.sample_prior(run.params, key, run.hypers))(keys)
    if run.config.model.name != "ae":
        return {"VAE": np.asarray(drawn)}
    standard = jax.random.normal(jax.random.key(2), drawn.shape)
    mixture = GaussianMixture(min(COMPONENTS, len(train) // 10), random_state=0).fit(
        np.float64(train)
    )
    return {
        "AE": np.asarray(standard),
        "AE, Gaussian": np.asarray(drawn),
        # They come sorted by component.
        "AE, mixture": np.random.default_rng(0).permutation(np.float32(mixture.sample(num)[0])),
    }


def occupied(run: Run, x: np.ndarray, seed: int) -> np.ndarray:
    """Where the examples lie in code space: a draw of q(z|x), of an autoencoder the code."""
    q = run.encode(x)
    if run.config.model.name == "ae":
        return np.asarray(q.mean)
    return np.asarray(sample(q, jax.random.normal(jax.random.key(seed), q.mean.shape)))


def purity(setting: Setting, x: np.ndarray) -> float:
    """The share of the most frequent label among the nearest training examples, mean over x."""
    nearest = NearestNeighbors(n_neighbors=NEAR, algorithm="brute").fit(setting.known)
    found = nearest.kneighbors(setting.features(Example(x)), return_distance=False)
    label = setting.train.label[found]
    counts = np.stack([np.sum(label == one, 1) for one in np.unique(setting.train.label)])
    return float(np.mean(counts.max(0) / NEAR))


def of_model(run: Run, setting: Setting) -> dict[str, float]:
    """What depends on the codes of the examples."""
    train, test = setting.train, setting.test
    train_codes, test_codes = (np.asarray(run.encode(each.x).mean) for each in (train, test))
    path = line(*np.asarray(test_codes[setting.pairs.T]))
    decoded = np.asarray(run.decode(path.reshape(-1, run.latent_dim)))
    found = {"mse": run.entry()["test"]["mse"]}
    found["step"] = largest_step(decoded.reshape(*path.shape[:2], -1))
    if setting.features:
        some = slice(min(2000, setting.num))
        found["accuracy"] = nearest_neighbours(train_codes, train.label, test_codes, test.label)
        found["other"] = other_label(test_codes[some], test.label[some])
        found["purity"] = purity(setting, drawn_x(run, path[:, STEPS // 2], 3))
    return found


def of_samples(run: Run, setting: Setting) -> dict[str, dict[str, float]]:
    """{how codes are drawn: what depends on random codes}."""
    train, test = (occupied(run, each.x, i) for i, each in enumerate((setting.train, setting.test)))
    active = np.asarray(run.encode(setting.test.x).mean).var(0) > ACTIVE
    rows = {}
    for name, z in random_codes(run, setting.num, train).items():
        rows[name] = {"holes": holes(train[:, active], test[:, active], z[:, active])}
        if setting.features:
            rows[name] |= quality(setting, drawn_x(run, z, 4))
    return rows


def quality(setting: Setting, x: np.ndarray) -> dict[str, float]:
    found = neighbourhood(setting.known[: setting.num], setting.features(Example(x)))
    return {"precision": found.precision, "coverage": found.coverage}


def of_pixels(run: Run, setting: Setting) -> dict[str, float]:
    """The same of the examples themselves; half way is a cross-fade."""
    train, test = setting.train, setting.test
    blend = np.float32(test.x[setting.pairs.T].mean(0))
    if run.config.data.binarize != "none":
        blend = np.float32(np.random.default_rng(0).random(blend.shape) < blend)
    some = slice(min(2000, setting.num))
    return {
        "accuracy": nearest_neighbours(train.x, train.label, test.x, test.label),
        "other": other_label(test.x[some], test.label[some]),
        "purity": purity(setting, blend),
    } | quality(setting, test.x[: setting.num])


# --- what is shown


def draw(path: Path, runs: dict[str, list[Run]], setting: Setting, rows: dict, units) -> None:
    (ae, *_), (vae, *_) = runs["ae"], runs["vae"]
    panels = [(3.6, lambda figure: _code_maps(figure, ae, vae, setting))]
    if len(ae.example_shape) == 3:  # images
        middle = [runs[model][len(units) // 2] for model in ("ae", "vae")]
        panels.append((3.0, lambda figure: _random_codes(figure, *middle, setting)))
        panels.append((2.6, lambda figure: _interpolations(figure, *middle, setting)))
    panels.append((4.4, lambda figure: _numbers(figure, rows, units)))
    heights = [height for height, _ in panels]
    figure = Figure(figsize=(13, 0.985 * sum(heights)), layout="constrained", dpi=100)
    parts = figure.subfigures(len(panels), 1, height_ratios=heights)
    for part, (_, draw_panel) in zip(parts, panels, strict=True):
        draw_panel(part)
    figure.savefig(path)


def _code_maps(figure, ae: Run, vae: Run, setting: Setting) -> None:
    """Where the codes of test examples lie in the first two units, by label."""
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 1))
    test = setting.test
    maps = {
        "AE: codes": np.asarray(ae.encode(test.x).mean),
        "VAE: means of q(z|x)": np.asarray(vae.encode(test.x).mean),
        "VAE: draws of q(z|x)": occupied(vae, test.x, 1),
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


def _random_codes(figure, ae: Run, vae: Run, setting: Setting) -> None:
    axes = figure.subplots(1, 4)
    codes = random_codes(ae, 48, np.asarray(ae.encode(setting.train.x).mean))
    codes |= random_codes(vae, 48, codes["AE"])
    titles = ("AE, N(0, I)", "AE, fitted Gaussian", "AE, fitted mixture", "VAE, the prior")
    for axis, title, (name, z) in zip(axes, titles, codes.items(), strict=True):
        show(axis, (vae if name == "VAE" else ae).decode(z), 8, title, 10)
    figure.suptitle(f"Random codes of {ae.latent_dim} units, decoded", fontsize=11)


def _interpolations(figure, ae: Run, vae: Run, setting: Setting) -> None:
    axes = figure.subplots(1, 3)
    pairs = setting.pairs[:5]
    x = setting.test.x[pairs].reshape(len(pairs), 2, *ae.example_shape)
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
    titles = OF_MODELS | OF_SAMPLES
    shown = [key for key in titles if any(key in row for row in rows.values())]
    axes = figure.subplots(2, 4).ravel()
    for axis, key in zip(axes, shown, strict=False):
        for name, colour in COLOURS.items():
            values = [rows.get((name, unit), rows.get((name, "-"), {})).get(key) for unit in units]
            if None not in values:
                style = "--" if name == "pixels" else "o-"
                axis.plot(range(len(units)), values, style, color=colour, ms=4)
        axis.set_title(titles[key], fontsize=10)
        axis.set_xticks(range(len(units)), units)
        axis.set_ylim(bottom=0)
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    for axis in axes[4:]:
        axis.set_xlabel("latent units", fontsize=9)
    words = {"AE": "AE, N(0, I)", "pixels": "pixels, or test examples"}
    handles = [
        Line2D([], [], color=colour, label=words.get(name, name))
        for name, colour in COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)


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
    rows = {("pixels", "-"): of_pixels(runs["vae"][0], setting)} if setting.features else {}
    for unit, *pair in zip(args.units, runs["ae"], runs["vae"], strict=True):
        for run in pair:
            name = run.config.model.name.upper()
            rows |= {(kind, unit): row for kind, row in of_samples(run, setting).items()}
            rows[name, unit] |= of_model(run, setting)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    draw(output / "figure.png", runs, setting, rows, args.units)
    lines = [*_table("codes", rows, OF_MODELS), "", *_table("random codes", rows, OF_SAMPLES)]
    write(output / "table.md", began, lines, [some[0].results for some in runs.values()])


def _table(title: str, rows: dict, titles: dict[str, str]) -> list[str]:
    """The rows that have any of these numbers."""
    digits, cells = {"mse": 4, "step": 2}, []
    for (name, unit), row in rows.items():
        values = [f"{row[key]:.{digits.get(key, 3)}f}" if key in row else "" for key in titles]
        if any(values):
            cells.append([name if unit == "-" else f"{name}, {unit} units", *values])
    return table([title, *titles.values()], cells)


if __name__ == "__main__":
    main()
