"""The continuous Bernoulli of values in [0, 1] (Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845).

    p(x) = C(p) p^x (1 - p)^(1 - x),   C(p) = 2 atanh(1 - 2p) / (1 - 2p)             (their eq. 6)

With the logit l of p this is exp(l x) on [0, 1] divided by its integral,

    log p(x) = l x - A(l),   A(l) = log((e^l - 1) / l) = l/2 + log(sinh(l/2) / (l/2))

an exponential family: E[x] = A'(l). At p = 1/2, where this is 0/0, it has a limit; near it
log(sinh(h)/h) is computed as a series.
"""

import jax
import jax.numpy as jnp

from vae_jax.types import Likelihood, Params, Part

# log(sinh(h)/h) = h^2/6 - h^4/180 + ...: at |l| = 2|h| = 1 the first term left out is below 1e-12.
_SERIES = (1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775, -691 / 3831077250)
# The least, and 1 - the largest, mean to start from: logits of -1000 and 1000.
_MEAN_AT_THE_ENDS = 1e-3


def continuous_bernoulli() -> Likelihood:
    """The continuous Bernoulli of logits out[:, 0]; all its mass is in [0, 1]."""

    def log_prob(_theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        return log_density(out[:, 0], x)

    def mean(_theta: Params, out: jax.Array) -> jax.Array:
        return expectation(out[:, 0])

    def sample(_theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        logits = out[:, 0]
        return quantile(logits, jax.random.uniform(rng, logits.shape, logits.dtype))

    def start(x_mean: jax.Array) -> jax.Array:
        target = jnp.clip(x_mean, _MEAN_AT_THE_ENDS, 1 - _MEAN_AT_THE_ENDS)

        def bisect(_, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = bounds
            middle = 0.5 * (low + high)
            above = expectation(middle) > target
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        end = jnp.full_like(target, 1 / _MEAN_AT_THE_ENDS)
        low, high = jax.lax.fori_loop(0, 40, bisect, (-end, end))
        return 0.5 * (low + high)[:, None]

    return Likelihood(
        support="unit",
        init=dict,
        start=start,
        log_prob=log_prob,
        mean=mean,
        sample=sample,
        javascript=_JAVASCRIPT,
    )


def log_density(logits: jax.Array, x: jax.Array) -> jax.Array:
    """log p(x), element by element.

    Value and two derivatives are exact to rounding at any logit. For |l| >= 1 it is

        log|l| - |l| d - log(1 - e^-|l|)

    with d the distance of x from the end where the mode is: no two large numbers cancel.
    """
    near = jnp.abs(logits) < 1
    # What `where` does not select must be finite too, or gradients are nan.
    far = jnp.where(near, 1.0, jnp.abs(logits))
    distance = jnp.where(logits > 0, 1 - x, x)
    square = jnp.where(near, 0.25 * logits**2, 0.0)
    series = sum(c * square ** (i + 1) for i, c in enumerate(_SERIES))
    log_p_near = (x - 0.5) * logits - series
    log_p_far = jnp.log(far) - far * distance - jnp.log1p(-jnp.exp(-far))
    return jnp.where(near, log_p_near, log_p_far)


def expectation(logits: jax.Array) -> jax.Array:
    """E[x] = A'(l), element by element: 1/2 at l = 0, and -1/l or 1 - 1/l far from it."""

    def log_normalizer(logits: jax.Array) -> jax.Array:
        return -jnp.sum(log_density(logits, jnp.zeros_like(logits)))

    return jax.grad(log_normalizer)(logits)


# `expectation`, of which 0.5 + l/12 - l^3/720 is the series at 0.
_JAVASCRIPT = """out => {
  const l = out[0];
  return Math.abs(l) < 0.1 ? 0.5 + l / 12 - l ** 3 / 720 : -1 / Math.expm1(-l) - 1 / l;
}"""


def quantile(logits: jax.Array, u: jax.Array) -> jax.Array:
    """The x with P(X < x) = u, element by element.

        x = log(1 + u (e^l - 1)) / l

    For l > 0, where e^l may overflow, it is 1 - x at -l and 1 - u.
    """
    near = jnp.abs(logits) < 1e-3
    far = jnp.where(near, -1.0, -jnp.abs(logits))
    mirrored = logits > 0
    u_far = jnp.where(mirrored, 1 - u, u)
    x = jnp.log1p(u_far * jnp.expm1(far)) / far
    x_far = jnp.clip(jnp.where(mirrored, 1 - x, x), 0, 1)
    return jnp.where(near, u + 0.5 * logits * u * (1 - u), x_far)


PART = Part(
    "likelihood",
    "continuous_bernoulli",
    lambda _section: continuous_bernoulli(),
    "of values in [0, 1]",
)
