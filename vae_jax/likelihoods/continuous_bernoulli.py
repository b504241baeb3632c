"""The continuous Bernoulli of values in [0, 1] (Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845).

    p(x) = C(p) p^x (1 - p)^(1 - x),   C(p) = 2 atanh(1 - 2p) / (1 - 2p)                           (their eq. 6)

In the logit l of p this is exp(l x) on [0, 1] divided by its integral,

    log p(x) = l x - A(l),   A(l) = log((e^l - 1) / l) = l/2 + log(sinh(l/2) / (l/2))

an exponential family: E[x] = A'(l). Its value at p = 1/2 is a limit, 0/0 as written; near it the series of
log(sinh(h)/h) takes over.
"""

import jax
import jax.numpy as jnp

from vae_jax.types import Likelihood, Params

# log(sinh(h)/h) = h^2/6 - h^4/180 + ...: at |l| = 2|h| = 1 the first term left out is below 1e-12.
_SERIES = (1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775, -691 / 3831077250)
_MEAN_AT_THE_ENDS = 1e-3  # the least and 1 - the largest mean to start from: logits of -1000 and 1000


def continuous_bernoulli() -> Likelihood:
    """Continuous Bernoulli from logits; unlike a Gaussian it puts nothing outside [0, 1]."""

    def log_prob(_theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        return log_density(out[:, 0], x)

    def mean(_theta: Params, out: jax.Array) -> jax.Array:
        return expectation(out[:, 0])

    def sample(_theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        logits = out[:, 0]
        return quantile(logits, jax.random.uniform(rng, logits.shape, logits.dtype))

    def start(x_mean: jax.Array) -> jax.Array:
        target = jnp.clip(x_mean, _MEAN_AT_THE_ENDS, 1 - _MEAN_AT_THE_ENDS)

        def halve(_, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = bounds
            middle = 0.5 * (low + high)
            above = expectation(middle) > target
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        end = jnp.full_like(target, 1 / _MEAN_AT_THE_ENDS)
        low, high = jax.lax.fori_loop(0, 40, halve, (-end, end))
        return 0.5 * (low + high)[:, None]

    return Likelihood("unit", dict, start, log_prob, mean, sample)


def log_density(logits: jax.Array, x: jax.Array) -> jax.Array:
    """log p(x), element by element, as exact in value and two derivatives as its type allows, at any logit.

    Far from 0 it is log|l| - |l| d - log(1 - e^-|l|), d the distance of x from the end where the mode is: no two
    large numbers cancel.
    """
    near = jnp.abs(logits) < 1
    far = jnp.where(near, 1.0, jnp.abs(logits))  # what `where` does not choose must not be infinite either
    distance = jnp.where(logits > 0, 1 - x, x)
    square = jnp.where(near, 0.25 * logits**2, 0.0)
    series = sum(c * square ** (i + 1) for i, c in enumerate(_SERIES))
    return jnp.where(near, (x - 0.5) * logits - series, jnp.log(far) - far * distance - jnp.log1p(-jnp.exp(-far)))


def expectation(logits: jax.Array) -> jax.Array:
    """E[x] = A'(l): 1/2 at l = 0, and -1/l, 1 - 1/l far from it."""
    return jax.grad(lambda logits: -jnp.sum(log_density(logits, jnp.zeros_like(logits))))(logits)


def quantile(logits: jax.Array, u: jax.Array) -> jax.Array:
    """The x with P(X < x) = u, element by element: log(1 + u (e^l - 1)) / l, mirrored where that would overflow."""
    near = jnp.abs(logits) < 1e-3
    far = jnp.where(near, -1.0, -jnp.abs(logits))
    mirrored = logits > 0
    u_far = jnp.where(mirrored, 1 - u, u)
    x = jnp.log1p(u_far * jnp.expm1(far)) / far
    return jnp.where(near, u + 0.5 * logits * u * (1 - u), jnp.clip(jnp.where(mirrored, 1 - x, x), 0, 1))
