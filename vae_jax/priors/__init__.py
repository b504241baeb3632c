"""Priors p(z) by name. A part's `make(section, width, encode, x_mean) -> Prior`:

Args:
  section: config.prior.
  width: the latent units of the arrays; those beyond a member's latent_dim are inactive.
  encode: the model's encode, for priors that are made of posteriors (VampPrior).
  x_mean: the mean of the training examples, in their shape.
"""

from vae_jax.priors import standard_normal as _standard_normal
from vae_jax.priors.standard_normal import standard_normal

__all__ = ["PRIORS", "standard_normal"]

PRIORS = {"standard_normal": _standard_normal.PART}
