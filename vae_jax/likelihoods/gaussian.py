"""Gaussians N(mean, sigma^2) of real values, by what sigma is: given, learned, one for each value, the optimal one.

A density has no largest value: where values can be reconstructed exactly (a background that is black in every
picture), the best sigma is 0 and log p(x) infinite. So sigma stays above `min_sigma`, which then decides what log p(x)
of such values is: at most -log(min_sigma sqrt(2 pi)) nats each, 3.7 for 0.01.
"""

import math

import jax
import jax.numpy as jnp

from vae_jax.types import Likelihood, Params


def gaussian(sigma: float, learn_sigma: bool) -> Likelihood:
    """N(out, sigma^2) with one sigma for all values: fixed, or a parameter that starts at `sigma`."""

    def init() -> Params:
        return {"log_sigma": jnp.log(jnp.float32(sigma))} if learn_sigma else {}

    def log_sigma(theta: Params) -> jax.Array | float:
        return theta["log_sigma"] if learn_sigma else math.log(sigma)

    def log_prob(theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        return log_density(out[:, 0], log_sigma(theta), x)

    def sample(theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        return out[:, 0] + jnp.exp(log_sigma(theta)) * jax.random.normal(rng, out.shape[:1], out.dtype)

    return Likelihood("real", init, _start, log_prob, _mean, sample)


def gaussian_per_pixel(sigma: float, min_sigma: float) -> Likelihood:
    """N(out[:, 0], sigma^2) with a sigma of its own for every value, from out[:, 1]; all start at `sigma`.

    log sigma = log min_sigma + softplus(out[:, 1] - log min_sigma): out[:, 1] itself well above the bound, and never
    below it.
    """
    low = math.log(min_sigma)

    def log_sigma(out: jax.Array) -> jax.Array:
        return low + jax.nn.softplus(out[:, 1] - low)

    def log_prob(_theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        return log_density(out[:, 0], log_sigma(out), x)

    def sample(_theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        return out[:, 0] + jnp.exp(log_sigma(out)) * jax.random.normal(rng, out.shape[:1], out.dtype)

    def start(x_mean: jax.Array) -> jax.Array:
        at_sigma = low + math.log(sigma / min_sigma - 1)  # softplus inverted
        return jnp.stack([x_mean, jnp.full_like(x_mean, at_sigma)], axis=1)

    return Likelihood("real", dict, start, log_prob, _mean, sample)


def gaussian_optimal_sigma(sigma: float, min_sigma: float) -> Likelihood:
    """N(out, sigma^2) with the one sigma that is best for the decoder as it is: sigma-VAE (Rybkin et al. 2021,
    arXiv:2006.13202, section 4.2).

    The best sigma^2 is the mean squared error. Here it is the running mean of the training batches' (so that
    evaluation has one, the same for every example): theta["statistics"]["variance"], a parameter that starts at
    sigma^2 and whose gradient through the loss, mean over examples of -sum over values of log p(x|z), is

        variance - mean squared error of the batch

    so that SGD at rate 1 - decay moves it as a running mean. The density itself takes it for a constant, not below
    min_sigma^2; the term that carries this gradient has the value 0.
    """

    def init() -> Params:
        return {"statistics": {"variance": jnp.float32(sigma**2)}}

    def log_sigma(theta: Params) -> jax.Array:
        variance = jax.lax.stop_gradient(theta["statistics"]["variance"])
        return 0.5 * jnp.log(jnp.maximum(variance, min_sigma**2))

    def log_prob(theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        variance, constant = theta["statistics"]["variance"], jax.lax.stop_gradient
        gradient = constant(variance - (x - out[:, 0]) ** 2) / x.size
        return log_density(out[:, 0], log_sigma(theta), x) - gradient * (variance - constant(variance))

    def sample(theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        return out[:, 0] + jnp.exp(log_sigma(theta)) * jax.random.normal(rng, out.shape[:1], out.dtype)

    return Likelihood("real", init, _start, log_prob, _mean, sample)


def log_density(mean: jax.Array, log_sigma: jax.Array | float, x: jax.Array) -> jax.Array:
    """log N(x; mean, sigma^2), element by element."""
    return -0.5 * ((x - mean) * jnp.exp(-log_sigma)) ** 2 - log_sigma - 0.5 * math.log(2 * math.pi)


def _mean(_theta: Params, out: jax.Array) -> jax.Array:
    return out[:, 0]


def _start(x_mean: jax.Array) -> jax.Array:
    return x_mean[:, None]
