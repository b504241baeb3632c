"""Encoders and decoders: the only package that imports flax. Each is a pair of pure functions."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from vae_jax.networks import mlp


class Network(NamedTuple):
    """`latent_dim` may be traced: the active units among the `width` that the arrays hold."""

    init: Callable  # (rng, latent_dim) -> params
    apply: Callable  # encoder: (params, x) -> (mean [Z], logvar [Z]); decoder: (params, z) -> out [D, channels]


def make_encoder(config, example_shape: tuple[int, ...], width: int) -> Network:
    """The encoder named by config.encoder (the config's model section)."""
    return Network(*ENCODERS[config.encoder](config, example_shape, width))


def make_decoder(config, width: int, start: jax.Array) -> Network:
    """The decoder that mirrors config.encoder; the bias of its output starts as `start` [D, channels]."""
    return Network(*DECODERS[config.encoder](config, width, start))


ENCODERS = {"mlp": mlp.encoder}
DECODERS = {"mlp": mlp.decoder}
