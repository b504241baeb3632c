"""A categorical distribution over the 256 levels k/255.

It may be any distribution, and does not know that neighbouring levels are similar (van den Oord et
al. 2016, arXiv:1601.06759, section 3.1).
"""

import jax
import jax.numpy as jnp

from vae_jax.likelihoods.logistic import LEVELS, log_mass, start_of_logistic
from vae_jax.types import Likelihood, Params, Part


def categorical() -> Likelihood:
    """Categorical(softmax(out)) of the levels, out [D, 256].

    It starts as a discretized logistic with the mean of the data.
    """

    def log_prob(_theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        level = jnp.round(x * (LEVELS - 1))[:, None]
        chosen = level == jnp.arange(LEVELS)  # rather than an index: its gradient needs no scatter
        return jnp.sum(jnp.where(chosen, jax.nn.log_softmax(out, axis=1), 0.0), axis=1)

    def mean(_theta: Params, out: jax.Array) -> jax.Array:
        return jax.nn.softmax(out, axis=1) @ _levels(out.dtype)

    def sample(_theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        return _levels(out.dtype)[jax.random.categorical(rng, out)]

    def start(x_mean: jax.Array) -> jax.Array:
        mean, log_scale = start_of_logistic(x_mean)
        return log_mass(mean[:, None], log_scale[:, None], _levels(mean.dtype))

    return Likelihood(
        support="levels",
        init=dict,
        start=start,
        log_prob=log_prob,
        mean=mean,
        sample=sample,
        javascript=_JAVASCRIPT,
    )


def _levels(dtype: jnp.dtype) -> jax.Array:
    """k/255 for k = 0, ..., 255  [256]."""
    return jnp.arange(LEVELS, dtype=dtype) / (LEVELS - 1)


# `mean`
_JAVASCRIPT = """out => {
  const largest = Math.max(...out);
  let sum = 0, total = 0;
  out.forEach((logit, level) => {
    const weight = Math.exp(logit - largest);
    total += weight;
    sum += weight * level;
  });
  return sum / total / (out.length - 1);
}"""

PART = Part(
    "likelihood", "categorical", lambda _section: categorical(), "of 256 levels, any distribution"
)
