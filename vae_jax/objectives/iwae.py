"""The importance-weighted bound of K samples (Burda et al. 2016, arXiv:1509.00519, equation 8).

    L_K = E[log 1/K sum_k w_k] <= log p(x),    w_k = p(x, z_k) / q(z_k|x)

L_1 is the ELBO, and L_K never falls as K grows. K is `objective.num_samples`.
"""

import math

import jax

from vae_jax.objectives.multi_sample import part
from vae_jax.types import Hypers


def log_mean(log_w: jax.Array, _hypers: Hypers | None = None) -> jax.Array:
    """log 1/K sum_k w_k  [] of log_w [K]."""
    return jax.nn.logsumexp(log_w) - math.log(len(log_w))


PART = part(
    "iwae", lambda _section: log_mean, "the importance-weighted bound of num_samples samples"
)
