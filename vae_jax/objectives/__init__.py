"""Objectives by name, and the loss function that an objective and a model make together.

A part's `make(section, z_like) -> Objective` takes the section config.objective and the shapes of
z, an array or a dict of arrays as in `Draw.z`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vae_jax import rng as streams
from vae_jax.models.draws import batch_size, draw_batch
from vae_jax.objectives import (
    capacity,
    ciwae,
    elbo,
    free_bits,
    iwae,
    jvi,
    multi_iwae,
    piwae,
)
from vae_jax.types import Draw, Example, Hypers, Model, Objective, Params

OBJECTIVES = {
    "elbo": elbo.PART,
    "free_bits": free_bits.PART,
    "capacity": capacity.PART,
    "iwae": iwae.PART,
    "ciwae": ciwae.PART,
    "piwae": piwae.PART,
    "multi_iwae": multi_iwae.PART,
    "jvi": jvi.PART,
}


def make_loss_fn(
    model: Model, objective: Objective, hypers: Hypers, num_samples: int = 1
) -> Callable:
    """`loss_fn(params, x, rng) -> (loss [], metrics)` of a batch x [B, ...], pure, nats per
    example.

    Args:
      hypers: the values of this step, after the schedules.
      num_samples: K, the draws of each example.

    The rng is split into one key for epsilon, folded with the position in the batch and the
    sample, and one for the objective's own randomness.
    """

    def loss_fn(params: Params, x: Example | jax.Array, rng: jax.Array):
        keys = streams.of_loss(rng)
        positions, samples = jnp.arange(batch_size(x)), jnp.arange(num_samples)

        def draws(params: Params, path_weight=None, score: bool | None = None) -> Draw:
            key = keys.epsilon
            return draw_batch(model, params, x, key, positions, samples, hypers, path_weight, score)

        return objective.loss(params, draws, x, keys.objective, hypers)

    return loss_fn
