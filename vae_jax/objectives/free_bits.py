"""The ELBO with free bits (Kingma et al. 2016, arXiv:1606.04934, equation 15), against the collapse of units.

loss = distortion + beta * sum_j max(0, mean_b rate_bj - free)

`hypers["free_bits_unit_batch_mean"]` is that many nats of each unit's rate, averaged over the batch, for free: below
it a unit is not pulled to the prior. Kingma et al. write max(free, rate), which differs by a constant; so written, a
unit that is not there costs nothing. beta = 1 is their objective.
"""

import jax
import jax.numpy as jnp

from vae_jax.objectives.elbo import terms
from vae_jax.types import Objective


def make(_config) -> Objective:
    def loss(_params, draws, _x, _rng, hypers) -> tuple[jax.Array, dict[str, jax.Array]]:
        draw = draws()
        metrics = terms(draw)
        unit_rate = jnp.mean(draw.rate, axis=(0, 1))
        charged = jnp.sum(jnp.maximum(unit_rate - hypers["free_bits_unit_batch_mean"], 0.0))
        return metrics["distortion"] + hypers["beta"] * charged, metrics | {"charged_rate": charged}

    return Objective(init=lambda rng, hypers: {}, loss=loss)
