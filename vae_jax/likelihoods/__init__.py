"""Likelihoods p(x|z) by name: the distribution whose parameters the decoder network puts out.

A part's `make(section) -> Likelihood` takes the section config.likelihood.
"""

from vae_jax.likelihoods import (
    bernoulli,
    categorical,
    continuous_bernoulli,
    gaussian,
    laplace,
    logistic,
)
from vae_jax.types import Part

LIKELIHOODS: dict[str, Part] = {
    "bernoulli": bernoulli.PART,
    "continuous_bernoulli": continuous_bernoulli.PART,
    "gaussian": gaussian.GAUSSIAN,
    "gaussian_per_pixel": gaussian.PER_PIXEL,
    "gaussian_optimal_sigma": gaussian.OPTIMAL_SIGMA,
    "laplace": laplace.PART,
    "discretized_logistic": logistic.DISCRETIZED,
    "discretized_logistic_mixture": logistic.MIXTURE,
    "categorical": categorical.PART,
}
