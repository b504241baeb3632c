"""Multi-layer perceptrons for q(z|x) and p(x|z), as in Kingma & Welling 2014, appendix C."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.layers import ACTIVATION, ACTIVATIONS, Dense, per_latent_unit, pure
from vae_jax.types import Architecture, Field, Network, Params, Part, Perceptron


class Encoder(nn.Module):
    """x -> (mean, logvar) of q(z|x), each [width]."""

    hidden: tuple[int, ...]
    activation: str
    width: int
    latent_dim: Any = 1  # the active units; read at initialization only, see per_latent_unit

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = x.ravel()
        for size in self.hidden:
            h = ACTIVATIONS[self.activation](Dense(size)(h))
        head = per_latent_unit(0, self.latent_dim)
        mean = Dense(self.width, head, name="mean")(h)
        logvar = Dense(self.width, head, name="logvar")(h)
        return mean, logvar


class Decoder(nn.Module):
    """z [width] -> the likelihood's parameters [D, channels].

    The bias of the output starts at the mean of the data, as in Burda et al. 2016: a decoder that
    must learn the mean image first reduces the influence of z, and the posterior may collapse.
    """

    hidden: tuple[int, ...]
    activation: str
    start: Any  # first bias of the output [D, channels]
    latent_dim: Any = 1  # as in the encoder

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        h = z
        kernel_init = per_latent_unit(1, self.latent_dim)
        for size in self.hidden:
            h = ACTIVATIONS[self.activation](Dense(size, kernel_init)(h))
            kernel_init = Dense.kernel_init
        h = Dense(self.start.size, kernel_init, lambda *_: self.start.ravel())(h)
        return h.reshape(self.start.shape)


class Features(nn.Module):
    """Hidden layers alone: x -> h [hidden[-1]], or x itself without any."""

    hidden: tuple[int, ...]
    activation: str
    latent_dim: Any = 1  # nothing here has a latent axis

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        for size in self.hidden:
            h = ACTIVATIONS[self.activation](Dense(size)(h))
        return h


class Conditional(nn.Module):
    """z of one stochastic layer -> (mean, logvar) of another, each [width].

    `latent_dim` is the number of active units of (the input, the output); None for an input that
    has no latent axis.
    """

    hidden: tuple[int, ...]
    activation: str
    width: int
    latent_dim: Any = (1, 1)

    @nn.compact
    def __call__(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        inputs, outputs = self.latent_dim
        first = Dense.kernel_init if inputs is None else per_latent_unit(1, inputs)
        h, head = z, per_latent_unit(0, outputs)
        for size in self.hidden:
            h = ACTIVATIONS[self.activation](Dense(size, first)(h))
            first = Dense.kernel_init
        mean = Dense(self.width, head, name="mean")(h)
        logvar = Dense(self.width, head, name="logvar")(h)
        return mean, logvar


def make(
    section: Any,
    input_shape: tuple[int, ...],
    _example_shape: tuple[int, ...],
    width: int,
    dtype: Any = None,
) -> Architecture:
    """The architecture of any data; see the package for the arguments."""
    hidden = tuple(section.hidden)
    fields = {"activation": section.activation}
    x = jnp.zeros(input_shape)
    encoder = pure(Encoder, x, dtype, hidden=hidden, width=width, **fields)

    def decoder(start: jax.Array) -> Network:
        made = pure(Decoder, jnp.zeros(width), dtype, hidden=hidden[::-1], start=start, **fields)
        return made._replace(perceptron=Perceptron(_layers, section.activation))

    return Architecture(encoder, decoder)


def conditional(
    inputs: int, width: int, hidden: tuple[int, ...], activation: str, dtype: Any = None
) -> Network:
    """The network of a Gaussian [width] given a stochastic layer [inputs]: see `Conditional`."""
    fields = {"hidden": tuple(hidden), "activation": activation, "width": width}
    return pure(Conditional, jnp.zeros(inputs), dtype, **fields)


def features(inputs: int, hidden: tuple[int, ...], activation: str, dtype: Any = None) -> Network:
    """Hidden layers alone, of an array [inputs]."""
    return pure(Features, jnp.zeros(inputs), dtype, hidden=tuple(hidden), activation=activation)


def _layers(params: Params) -> list[tuple[jax.Array, jax.Array]]:
    """(W [outputs, inputs], b) of each layer of a decoder."""
    layers = [params[f"Dense_{i}"] for i in range(len(params))]
    return [(layer["kernel"], layer["bias"]) for layer in layers]


PART = Part(
    "network",
    "mlp",
    make,
    "fully connected layers",
    fields={
        "hidden": Field((200, 200), "sizes of the encoder's hidden layers", above=0),
        "activation": ACTIVATION,
    },
)
