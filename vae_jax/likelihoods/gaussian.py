"""Gaussians N(mean, sigma^2) of real values: sigma fixed, learned, one for each value, or optimal.

A density has no upper bound: where values can be reconstructed exactly (a background that is black
in every image), the best sigma is 0 and log p(x) infinite. So sigma stays above `min_sigma`, which
then determines log p(x) of such values: at most -log(min_sigma sqrt(2 pi)) nats each, 3.7 for 0.01.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from vae_jax.types import Field, Likelihood, Params, Part


def gaussian(sigma: float, learn_sigma: bool) -> Likelihood:
    """N(out[:, 0], sigma^2) with one sigma for all values.

    Args:
      sigma: the standard deviation.
      learn_sigma: whether it is a parameter, log_sigma, whose first value is log `sigma`.
    """

    def init() -> Params:
        return {"log_sigma": jnp.log(jnp.float32(sigma))} if learn_sigma else {}

    def log_sigma(theta: Params) -> jax.Array | float:
        return theta["log_sigma"] if learn_sigma else math.log(sigma)

    def log_prob(theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        return log_density(out[:, 0], log_sigma(theta), x)

    def sample(theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        return _sample(rng, out[:, 0], log_sigma(theta))

    return Likelihood(
        support="real",
        init=init,
        start=_start,
        log_prob=log_prob,
        mean=_mean,
        sample=sample,
        bounded=not learn_sigma,
        javascript=_JAVASCRIPT,
    )


def gaussian_per_pixel(sigma: float, min_sigma: float) -> Likelihood:
    """N(out[:, 0], sigma^2) with a sigma for each value, from out[:, 1].

        log sigma = log min_sigma + softplus(out[:, 1] - log min_sigma)

    This is about out[:, 1] well above the bound, and never below it.

    Args:
      sigma: the first standard deviation of every value.
      min_sigma: the lower bound.
    """
    low = math.log(min_sigma)

    def log_sigma(out: jax.Array) -> jax.Array:
        return low + jax.nn.softplus(out[:, 1] - low)

    def log_prob(_theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        return log_density(out[:, 0], log_sigma(out), x)

    def sample(_theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        return _sample(rng, out[:, 0], log_sigma(out))

    def start(x_mean: jax.Array) -> jax.Array:
        at_sigma = low + math.log(sigma / min_sigma - 1)  # softplus inverted
        return jnp.stack([x_mean, jnp.full_like(x_mean, at_sigma)], axis=1)

    return Likelihood(
        support="real",
        init=dict,
        start=start,
        log_prob=log_prob,
        mean=_mean,
        sample=sample,
        javascript=_JAVASCRIPT,
    )


def gaussian_optimal_sigma(sigma: float, min_sigma: float) -> Likelihood:
    """N(out[:, 0], sigma^2) with the one sigma that is optimal for the decoder: sigma-VAE.

    The optimal sigma^2 is the mean squared error (Rybkin et al. 2021, arXiv:2006.13202, section
    4.2). Here it is the running mean over training batches, so that evaluation has one, the same
    for every example: theta["statistics"]["variance"]. Its gradient through the loss, the mean over
    examples of -log p(x|z), is

        variance - mean squared error of the batch

    so that SGD at rate 1 - decay makes it a running mean. The density takes it for a constant, at
    least min_sigma^2; the term that has the gradient has the value 0.

    Args:
      sigma: the first standard deviation.
      min_sigma: its lower bound.
    """

    def statistics() -> Params:
        return {"variance": jnp.float32(sigma**2)}

    def log_sigma(theta: Params) -> jax.Array:
        variance = jax.lax.stop_gradient(theta["statistics"]["variance"])
        return 0.5 * jnp.log(jnp.maximum(variance, min_sigma**2))

    def log_prob(theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        variance = theta["statistics"]["variance"]
        gradient = jax.lax.stop_gradient(variance - (x - out[:, 0]) ** 2) / x.size
        zero = variance - jax.lax.stop_gradient(variance)
        return log_density(out[:, 0], log_sigma(theta), x) - gradient * zero

    def sample(theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        return _sample(rng, out[:, 0], log_sigma(theta))

    return Likelihood(
        support="real",
        init=dict,
        start=_start,
        log_prob=log_prob,
        mean=_mean,
        sample=sample,
        statistics=statistics,
        javascript=_JAVASCRIPT,
    )


def log_density(mean: jax.Array, log_sigma: jax.Array | float, x: jax.Array) -> jax.Array:
    """log N(x; mean, sigma^2), element by element."""
    return -0.5 * ((x - mean) * jnp.exp(-log_sigma)) ** 2 - log_sigma - 0.5 * math.log(2 * math.pi)


def _mean(_theta: Params, out: jax.Array) -> jax.Array:
    return out[:, 0]


_JAVASCRIPT = "out => out[0]"  # `_mean`


def _sample(rng: jax.Array, mean: jax.Array, log_sigma: jax.Array | float) -> jax.Array:
    return mean + jnp.exp(log_sigma) * jax.random.normal(rng, mean.shape, mean.dtype)


def _start(x_mean: jax.Array) -> jax.Array:
    return x_mean[:, None]


_UNIT = "; of standardized columns in their standard deviations"
SIGMA = Field(1.0, f"standard deviation; per pixel and optimal: the first one{_UNIT}", above=0)
MIN_SIGMA = Field(0.01, f"lower bound of a sigma per pixel, and of the optimal one{_UNIT}", above=0)


def _starts_above_its_bound(config: dict[str, Any], _data: Any) -> str:
    """What is wrong with the two fields, or ""."""
    sigma, low = config["likelihood.sigma"], config["likelihood.min_sigma"]
    if sigma > low:
        return ""
    return (
        f"likelihood.sigma is {sigma:g}, where {config['likelihood.name']} begins, but must be "
        f"more than likelihood.min_sigma ({low:g})"
    )


GAUSSIAN = Part(
    "likelihood",
    "gaussian",
    lambda section: gaussian(section.sigma, section.learn_sigma),
    "of real values, one sigma",
    fields={
        "sigma": SIGMA,
        "learn_sigma": Field(False, "whether sigma is a parameter that starts there"),
    },
)
PER_PIXEL = Part(
    "likelihood",
    "gaussian_per_pixel",
    lambda section: gaussian_per_pixel(section.sigma, section.min_sigma),
    "of real values, a sigma for each",
    fields={"sigma": SIGMA, "min_sigma": MIN_SIGMA},
    fits=_starts_above_its_bound,
)
OPTIMAL_SIGMA = Part(
    "likelihood",
    "gaussian_optimal_sigma",
    lambda section: gaussian_optimal_sigma(section.sigma, section.min_sigma),
    "of real values, the one sigma that is optimal for the decoder",
    fields={"sigma": SIGMA, "min_sigma": MIN_SIGMA},
    fits=_starts_above_its_bound,
)
