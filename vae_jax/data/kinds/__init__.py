"""Kinds of data: how the rows of a dataset become what a model sees.

A kind says how its values are scaled and how they are shown. To add one: a file here that defines
KIND, and a line in KINDS.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.data.kinds import image, vector
from vae_jax.data.kinds.kind import Kind, Scaling
from vae_jax.types import Example, Likelihood

__all__ = ["KINDS", "Kind", "Scaling", "View", "binarize", "kind_of", "make_view", "scaled"]

KINDS: dict[str, Kind] = {"image": image.KIND, "vector": vector.KIND}


def kind_of(example_shape: tuple[int, ...]) -> str:
    """The kind of arrays whose examples have this shape."""
    return next(name for name, kind in KINDS.items() if kind.is_of(example_shape))


class View(NamedTuple):
    """What a model sees of a dataset."""

    # (rows of the store [B, D], keys [B]) -> examples [B, D], float32, binarized
    to_example: Callable[[Example, jax.Array], Example]
    to_input: Callable[[Example], jax.Array]  # one example -> what the encoder network sees


def make_view(binarization: str, scaling: Scaling | None) -> View:
    """The view that the configuration and the scaling of the training set give.

    The encoder sees (x - shift) / scale, 0 where x is missing; everything else sees x itself.
    """

    def to_example(rows: Example, keys: jax.Array) -> Example:
        return rows._replace(x=binarize(rows.x, binarization, keys))

    def to_input(example: Example) -> jax.Array:
        x = example.x
        if scaling is not None:
            x = (x - scaling.shift.reshape(x.shape)) / scaling.scale.reshape(x.shape)
        return x if example.observed is None else jnp.where(example.observed, x, 0.0)

    return View(to_example, to_input)


def binarize(x: jax.Array, mode: str, keys: jax.Array) -> jax.Array:
    """Values as float32, in [0, 1] when x [B, D] is uint8, then as `mode` says; `keys` [B].

    dynamic: x ~ Bernoulli(grey value), fresh for every key (Salakhutdinov & Murray 2008);
    threshold: x > 0.5; none: the values themselves.
    """
    x = x / jnp.float32(255) if x.dtype == jnp.uint8 else x
    if mode == "dynamic":
        return jax.vmap(jax.random.bernoulli)(keys, x).astype(jnp.float32)
    return (x > 0.5).astype(jnp.float32) if mode == "threshold" else x


def scaled(likelihood: Likelihood, scaling: Scaling | None) -> Likelihood:
    """The likelihood of x where `likelihood` is that of (x - shift) / scale, real values.

    log p(x) = log p((x - shift) / scale) - log scale, so it stays in the units of x.
    """
    if scaling is None or likelihood.support != "real":
        return likelihood
    shift, scale = jnp.ravel(scaling.shift), jnp.ravel(scaling.scale)

    def log_prob(theta, out, x):
        return likelihood.log_prob(theta, out, (x - shift) / scale) - jnp.log(scale)

    return likelihood._replace(
        start=lambda x_mean: likelihood.start((x_mean - shift) / scale),
        log_prob=log_prob,
        mean=lambda theta, out: likelihood.mean(theta, out) * scale + shift,
        sample=lambda theta, rng, out: likelihood.sample(theta, rng, out) * scale + shift,
        units=(shift, scale),
    )
