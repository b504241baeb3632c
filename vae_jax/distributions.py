"""The diagonal Gaussian q(z|x) = N(mean, exp(logvar)). Densities are per unit, not summed.

Equations: Kingma & Welling 2014 (arXiv:1312.6114), section 2.4 and appendix B.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Far beyond what training comes to: standard deviations from 4e-18 to 2e4.
LOGVARS = (-80.0, 20.0)


class Gaussian(NamedTuple):
    """Parameters of a diagonal Gaussian, each [Z]."""

    mean: jax.Array
    logvar: jax.Array


class Point(NamedTuple):
    """A point mass: the posterior of a deterministic code."""

    mean: jax.Array  # [Z]


def bounded(logvar: jax.Array) -> jax.Array:
    """logvar within LOGVARS, so that exp(logvar), exp(-logvar) and gradients fit into float32.

    Its gradient is that of logvar everywhere: from outside, training comes back.
    """
    inside = jnp.clip(logvar, *LOGVARS)
    return jax.lax.stop_gradient(inside) + (logvar - jax.lax.stop_gradient(logvar))


def sample(q: Gaussian, eps: jax.Array) -> jax.Array:
    """z = mean + sigma * eps [Z] of noise eps ~ N(0, I) [Z]: the reparameterization trick."""
    return q.mean + jnp.exp(0.5 * q.logvar) * eps


def log_prob(q: Gaussian, z: jax.Array) -> jax.Array:
    """log N(z; mean, exp(logvar)) per unit [Z], in nats."""
    return -0.5 * (math.log(2 * math.pi) + q.logvar + (z - q.mean) ** 2 * jnp.exp(-q.logvar))


def kl_to_standard_normal(q: Gaussian) -> jax.Array:
    """KL(q || N(0, 1)) per unit [Z], in nats, >= 0."""
    return 0.5 * (q.mean**2 + jnp.expm1(q.logvar) - q.logvar)


def kl(q: Gaussian, p: Gaussian) -> jax.Array:
    """KL(q || p) per unit [Z], in nats, >= 0."""
    difference = q.logvar - p.logvar  # of logvars: a ratio of variances could overflow
    distance = (q.mean - p.mean) ** 2 * jnp.exp(-p.logvar)
    return 0.5 * (distance + jnp.expm1(difference) - difference)


def product(a: Gaussian, b: Gaussian) -> Gaussian:
    """The normalized product of two densities: precisions add up, and weigh the means."""
    logvar = -jnp.logaddexp(-a.logvar, -b.logvar)
    return Gaussian(b.mean + jax.nn.sigmoid(b.logvar - a.logvar) * (a.mean - b.mean), logvar)
