"""Variational autoencoders in JAX: train one or a whole population, and believe the numbers.

run = vae_jax.train(config, "runs/mine")
run = vae_jax.load("runs/mine")
"""

__version__ = "0.1.0"

# After the submodules of the same names have been imported: `vae_jax.train` is the function.
from vae_jax.api import Run, evaluate, load, train

__all__ = ["Run", "evaluate", "load", "train"]
