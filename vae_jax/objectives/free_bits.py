"""The ELBO with free bits (Kingma et al. 2016, arXiv:1606.04934, equation 15), against the collapse
of units.

loss = distortion + beta * sum_j max(0, mean_b rate_bj - free)

`hypers["free_bits_unit_batch_mean"]` nats of each unit's rate, averaged over the batch, are free:
below that a unit is not pulled to the prior. Kingma et al. write max(free, rate), which differs by
a constant; so written, a unit that is not there costs nothing. beta = 1 is their objective.
"""

import jax
import jax.numpy as jnp

from vae_jax.objectives.elbo import BETA, no_networks, penalty, terms
from vae_jax.types import Field, Objective, Part


def make(_section, _z_like) -> Objective:
    def loss(params, draws, _x, _rng, hypers) -> tuple[jax.Array, dict]:
        draw = draws(params)
        metrics = terms(draw)
        free, charged = hypers["free_bits_unit_batch_mean"], 0.0
        for rate in jax.tree.leaves(draw.rate):
            mean = jnp.mean(rate, axis=(0, 1))
            charged = charged + jnp.sum(jnp.maximum(mean - free, 0.0))
        value = metrics["distortion"] + hypers["beta"] * charged + penalty(draw)
        return value, metrics | {"charged_rate": charged}

    return Objective(no_networks, loss)


PART = Part(
    "objective",
    "free_bits",
    make,
    "the ELBO, a part of each unit's rate free",
    hypers={
        "beta": BETA,
        "free_bits_unit_batch_mean": Field(
            0.1, "nats of each unit's rate that cost nothing", least=0
        ),
    },
    needs=("a rate",),
)
