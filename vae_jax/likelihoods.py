"""The observation models p(x|z): what the decoder's output means. One number per value of x, in nats."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.types import Params


class Likelihood(NamedTuple):
    """`theta` holds the likelihood's own parameters, `out` [D, channels] is the decoder's output, x is [D]."""

    support: tuple[float, float]  # the values x may take
    init: Callable  # () -> theta
    start: Callable  # (mean of the data [D]) -> out [D, channels] whose p(x|z) has that mean
    log_prob: Callable  # (theta, out, x) -> [D]
    mean: Callable  # (theta, out) -> [D]
    sample: Callable  # (theta, rng, out) -> [D]
    mass: bool  # a probability mass on binary x, so that bits per dimension mean something


def bernoulli() -> Likelihood:
    """Bernoulli from logits: log p = x l - softplus(l), finite in value and gradient for any finite logit."""

    def log_prob(_theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        logits = out[:, 0]
        return x * logits - jax.nn.softplus(logits)

    def mean(_theta: Params, out: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(out[:, 0])

    def sample(theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        p = mean(theta, out)
        return jax.random.bernoulli(rng, p).astype(p.dtype)

    def start(x_mean: jax.Array) -> jax.Array:
        p = jnp.clip(x_mean, 1e-3, 1 - 1e-3)
        return (jnp.log(p) - jnp.log1p(-p))[:, None]

    return Likelihood((0.0, 1.0), dict, start, log_prob, mean, sample, mass=True)


def gaussian(sigma: float, learn_sigma: bool) -> Likelihood:
    """N(out, sigma^2) with one sigma for all values: fixed, or a parameter that starts at `sigma`."""

    def init() -> Params:
        return {"log_sigma": jnp.log(jnp.float32(sigma))} if learn_sigma else {}

    def log_sigma(theta: Params) -> jax.Array | float:
        return theta["log_sigma"] if learn_sigma else math.log(sigma)

    def log_prob(theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        s = log_sigma(theta)
        return -0.5 * ((x - out[:, 0]) * jnp.exp(-s)) ** 2 - s - 0.5 * math.log(2 * math.pi)

    def mean(_theta: Params, out: jax.Array) -> jax.Array:
        return out[:, 0]

    def sample(theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        return out[:, 0] + jnp.exp(log_sigma(theta)) * jax.random.normal(rng, out.shape[:1], out.dtype)

    def start(x_mean: jax.Array) -> jax.Array:
        return x_mean[:, None]

    return Likelihood((-math.inf, math.inf), init, start, log_prob, mean, sample, mass=False)


# Each entry builds a likelihood from config.model.
LIKELIHOODS = {
    "bernoulli": lambda model: bernoulli(),
    "gaussian": lambda model: gaussian(model.sigma, model.learn_sigma),
}
