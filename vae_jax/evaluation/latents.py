"""What the latent units hold."""

import jax.numpy as jnp


def unit_activity(means):
    """Var_x(E_q[z]) per unit [Z] of posterior means [n, Z] over a whole split (Burda et al. 2016, section 4)."""
    return jnp.var(means, axis=0)


def active_units(means, threshold: float = 0.01) -> int:
    """The number of units whose activity exceeds `threshold`, 0.01 in the literature."""
    return int(jnp.sum(unit_activity(means) > threshold))
