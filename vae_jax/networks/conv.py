"""Residual convolutional networks for q(z|x) and p(x|z), for images of any height, width and number of channels.

Each level halves the image (rounding up): a convolution with stride 2, then residual blocks in the pre-activation
order of He et al. 2016 (arXiv:1603.05027) with GroupNorm; a draw sees one example, so there is no batch to normalize
over. The decoder mirrors the encoder, and doubles the image with sub-pixel convolutions (Shi et al. 2016,
arXiv:1609.05158), which need a quarter of the patches that a convolution of the doubled image would.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.errors import UserError
from vae_jax.networks.layers import ACTIVATIONS, Conv, Dense, GroupNorm, per_latent_unit, pure

Size = tuple[int, int]  # height and width


class ResidualBlock(nn.Module):
    """x + Conv(act(norm(Conv(act(norm(x)))))): the identity at first, for the last kernel starts at zero."""

    activation: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        act, channels = ACTIVATIONS[self.activation], x.shape[-1]
        h = Conv(channels)(act(GroupNorm()(x)))
        return x + Conv(channels, kernel_init=nn.initializers.zeros)(act(GroupNorm()(h)))


class SubPixelConv(nn.Module):
    """[h, w, C] -> [height, width, outputs], each at most twice as large: a convolution gives the four pixels that
    stand in place of one. They start equal (Aitken et al. 2017), so no checkerboard has to be unlearned."""

    outputs: int
    size: Size

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        one = Conv.kernel_init
        four = lambda key, shape, *dtype: jnp.tile(one(key, (self.outputs, *shape[1:]), *dtype), (4, 1, 1, 1))  # noqa: E731
        h, w, _ = x.shape
        x = Conv(4 * self.outputs, kernel_init=four)(x).reshape(h, w, 2, 2, self.outputs)
        x = x.transpose(0, 2, 1, 3, 4).reshape(2 * h, 2 * w, self.outputs)
        return x[: self.size[0], : self.size[1]]


class Encoder(nn.Module):
    """x -> (mean, logvar) of q(z|x), each [width]."""

    shape: tuple[int, int, int]
    channels: tuple[int, ...]
    blocks: int
    activation: str
    width: int
    latent_dim: Any = 1  # the active units: read at initialization only, for the scale of first weights

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
    """z [width] -> the likelihood's parameters, [D, channels]; every value's bias starts at the data's mean."""

    shape: tuple[int, int, int]
    channels: tuple[int, ...]  # as the encoder has them
    blocks: int
    activation: str
    start: Any  # [D, parameters of one value]
    latent_dim: Any = 1

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        act, sizes = ACTIVATIONS[self.activation], level_sizes(self.shape[:2], len(self.channels))
        first = (*sizes[-1], self.channels[-1])
        h = Dense(first[0] * first[1] * first[2], per_latent_unit(1, self.latent_dim))(z).reshape(first)
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
    """[(height, width)] of the image and of each level, every one half of the one before, rounded up."""
    sizes = [size]
    for _ in range(levels):
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


def encoder(config, example_shape: tuple[int, ...], width: int, dtype: Any = None):
    return pure(Encoder, jnp.zeros(example_shape), dtype, **_fields(config, example_shape), width=width)


def decoder(config, example_shape: tuple[int, ...], width: int, start: jax.Array, dtype: Any = None):
    return pure(Decoder, jnp.zeros(width), dtype, **_fields(config, example_shape), start=start)


def _fields(config, shape: tuple[int, ...]) -> dict:
    """Raises UserError where the examples are no images, or too small for so many levels."""
    if len(shape) != 3:
        raise UserError(f"model.encoder 'conv' needs images [H, W, C], but an example has shape {shape}: use 'mlp'")
    levels = len(config.channels)
    if min(shape[:2]) < 2**levels:
        most = min(shape[:2]).bit_length() - 1
        raise UserError(
            f"model.channels has {levels} levels, each of which halves the image, but the examples are "
            f"{shape[0]}x{shape[1]}: give at most {most}"
        )
    return {
        "shape": shape,
        "channels": tuple(config.channels),
        "blocks": config.blocks,
        "activation": config.activation,
    }
