"""Multi-layer perceptrons for q(z|x) and p(x|z), as in appendix C of Kingma & Welling 2014.

A kernel with a latent axis is drawn one latent unit at a time, its scale taken from the units that are
active, so that a narrow model has the same first weights, bit for bit, inside a wider population.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

ACTIVATIONS = {
    "tanh": nn.tanh,
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "softplus": nn.softplus,
}


def per_latent_unit(axis: int, latent_dim: Any):
    """Glorot-uniform (Glorot & Bengio 2010) for a [fan_in, fan_out] kernel whose `axis` counts latent units."""

    def init(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
        other = shape[1 - axis]
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(shape[axis]))
        draws = jax.vmap(lambda k: jax.random.uniform(k, (other,), dtype, -1.0, 1.0))(keys)
        kernel = draws * jnp.sqrt(6.0 / (other + jnp.asarray(latent_dim, dtype)))
        return kernel if axis == 0 else kernel.T

    return init


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
            h = ACTIVATIONS[self.activation](nn.Dense(size, kernel_init=nn.initializers.glorot_uniform())(h))
        head = per_latent_unit(1, self.latent_dim)
        mean = nn.Dense(self.width, kernel_init=head, name="mean")(h)
        logvar = nn.Dense(self.width, kernel_init=head, name="logvar")(h)
        return mean, logvar


class Decoder(nn.Module):
    """z [width] -> the likelihood's parameters, [num_values, channels]."""

    hidden: tuple[int, ...]
    activation: str
    num_values: int
    channels: int
    latent_dim: Any = 1

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        h, kernel_init = z, per_latent_unit(0, self.latent_dim)
        for size in (*self.hidden, None):
            outputs = self.num_values * self.channels if size is None else size
            h = nn.Dense(outputs, kernel_init=kernel_init)(h)
            kernel_init = nn.initializers.glorot_uniform()
            if size is not None:
                h = ACTIVATIONS[self.activation](h)
        return h.reshape(self.num_values, self.channels)


def _pure(module_class: type[nn.Module], example: jax.Array, **fields):
    """(init, apply) of a Linen module whose only static input is the shape of one example."""

    def init(rng: jax.Array, latent_dim: Any) -> dict:
        return module_class(**fields, latent_dim=latent_dim).init(rng, example).get("params", {})

    def apply(params: dict, inputs: jax.Array):
        return module_class(**fields).apply({"params": params}, inputs)

    return init, apply


def encoder(config, example_shape: tuple[int, ...], width: int):
    fields = {"hidden": tuple(config.hidden), "activation": config.activation, "width": width}
    return _pure(Encoder, jnp.zeros(example_shape), **fields)


def decoder(config, example_shape: tuple[int, ...], width: int, channels: int):
    fields = {"hidden": tuple(reversed(config.hidden)), "activation": config.activation}
    fields |= {"num_values": math.prod(example_shape), "channels": channels}
    return _pure(Decoder, jnp.zeros(width), **fields)
