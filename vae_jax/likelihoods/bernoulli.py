"""The Bernoulli distribution of binary values."""

import jax
import jax.numpy as jnp

from vae_jax.types import Likelihood, Params, Part


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
    """log(1 + e^x) of finite x, element by element.

    jax.nn.softplus also handles infinite x, and computes the logarithm again for the gradient.
    Evaluation and annealing spend most of their time here.
    """
    return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,) = primals
    (tangent,) = tangents
    return softplus(x), tangent * jax.nn.sigmoid(x)


def bernoulli() -> Likelihood:
    """Bernoulli(sigmoid(l)) of logits l = out[:, 0].

        log p(x) = x l - softplus(l)

    Value and gradient are finite for any finite logit.
    """

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

    return Likelihood(
        support="binary",
        init=dict,
        start=start,
        log_prob=log_prob,
        mean=mean,
        sample=sample,
        javascript="out => 1 / (1 + Math.exp(-out[0]))",
    )


PART = Part("likelihood", "bernoulli", lambda _section: bernoulli(), "of values 0 and 1")
