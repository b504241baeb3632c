"""What is similar? Images around an image, between two, and the images that one explains.

    python -m vae_jax.main --config=configs/mnist.py
    python experiments/similarity.py --workdir=runs/mnist

Three parts, of test images of a trained run:

    around        z = mean + T sigma eps at growing temperature T: do a classifier's labels stay?
    between       along the line from one code to another, against the cross-fade of the images
    nearest       how much image a helps to explain b, log p(b|a) = log E_q(z|a)[p(b|z)]: the labels
                  of nearest neighbours by it, against those by other distances

The classifier is 5 nearest neighbours among 10,000 training images. log p(x) is of binary draws of
the means.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from drawing import show, squared_distances, table, write
from matplotlib.figure import Figure
from sklearn.neighbors import KNeighborsClassifier
from strangeness import binarized, log_p

import vae_jax
from vae_jax import distributions
from vae_jax.errors import UserError

TEMPERATURES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the way from one image to another
NEIGHBOURS = (1, 5)
# Measures of similarity, as in the table.
GIVEN, KL = "log p(b\\|a), 10 draws of z", "KL(q(z\\|b) \\|\\| q(z\\|a))"
MEANS, PIXELS = "distance of the means of q(z\\|x)", "distance of the binary pixels"

# --- images around and between others


def around(run, x: np.ndarray, temperature: float, num: int, seed: int) -> np.ndarray:
    """Means of p(x|z) at z = mean + temperature * sigma * eps, `num` for each x, [n * num, ...]."""
    q = run.encode(x)
    eps = jax.random.normal(jax.random.key(seed), (len(x), num, run.latent_dim))
    z = q.mean[:, None] + temperature * jnp.exp(0.5 * q.logvar)[:, None] * eps
    return np.asarray(run.decode(z.reshape(-1, run.latent_dim)))


def log_p_of_means(run, y: np.ndarray, seed: int) -> float:
    """The mean log p(x) of binary draws of the means y of p(x|z)."""
    return float(log_p(run, binarized(255 * np.asarray(y, np.float64), seed)).mean())


class Warm(NamedTuple):
    """Of images around others, at one temperature."""

    temperature: float
    same: float  # share that the classifier labels like the image they were made from
    log_p: float  # mean, of binary draws


def temperatures(run, x, label, classifier, args) -> list[Warm]:
    """What becomes of images `x` as the temperature grows."""
    found = []
    for i, temperature in enumerate(TEMPERATURES):
        y = around(run, x, temperature, args.draws, i)
        same = classifier.predict(y.reshape(len(y), -1)) == np.repeat(label, args.draws)
        found.append(Warm(temperature, float(same.mean()), log_p_of_means(run, y, i)))
        print(found[-1], flush=True)
    return found


def blend(a: np.ndarray, b: np.ndarray, step: float) -> np.ndarray:
    return (1 - step) * a + step * b


def between(run, x: np.ndarray, label: np.ndarray) -> list[tuple[float, float, float]]:
    """(step, log p of the line of codes, log p of the cross-fade) of pairs of unlike labels."""
    half = len(x) // 2
    unlike = label[:half] != label[half : 2 * half]
    codes = np.asarray(run.encode(x).mean)
    a, b = codes[:half][unlike], codes[half : 2 * half][unlike]
    ends = [np.asarray(run.decode(z)) for z in (a, b)]
    found = []
    for i, step in enumerate(STEPS):
        line, fade = np.asarray(run.decode(blend(a, b, step))), blend(*ends, step)
        found.append((step, *(log_p_of_means(run, y, i) for y in (line, fade))))
        print(found[-1], flush=True)
    return found


# --- the images that one explains


def log_p_given(run, x: np.ndarray, num: int) -> np.ndarray:
    """log p(b|a) = log E_{q(z|a)}[p(b|z)] by `num` draws of z, [a, b]; 0 draws: at the mean."""
    q, rows = run.encode(x), x.reshape(len(x), -1).astype(np.float32)
    found = []
    for i in range(max(num, 1)):
        eps = jax.random.normal(jax.random.key(i), q.mean.shape) * (num > 0)
        y = np.asarray(run.decode(distributions.sample(q, eps)))
        y = np.clip(y.reshape(len(y), -1), 1e-6, 1 - 1e-6)
        found.append(np.log(y) @ rows.T + np.log1p(-y) @ (1 - rows.T))
    return np.logaddexp.reduce(found) - np.log(len(found))


def divergence(q) -> np.ndarray:
    """KL(q(z|b) || q(z|a)) of diagonal Gaussians, [a, b]."""
    mean, variance = np.asarray(q.mean, np.float64), np.exp(np.asarray(q.logvar, np.float64))
    ratio = (1 / variance) @ (variance + mean**2).T - 2 * (mean / variance) @ mean.T
    ratio += np.sum(mean**2 / variance, 1)[:, None]
    logs = np.sum(np.log(variance), 1)
    return 0.5 * (ratio - mean.shape[1] + logs[:, None] - logs)


def accuracy(similarity: np.ndarray, label: np.ndarray, k: int) -> float:
    """Of the label by the k most similar others, [a, b] for b; ties go to the nearest."""
    similarity = similarity - np.where(np.eye(len(label)) > 0, np.inf, 0.0)
    nearest = np.argsort(-similarity, axis=0, kind="stable")[:k]
    weight = 1 - 1e-3 * np.arange(k)
    votes = np.zeros((len(label), label.max() + 1))
    for row, w in zip(nearest, weight, strict=True):
        votes[np.arange(len(label)), label[row]] += w
    return float(np.mean(votes.argmax(1) == label))


class Alike(NamedTuple):
    """How much an image helps to explain others."""

    accuracy: dict[str, list[float]]  # {measure: over NEIGHBOURS}
    same: float  # log p(b|a) - log p(b), mean over pairs of one label, nats
    other: float  # over pairs of two
    helps: float  # share of the pairs of one label where it is positive


def similarity(run, x: np.ndarray, label: np.ndarray) -> Alike:
    """Of binary images x, 0 or 1."""
    flat, q = x.reshape(len(x), -1).astype(np.float64), run.encode(x)
    given = log_p_given(run, x, 10)
    measures = {
        GIVEN: given,
        "log p(b\\|z) at the mean of q(z\\|a)": log_p_given(run, x, 0),
        "log p(b\\|a) + log p(a\\|b)": given + given.T,
        KL: -divergence(q),
        MEANS: -squared_distances(np.asarray(q.mean, np.float64)),
        PIXELS: -squared_distances(flat),
    }
    found = {name: [accuracy(m, label, k) for k in NEIGHBOURS] for name, m in measures.items()}
    gain = given - log_p(run, (255 * x).astype(np.uint8))
    alike = label[:, None] == label
    pairs = ~np.eye(len(label), dtype=bool)
    same, other = gain[alike & pairs], gain[~alike]
    return Alike(found, float(same.mean()), float(other.mean()), float(np.mean(same > 0)))


# --- what is shown


def generated_figure(run, x: np.ndarray, label: np.ndarray, warm: list[Warm], lines) -> Figure:
    """Images around one, between two and from the prior; and what was measured of them."""
    figure = Figure(figsize=(13, 7.4), layout="constrained", dpi=100)
    top, bottom = figure.subplots(2, 3)
    rows = [around(run, x[:1], temperature, 10, 7) for temperature in TEMPERATURES]
    show(top[0], np.concatenate(rows), 10, "around one digit; a row for each temperature")
    top[0].set_axis_on()
    side = x.shape[1]
    places = [side * (i + 0.5) for i in range(len(TEMPERATURES))]
    top[0].set_yticks(places, [f"T = {t:g}" for t in TEMPERATURES], fontsize=8)
    top[0].set_xticks([])
    top[0].spines[:].set_visible(False)
    show(top[1], paths(run, x, label), 9, "codes on a line, and the cross-fade of its ends")
    show(top[2], np.asarray(run.sample(jax.random.key(3), 60)), 10, "from the prior")
    axis = bottom[0]
    axis.plot(TEMPERATURES, [some.same for some in warm], "o-", color="#1f77b4")
    decorate(axis, "share labelled like the digit they surround", "temperature T")
    axis.set_ylim(0, 1)
    axis = bottom[1]
    for column, colour, name in ((1, "#1f77b4", "line of codes"), (2, "#d62728", "cross-fade")):
        axis.plot(STEPS, [line[column] for line in lines], "o-", color=colour, label=name)
    axis.legend(fontsize=8, frameon=False)
    decorate(axis, "mean log p(x) between two digits, nats", "way from one to the other")
    bottom[2].plot(TEMPERATURES, [some.log_p for some in warm], "o-", color="#1f77b4")
    decorate(bottom[2], "mean log p(x) around a digit, nats", "temperature T")
    return figure


def decorate(axis, title: str, name: str) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(name, fontsize=9)
    axis.grid(color="0.92")
    axis.spines[["top", "right"]].set_visible(False)


def paths(run, x: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Three pairs of unlike digits: nine means along the line, and below their cross-fade."""
    half, rows = len(x) // 2, []
    unlike = np.flatnonzero(label[:half] != label[half : 2 * half])[:3]
    for i in unlike:
        codes = np.asarray(run.encode(x[[i, i + half]]).mean)
        ends = np.asarray(run.decode(codes))
        steps = np.linspace(0, 1, 9)
        rows.append(np.asarray(run.decode(np.stack([blend(*codes, step) for step in steps]))))
        rows.append(np.stack([blend(*ends, step) for step in steps]))
    return np.concatenate(rows)


def study(run, dataset, args) -> tuple[Figure, list[str]]:
    """The figure and the lines of the table."""
    order = np.random.default_rng(0).permutation(dataset.test.num)
    chosen = order[: min(args.num, dataset.test.num // 2)]
    x, label = (
        binarized(dataset.test.take(chosen), 0) / np.float32(255),
        dataset.test.labels(chosen),
    )
    some = slice(0, min(10_000, dataset.train.num))
    train = dataset.train.take(some).reshape(-1, x[0].size) / 255.0
    classifier = KNeighborsClassifier(5).fit(train, dataset.train.labels(some))
    grey = dataset.test.take(chosen).reshape(len(chosen), -1) / 255.0
    right = float(np.mean(classifier.predict(grey) == label))
    warm = temperatures(run, x[: args.originals], label[: args.originals], classifier, args)
    lines = between(run, x, label)
    more = order[: args.alike]
    x_more = binarized(dataset.test.take(more), 200) / np.float32(255)
    alike = similarity(run, x_more, dataset.test.labels(more))
    of_warm = [[f"{w.temperature:g}", f"{w.same:.3f}", f"{w.log_p:.1f}"] for w in warm]
    of_lines = [[f"{step:g}", f"{line:.1f}", f"{fade:.1f}"] for step, line, fade in lines]
    near = [[name, *(f"{v:.3f}" for v in values)] for name, values in alike.accuracy.items()]
    text = [
        *table(["temperature T", "labelled like the original", "mean log p"], of_warm),
        f"\nThe classifier labels {right:.3f} of the test images right.\n",
        *table(["way from one image to another", "line of codes", "cross-fade"], of_lines),
        "",
        *table(["nearest by", *(f"accuracy, k = {k}" for k in NEIGHBOURS)], near),
        f"\nlog p(b|a) - log p(b), nats: {alike.same:.0f} in the mean over pairs of one label, "
        f"{alike.other:.0f} over others; above 0 for {alike.helps:.1%} of the former.",
    ]
    return generated_figure(run, x, label, warm, lines), text


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/mnist", help="of a run of configs/mnist.py")
    parser.add_argument("--output", default="experiments/similarity")
    parser.add_argument("--num", type=int, default=1000, help="images to pair")
    parser.add_argument("--samples", type=int, default=200, help="importance samples")
    parser.add_argument("--originals", type=int, default=100, help="images to draw around")
    parser.add_argument("--draws", type=int, default=10, help="around each")
    parser.add_argument("--alike", type=int, default=2000, help="images to compare in pairs")
    args = parser.parse_args(argv)
    began = time.monotonic()
    try:
        run = vae_jax.load(args.workdir)
        dataset = run.dataset()
    except UserError as error:
        sys.exit(str(error))
    run.config.unlock().eval.nll_samples = args.samples
    figure, lines = study(run, dataset, args)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    figure.savefig(output / "figure.png")
    write(output / "table.md", began, lines)


if __name__ == "__main__":
    main()
