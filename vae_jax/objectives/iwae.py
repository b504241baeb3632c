"""The importance-weighted bound of K samples (Burda et al. 2016, arXiv:1509.00519, equation 8).

    L_K = E[log 1/K sum_k w_k] <= log p(x),    w_k = p(x, z_k) / q(z_k|x)

L_1 is the ELBO, and L_K never falls as K grows. K is `objective.num_samples`.
"""

import math

import jax

from vae_jax.objectives.elbo import BETA, no_networks, penalty
from vae_jax.objectives.gradients import GRADIENT, metrics_of, needs_two_samples, surrogate
from vae_jax.types import Hypers, Objective, Part


def log_mean(log_w: jax.Array, _hypers: Hypers | None = None) -> jax.Array:
    """log 1/K sum_k w_k  [] of log_w [K]."""
    return jax.nn.logsumexp(log_w) - math.log(len(log_w))


def make(section, _z_like) -> Objective:
    def loss(params, draws, _x, _rng, hypers) -> tuple[jax.Array, dict]:
        value, draw = surrogate(log_mean, section.gradient, params, draws, hypers)
        return value + penalty(draw), metrics_of(draw, {"bound": log_mean}, hypers)

    return Objective(no_networks, loss)


PART = Part(
    "objective",
    "iwae",
    make,
    "the importance-weighted bound of num_samples samples",
    fields={"gradient": GRADIENT},
    hypers={"beta": BETA},
    needs=("importance weights",),
    fits=needs_two_samples,
)
