"""The jackknife estimate of log p(x) of order 1, JVI-1 (Nowozin 2018, ICLR, equation 13).

    K L_K - (K - 1) * 1/K sum_k L_{K-1} without sample k,    L_K = log 1/K sum_k w_k

The bias of L_K falls as 1/K, that of this as 1/K^2. It is an estimate, no bound: it may lie above
log p(x). K = objective.num_samples >= 2.
"""

import math

import jax
import jax.numpy as jnp

from vae_jax.objectives.iwae import log_mean
from vae_jax.objectives.multi_sample import part
from vae_jax.types import Hypers


def jackknife(log_w: jax.Array, _hypers: Hypers | None = None) -> jax.Array:
    """The estimate [] of log_w [K]."""
    num = len(log_w)
    others = jnp.where(jnp.eye(num, dtype=bool), -jnp.inf, log_w)
    without_each = jax.nn.logsumexp(others, axis=1) - math.log(num - 1)
    return num * log_mean(log_w) - (num - 1) * jnp.mean(without_each)


def several_samples(config: dict, _data=None) -> str:
    """What is wrong where there is no sample to leave out."""
    if config["objective.num_samples"] > 1:
        return ""
    return "objective.name 'jvi' leaves out one sample: set objective.num_samples to 2 or more"


PART = part(
    "jvi",
    lambda _section: jackknife,
    "the jackknife estimate of log p(x)",
    metric="jackknife",
    fits=several_samples,
)
