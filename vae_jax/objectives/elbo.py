"""The negative ELBO (Kingma & Welling 2014) and, with beta other than 1, beta-VAE (Higgins et al. 2017).

loss = E_q[-log p(x|z)] + beta KL(q(z|x) || p(z)) = distortion + beta * rate
"""

import jax
import jax.numpy as jnp

from vae_jax.types import Objective


def make(_config) -> Objective:
    def loss(_params, draws, _x, _rng, hypers) -> tuple[jax.Array, dict[str, jax.Array]]:
        draw = draws()
        distortion = jnp.mean(draw.distortion)
        rate = jnp.mean(jnp.sum(draw.rate, axis=-1))
        metrics = {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate}
        return distortion + hypers["beta"] * rate, metrics

    return Objective(init=lambda rng, hypers: {}, loss=loss)
