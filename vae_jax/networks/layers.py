"""What encoders and decoders are made of: layers of one example, and how a Linen module becomes two pure functions."""

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
    """Glorot-uniform (Glorot & Bengio 2010) for a [fan_out, fan_in] kernel whose `axis` counts latent units.

    It is drawn one unit at a time, its scale taken from the units that are active, so that a narrow model has the
    same first weights, bit for bit, inside a wider population.
    """

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


class Conv(nn.Module):
    """A 3x3 convolution of x [H, W, C] with a kernel [outputs, 3, 3, C]: [ceil(H / stride), ceil(W / stride), outputs].

    On a CPU it is the matrix product of the patches with the kernel: inside a loop, such as that over training
    steps, XLA runs its own convolutions there on a slow path, and a population's grouped ones likewise
    (experiments/benchmark.md has the measurements).
    """

    outputs: int
    stride: int = 1
    kernel_init: Any = nn.initializers.variance_scaling(2.0, "fan_in", "normal", in_axis=(1, 2, 3), out_axis=0)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (self.outputs, 3, 3, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (self.outputs,))
        return jax.lax.platform_dependent(x, kernel, cpu=self._patches, default=self._convolution) + bias

    def _patches(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        (height, width, _), padded = x.shape, jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
        shifted = [
            padded[i : i + height : self.stride, j : j + width : self.stride] for i in range(3) for j in range(3)
        ]
        kernel = kernel.reshape(self.outputs, -1)
        return jax.lax.dot_general(jnp.concatenate(shifted, axis=-1), kernel, (((2,), (1,)), ((), ())))

    def _convolution(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        strides, padding = (self.stride, self.stride), ((1, 1), (1, 1))
        return jax.lax.conv_general_dilated(
            x[None], kernel, strides, padding, dimension_numbers=("NHWC", "OHWI", "NHWC")
        )[0]


class GroupNorm(nn.Module):
    """Wu & He 2018 (arXiv:1803.08494): each group of channels of one example [H, W, C] is normalized by itself.

    There are 8 groups where the channels divide so, and fewer where a group would have less than 16 values: the
    moments of a handful say nothing, and normalizing by them takes away what they were.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        groups = math.gcd(8, channels)
        while groups > 1 and x.size < 16 * groups:
            groups //= 2
        precise = x.astype(jnp.promote_types(x.dtype, jnp.float32)).reshape(-1, groups, channels // groups)
        centred = precise - jnp.mean(precise, axis=(0, 2), keepdims=True)
        variance = jnp.mean(centred**2, axis=(0, 2), keepdims=True)
        normalized = (centred * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape)
        return normalized.astype(x.dtype) * scale + bias


def pure(module_class: type[nn.Module], example: jax.Array, dtype: Any = None, **fields):
    """(init, apply) of a Linen module whose only static input is the shape of one example.

    With `dtype` the network computes in it; its parameters and what comes out are float32 all the same.
    """

    def init(rng: jax.Array, latent_dim: Any) -> dict:
        return module_class(**fields, latent_dim=latent_dim).init(rng, example).get("params", {})

    def apply(params: dict, inputs: jax.Array):
        if dtype is None:
            return module_class(**fields).apply({"params": params}, inputs)
        params, inputs = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, inputs))
        out = module_class(**fields).apply({"params": params}, inputs)
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), out)

    return init, apply
