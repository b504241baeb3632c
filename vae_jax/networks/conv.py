"""Residual convolutional networks for q(z|x) and p(x|z) of images [H, W, C] of any size.

Each level halves the image (rounding up): a convolution with stride 2, then residual blocks in the
pre-activation order of He et al. 2016 (arXiv:1603.05027). They have GroupNorm, since a draw sees
one example: there is no batch to normalize over. The decoder mirrors the encoder, and doubles the
image with sub-pixel convolutions (Shi et al. 2016, arXiv:1609.05158), which need a quarter of the
patches of a convolution of the doubled image.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.errors import UserError
from vae_jax.networks.layers import (
    ACTIVATION,
    ACTIVATIONS,
    Conv,
    Dense,
    GroupNorm,
    per_latent_unit,
    pure,
)
from vae_jax.types import Architecture, Field, Network, Part

Size = tuple[int, int]  # height and width


class ResidualBlock(nn.Module):
    """x + Conv(act(norm(Conv(act(norm(x)))))), [H, W, C] like x.

    The last kernel starts at zero, so at first this is the identity.
    """

    activation: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        act = ACTIVATIONS[self.activation]
        channels = x.shape[-1]
        h = Conv(channels)(act(GroupNorm()(x)))
        return x + Conv(channels, kernel_init=nn.initializers.zeros)(act(GroupNorm()(h)))


class SubPixelConv(nn.Module):
    """[h, w, C] -> [height, width, outputs], each side at most twice as large.

    A convolution computes the four pixels that replace one. Their kernels start equal, so there is
    no checkerboard pattern at first (Aitken et al. 2017, arXiv:1707.02937).
    """

    outputs: int
    size: Size

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def four_equal(key: jax.Array, shape: tuple[int, ...], *dtype) -> jax.Array:
            one = Conv.kernel_init(key, (self.outputs, *shape[1:]), *dtype)
            return jnp.tile(one, (4, 1, 1, 1))

        h, w, _ = x.shape
        x = Conv(4 * self.outputs, kernel_init=four_equal)(x).reshape(h, w, 2, 2, self.outputs)
        x = x.transpose(0, 2, 1, 3, 4).reshape(2 * h, 2 * w, self.outputs)
        return x[: self.size[0], : self.size[1]]


class Encoder(nn.Module):
    """x -> (mean, logvar) of q(z|x), each [width]."""

    shape: tuple[int, ...]  # [H, W, C] of x
    channels: tuple[int, ...]  # of each level
    blocks: int  # residual blocks of each level
    activation: str
    width: int
    latent_dim: Any = 1  # the active units; read at initialization only, see per_latent_unit

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = x.reshape(self.shape)
        for channels in self.channels:
            h = Conv(channels, stride=2)(h)
            for _ in range(self.blocks):
                h = ResidualBlock(self.activation)(h)
        h = ACTIVATIONS[self.activation](GroupNorm()(h)).ravel()
        head = per_latent_unit(0, self.latent_dim)
        mean = Dense(self.width, head, name="mean")(h)
        logvar = Dense(self.width, head, name="logvar")(h)
        return mean, logvar


class Decoder(nn.Module):
    """z [width] -> the likelihood's parameters [D, channels]."""

    shape: tuple[int, ...]  # [H, W, C] of x
    channels: tuple[int, ...]  # of each level, as the encoder has them
    blocks: int  # residual blocks of each level
    activation: str
    start: Any  # first bias of the output [D, channels]: parameters with the mean of the data
    latent_dim: Any = 1  # as in the encoder

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        act = ACTIVATIONS[self.activation]
        height, width = self.shape[:2]
        sizes = level_sizes((height, width), len(self.channels))
        first = (*sizes[-1], self.channels[-1])
        h = Dense(math.prod(first), per_latent_unit(1, self.latent_dim))(z).reshape(first)
        for level in reversed(range(len(self.channels))):
            for _ in range(self.blocks):
                h = ResidualBlock(self.activation)(h)
            if level > 0:
                h = SubPixelConv(self.channels[level - 1], sizes[level])(h)
        outputs = self.shape[-1] * self.start.shape[-1]
        h = SubPixelConv(outputs, sizes[0])(act(GroupNorm()(h)))
        bias = self.param("bias", lambda *_: jnp.asarray(self.start, jnp.float32))
        return h.reshape(self.start.shape) + bias


def level_sizes(size: Size, levels: int) -> list[Size]:
    """[(height, width)] of the image and of each level: half of the one before, rounded up."""
    sizes = [size]
    for _ in range(levels):
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


def make(
    section: Any,
    input_shape: tuple[int, ...],
    example_shape: tuple[int, ...],
    width: int,
    dtype: Any = None,
) -> Architecture:
    """The architecture of images; see the package for the arguments.

    Raises:
      UserError: the examples are no images, or too small for so many levels.
    """
    _check(section, example_shape)
    fields = {
        "channels": tuple(section.channels),
        "blocks": section.blocks,
        "activation": section.activation,
    }
    x = jnp.zeros(input_shape)
    encoder = pure(Encoder, x, dtype, shape=input_shape, width=width, **fields)

    def decoder(start: jax.Array) -> Network:
        return pure(Decoder, jnp.zeros(width), dtype, shape=example_shape, start=start, **fields)

    # Members side by side are one grouped convolution, which a CPU computes more slowly
    # (experiments/convolutions.md).
    return Architecture(encoder, decoder, one_by_one_on_cpu=True)


def _check(section: Any, shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        raise UserError(
            f"network.name 'conv' needs images [H, W, C], but an example has shape {shape}: "
            "use 'mlp'"
        )
    levels = len(section.channels)
    if min(shape[:2]) < 2**levels:
        most = min(shape[:2]).bit_length() - 1
        raise UserError(
            f"network.channels has {levels} levels, each of which halves the image, but the "
            f"examples are {shape[0]}x{shape[1]}: give at most {most}"
        )


PART = Part(
    "network",
    "conv",
    make,
    "residual convolutions, for images of any size",
    fields={
        "channels": Field((32, 64), "channels of each level; a level halves the image", above=0),
        "blocks": Field(1, "residual blocks of each level", above=0),
        "activation": ACTIVATION,
    },
)
