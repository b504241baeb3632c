"""The diagonal Gaussian q(z|x) = N(mean, exp(logvar)), per unit: sum over units is the caller's.

Formulas: Kingma & Welling 2014 (arXiv:1312.6114), section 2.4 and appendix B.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Gaussian(NamedTuple):
    """Parameters of a diagonal Gaussian, each [Z]."""

    mean: jax.Array
    logvar: jax.Array


class Point(NamedTuple):
    """All the mass at one value: the posterior of a deterministic code."""

    mean: jax.Array


def sample(q: Gaussian, eps: jax.Array) -> jax.Array:
    """The reparameterization z = mean + sigma * eps: the noise comes from outside, so z has a gradient."""
    return q.mean + jnp.exp(0.5 * q.logvar) * eps


def log_prob(q: Gaussian, z: jax.Array) -> jax.Array:
    """log N(z; mean, exp(logvar)) per unit [Z]."""
    return -0.5 * (math.log(2 * math.pi) + q.logvar + (z - q.mean) ** 2 * jnp.exp(-q.logvar))


def kl_to_standard_normal(q: Gaussian) -> jax.Array:
    """KL(q || N(0, 1)) per unit [Z], >= 0."""
    return 0.5 * (q.mean**2 + jnp.expm1(q.logvar) - q.logvar)
