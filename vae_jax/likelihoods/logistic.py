"""Discretized logistics: probabilities of the 256 levels k/255 (Kingma et al. 2016, arXiv:1606.04934, section 5.2).

A level has the mass that a logistic, or a mixture of them, puts between the middles to its two neighbours; the first
and the last level also take what lies beyond them. In units of levels, with the sigmoid S as the distribution function,

    P(k) = S(b) - S(a),   a = (k - 1/2 - mean) / scale,   b = (k + 1/2 - mean) / scale
         = S(b) S(-a) (1 - e^(a - b))

whose second form has no difference of nearly equal numbers: its logarithm is finite, and exact, at any mean and scale.
"""

import jax
import jax.numpy as jnp

from vae_jax.types import Likelihood, Params

LEVELS = 256
_LOW = -7.6  # of log scale in units of x: softly bounded, as in PixelCNN++, where x is in [-1, 1] and the bound -7
_START_SCALE = 0.1  # of the first p(x|z), in units of x: 25 levels


def discretized_logistic() -> Likelihood:
    """One logistic for each value: out is [D, 2], its mean and log scale, both in units of x."""

    def log_prob(_theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        return log_mass(out[:, 0], out[:, 1], x)

    def mean(_theta: Params, out: jax.Array) -> jax.Array:
        return jnp.mean(_mass_above(out[:, :1], out[:, 1:]), axis=-1)

    def sample(_theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        return _sample(rng, out[:, 0], out[:, 1])

    def start(x_mean: jax.Array) -> jax.Array:
        return jnp.stack(start_of_logistic(x_mean), axis=1)

    return Likelihood("levels", dict, start, log_prob, mean, sample)


def discretized_logistic_mixture(mixtures: int) -> Likelihood:
    """A mixture of `mixtures` logistics for each value: out is [D, 3 mixtures], their logits, means and log scales.

    Given z all values are independent, the channels of a pixel too. PixelCNN++ (Salimans et al. 2017,
    arXiv:1701.05517, section 2.2) instead shares the choice of component among the channels and lets the means of
    green and blue depend on the values before them, so its numbers on colour images are another model's.
    """

    def split(out: jax.Array) -> list[jax.Array]:
        return jnp.split(out.T, 3)  # each [mixtures, D]: sums over the first axis are three times as fast on a CPU

    def log_prob(_theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        logits, means, log_scales = split(out)
        return jax.nn.logsumexp(jax.nn.log_softmax(logits, axis=0) + log_mass(means, log_scales, x), axis=0)

    def mean(_theta: Params, out: jax.Array) -> jax.Array:
        logits, means, log_scales = split(out)
        means = jnp.mean(_mass_above(means[..., None], log_scales[..., None]), axis=-1)
        return jnp.sum(jax.nn.softmax(logits, axis=0) * means, axis=0)

    def sample(_theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        which_rng, x_rng = jax.random.split(rng)
        logits, means, log_scales = split(out)
        which = jax.random.categorical(which_rng, logits, axis=0)[None]
        chosen = (jnp.take_along_axis(a, which, axis=0)[0] for a in (means, log_scales))
        return _sample(x_rng, *chosen)

    def start(x_mean: jax.Array) -> jax.Array:
        one = (jnp.zeros_like(x_mean), *start_of_logistic(x_mean))  # the network's random kernel tells them apart
        return jnp.concatenate([jnp.repeat(a[:, None], mixtures, axis=1) for a in one], axis=1)

    return Likelihood("levels", dict, start, log_prob, mean, sample)


def log_mass(mean: jax.Array, log_scale: jax.Array, x: jax.Array) -> jax.Array:
    """log P(x), element by element with broadcasting; what is no level counts as the nearest one."""
    level = jnp.round(x * (LEVELS - 1))
    mean, per_scale = _in_levels(mean, log_scale)
    first, last = level <= 0, level >= LEVELS - 1  # there S(-a), or S(b), is 1
    a, b = (level - 0.5 - mean) * per_scale, (level + 0.5 - mean) * per_scale
    # Of S(t) = e^min(t, 0) / (1 + e^-|t|) the first factor leaves the logarithm, so that one logarithm is enough.
    lower, upper = jnp.where(first, 0.0, jnp.minimum(-a, 0)), jnp.where(last, 0.0, jnp.minimum(b, 0))
    u, v = jnp.where(first, 0.0, jnp.exp(-jnp.abs(a))), jnp.where(last, 0.0, jnp.exp(-jnp.abs(b)))
    inner = jnp.where(first | last, 1.0, -jnp.expm1(-jnp.maximum(per_scale, 1e-30)))
    return jnp.log(inner / ((1 + u) * (1 + v))) + lower + upper


def start_of_logistic(x_mean: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(mean, log scale) of a discretized logistic of scale 0.1 with E[x] = x_mean, within 1e-5.

    At such a scale the sum over levels is the integral, E[x] = s (softplus(m/s) - softplus((m - 1)/s)), solved for m.
    """
    s, x_mean = _START_SCALE, jnp.clip(x_mean, 1e-3, 1 - 1e-3)
    mean = s * (jnp.log(jnp.expm1(x_mean / s)) - jnp.log(-jnp.expm1((x_mean - 1) / s)))
    raw = _LOW + jnp.log(jnp.expm1(jnp.log(s) - _LOW))  # softplus inverted
    return mean, jnp.full_like(x_mean, raw)


def _in_levels(mean: jax.Array, log_scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(mean, 1/scale) in units of levels, where the middles between levels are exact in any float."""
    log_scale = _LOW + jax.nn.softplus(log_scale - _LOW)
    return mean * (LEVELS - 1), jnp.exp(-log_scale) / (LEVELS - 1)


def _mass_above(mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """P(level > k) for k = 0 ... 254, [..., 255] of arguments [..., 1]; their mean is E[x]."""
    mean, per_scale = _in_levels(mean, log_scale)
    return jax.nn.sigmoid((mean - jnp.arange(LEVELS - 1, dtype=mean.dtype) - 0.5) * per_scale)


def _sample(rng: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    mean, per_scale = _in_levels(mean, log_scale)
    x = mean + jax.random.logistic(rng, mean.shape, mean.dtype) / per_scale
    return jnp.clip(jnp.round(x), 0, LEVELS - 1) / (LEVELS - 1)
