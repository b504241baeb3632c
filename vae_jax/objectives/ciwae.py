"""A combination of the ELBO and the importance-weighted bound: CIWAE (Rainforth et al. 2018,
arXiv:1802.04537, equation 14).

    ciwae_weight * 1/K sum_k log w_k + (1 - ciwae_weight) * log 1/K sum_k w_k

Both are of the same K samples. The ELBO's gradient for the encoder keeps its signal where K is
large, that of IWAE loses it.
"""

import jax
import jax.numpy as jnp

from vae_jax.objectives.iwae import log_mean
from vae_jax.objectives.multi_sample import part
from vae_jax.types import Field, Hypers


def combination(log_w: jax.Array, hypers: Hypers) -> jax.Array:
    """The combined bound [] of log_w [K]."""
    weight = hypers["ciwae_weight"]
    return weight * jnp.mean(log_w) + (1 - weight) * log_mean(log_w)


PART = part(
    "ciwae",
    lambda _section: combination,
    "a combination of the ELBO and the importance-weighted bound",
    hypers={"ciwae_weight": Field(0.5, "weight of the ELBO, the rest is IWAE's", least=0, most=1)},
)
