"""Partially importance-weighted: the encoder and the decoder have objectives of their own, PIWAE
(Rainforth et al. 2018, arXiv:1802.04537, equation 15).

    p(x, z): log 1/(M K) sum_mk w_mk          the bound of all samples
    q(z|x):  1/M sum_m log 1/K sum_k w_mk     the mean of M = objective.num_blocks bounds

The decoder has the tightest bound, and the encoder a gradient with more signal. It needs a q(z|x)
that shares no parameters with p(x, z).
"""

import jax

from vae_jax.objectives.elbo import BETA, no_networks, penalty
from vae_jax.objectives.gradients import GRADIENT, needs_two_samples, surrogate
from vae_jax.objectives.iwae import log_mean
from vae_jax.objectives.multi_iwae import NUM_BLOCKS, divides, mean_of_blocks
from vae_jax.objectives.multi_sample import metrics_of
from vae_jax.types import Objective, Params, Part


def _only(params: Params, names: set[str]) -> Params:
    """The parameters, all but those of these names without a gradient."""
    constant = jax.lax.stop_gradient
    return {k: tree if k in names else constant(tree) for k, tree in params.items()}


def make(section, _z_like) -> Objective:
    of_blocks = mean_of_blocks(section)

    def loss(params, draws, _x, _rng, hypers) -> tuple[jax.Array, dict]:
        def of(bound, names: set[str]):
            return surrogate(bound, section.gradient, _only(params, names), draws, hypers)

        for_p, draw = of(log_mean, set(params) - {"encoder"})
        for_q, _ = of(of_blocks, {"encoder"})
        value = for_p + for_q - jax.lax.stop_gradient(for_q)
        bounds = {"bound": log_mean, "bound_of_q": of_blocks}
        return value + penalty(draw), metrics_of(draw, bounds, hypers)

    return Objective(no_networks, loss)


PART = Part(
    "objective",
    "piwae",
    make,
    "importance-weighted, with a bound of fewer samples for the encoder",
    fields={"gradient": GRADIENT, "num_blocks": NUM_BLOCKS},
    hypers={"beta": BETA},
    needs=("importance weights", "an encoder apart from p(x, z)"),
    fits=lambda config, data: needs_two_samples(config, data) or divides(config, data),
)
