"""The importance-weighted bound on log p(x) (Burda et al. 2016, arXiv:1509.00519, equation 8).

    log p(x) >= E[ log 1/K sum_k w_k ],   w_k = p(x, z_k) / q(z_k|x)

The logarithm of the mean, never the mean of the logarithms: that is the ELBO, reported beside it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.metrics import importance_weights as weights
from vae_jax.models.draws import batch_size, draw_batch, posterior_means
from vae_jax.types import Draw, Example, Hypers, Latent, Model, Params


class Bound(NamedTuple):
    """Estimates per example, in nats; B examples. What a model does not have is None."""

    log_p: jax.Array | None  # the K-sample bound  [B]
    effective: jax.Array | None  # effective number of the K samples  [B]
    distortion: jax.Array  # mean over the K samples  [B]
    rate: Latent | None  # mean over the K samples, a tree like `Draw.rate`  [B, ...]
    squared_error: jax.Array | None  # mean over values of (x - E[x|z])^2 at the means  [B]
    posterior: Any  # the parameters of q(z|x)  [B, ...]
    means: Latent | None  # of q(z|x), averaged over the draws of the layers above  [B, ...]


class _Sums(NamedTuple):
    """Running sums over the samples of an example."""

    distortion: jax.Array  # [B]
    rate: Latent | None  # [B, ...]
    log_w: Any  # Weights, or None
    means: Latent | None  # [B, ...], where there are several layers


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

    def draws(samples: jax.Array) -> Draw:
        return draw_batch(model, params, x, key, positions, samples, hypers)

    one = jax.eval_shape(draws, jnp.arange(1))
    if one.log_w is None and one.rate is None:
        num_samples = samples_per_step = 1  # every draw of a deterministic code is the same
    layered = isinstance(one.posterior, dict)

    def add(total: _Sums, step):
        samples = step * samples_per_step + jnp.arange(samples_per_step)
        draw = draws(samples)
        used = samples < num_samples  # the last step may be partly beyond K

        def sum_of(leaf: jax.Array) -> jax.Array:
            mask = used.reshape(-1, *[1] * (leaf.ndim - 2))
            return jnp.sum(jnp.where(mask, leaf, 0.0), axis=1)

        def plus(before, tree):
            return jax.tree.map(lambda a, b: a + sum_of(b), before, tree)

        log_w = None
        if draw.log_w is not None:
            log_w = weights.add(total.log_w, jnp.where(used, draw.log_w, -jnp.inf))
        means = plus(total.means, posterior_means(draw.posterior)) if layered else None
        distortion, rate = plus(total.distortion, draw.distortion), plus(total.rate, draw.rate)
        return _Sums(distortion, rate, log_w, means), None

    def zeros(tree):
        return jax.tree.map(lambda leaf: jnp.zeros((leaf.shape[0], *leaf.shape[2:])), tree)

    start = _Sums(
        zeros(one.distortion),
        zeros(one.rate),
        None if one.log_w is None else weights.none((batch_size(x),)),
        zeros(posterior_means(one.posterior)) if layered else None,
    )
    total, _ = jax.lax.scan(add, start, jnp.arange(-(-num_samples // samples_per_step)))
    posterior = jax.vmap(lambda x: model.encode(params, x, hypers))(x)
    means = posterior_means(posterior)
    averaged = jax.tree.map(lambda leaf: leaf / num_samples, total)
    return Bound(
        log_p=None if total.log_w is None else weights.log_mean(total.log_w, num_samples),
        effective=None if total.log_w is None else weights.effective(total.log_w),
        distortion=averaged.distortion,
        rate=averaged.rate,
        squared_error=None if means is None else _squared_error(model, params, x, means),
        posterior=posterior,
        means=averaged.means if layered else means,
    )


def _squared_error(model: Model, params: Params, x: Example | jax.Array, z: Latent) -> jax.Array:
    """Mean over the observed values of (x - E[x|z])^2  [B]."""
    example = x if isinstance(x, Example) else Example(x)

    def one(example: Example, z: Latent) -> jax.Array:
        decoded = model.decode(params, z, example.condition).ravel()
        squares = (example.x.ravel() - decoded) ** 2
        if example.observed is None:
            return squares
        observed = example.observed.ravel()
        share = observed.size / jnp.maximum(jnp.sum(observed), 1)
        return jnp.where(observed, squares, 0.0) * share

    return jnp.mean(jax.vmap(one)(example, z), axis=1)
