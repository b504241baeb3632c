"""The importance-weighted bound on log p(x) (Burda et al. 2016, arXiv:1509.00519, equation 8).

    log p(x) >= E[ log 1/K sum_k w_k ],   w_k = p(x, z_k) / q(z_k|x)

The logarithm of the mean, never the mean of the logarithms: that is the ELBO, reported beside it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.models import batch_size, draw_batch
from vae_jax.types import Example, Hypers, Model, Params


class Bound(NamedTuple):
    """Estimates per example, in nats; B examples."""

    log_p: jax.Array  # the K-sample bound  [B]
    distortion: jax.Array  # mean over the K samples  [B]
    rate: jax.Array  # per latent unit  [B, Z]
    posterior: Any  # the parameters of q(z|x)  [B, ...]


def bound(
    model: Model,
    params: Params,
    x: Example | jax.Array,
    key: jax.Array,
    positions: jax.Array,
    hypers: Hypers,
    num_samples: int,
    samples_per_step: int,
) -> Bound:
    """The K-sample bound of a batch x [B, ...], streamed `samples_per_step` samples at a time.

    Memory does not grow with `num_samples`: a running log-sum-exp is carried. Sample k of the example at
    index `positions[b]` has its own noise, so the result depends on neither block nor step size.
    """
    steps = -(-num_samples // samples_per_step)

    def add(total, step):
        samples = step * samples_per_step + jnp.arange(samples_per_step)
        draw = draw_batch(model, params, x, key, positions, samples, hypers)
        used = samples < num_samples  # the last step may be partly beyond K
        log_w = jnp.where(used, draw.log_w, -jnp.inf)
        return (
            jnp.logaddexp(total[0], jax.nn.logsumexp(log_w, axis=1)),
            total[1] + jnp.sum(jnp.where(used, draw.distortion, 0.0), axis=1),
            total[2] + jnp.sum(jnp.where(used[:, None], draw.rate, 0.0), axis=1),
        ), None

    one = jax.eval_shape(lambda: draw_batch(model, params, x, key, positions, jnp.arange(1), hypers))
    zeros = jnp.zeros(batch_size(x))
    start = (zeros - jnp.inf, zeros, jnp.zeros((len(zeros), one.rate.shape[-1])))
    (log_w, distortion, rate), _ = jax.lax.scan(add, start, jnp.arange(steps))
    posterior = jax.vmap(lambda x: model.encode(params, x, hypers))(x)
    return Bound(log_w - jnp.log(num_samples), distortion / num_samples, rate / num_samples, posterior)
