"""How much do rounded products change log p(x) on a GPU or TPU?

The importance-weighted bound of the same test images, binarized once, with the same noise, under a
trained model: on the CPU, then on the accelerator with products of each precision.

    python3 -m vae_jax.main --config=configs/mnist.py --config.train.num_epochs=3 --workdir=runs/3
    python3 experiments/precision.py --workdir=runs/3
"""

import argparse
import sys

import jax
import numpy as np

import vae_jax
from vae_jax.workdir import record

PRECISIONS = ("highest", "tensorfloat32", "bfloat16")


def log_p(workdir: str, x: np.ndarray, samples: int, device, precision: str) -> np.ndarray:
    """log p(x) in nats, float64 [n], computed on `device`."""
    run = vae_jax.load(workdir)
    run.params = jax.device_put(run.params, device)
    with jax.default_device(device), jax.default_matmul_precision(precision):
        key, x = jax.device_put((jax.random.key(1), x), device)
        return np.asarray(run.log_likelihood(key, x, samples), np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="of a run on images")
    parser.add_argument("--num", type=int, default=2000, help="test images")
    parser.add_argument("--samples", type=int, default=16, help="importance samples of each")
    args = parser.parse_args()
    device, cpu = jax.devices()[0], jax.devices("cpu")[0]
    if device == cpu:
        sys.exit("JAX sees no GPU or TPU here: there is nothing to compare with the CPU")
    run = vae_jax.load(args.workdir)
    dataset = record.load_dataset(run.config, run.workdir)
    grey = dataset.test.take(slice(args.num)) / np.float32(255)
    x = (np.random.default_rng(0).random(grey.shape) < grey).astype(np.float32)
    truth = log_p(args.workdir, x, args.samples, cpu, "highest")
    print(f"{device.device_kind}, jax {jax.__version__}; {len(x)} test images, log p(x) in nats\n")
    print("| products | mean difference from the CPU | sd | largest |\n|:--|--:|--:|--:|")
    for precision in PRECISIONS:
        error = log_p(args.workdir, x, args.samples, device, precision) - truth
        largest = np.abs(error).max()
        print(f"| {precision} | {error.mean():.1e} | {error.std():.1e} | {largest:.1e} |")


if __name__ == "__main__":
    main()
