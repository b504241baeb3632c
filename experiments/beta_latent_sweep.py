"""Which beta, which latent dimension? 64 VAEs on MNIST in one program: 8 values of beta x 8 latent
dimensions.

    python experiments/beta_latent_sweep.py --workdir=runs/beta_latent_sweep
    --output=experiments/beta_latent_sweep

The network and the recipe are those of configs/mnist.py, for fewer epochs. What it leaves in
--output is the rate-distortion plot, the heat maps, a strip of samples of each member, sweep.csv,
and table.md with the command, the hardware and the time. The same command again goes on where it
stopped.
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

import jax

import vae_jax
from vae_jax import default
from vae_jax.results import sweep_table

BETAS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
LATENT_DIMS = (2, 3, 5, 8, 16, 32, 64, 128)
FILES = ("rate_distortion.png", "heat_maps.png", "strips.png", "sweep.csv")


def make_config(args):
    config = default()
    config.data.data_dir = args.data_dir
    config.train.num_epochs = args.epochs
    config.eval.nll_samples = args.nll_samples
    config.sweep.beta, config.sweep.latent_dim = BETAS, LATENT_DIMS
    return config


def report(results: dict) -> str:
    data, minutes = results["dataset"], results["wall_time_s"] / 60
    return (
        f"    python {shlex.join(sys.argv)}\n\n{len(results['members'])} members, "
        f"{results['epoch']:g} epochs of {data['name']} ({data['source']}, {data['num_train']:,} "
        f"examples); {minutes:.0f} minutes of training on {jax.device_count()} x "
        f"{jax.devices()[0].device_kind}, {results['examples_per_s']:,.0f} examples/s over all "
        f"members.\n\n```\n{sweep_table.text(results['members'])}\n```\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=float, default=15.0)
    parser.add_argument("--nll_samples", type=int, default=100)
    parser.add_argument("--data_dir", default="", help="where prepared TFDS data lies")
    parser.add_argument("--workdir", default="runs/beta_latent_sweep")
    parser.add_argument("--output", default="experiments/beta_latent_sweep")
    args = parser.parse_args()
    run = vae_jax.train(make_config(args), args.workdir)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(Path(args.workdir, name), output / name)
    (output / "table.md").write_text(report(run.results))


if __name__ == "__main__":
    main()
