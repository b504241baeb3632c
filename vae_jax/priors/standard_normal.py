"""Priors p(z) over the latent units of one example."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax import distributions
from vae_jax.distributions import Gaussian
from vae_jax.types import Params


class Prior(NamedTuple):
    """Densities per unit [Z], so that a model sums those that are active."""

    init: Callable  # (rng) -> params
    log_prob: Callable  # (params, z) -> [Z]
    kl: Callable  # (params, posterior) -> [Z]: KL(q || p), analytic
    sample: Callable  # (params, rng) -> z [Z]


def standard_normal(width: int) -> Prior:
    """N(0, I) over `width` units: no parameters, and an analytic KL from any diagonal Gaussian."""

    def log_prob(_params: Params, z: jax.Array) -> jax.Array:
        return distributions.log_prob(Gaussian(jnp.zeros_like(z), jnp.zeros_like(z)), z)

    return Prior(
        init=lambda rng: {},
        log_prob=log_prob,
        kl=lambda _params, posterior: distributions.kl_to_standard_normal(posterior),
        sample=lambda _params, rng: jax.random.normal(rng, (width,)),
    )
