"""p(x|z), which every model here has: a decoder network, and the likelihood whose parameters it puts out."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.networks import Network
from vae_jax.types import Example, Likelihood, Params


class Generator(NamedTuple):
    """Functions of a model's params, of which they use params["decoder"]."""

    init: Callable  # (rng, latent_dim) -> params["decoder"]
    log_prob: Callable  # (params, x, z) -> []: log p(x|z), of the observed values only
    decode: Callable  # (params, z, rng=None) -> mean of p(x|z), or a sample of it when rng is given


def generator(decoder: Network, likelihood: Likelihood, example_shape: tuple[int, ...]) -> Generator:
    """p(x|z) of examples that may come flat or in `example_shape`; what is decoded has `example_shape`."""

    def init(rng: jax.Array, latent_dim: jax.Array) -> Params:
        return {"network": decoder.init(rng, latent_dim), "likelihood": likelihood.init()}

    def log_prob(params: Params, x: Example | jax.Array, z: jax.Array) -> jax.Array:
        x, _, observed = as_example(x)
        out = decoder.apply(params["decoder"]["network"], z)
        log_p = likelihood.log_prob(params["decoder"]["likelihood"], out, x.ravel())
        return jnp.sum(log_p if observed is None else jnp.where(observed.ravel() == 1, log_p, 0.0))

    def decode(params: Params, z: jax.Array, rng: jax.Array | None = None) -> jax.Array:
        theta = params["decoder"]["likelihood"]
        out = decoder.apply(params["decoder"]["network"], z)
        x = likelihood.mean(theta, out) if rng is None else likelihood.sample(theta, rng, out)
        return x.reshape(example_shape)

    return Generator(init, log_prob, decode)


def as_example(x: Example | jax.Array) -> Example:
    return x if isinstance(x, Example) else Example(x)


def seen(x: Example | jax.Array) -> jax.Array:
    """The values as an encoder sees them: zero where they are missing."""
    x, _, observed = as_example(x)
    return x if observed is None else x * observed
