"""The importance-weighted bound on log p(x) (Burda et al. 2016, arXiv:1509.00519, equation 8).

    log p(x) >= E[ log 1/K sum_k w_k ],   w_k = p(x, z_k) / q(z_k|x)

The logarithm of the mean, never the mean of the logarithms: that is the ELBO, reported beside it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.metrics import importance_weights as weights
from vae_jax.models import batch_size, draw_batch
from vae_jax.types import Draw, Example, Hypers, Model, Params


class Bound(NamedTuple):
    """Estimates per example, in nats; B examples. What a deterministic code has not is None."""

    log_p: jax.Array | None  # the K-sample bound  [B]
    effective: jax.Array | None  # effective number of the K samples  [B]
    distortion: jax.Array  # mean over the K samples  [B]
    rate: jax.Array | None  # per latent unit  [B, Z]
    squared_error: jax.Array | None  # mean over values of (x - E[x|z])^2 at the posterior's mean  [B]
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

    Memory does not grow with `num_samples`: running sums are carried. Sample k of the example at
    index `positions[b]` has its own noise, so the result depends on neither block nor step size.
    """
    one = jax.eval_shape(lambda: draw_batch(model, params, x, key, positions, jnp.arange(1), hypers))
    if one.log_w is None:
        num_samples = samples_per_step = 1  # every draw of a deterministic code is the same

    def add(total: Draw, step):
        samples = step * samples_per_step + jnp.arange(samples_per_step)
        draw = draw_batch(model, params, x, key, positions, samples, hypers)
        used = samples < num_samples  # the last step may be partly beyond K
        distortion = total.distortion + jnp.sum(jnp.where(used, draw.distortion, 0.0), axis=1)
        if draw.log_w is None:
            return total._replace(distortion=distortion), None
        log_w = jnp.where(used, draw.log_w, -jnp.inf)
        return total._replace(
            distortion=distortion,
            log_w=weights.add(total.log_w, log_w),
            rate=total.rate + jnp.sum(jnp.where(used[:, None], draw.rate, 0.0), axis=1),
        ), None

    zeros = jnp.zeros(batch_size(x))
    start = Draw(zeros, None, None, None, None)
    if one.log_w is not None:
        start = start._replace(log_w=weights.none(zeros.shape), rate=jnp.zeros((len(zeros), one.rate.shape[-1])))
    total, _ = jax.lax.scan(add, start, jnp.arange(-(-num_samples // samples_per_step)))
    posterior = jax.vmap(lambda x: model.encode(params, x, hypers))(x)
    return Bound(
        log_p=None if total.log_w is None else weights.log_mean(total.log_w, num_samples),
        effective=None if total.log_w is None else weights.effective(total.log_w),
        distortion=total.distortion / num_samples,
        rate=None if total.rate is None else total.rate / num_samples,
        squared_error=_squared_error(model, params, x, posterior),
        posterior=posterior,
    )


def _squared_error(model: Model, params: Params, x: Example | jax.Array, posterior) -> jax.Array | None:
    if not hasattr(posterior, "mean"):
        return None
    values = x.x if isinstance(x, Example) else x
    decoded = jax.vmap(lambda z: model.decode(params, z).ravel())(posterior.mean)
    return jnp.mean((values.reshape(decoded.shape) - decoded) ** 2, axis=1)
