"""The rate drawn to a capacity that grows in training (Burgess et al. 2018, arXiv:1804.03599,
equation 8).

loss = distortion + gamma * |rate - capacity|

`hypers["capacity"]` nats are reached after `capacity_warmup_epochs`, linearly from 0; beta plays no
part."""

import jax
import jax.numpy as jnp

from vae_jax.objectives.elbo import no_networks, penalty, terms
from vae_jax.optim.schedules import warm_up
from vae_jax.types import Field, Hypers, Objective, Part


def schedule(hypers: Hypers, step, steps_per_epoch: float) -> Hypers:
    """The capacity of this step."""
    share = warm_up(step, hypers["capacity_warmup_epochs"], steps_per_epoch)
    return hypers | {"capacity": hypers["capacity"] * share}


def make(_section, _z_like) -> Objective:
    def loss(params, draws, _x, _rng, hypers) -> tuple[jax.Array, dict]:
        draw = draws(params)
        metrics = terms(draw)
        missed = jnp.abs(metrics["rate"] - hypers["capacity"])
        value = metrics["distortion"] + hypers["gamma"] * missed + penalty(draw)
        return value, metrics | {"capacity": hypers["capacity"]}

    return Objective(no_networks, loss, schedule=schedule)


PART = Part(
    "objective",
    "capacity",
    make,
    "the rate drawn to a capacity that grows",
    hypers={
        "capacity": Field(25.0, "nats that the rate is drawn to", least=0),
        "capacity_warmup_epochs": Field(
            50.0, "the capacity rises linearly from 0 over them", least=0
        ),
        "gamma": Field(100.0, "weight of the distance of the rate from the capacity", least=0),
    },
    needs=("a rate",),
)
