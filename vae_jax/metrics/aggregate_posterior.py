"""What the aggregate posterior q(z) = 1/N sum_j q(z|x_j) of the N examples of a split holds, in nats.

    E[rate] = mutual information + KL(q(z) || p(z))                    (Hoffman & Johnson 2016, "ELBO surgery")
            = mutual information + total correlation + dimension-wise KL
                                                          (Chen et al. 2018, arXiv:1802.04942, equation 2)

    mutual information   E[log q(z|x) - log q(z)]                       z, and which of the N examples it is of
    total correlation    E[log q(z) - sum_d log q(z_d)]                 how far the units are from independent
    dimension-wise KL    E[sum_d log q(z_d) - log p(z_d)]               how far each unit's marginal is from the prior

Every density is the mixture of all N posteriors, evaluated block by block: there are no minibatch weights, whose
estimates may leave the range that is possible. So what is estimated, without bias, is a quantity of these N
examples, each >= 0 (below by more than its error it is a bug), the mutual information <= log N. The population's
q(z) is another mixture. If the encoder has not seen the N examples, independent draws, then in expectation

- the mutual information is a lower bound on the population's I(x; z) (it is concave in the distribution of x), and
  with the draw's own example left out of the mixture an upper bound (Poole et al. 2019, arXiv:1905.06922,
  section 2.5); the same holds for each unit;
- both KLs are too large by exactly what the mutual information, or the sum of the units', is too small;
- the total correlation, sum_d I(x; z_d) - I(x; z), may err on either side. As a rule the joint term errs most,
  and the total correlation is too large.

So each comes with its bounds: where they are far apart, N examples are too few to tell.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import distributions
from vae_jax.distributions import Gaussian
from vae_jax.metrics import importance_weights as weights
from vae_jax.metrics.importance_weights import Weights


class Terms(NamedTuple):
    """Log-ratios of densities at B draws z ~ q(z|x); Z units. `others`: q(z) without the draw's own example."""

    rate: jax.Array  # log q(z_d|x) - log p(z_d)  [B, Z]
    units: jax.Array  # log q(z_d|x) - log q(z_d)  [B, Z]
    units_others: jax.Array  # [B, Z]
    joint: jax.Array  # log q(z|x) - log q(z), over all units at once  [B]
    joint_others: jax.Array  # [B]


def terms(posterior: Gaussian, positions: jax.Array, eps: jax.Array, log_prior: Callable, block_size: int) -> Terms:
    """The terms of one draw, with noise eps [B, Z], from each posterior at `positions` [B] of all N >= 2 [N, Z].

    `log_prior` is z [Z] -> log p(z_d) [Z]. Memory is that of [B, block_size, Z], whatever N is. A unit that equals
    the prior for every example (inactive: mean, logvar and eps 0) adds exactly 0 to each term.
    """
    num, num_blocks = len(posterior.mean), -(-len(posterior.mean) // block_size)
    own = Gaussian(*(leaf[positions] for leaf in posterior))
    z = distributions.sample(own, eps)
    log_own = distributions.log_prob(own, z)

    def add(sums: tuple[Weights, Weights], block):
        index, others = block
        counts = (index != positions[:, None]) & (index < num)  # neither the draw's own nor the padding
        log_ratio = distributions.log_prob(others, z[:, None]) - log_own[:, None]  # [B, block_size, Z]
        units = jnp.where(counts[:, :, None], log_ratio, -jnp.inf)
        joint = jnp.where(counts, jnp.sum(log_ratio, axis=2), -jnp.inf)
        return (
            weights.add(sums[0], jnp.moveaxis(units, 1, 2)),
            weights.add(sums[1], joint),
        ), None

    padding = num_blocks * block_size - num
    blocks = jax.tree.map(
        lambda leaf: jnp.pad(leaf, ((0, padding), (0, 0))).reshape(num_blocks, block_size, -1), posterior
    )
    index = jnp.arange(num_blocks * block_size).reshape(num_blocks, block_size)
    start = weights.none(z.shape), weights.none(positions.shape)
    (units, joint), _ = jax.lax.scan(add, start, (index, blocks))
    return Terms(
        rate=log_own - jax.vmap(log_prior)(z),
        units=-weights.log_mean(weights.add(units, jnp.zeros((*z.shape, 1))), num),  # the own example's ratio is 1
        units_others=-weights.log_mean(units, num - 1),
        joint=-weights.log_mean(weights.add(joint, jnp.zeros((len(z), 1))), num),
        joint_others=-weights.log_mean(joint, num - 1),
    )


def summarize(terms: Terms) -> dict:
    """Means over one draw of each of the N examples, and `<name>_stderr`; float64, those of units [Z].

    The error is over draws. Given the N examples it is, if anything, too large, because each example has its own
    draw. `_lower` and `_upper` bound the population's value in expectation (see above); mutual_information is itself
    such a lower bound, both KLs such upper bounds. `saturated`: at the draws more than half of q(z), in the geometric
    mean, is the own example's part, so that mutual_information tells no more than N.
    """
    t = Terms(*(np.asarray(leaf, np.float64) for leaf in terms))
    rate, units, units_others = t.rate.sum(1), t.units.sum(1), t.units_others.sum(1)
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
    errors = {f"{name}_stderr": values.std(0, ddof=1) / math.sqrt(num) for name, values in per_draw.items()}
    saturated = bool(math.log(num) - means["mutual_information"] < math.log(2))
    return means | errors | {"log_num_examples": math.log(num), "saturated": saturated}
