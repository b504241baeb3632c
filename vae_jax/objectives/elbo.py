"""The negative ELBO (Kingma & Welling 2014) and, with beta other than 1, beta-VAE (Higgins et al.
2017).

    loss = E_q[-log p(x|z)] + beta KL(q(z|x) || p(z)) = distortion + beta * rate

Distortion and rate are computed by the model's `draw` (models/vae.py): the rate is the prior's `kl`
(priors/standard_normal.py) where it has one, else log q(z|x) - log p(z) of the draw.
A model without a rate, the plain autoencoder, has only the distortion to minimize.

With K = `objective.num_samples` draws it is the mean of K terms, the multi-sample VAE of Burda et
al. 2016. The estimators of the gradient other than the reparameterized one are of 1/K sum_k log w_k
(gradients.py): they leave a closed form of the rate unused.
"""

import jax
import jax.numpy as jnp

from vae_jax.models.draws import total
from vae_jax.objectives import gradients
from vae_jax.types import Draw, Field, Hypers, Objective, Part

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


def mean(log_w: jax.Array, _hypers: Hypers | None = None) -> jax.Array:
    """1/K sum_k log w_k  [] of log_w [K]."""
    return jnp.mean(log_w)


def make(section, _z_like) -> Objective:
    def loss(params, draws, _x, _rng, hypers) -> tuple[jax.Array, dict]:
        if section.gradient != "reparameterized":
            value, draw = gradients.surrogate(mean, section.gradient, params, draws, hypers)
            return value + penalty(draw), terms(draw)
        draw = draws(params)
        metrics = terms(draw)
        rate = metrics.get("rate", 0.0)
        return metrics["distortion"] + hypers["beta"] * rate + penalty(draw), metrics

    return Objective(no_networks, loss)


def needs(config: dict) -> tuple[str, ...]:
    """What the model must provide."""
    plain = config["objective.gradient"] == "reparameterized"
    return () if plain else ("importance weights",)


def fits(config: dict, _data) -> str:
    """What is wrong with the estimator of the gradient."""
    if config["objective.gradient"] == "dreg":
        return (
            "objective.gradient 'dreg' is 'stl' where the objective is the ELBO: set it to 'stl', "
            "or objective.name to 'iwae'"
        )
    return gradients.needs_two_samples(config)


PART = Part(
    "objective",
    "elbo",
    make,
    "the negative ELBO, the rate weighed by beta",
    fields={"gradient": gradients.GRADIENT},
    hypers={"beta": BETA},
    needs=needs,
    fits=fits,
)
