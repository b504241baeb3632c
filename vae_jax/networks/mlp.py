"""Multi-layer perceptrons for q(z|x) and p(x|z), as in appendix C of Kingma & Welling 2014.

A kernel with a latent axis is drawn one latent unit at a time, its scale taken from the units that are
active, so that a narrow model has the same first weights, bit for bit, inside a wider population.
"""

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
    """Glorot-uniform (Glorot & Bengio 2010) for a [fan_out, fan_in] kernel whose `axis` counts latent units."""

    def init(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
        other = shape[1 - axis]
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(shape[axis]))
        draws = jax.vmap(lambda k: jax.random.uniform(k, (other,), dtype, -1.0, 1.0))(keys)
        kernel = draws * jnp.sqrt(6.0 / (other + jnp.asarray(latent_dim, dtype)))
        return kernel if axis == 0 else kernel.T

    return init


class Dense(nn.Module):
    """y = W x + b with W [outputs, inputs].

    Flax's own keeps W transposed; the gradient of a whole population's W then needs a transposition of its own
    at every step.
    """

    outputs: int
    kernel_init: Any = nn.initializers.glorot_uniform()
    bias_init: Any = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (self.outputs, x.shape[0]))
        bias = self.param("bias", self.bias_init, (self.outputs,))
        return jax.lax.dot_general(x, kernel, (((0,), (1,)), ((), ()))) + bias


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


def decoder(config, width: int, start: jax.Array):
    fields = {"hidden": tuple(reversed(config.hidden)), "activation": config.activation, "start": start}
    return _pure(Decoder, jnp.zeros(width), **fields)
