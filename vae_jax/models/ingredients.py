"""What a model is made of: the parts that the configuration chose beside it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.models.generator import generator
from vae_jax.types import Architecture, Encode, Example, Generator, Likelihood, Prior


class Ingredients(NamedTuple):
    make_architecture: Callable[[int], Architecture]  # of so many latent units
    likelihood: Likelihood  # of x in the data's own units
    make_prior: Callable[[Encode], Prior]
    to_input: Callable[[Example], jax.Array]  # what the encoder network sees of an example
    x_mean: jax.Array  # mean of the training examples, in their shape
    width: int  # latent units of the arrays; of several layers, of the top one
    dtype: Any = None  # what networks compute in; None: float32

    @property
    def architecture(self) -> Architecture:
        """The networks of a model whose only stochastic layer is `width` units wide."""
        return self.make_architecture(self.width)

    def generator(self, architecture: Architecture | None = None) -> Generator:
        """p(x|z) of the decoder network and the likelihood, its mean at first that of the data.

        Args:
          architecture: has the decoder; by default `self.architecture`.
        """
        start = self.likelihood.start(jnp.ravel(self.x_mean))
        decoder = (architecture or self.architecture).decoder(start)
        return generator(decoder, self.likelihood, jnp.shape(self.x_mean))


def as_example(x: Example | jax.Array) -> Example:
    """The Example that a bare array stands for."""
    return x if isinstance(x, Example) else Example(x)


def observed_values(example: Example) -> jax.Array:
    """x, zero where it is missing."""
    if example.observed is None:
        return example.x
    return jnp.where(example.observed, example.x, 0.0)
