"""The objectives by name, and the loss function that an objective and a model make together."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vae_jax import rng as streams
from vae_jax.models import batch_size, draw_batch
from vae_jax.objectives import capacity, elbo, free_bits
from vae_jax.types import Draw, Example, Hypers, Model, Objective, Params

OBJECTIVES = {"elbo": elbo.make, "free_bits": free_bits.make, "capacity": capacity.make}


def make_objective(config) -> Objective:
    """The objective named by config.name (the config's objective section)."""
    return OBJECTIVES[config.name](config)


def make_loss_fn(model: Model, objective: Objective, hypers: Hypers, num_samples: int = 1) -> Callable:
    """`loss_fn(params, x, rng) -> (loss [], metrics)` for a batch x [B, ...], pure, in nats per example.

    `hypers` are the values of this step (after the schedules). The rng is split into one key for epsilon,
    folded with the position in the batch and the sample, and one for the objective's own randomness.
    """

    def loss_fn(params: Params, x: Example | jax.Array, rng: jax.Array):
        keys = streams.of_loss(rng)
        positions, samples = jnp.arange(batch_size(x)), jnp.arange(num_samples)

        def draws(path_weight: jax.Array | None = None) -> Draw:
            return draw_batch(model, params, x, keys.epsilon, positions, samples, hypers, path_weight)

        return objective.loss(params, draws, x, keys.objective, hypers)

    return loss_fn
