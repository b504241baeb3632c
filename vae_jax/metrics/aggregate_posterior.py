"""Decompositions of the aggregate posterior q(z) = 1/N sum_j q(z|x_j) of N examples, in nats.

    E[rate] = mutual information + KL(q(z) || p(z))      (Hoffman & Johnson 2016, "ELBO surgery")
            = mutual information + total correlation + dimension-wise KL
                                             (Chen et al. 2018, arXiv:1802.04942, equation 2)

    mutual information   E[log q(z|x) - log q(z)]          between z and the index of the example
    total correlation    E[log q(z) - sum_d log q(z_d)]    how far the units are from independent
    dimension-wise KL    E[sum_d log q(z_d) - log p(z_d)]  how far each marginal is from the prior

Every density is the mixture of all N posteriors, evaluated block by block. There are no minibatch
weights, whose estimates may be outside the possible range. So these are unbiased estimates of
quantities of the N examples, each >= 0 (an estimate below by more than its error is a bug), the
mutual information <= log N.

The q(z) of the population is another mixture. Where the N examples are independent draws that the
encoder was not trained on, in expectation:

- The mutual information is a lower bound on the population's I(x; z), since it is concave in the
  distribution of x. With the draw's own example left out of the mixture it is an upper bound (Poole
  et al. 2019, arXiv:1905.06922, section 2.5). The same holds for each unit.
- Both KLs are too large by exactly what the mutual information, or the sum of the units', is too
  small.
- The total correlation, sum_d I(x; z_d) - I(x; z), may err in either direction. Usually the error
  of the joint term is largest, and the total correlation too large.

So each comes with bounds: where they are far apart, N examples are too few.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import distributions
from vae_jax.distributions import Gaussian
from vae_jax.metrics import importance_weights as weights
from vae_jax.metrics.importance_weights import Weights


class Terms(NamedTuple):
    """Log ratios of densities at B draws z ~ q(z|x) of Z units, in nats.

    `_others`: with the q(z) of all examples but the draw's own.
    """

    rate: jax.Array  # log q(z_d|x) - log p(z_d)  [B, Z]
    units: jax.Array  # log q(z_d|x) - log q(z_d)  [B, Z]
    units_others: jax.Array  # [B, Z]
    joint: jax.Array  # log q(z|x) - log q(z)  [B]
    joint_others: jax.Array  # [B]


def terms(
    posterior: Gaussian,
    positions: jax.Array,
    eps: jax.Array,
    log_prior: Callable[[jax.Array], jax.Array],
    block_size: int,
) -> Terms:
    """The terms of one draw from each of B posteriors.

    A unit that equals the prior for every example (inactive: mean, logvar and eps 0) adds exactly 0
    to each term.

    Args:
      posterior: of all N >= 2 examples  [N, Z].
      positions: of the B examples  [B].
      eps: the noise of their draws  [B, Z].
      log_prior: z [Z] -> log p(z_d) [Z].
      block_size: memory is that of [B, block_size, Z], whatever N is.
    """
    num = len(posterior.mean)
    num_blocks = -(-num // block_size)
    own = Gaussian(*(leaf[positions] for leaf in posterior))
    z = distributions.sample(own, eps)
    log_own = distributions.log_prob(own, z)

    def add(sums: tuple[Weights, Weights], block: tuple[jax.Array, Gaussian]):
        index, others = block
        is_other = index != positions[:, None]
        counts = is_other & (index < num)  # not the padding either
        log_ratio = distributions.log_prob(others, z[:, None]) - log_own[:, None]  # [B, block, Z]
        log_units = jnp.where(counts[:, :, None], log_ratio, -jnp.inf)
        log_joint = jnp.where(counts, jnp.sum(log_ratio, axis=2), -jnp.inf)
        units, joint = sums
        units = weights.add(units, jnp.moveaxis(log_units, 1, 2))
        joint = weights.add(joint, log_joint)
        return (units, joint), None

    def in_blocks(leaf: jax.Array) -> jax.Array:
        padding = num_blocks * block_size - num
        return jnp.pad(leaf, ((0, padding), (0, 0))).reshape(num_blocks, block_size, -1)

    index = jnp.arange(num_blocks * block_size).reshape(num_blocks, block_size)
    start = (weights.none(z.shape), weights.none(positions.shape))
    blocks = (index, jax.tree.map(in_blocks, posterior))
    (units, joint), _ = jax.lax.scan(add, start, blocks)
    # The ratio of the draw's own example is 1.
    all_units = weights.add(units, jnp.zeros((*z.shape, 1)))
    all_joint = weights.add(joint, jnp.zeros((len(z), 1)))
    return Terms(
        rate=log_own - jax.vmap(log_prior)(z),
        units=-weights.log_mean(all_units, num),
        units_others=-weights.log_mean(units, num - 1),
        joint=-weights.log_mean(all_joint, num),
        joint_others=-weights.log_mean(joint, num - 1),
    )


def summarize(terms: Terms) -> dict[str, Any]:
    """{name: mean, "<name>_stderr": standard error} of the decompositions, in nats.

    Values are float64; those whose name begins with "unit_" are per unit [Z]. Beside them:

    - log_num_examples: log N.
    - saturated: whether, in the geometric mean over draws, the own example is more than half of
      q(z). Then mutual_information says little but N.

    The standard error is over draws. Given the N examples it is, if anything, too large, since each
    example has its own draw. `_lower` and `_upper` bound the value of the population in
    expectation, see the top of this file; mutual_information is itself such a lower bound, both KLs
    are such upper bounds.

    Args:
      terms: of one draw of each of the N examples.
    """
    t = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), terms)
    rate = t.rate.sum(1)
    units = t.units.sum(1)
    units_others = t.units_others.sum(1)
    per_draw = {
        "rate_sampled": rate,
        "mutual_information": t.joint,
        "mutual_information_upper": t.joint_others,
        "aggregate_kl": rate - t.joint,
        "aggregate_kl_lower": rate - t.joint_others,
        "total_correlation": units - t.joint,
        "total_correlation_lower": units - t.joint_others,
        "total_correlation_upper": units_others - t.joint,
        "dimension_wise_kl": rate - units,
        "dimension_wise_kl_lower": rate - units_others,
        "unit_mutual_information": t.units,
        "unit_mutual_information_upper": t.units_others,
        "unit_marginal_kl": t.rate - t.units,
    }
    num = len(t.joint)
    means = {name: values.mean(0) for name, values in per_draw.items()}
    errors = {}
    for name, values in per_draw.items():
        errors[f"{name}_stderr"] = values.std(0, ddof=1) / math.sqrt(num)
    saturated = bool(math.log(num) - means["mutual_information"] < math.log(2))
    return means | errors | {"log_num_examples": math.log(num), "saturated": saturated}
