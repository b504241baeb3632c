"""The standard normal prior N(0, I) (Kingma & Welling 2014, arXiv:1312.6114, appendix B)."""

import jax
import jax.numpy as jnp

from vae_jax import distributions
from vae_jax.distributions import Gaussian
from vae_jax.types import Params, Part, Prior


def standard_normal(width: int) -> Prior:
    """N(0, I) over `width` units; the KL from a diagonal Gaussian has a closed form."""

    def active(latent_dim: jax.Array) -> jax.Array:
        return jnp.arange(width) < latent_dim

    def log_prob(_params: Params, z: jax.Array, latent_dim: jax.Array) -> jax.Array:
        log_p = distributions.log_prob(Gaussian(jnp.zeros_like(z), jnp.zeros_like(z)), z)
        return jnp.sum(jnp.where(active(latent_dim), log_p, 0.0))

    def sample(_params: Params, rng: jax.Array, latent_dim: jax.Array) -> jax.Array:
        return jnp.where(active(latent_dim), jax.random.normal(rng, (width,)), 0.0)

    def kl(_params: Params, posterior: Gaussian, latent_dim: jax.Array) -> jax.Array:
        return jnp.where(active(latent_dim), distributions.kl_to_standard_normal(posterior), 0.0)

    def init(_rng: jax.Array, _latent_dim: jax.Array) -> Params:
        return {}

    return Prior(init, log_prob, sample, kl, standard_normal=True)


def make(_section, width: int, _encode, _x_mean) -> Prior:
    return standard_normal(width)


PART = Part("prior", "standard_normal", make, "N(0, I), without parameters")
