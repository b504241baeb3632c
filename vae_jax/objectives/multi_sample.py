"""Objectives that are one function F of the log-weights of an example's K samples: what they share.

F itself is in the file of each; the estimators of its gradient are in gradients.py.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vae_jax.objectives.elbo import BETA, no_networks, penalty, terms
from vae_jax.objectives.gradients import GRADIENT, Bound, needs_two_samples, surrogate
from vae_jax.types import Draw, Field, Hypers, Objective, Part


def part(
    name: str,
    make_bound: Callable[[Any], Bound],
    words: str,
    metric: str = "bound",
    fields: dict[str, Field] | None = None,
    hypers: dict[str, Field] | None = None,
    fits: Callable[[dict, Any], str] = lambda _config, _data: "",
) -> Part:
    """The Part of an objective that is one function of the log-weights.

    Args:
      make_bound: section -> F.
      metric: what F is called where it is logged, at beta = 1.
      fields, hypers, fits: beside those that all such objectives have.
    """

    def make(section, _z_like) -> Objective:
        bound = make_bound(section)

        def loss(params, draws, _x, _rng, hypers: Hypers) -> tuple[jax.Array, dict]:
            value, draw = surrogate(bound, section.gradient, params, draws, hypers)
            return value + penalty(draw), metrics_of(draw, {metric: bound}, hypers)

        return Objective(no_networks, loss)

    return Part(
        "objective",
        name,
        make,
        words,
        fields={"gradient": GRADIENT} | (fields or {}),
        hypers={"beta": BETA} | (hypers or {}),
        needs=("importance weights",),
        fits=lambda config, data: needs_two_samples(config, data) or fits(config, data),
    )


def metrics_of(draw: Draw, bounds: Mapping[str, Bound], hypers: Hypers) -> dict[str, Any]:
    """The terms of the ELBO and each of `bounds`, all at beta = 1, means over the batch."""
    values = {
        name: jnp.mean(jax.vmap(lambda one, bound=bound: bound(one, hypers))(draw.log_w))
        for name, bound in bounds.items()
    }
    return terms(draw) | values
