"""The Bernoulli distribution of binary values."""

import jax
import jax.numpy as jnp

from vae_jax.types import Likelihood, Params


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
    """log(1 + e^x) of finite x. jax.nn's own also guards against infinite ones, and takes the logarithm again for the
    gradient; evaluation and annealing spend most of their time here."""
    return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return softplus(x), tangent * jax.nn.sigmoid(x)


def bernoulli() -> Likelihood:
    """Bernoulli from logits: log p = x l - softplus(l), finite in value and gradient for any finite logit."""

    def log_prob(_theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        logits = out[:, 0]
        return x * logits - softplus(logits)

    def mean(_theta: Params, out: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(out[:, 0])

    def sample(theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        p = mean(theta, out)
        return jax.random.bernoulli(rng, p).astype(p.dtype)

    def start(x_mean: jax.Array) -> jax.Array:
        p = jnp.clip(x_mean, 1e-3, 1 - 1e-3)
        return (jnp.log(p) - jnp.log1p(-p))[:, None]

    return Likelihood("binary", dict, start, log_prob, mean, sample)
