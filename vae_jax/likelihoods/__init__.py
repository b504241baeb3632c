"""The observation models p(x|z) by name: what the decoder's output means. One number per value of x, in nats."""

from vae_jax.likelihoods.bernoulli import bernoulli
from vae_jax.likelihoods.categorical import categorical
from vae_jax.likelihoods.continuous_bernoulli import continuous_bernoulli
from vae_jax.likelihoods.gaussian import gaussian, gaussian_optimal_sigma, gaussian_per_pixel
from vae_jax.likelihoods.logistic import discretized_logistic, discretized_logistic_mixture
from vae_jax.types import Likelihood

__all__ = ["LIKELIHOODS", "Likelihood", "bernoulli", "gaussian"]

# Each entry builds a likelihood from config.model.
LIKELIHOODS = {
    "bernoulli": lambda model: bernoulli(),
    "continuous_bernoulli": lambda model: continuous_bernoulli(),
    "gaussian": lambda model: gaussian(model.sigma, model.learn_sigma),
    "gaussian_per_pixel": lambda model: gaussian_per_pixel(model.sigma, model.min_sigma),
    "gaussian_optimal_sigma": lambda model: gaussian_optimal_sigma(model.sigma, model.min_sigma),
    "discretized_logistic": lambda model: discretized_logistic(),
    "discretized_logistic_mixture": lambda model: discretized_logistic_mixture(model.mixtures),
    "categorical": lambda model: categorical(),
}
