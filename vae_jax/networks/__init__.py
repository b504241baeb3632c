"""Encoders and decoders: the only package that imports flax. Each is a pair of pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from vae_jax.networks import conv, mlp


class Network(NamedTuple):
    """`latent_dim` may be traced: the active units among the `width` that the arrays hold."""

    init: Callable  # (rng, latent_dim) -> params
    apply: Callable  # encoder: (params, x) -> (mean [Z], logvar [Z]); decoder: (params, z) -> out [D, channels]


def make_encoder(config, example_shape: tuple[int, ...], width: int, dtype: Any = None) -> Network:
    """The encoder named by config.encoder (the config's model section), computing in `dtype` (None: float32)."""
    return Network(*ENCODERS[config.encoder](config, example_shape, width, dtype))


def make_decoder(config, example_shape: tuple[int, ...], width: int, start: jax.Array, dtype: Any = None) -> Network:
    """The decoder that mirrors config.encoder; the bias of its output starts as `start` [D, channels]."""
    return Network(*DECODERS[config.encoder](config, example_shape, width, start, dtype))


ENCODERS = {"mlp": mlp.encoder, "conv": conv.encoder}
DECODERS = {"mlp": mlp.decoder, "conv": conv.decoder}
