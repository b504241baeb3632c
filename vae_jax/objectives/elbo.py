"""The negative ELBO (Kingma & Welling 2014) and, with beta other than 1, beta-VAE (Higgins et al.
2017).

    loss = E_q[-log p(x|z)] + beta KL(q(z|x) || p(z)) = distortion + beta * rate

Distortion and rate are computed by the model's `draw` (models/vae.py): the rate is the prior's `kl`
(priors/standard_normal.py) where it has one, else log q(z|x) - log p(z) of the draw.
A model without a rate, the plain autoencoder, has only the distortion to minimize.
"""

import jax
import jax.numpy as jnp

from vae_jax.models.draws import total
from vae_jax.types import Draw, Field, Objective, Part

BETA = Field(1.0, "weight of the rate", least=0)


def terms(draw: Draw) -> dict[str, jax.Array]:
    """{"elbo", "distortion", "rate"} of draws with axes [B, K], nats per example; "distortion"
    alone without a rate."""
    distortion = jnp.mean(draw.distortion)
    if draw.rate is None:
        return {"distortion": distortion}
    rate = jnp.mean(total(draw.rate, batch_axes=2))
    return {"elbo": -(distortion + rate), "distortion": distortion, "rate": rate}


def penalty(draw: Draw) -> jax.Array | float:
    """The mean of what a model adds to its loss; 0 of a model that adds nothing."""
    return jnp.mean(draw.penalty)


def no_networks(_rng: jax.Array, _hypers) -> dict:
    """The parameters of an objective without networks of its own."""
    return {}


def make(_section, _z_like) -> Objective:
    def loss(params, draws, _x, _rng, hypers) -> tuple[jax.Array, dict]:
        draw = draws(params)
        metrics = terms(draw)
        rate = metrics.get("rate", 0.0)
        return metrics["distortion"] + hypers["beta"] * rate + penalty(draw), metrics

    return Objective(no_networks, loss)


PART = Part(
    "objective", "elbo", make, "the negative ELBO, the rate weighed by beta", hypers={"beta": BETA}
)
