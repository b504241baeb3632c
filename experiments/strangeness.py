"""What does log p(x) say of images that are no digits? Strangeness by a VAE, and its remedies.

    python -m vae_jax.main --config=configs/mnist.py
    python experiments/strangeness.py --workdir=runs/mnist

Test digits against letters, turned and negative digits, shapes, noise, blank images: which score
tells them apart, by AUROC? The scores, larger for what is stranger:

    log p          -log p(x), by importance samples
    ELBO           -ELBO(x)
    complexity     -log p(x) - L(x), L the length in nats of the image under a lossless compressor
                   (Serra et al. 2020): the best of PNG and zlib, or an adaptive code of binary
                   pixels given six neighbours (Krichevsky-Trofimov), as in JBIG
    ratio          log p_0(x) - log p(x), p_0 a background model (Ren et al. 2019): the same VAE,
                   trained on digits of which a share of the pixels is noise; or each pixel's mean
    typicality     |log p(x) - its mean over validation digits| (Nalisnick et al. 2019)
    autoencoder    -log p(x|z) at the code of a plain autoencoder of the same network: how well x is
                   reconstructed, which is no probability of x

Nothing is tuned: shares, sizes and compressors were fixed before the scores were seen. Every image
is made of grey values, and each of its pixels then becomes 1 with this probability, once, as the
evaluation does with the test digits; all scores are of these binary images.
"""

import argparse
import io
import sys
import textwrap
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from drawing import table, tiles, write
from matplotlib import get_data_path
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from sklearn.metrics import roc_auc_score

import vae_jax
from vae_jax import data
from vae_jax.data import Dataset, Split
from vae_jax.errors import UserError
from vae_jax.run import Run

MUTATED = 0.2  # share of the pixels that are noise in the background's training digits
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SCORES = (
    "log p",
    "ELBO",
    "complexity, PNG or zlib",
    "complexity, six neighbours",
    "ratio, pixel means",
    "ratio, mutated digits",
    "typicality",
    "autoencoder",
)

# --- images, uint8 [n, H, W, 1]


def binarized(grey: np.ndarray, seed: int) -> np.ndarray:
    """Each pixel 255 with the probability that is its grey value, else 0."""
    uniform = np.random.default_rng(seed).random(grey.shape)
    return np.where(uniform < grey / 255.0, 255, 0).astype(np.uint8)


def letters(num: int, side: int, seed: int) -> np.ndarray:
    """Letters of matplotlib's DejaVu fonts, as large as digits are, a little off the centre."""
    rng = np.random.default_rng(seed)
    fonts = sorted(Path(get_data_path(), "fonts", "ttf").glob("DejaVu*.ttf"))
    fonts = [path for path in fonts if "Display" not in path.name]
    return np.stack([letter(rng, fonts, side) for _ in range(num)])[..., None]


def letter(rng: np.random.Generator, fonts: list[Path], side: int) -> np.ndarray:
    size = round(side * rng.uniform(0.6, 0.9))
    font = ImageFont.truetype(str(fonts[rng.integers(len(fonts))]), size)
    image = Image.new("L", (side, side))
    shift = rng.uniform(-1, 1, 2) * side / 14
    place = tuple(side / 2 + shift)
    text = LETTERS[rng.integers(len(LETTERS))]
    ImageDraw.Draw(image).text(place, text, fill=255, font=font, anchor="mm")
    return np.asarray(image)


def rectangles(num: int, side: int, seed: int) -> np.ndarray:
    """One rectangle each, of any place, with sides from 2 pixels to half the image."""
    rng = np.random.default_rng(seed)
    images = np.zeros((num, side, side, 1), np.uint8)
    for image in images:
        height, width = rng.integers(2, side // 2 + 1, 2)
        top, left = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
        image[top : top + height, left : left + width] = 255
    return images


def shuffled_pixels(x: np.ndarray, seed: int) -> np.ndarray:
    """The pixels of each image in an order of their own."""
    rows = x.reshape(len(x), -1)
    return np.random.default_rng(seed).permuted(rows, axis=1).reshape(x.shape)


def strange(x: np.ndarray, args) -> dict[str, np.ndarray]:
    """Sets of images that are no digits, some of them made of the digits x."""
    num, side = len(x), x.shape[1]
    found = {
        "letters": letters(num, side, 1),
        "Fashion-MNIST": fashion(num, x.shape[1:], args),
        "digits turned by 90°": np.rot90(x, axes=(1, 2)),
        "digits mirrored": x[:, :, ::-1],
        "digits negative": 255 - x,
        "digits, pixels shuffled": shuffled_pixels(x, 2),
        "noise, fair coins": np.full_like(x, 128),
        "one rectangle": rectangles(num, side, 3),
        "blank, all 0": np.zeros_like(x[:1]),
        "full, all 1": np.full_like(x[:1], 255),
    }
    return {name: images for name, images in found.items() if images is not None}


def fashion(num: int, shape: tuple[int, ...], args) -> np.ndarray | None:
    """Test images of Fashion-MNIST; None where it cannot be had, or where digits are smaller."""
    if shape != (28, 28, 1):
        return None
    try:
        found = data.load("fashion_mnist", data_dir=args.data_dir, num_valid=1)
    except UserError as error:
        print(f"no Fashion-MNIST: {error}", flush=True)
        return None
    return found.test.take(slice(0, num))


# --- the length of a binary image under a lossless compressor, nats [n]


def file_length(x: np.ndarray) -> np.ndarray:
    """By the best of PNG and zlib, of one bit a pixel, and of zlib of one byte a pixel."""
    return np.array([8 * np.log(2) * shortest(image[..., 0]) for image in x])


def shortest(image: np.ndarray) -> int:
    """Bytes."""
    packed, png = np.packbits(image > 0).tobytes(), io.BytesIO()
    Image.fromarray(image).convert("1").save(png, "png", optimize=True)
    lengths = [len(zlib.compress(text, 9)) for text in (packed, image.tobytes())]
    return min(*lengths, png.tell())


def context_length(x: np.ndarray) -> np.ndarray:
    """By an adaptive code: each pixel given the six before it that are nearest.

    The probability of a 1 is (ones + 1/2) / (times + 1) of what this context had before in the
    image: the estimate of Krichevsky and Trofimov.
    """
    bits = (x[..., 0] > 0).astype(np.int64)
    num, height, width = bits.shape
    padded = np.pad(bits, ((0, 0), (2, 0), (2, 1)))
    offsets = ((0, -1), (0, -2), (-1, -1), (-1, 0), (-1, 1), (-2, 0))
    counts, length, rows = np.full((num, 64, 2), 0.5), np.zeros(num), np.arange(num)
    for i in range(height):
        for j in range(width):
            near = [padded[:, i + 2 + down, j + 2 + right] for down, right in offsets]
            context = sum(bit << place for place, bit in enumerate(near))
            bit = bits[:, i, j]
            seen = counts[rows, context]
            length -= np.log(seen[rows, bit] / seen.sum(1))
            counts[rows, context, bit] += 1
    return length


# --- the scores


class Found(NamedTuple):
    """What is known of the n images of a set, nats."""

    x: np.ndarray  # binary, uint8 [n, H, W, 1]
    log_p: np.ndarray  # [n]
    elbo: np.ndarray
    of_files: np.ndarray
    of_contexts: np.ndarray
    of_means: np.ndarray  # log p_0 by the means of the pixels
    of_mutated: np.ndarray  # log p_0 of the VAE of mutated digits
    distortion: np.ndarray  # of the autoencoder

    def scores(self, typical: float) -> dict[str, np.ndarray]:
        """{score: [n]}, larger for what is stranger; `typical` is the mean log p of digits."""
        found = (
            -self.log_p,
            -self.elbo,
            -self.log_p - self.of_files,
            -self.log_p - self.of_contexts,
            self.of_means - self.log_p,
            self.of_mutated - self.log_p,
            np.abs(self.log_p - typical),
            self.distortion,
        )
        return dict(zip(SCORES, found, strict=True))


def log_p(run: Run, x: np.ndarray) -> np.ndarray:
    """The importance-weighted log p(x) of binary images [n]."""
    return scored(run, x).log_p


def scored(run: Run, x: np.ndarray):
    """ELBO and log p(x) of binary images, as the evaluation has them."""
    return run.score(Split(x, {}, np.arange(len(x))))


def distortions(run: Run, x: np.ndarray) -> np.ndarray:
    """-log p(x|z) of binary images at their codes, nats [n]."""
    flat = np.float32(x.reshape(len(x), -1) > 0)

    @jax.jit
    def draws(params, x):
        return jax.vmap(lambda x: run.model.draw(params, x, None, run.hypers))(x)

    return np.asarray(draws(run.params, flat).distortion)


def measure(models: "Models", pixel_mean: np.ndarray, x: np.ndarray) -> Found:
    """What the models and the compressors say of binary images."""
    own, bits = scored(models.run, x), (x > 0).reshape(len(x), -1)
    of_means = np.where(bits, np.log(pixel_mean), np.log1p(-pixel_mean)).sum(1)
    lengths, of_mutated = (file_length(x), context_length(x)), log_p(models.background, x)
    code = distortions(models.autoencoder, x)
    return Found(x, own.log_p, own.elbo, *lengths, of_means, of_mutated, code)


def mutated(x: np.ndarray, seed: int) -> np.ndarray:
    """Grey images, a share of whose pixels has become any grey value (Ren et al. 2019)."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, x.shape, dtype=np.uint8)
    return np.where(rng.random(x.shape, dtype=np.float32) < MUTATED, noise, x)


class Models(NamedTuple):
    """The trained run, and two others of the same network."""

    run: Run
    background: Run  # a VAE of mutated digits
    autoencoder: Run


def trained_beside(run: Run, dataset: Dataset, args) -> Models:
    """Trains the background model and the autoencoder, for fewer epochs."""
    config = run.config.copy_and_resolve_references().unlock()
    config.train.num_epochs, config.train.schedule_epochs = args.epochs, 0.0
    config.train.steps_per_call = 0
    config.eval.every_epochs = config.checkpoint.every_epochs = args.epochs
    config.eval.nll_samples, config.eval.estimators = 10, ()
    folder, plain = Path(args.workdirs), config.copy_and_resolve_references()
    plain.model.name = "ae"
    autoencoder = vae_jax.train(plain, folder / "autoencoder")
    grey = mutated(dataset.train.take(slice(None)), 0)
    num = dataset.valid.num
    made = data.from_arrays("mutated", grey, num_valid=num, num_test=num)
    return Models(run, vae_jax.train(config, folder / "mutated", dataset=made), autoencoder)


def pixel_means(dataset: Dataset) -> np.ndarray:
    """The probability of a 1 at each pixel of the training digits, never 0 or 1 [D]."""
    num, total = dataset.train.num, 0.0
    for block in dataset.train.blocks():
        total = total + block.x.sum(0, dtype=np.float64) / 255
    return (total + 0.5) / (num + 1)


def areas(digits: Found, others: dict[str, Found], typical: float) -> dict[str, dict[str, float]]:
    """{set: {score: AUROC of digits against the set}}: 0.5 is chance, 1 tells all apart."""
    own, found = digits.scores(typical), {}
    for name, other in others.items():
        scores = other.scores(typical)
        label = np.repeat([0, 1], [len(digits.x), len(other.x)])
        both = {key: np.concatenate([own[key], scores[key]]) for key in SCORES}
        found[name] = {key: float(roc_auc_score(label, both[key])) for key in SCORES}
    return found


# --- what is shown


def strangeness_figure(sets: dict[str, Found], auroc: dict[str, dict[str, float]]) -> Figure:
    """Examples and log p(x) of each set, and the AUROC of each score: a row for each set."""
    figure = Figure(figsize=(14, 6), layout="constrained", dpi=100)
    pictures, values, heat = figure.subplots(1, 3, width_ratios=(1.15, 1.8, 2.7))
    first = [np.resize(found.x, (5, *found.x.shape[1:])) for found in sets.values()]
    draw_rows(pictures, np.concatenate(first) / 255, list(sets))
    draw_values(values, [found.log_p for found in sets.values()])
    draw_heat(heat, [auroc.get(name, {}) for name in sets])
    return figure


def draw_rows(axis, images: np.ndarray, names: list[str]) -> None:
    columns, side = len(images) // len(names), images.shape[1]
    axis.imshow(tiles(images, columns), cmap="gray_r", vmin=0, vmax=1, aspect="auto")
    axis.set_yticks([side * (i + 0.5) for i in range(len(names))], names, fontsize=9)
    axis.set_xticks([])
    axis.set_title("five of each, ink is 1", fontsize=9)


def draw_values(axis, log_p: list[np.ndarray]) -> None:
    for i, values in enumerate(log_p):
        if len(values) == 1:
            axis.plot(values, i, "D", ms=6, color="#d62728")
            continue
        low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
        axis.plot([low, high], [i, i], lw=6, color="#1f77b4" if i == 0 else "0.6")
        axis.plot(middle, i, "|", ms=12, color="black")
    axis.set_ylim(len(log_p) - 0.5, -0.5)
    axis.set_yticks([])
    axis.set_xscale("symlog", linthresh=100, linscale=2)
    ticks = [-10_000, -1000, -100, -50, 0]
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8)
    axis.set_xlim(min(values.min() for values in log_p) * 1.5, 0)
    axis.set_title("log p(x), nats: 5% to 95%, median; red: one image", fontsize=9)
    axis.grid(color="0.92")


def draw_heat(axis, rows: list[dict[str, float]]) -> None:
    table = np.array([[row.get(score, np.nan) for score in SCORES] for row in rows])
    axis.imshow(table, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            colour = "white" if abs(value - 0.5) > 0.35 else "black"
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=9, color=colour)
    axis.set_yticks([])
    names = [textwrap.fill(name, 11) for name in SCORES]
    axis.set_xticks(range(len(SCORES)), names, fontsize=8)
    axis.set_title("AUROC, test digits against the set: 0.5 is chance", fontsize=9)


def rows_of(sets: dict[str, Found], auroc: dict[str, dict[str, float]]) -> list[list]:
    """The rows of the table: a set each, then the least and the mean of each score."""
    rows = []
    for name, found in sets.items():
        values = found.log_p, found.log_p - found.elbo, found.of_files, found.of_contexts
        row = [name, len(found.x), *(f"{np.mean(value):,.1f}" for value in values)]
        cells = [f"{value:.3f}" for value in auroc.get(name, {}).values()]
        rows.append(row + (cells or [""] * len(SCORES)))
    if "Fashion-MNIST" not in sets:
        rows.append(["Fashion-MNIST", "not at hand"] + [""] * (4 + len(SCORES)))
    several = [row for name, row in auroc.items() if len(sets[name].x) > 1]
    for name, of in (("least of sets of several", np.min), ("mean of these", np.mean)):
        column = [of([row[score] for row in several]) for score in SCORES]
        rows.append([name] + [""] * 5 + [f"{value:.3f}" for value in column])
    return rows


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/mnist", help="of a run of configs/mnist.py")
    parser.add_argument("--workdirs", default="runs/strangeness", help="of what is trained here")
    parser.add_argument("--data_dir", default="", help="where prepared TFDS data lies")
    parser.add_argument("--output", default="experiments/strangeness")
    parser.add_argument("--num", type=int, default=1000, help="images of each set")
    parser.add_argument("--samples", type=int, default=200, help="importance samples")
    parser.add_argument("--epochs", type=float, default=20.0, help="of the two models trained here")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    began = time.monotonic()
    try:
        run = vae_jax.load(args.workdir)
        dataset = run.dataset()
        models = trained_beside(run, dataset, args)
    except UserError as error:
        sys.exit(str(error))
    for model in models:
        model.config.unlock().eval.nll_samples = args.samples
    order = np.random.default_rng(0).permutation(dataset.test.num)
    num = min(args.num, dataset.test.num // 2)
    grey = {"test digits": dataset.test.take(order[:num])}
    grey |= strange(dataset.test.take(order[num : 2 * num]), args)
    pixel_mean, sets = pixel_means(dataset), {}
    for i, (name, images) in enumerate(grey.items()):
        sets[name] = measure(models, pixel_mean, binarized(images, i))
    held_out = binarized(dataset.valid.take(slice(0, num)), 100)
    typical = float(log_p(run, held_out).mean())
    auroc = areas(sets["test digits"], dict(list(sets.items())[1:]), typical)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    strangeness_figure(sets, auroc).savefig(output / "figure.png")
    drawn = np.asarray(255 * run.sample(5, num, noise=True)).astype(np.uint8)
    digits = sets["test digits"].log_p
    about = (
        "AUROC of test digits against each set; of one image the share of digits that are less "
        "strange. L: code length, nats; log p: bound of "
        f"{args.samples} importance samples, nats. The largest log p of a test digit is "
        f"{digits.max():.1f}; the mean of draws of the model is {log_p(run, drawn).mean():.1f}."
    )
    names = ["images", "n", "mean log p", "log p - ELBO", "L, files", "L, neighbours", *SCORES]
    lines = [about, "", *table(names, rows_of(sets, auroc))]
    trainings = [models.background.results, models.autoencoder.results]
    write(output / "table.md", began, lines, trainings)


if __name__ == "__main__":
    main()
