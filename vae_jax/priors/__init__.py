"""Priors p(z) over the latent units of one example."""

from vae_jax.priors.standard_normal import Prior, standard_normal

__all__ = ["Prior", "standard_normal"]
