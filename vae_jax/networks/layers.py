"""Layers of one example, and the two pure functions of a Linen module."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.types import Field, Network, Params

# (key, shape[, dtype]) -> the first values of a parameter
Initializer = Callable[..., jax.Array]

ACTIVATIONS = {
    "tanh": nn.tanh,
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "softplus": nn.softplus,
}
# The same functions of x in JavaScript, for the report's latent explorer.
JAVASCRIPT = {
    "tanh": "Math.tanh(x)",
    "relu": "Math.max(x, 0)",
    "leaky_relu": "x < 0 ? 0.01 * x : x",
    "gelu": "x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))) / 2",
    "silu": "x / (1 + Math.exp(-x))",
    "softplus": "Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))",
}
ACTIVATION = Field("relu", "activation function of every hidden layer", choices=tuple(ACTIVATIONS))


def per_latent_unit(axis: int, latent_dim: Any) -> Initializer:
    """The initializer of a kernel [fan_out, fan_in] whose `axis` is latent units: Glorot-uniform.

    It draws one unit at a time, and scales by the number of active units (Glorot & Bengio 2010). So
    a narrow model has the same first weights, bit for bit, inside a wider population.

    Args:
      axis: 0 or 1.
      latent_dim: the number of active units; may be traced.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        other = shape[1 - axis]

        def draw(key: jax.Array) -> jax.Array:
            return jax.random.uniform(key, (other,), dtype, -1.0, 1.0)

        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(shape[axis]))
        draws = jax.vmap(draw)(keys)
        kernel = draws * jnp.sqrt(6.0 / (other + jnp.asarray(latent_dim, dtype)))
        return kernel if axis == 0 else kernel.T

    return init


class Dense(nn.Module):
    """y = W x + b [outputs] with W [outputs, inputs].

    Flax's own has W transposed; in a population its gradient would need a transposition at every
    step.
    """

    outputs: int
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (self.outputs, x.shape[0]))
        bias = self.param("bias", self.bias_init, (self.outputs,))
        return jax.lax.dot_general(x, kernel, (((0,), (1,)), ((), ()))) + bias


class Conv(nn.Module):
    """A 3x3 convolution of x [H, W, C], [ceil(H / stride), ceil(W / stride), outputs].

    The kernel is [outputs, 3, 3, C]. On a CPU this is the matrix product of the patches with the
    kernel: there XLA's own convolutions are slow inside a loop, such as that over training steps,
    and so are the grouped ones of a population (measured in experiments/benchmark.md).
    """

    outputs: int
    stride: int = 1
    kernel_init: Initializer = nn.initializers.variance_scaling(
        2.0, "fan_in", "normal", in_axis=(1, 2, 3), out_axis=0
    )

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (self.outputs, 3, 3, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (self.outputs,))
        y = jax.lax.platform_dependent(x, kernel, cpu=self._patches, default=self._convolution)
        return y + bias

    def _patches(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        height, width, _ = x.shape
        padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
        shifted = [
            padded[i : i + height : self.stride, j : j + width : self.stride]
            for i in range(3)
            for j in range(3)
        ]
        patches = jnp.concatenate(shifted, axis=-1)
        kernel = kernel.reshape(self.outputs, -1)
        return jax.lax.dot_general(patches, kernel, (((2,), (1,)), ((), ())))

    def _convolution(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        strides = (self.stride, self.stride)
        padding = ((1, 1), (1, 1))
        axes = ("NHWC", "OHWI", "NHWC")
        y = jax.lax.conv_general_dilated(x[None], kernel, strides, padding, dimension_numbers=axes)
        return y[0]


class GroupNorm(nn.Module):
    """x [H, W, C], each group of channels normalized (Wu & He 2018, arXiv:1803.08494), then scaled.

    There are 8 groups where 8 divides the number of channels, else its greatest common divisor with
    8. There are fewer where a group would have less than 16 values: normalizing by the moments of a
    few values would remove most of their information.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        groups = math.gcd(8, channels)
        while groups > 1 and x.size < 16 * groups:
            groups //= 2
        precise = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        precise = precise.reshape(-1, groups, channels // groups)
        centred = precise - jnp.mean(precise, axis=(0, 2), keepdims=True)
        variance = jnp.mean(centred**2, axis=(0, 2), keepdims=True)
        normalized = (centred * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape)
        return normalized.astype(x.dtype) * scale + bias


def pure(module_class: type[nn.Module], example: jax.Array, dtype: Any = None, **fields) -> Network:
    """The Network of a Linen module: its `init` and `apply` as pure functions.

    Args:
      module_class: a module with a field `latent_dim`.
      example: an input, of which only shape and type count.
      dtype: of the computation; None: float32. Parameters and outputs are always float32.
      fields: the other fields of the module.
    """

    def init(rng: jax.Array, latent_dim: Any) -> Params:
        return module_class(**fields, latent_dim=latent_dim).init(rng, example).get("params", {})

    def apply(params: Params, inputs: jax.Array) -> Any:
        if dtype is None:
            return module_class(**fields).apply({"params": params}, inputs)
        params, inputs = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, inputs))
        out = module_class(**fields).apply({"params": params}, inputs)
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), out)

    return Network(init, apply)
