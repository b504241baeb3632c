"""The negative ELBO (Kingma & Welling 2014) and, with beta other than 1, beta-VAE (Higgins et al. 2017).

loss = E_q[-log p(x|z)] + beta KL(q(z|x) || p(z)) = distortion + beta * rate

A model without a rate, the plain autoencoder, has only the distortion to minimize.
"""

import jax
import jax.numpy as jnp

from vae_jax.types import Draw, Objective


def terms(draw: Draw) -> dict[str, jax.Array]:
    """{"elbo", "distortion", "rate"} of draws with axes [B, K]: nats per example; "distortion" alone without a rate."""
    distortion = jnp.mean(draw.distortion)
    if draw.rate is None:
        return {"distortion": distortion}
    rate = jnp.mean(jnp.sum(draw.rate, axis=-1))
    return {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate}


def make(_config) -> Objective:
    def loss(_params, draws, _x, _rng, hypers) -> tuple[jax.Array, dict[str, jax.Array]]:
        metrics = terms(draws())
        return metrics["distortion"] + hypers["beta"] * metrics.get("rate", 0.0), metrics

    return Objective(init=lambda rng, hypers: {}, loss=loss)
