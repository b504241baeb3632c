"""The Laplace distribution of real values: tails heavier than a Gaussian's.

    log p(x) = -|x - median| / b - log(2 b),   b = sigma / sqrt(2)

so that `sigma` is the standard deviation, as of the Gaussians.
"""

import math

import jax
import jax.numpy as jnp

from vae_jax.likelihoods.gaussian import SIGMA
from vae_jax.types import Likelihood, Params, Part


def laplace(sigma: float) -> Likelihood:
    """Laplace(out, sigma / sqrt(2)) with one fixed sigma for all values."""
    b = sigma / math.sqrt(2)

    def log_prob(_theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        return -jnp.abs(x - out[:, 0]) / b - math.log(2 * b)

    def mean(_theta: Params, out: jax.Array) -> jax.Array:
        return out[:, 0]

    def sample(_theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        return out[:, 0] + b * jax.random.laplace(rng, out.shape[:1], out.dtype)

    def start(x_mean: jax.Array) -> jax.Array:
        return x_mean[:, None]

    return Likelihood(
        support="real",
        init=dict,  # no parameters of its own
        start=start,
        log_prob=log_prob,
        mean=mean,
        sample=sample,
        bounded=True,
        javascript="out => out[0]",
    )


def make(section) -> Likelihood:
    return laplace(section.sigma)


PART = Part(
    "likelihood",
    "laplace",
    make,
    words="of real values, tails heavier than a Gaussian's",
    fields={"sigma": SIGMA},
)
