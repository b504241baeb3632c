"""The rate drawn to a capacity that grows in training (Burgess et al. 2018, arXiv:1804.03599, equation 8).

loss = distortion + gamma * |rate - capacity|

`hypers["capacity"]` nats are reached after `capacity_warmup_epochs`, linearly from 0; beta plays no part.
"""

import jax
import jax.numpy as jnp

from vae_jax.objectives.elbo import terms
from vae_jax.types import Objective


def make(_config) -> Objective:
    def loss(_params, draws, _x, _rng, hypers) -> tuple[jax.Array, dict[str, jax.Array]]:
        metrics = terms(draws())
        missed = jnp.abs(metrics["rate"] - hypers["capacity"])
        return metrics["distortion"] + hypers["gamma"] * missed, metrics | {"capacity": hypers["capacity"]}

    return Objective(init=lambda rng, hypers: {}, loss=loss)
