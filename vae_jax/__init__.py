"""Variational autoencoders in JAX: train one or a whole population, and believe the numbers.

config = vae_jax.default()
run = vae_jax.train(config, "runs/mine")
run = vae_jax.load("runs/mine")
"""

__version__ = "0.1.0"

from vae_jax.api import Run, encode, evaluate, load, report, train
from vae_jax.parts import default

__all__ = ["Run", "default", "encode", "evaluate", "load", "report", "train"]
