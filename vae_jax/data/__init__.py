"""Datasets as memory-mapped arrays, and the order of examples as a pure function of position."""

from vae_jax.data.sources import load, load_examples
from vae_jax.data.split import Dataset, Split, from_arrays

__all__ = ["Dataset", "Split", "from_arrays", "load", "load_examples"]
