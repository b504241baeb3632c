"""Discretized logistics: probabilities of the 256 levels k/255.

The probability of a level is the mass of a logistic, or of a mixture of them, between the midpoints
to its two neighbours; that of the first and the last level includes the mass beyond (Kingma et al.
2016, arXiv:1606.04934, section 5.2). In units of levels, with the sigmoid S,

    P(k) = S(b) - S(a),   a = (k - 1/2 - mean) / scale,   b = (k + 1/2 - mean) / scale
         = S(b) S(-a) (1 - e^(a - b))

The second form has no difference of nearly equal numbers: its logarithm is finite, and exact, at
any mean and scale.
"""

import jax
import jax.numpy as jnp

from vae_jax.types import Field, Likelihood, Params, Part

LEVELS = 256
# Soft lower bound of log scale, in units of x. That of PixelCNN++ is -7, of x in [-1, 1].
_LOW = -7.6
_START_SCALE = 0.1  # of the first p(x|z), in units of x: 25 levels

# The mean of a logistic, and of a mixture, in JavaScript; see `_in_levels` and `_mass_above`.
_MEAN_OF_ONE = f"""
  const meanOf = (mean, logScale) => {{
    const above = logScale - {_LOW};
    const log = {_LOW} + Math.max(above, 0) + Math.log1p(Math.exp(-Math.abs(above)));
    const perScale = Math.exp(-log) / {LEVELS - 1};
    let sum = 0;
    for (let k = 0; k < {LEVELS - 1}; k++) {{
      sum += 1 / (1 + Math.exp((k + 0.5 - mean * {LEVELS - 1}) * perScale));
    }}
    return sum / {LEVELS - 1};
  }};"""
_MEAN_OF_SEVERAL = """
  const num = out.length / 3, largest = Math.max(...out.subarray(0, num));
  let sum = 0, total = 0;
  for (let i = 0; i < num; i++) {
    const weight = Math.exp(out[i] - largest);
    total += weight;
    sum += weight * meanOf(out[num + i], out[2 * num + i]);
  }
  return sum / total;"""


def discretized_logistic() -> Likelihood:
    """A logistic for each value; out [D, 2] is its mean and its log scale, in units of x."""

    def log_prob(_theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        return log_mass(out[:, 0], out[:, 1], x)

    def mean(_theta: Params, out: jax.Array) -> jax.Array:
        return jnp.mean(_mass_above(out[:, :1], out[:, 1:]), axis=-1)

    def sample(_theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        return _sample(rng, out[:, 0], out[:, 1])

    def start(x_mean: jax.Array) -> jax.Array:
        return jnp.stack(start_of_logistic(x_mean), axis=1)

    return Likelihood(
        support="levels",
        init=dict,
        start=start,
        log_prob=log_prob,
        mean=mean,
        sample=sample,
        javascript=f"out => {{ {_MEAN_OF_ONE} return meanOf(out[0], out[1]); }}",
    )


def discretized_logistic_mixture(mixtures: int) -> Likelihood:
    """A mixture of logistics for each value; out [D, 3 mixtures]: logits, means and log scales.

    Given z all values are independent, the channels of a pixel too. In PixelCNN++ (Salimans et al.
    2017, arXiv:1701.05517, section 2.2) the channels share the choice of component, and the means
    of green and blue depend on the values before them: on colour images that is another model.

    Args:
      mixtures: components of each mixture.
    """

    def split(out: jax.Array) -> list[jax.Array]:
        """Logits, means and log scales, each [mixtures, D].

        Sums over the first axis are three times as fast on a CPU.
        """
        return jnp.split(out.T, 3)

    def log_prob(_theta: Params, out: jax.Array, x: jax.Array) -> jax.Array:
        logits, means, log_scales = split(out)
        log_p = jax.nn.log_softmax(logits, axis=0) + log_mass(means, log_scales, x)
        return jax.nn.logsumexp(log_p, axis=0)

    def mean(_theta: Params, out: jax.Array) -> jax.Array:
        logits, means, log_scales = split(out)
        means = jnp.mean(_mass_above(means[..., None], log_scales[..., None]), axis=-1)
        return jnp.sum(jax.nn.softmax(logits, axis=0) * means, axis=0)

    def sample(_theta: Params, rng: jax.Array, out: jax.Array) -> jax.Array:
        which_rng, x_rng = jax.random.split(rng)
        logits, means, log_scales = split(out)
        which = jax.random.categorical(which_rng, logits, axis=0)[None]
        mean = jnp.take_along_axis(means, which, axis=0)[0]
        log_scale = jnp.take_along_axis(log_scales, which, axis=0)[0]
        return _sample(x_rng, mean, log_scale)

    def start(x_mean: jax.Array) -> jax.Array:
        # All components start equal; the network's random kernel makes them differ.
        one = (jnp.zeros_like(x_mean), *start_of_logistic(x_mean))
        return jnp.concatenate([jnp.repeat(a[:, None], mixtures, axis=1) for a in one], axis=1)

    return Likelihood(
        support="levels",
        init=dict,
        start=start,
        log_prob=log_prob,
        mean=mean,
        sample=sample,
        javascript=f"out => {{ {_MEAN_OF_ONE} {_MEAN_OF_SEVERAL} }}",
    )


def log_mass(mean: jax.Array, log_scale: jax.Array, x: jax.Array) -> jax.Array:
    """log P(x) of logistics, element by element with broadcasting; x is rounded to a level.

    Args:
      mean: in units of x.
      log_scale: in units of x, before its soft lower bound.
      x: k/255.
    """
    level = jnp.round(x * (LEVELS - 1))
    mean, per_scale = _in_levels(mean, log_scale)
    first = level <= 0  # there S(-a) is 1
    last = level >= LEVELS - 1  # there S(b) is 1
    a = (level - 0.5 - mean) * per_scale
    b = (level + 0.5 - mean) * per_scale
    # S(t) = e^min(t, 0) / (1 + e^-|t|): the numerators are exact logs, so one log is enough.
    lower = jnp.where(first, 0.0, jnp.minimum(-a, 0))
    upper = jnp.where(last, 0.0, jnp.minimum(b, 0))
    u = jnp.where(first, 0.0, jnp.exp(-jnp.abs(a)))
    v = jnp.where(last, 0.0, jnp.exp(-jnp.abs(b)))
    inner = jnp.where(first | last, 1.0, -jnp.expm1(-jnp.maximum(per_scale, 1e-30)))
    return jnp.log(inner / ((1 + u) * (1 + v))) + lower + upper


def start_of_logistic(x_mean: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(mean, log scale), each [D], of a discretized logistic of scale 0.1 with E[x] = x_mean.

    E[x] is right to 1e-5: at such a scale the sum over levels is about the integral,

        E[x] = s (softplus(m/s) - softplus((m - 1)/s))

    solved for m. log scale is before its soft lower bound.
    """
    s = _START_SCALE
    x_mean = jnp.clip(x_mean, 1e-3, 1 - 1e-3)
    mean = s * (jnp.log(jnp.expm1(x_mean / s)) - jnp.log(-jnp.expm1((x_mean - 1) / s)))
    raw = _LOW + jnp.log(jnp.expm1(jnp.log(s) - _LOW))  # softplus inverted
    return mean, jnp.full_like(x_mean, raw)


def _in_levels(mean: jax.Array, log_scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(mean, 1/scale) in units of levels, where midpoints are exact in floating point."""
    log_scale = _LOW + jax.nn.softplus(log_scale - _LOW)
    return mean * (LEVELS - 1), jnp.exp(-log_scale) / (LEVELS - 1)


def _mass_above(mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """P(level > k) for k = 0, ..., 254, [..., 255] of arguments [..., 1]; their mean is E[x]."""
    mean, per_scale = _in_levels(mean, log_scale)
    return jax.nn.sigmoid((mean - jnp.arange(LEVELS - 1, dtype=mean.dtype) - 0.5) * per_scale)


def _sample(rng: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    mean, per_scale = _in_levels(mean, log_scale)
    x = mean + jax.random.logistic(rng, mean.shape, mean.dtype) / per_scale
    return jnp.clip(jnp.round(x), 0, LEVELS - 1) / (LEVELS - 1)


DISCRETIZED = Part(
    "likelihood", "discretized_logistic", lambda _section: discretized_logistic(), "of 256 levels"
)
MIXTURE = Part(
    "likelihood",
    "discretized_logistic_mixture",
    lambda section: discretized_logistic_mixture(section.mixtures),
    "of 256 levels, with several peaks",
    fields={"mixtures": Field(10, "components of each value's mixture", above=0)},
)
