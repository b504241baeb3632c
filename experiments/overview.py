"""The picture at the top of the README, from a finished run of configs/mnist.py.

python3 -m vae_jax.main --config=configs/mnist.py
python3 experiments/overview.py --workdir=runs/mnist --output=experiments/mnist/overview.png
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from drawing import show
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import vae_jax
from vae_jax import data


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/mnist")
    parser.add_argument("--data_dir", default="", help="where prepared TFDS data lies")
    parser.add_argument("--output", default="experiments/mnist/overview.png")
    args = parser.parse_args()
    run = vae_jax.load(args.workdir)
    dataset = data.load(
        run.config.data.name, data_dir=args.data_dir, num_valid=run.config.data.num_valid
    )
    x = dataset.test.take(slice(0, 50))
    pairs = np.stack([x / 255.0, run.reconstruct(jax.random.key(1), x)], 1)  # [50, 2, H, W, 1]
    rows = (
        pairs.reshape(5, 10, 2, *x.shape[1:]).transpose(0, 2, 1, 3, 4, 5).reshape(100, *x.shape[1:])
    )
    codes, label = (
        np.asarray(run.encode(dataset.test.take(slice(None))).mean),
        dataset.test.labels(slice(None)),
    )
    plane = LinearDiscriminantAnalysis(n_components=2).fit_transform(codes, label)

    figure = Figure(figsize=(13, 4.6), layout="constrained", dpi=110)
    axes = figure.subplots(1, 3)
    show(
        axes[0], np.asarray(run.sample(jax.random.key(0), 100)), 10, "decoded draws from the prior"
    )
    show(axes[1], rows, 10, "test digits, and below each its reconstruction")
    for digit in range(10):
        colour = colormaps["tab10"].colors[digit]
        axes[2].scatter(
            *plane[label == digit].T, s=1.5, linewidths=0, color=colour, label=str(digit)
        )
    axes[2].set_title(
        f"codes of {len(codes):,} test digits, in the plane that separates the labels best",
        fontsize=10,
    )
    axes[2].legend(
        markerscale=6, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False
    )
    axes[2].set_axis_off()
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.output)


if __name__ == "__main__":
    main()
