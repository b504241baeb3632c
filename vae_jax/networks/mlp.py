"""Multi-layer perceptrons for q(z|x) and p(x|z), as in appendix C of Kingma & Welling 2014."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.layers import ACTIVATIONS, Dense, per_latent_unit, pure


class Encoder(nn.Module):
    """x -> (mean, logvar) of q(z|x), each [width]."""

    hidden: tuple[int, ...]
    activation: str
    width: int
    latent_dim: Any = 1  # the active units: read at initialization only, for the scale of first weights

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
    """z [width] -> the likelihood's parameters, [D, channels].

    The output's bias starts at the data's mean (Burda et al. 2016 do so): a decoder that has to learn the mean
    image first does it by shrinking the influence of z, which may end in a posterior that ignores x for good.
    """

    hidden: tuple[int, ...]
    activation: str
    start: Any  # [D, channels]
    latent_dim: Any = 1

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        h, kernel_init = z, per_latent_unit(1, self.latent_dim)
        for size in self.hidden:
            h = ACTIVATIONS[self.activation](Dense(size, kernel_init)(h))
            kernel_init = Dense.kernel_init
        h = Dense(self.start.size, kernel_init, lambda *_: self.start.ravel())(h)
        return h.reshape(self.start.shape)


def encoder(config, example_shape: tuple[int, ...], width: int, dtype: Any = None):
    fields = {"hidden": tuple(config.hidden), "activation": config.activation, "width": width}
    return pure(Encoder, jnp.zeros(example_shape), dtype, **fields)


def decoder(config, _example_shape: tuple[int, ...], width: int, start: jax.Array, dtype: Any = None):
    fields = {"hidden": tuple(reversed(config.hidden)), "activation": config.activation, "start": start}
    return pure(Decoder, jnp.zeros(width), dtype, **fields)
