"""The mean of several importance-weighted bounds (Rainforth et al. 2018, arXiv:1802.04537,
equation 12, who call it MIWAE: a name that the model of missing data has taken).

    1/M sum_m log 1/K sum_k w_mk,    M = objective.num_blocks,    M K = objective.num_samples

M = 1 is IWAE, K = 1 the ELBO.
"""

import jax
import jax.numpy as jnp

from vae_jax.objectives.iwae import log_mean
from vae_jax.objectives.multi_sample import part
from vae_jax.types import Field, Hypers

NUM_BLOCKS = Field(1, "parts of equal size that num_samples is divided into", above=0)


def mean_of_blocks(section):
    """The mean over blocks of their bounds [] of log_w [M K], as a function of it."""

    def bound(log_w: jax.Array, _hypers: Hypers | None = None) -> jax.Array:
        return jnp.mean(jax.vmap(log_mean)(log_w.reshape(section.num_blocks, -1)))

    return bound


def divides(config: dict, _data=None) -> str:
    """What is wrong where the samples cannot be divided into the blocks."""
    num_samples, num_blocks = config["objective.num_samples"], config["objective.num_blocks"]
    if num_samples % num_blocks == 0:
        return ""
    return (
        f"objective.num_samples {num_samples} cannot be divided into objective.num_blocks "
        f"{num_blocks} blocks of one size"
    )


PART = part(
    "multi_iwae",
    mean_of_blocks,
    "the mean of num_blocks importance-weighted bounds",
    fields={"num_blocks": NUM_BLOCKS},
    fits=divides,
)
