"""The variational autoencoder of Kingma & Welling 2014 (arXiv:1312.6114), for one example.

    q(z|x) = N(z; mean(x), exp(logvar(x)))     the encoder
    p(z)                                       the prior
    p(x|z)                                     the decoder and its likelihood

    log p(x) >= ELBO = E_q[log p(x|z)] - KL(q(z|x) || p(z)) = -(distortion + rate)

Arrays are as wide as the widest member of the population; the first `hypers["latent_dim"]` units are active.
An inactive unit has z = 0 and rate 0, so its gradients, and with them its optimizer moments, are exactly zero.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vae_jax import distributions
from vae_jax.distributions import Gaussian
from vae_jax.likelihoods import LIKELIHOODS, Likelihood
from vae_jax.models.generator import generator, seen
from vae_jax.networks import Network, make_decoder, make_encoder
from vae_jax.priors import Prior, standard_normal
from vae_jax.types import Draw, Example, Hypers, Model, Params


def vae(
    encoder: Network,
    decoder: Network,
    likelihood: Likelihood,
    prior: Prior,
    example_shape: tuple[int, ...],
    width: int,
) -> Model:
    """A Model from its four parts; x may come flat or in `example_shape`, decoded means have `example_shape`."""
    p_x = generator(decoder, likelihood, example_shape)

    def active(hypers: Hypers) -> jax.Array:
        return jnp.arange(width) < hypers["latent_dim"]

    def init(rng: jax.Array, hypers: Hypers) -> Params:
        encoder_rng, decoder_rng, prior_rng = jax.random.split(rng, 3)
        return {
            "encoder": encoder.init(encoder_rng, hypers["latent_dim"]),
            "decoder": p_x.init(decoder_rng, hypers["latent_dim"]),
            "prior": prior.init(prior_rng),
        }

    def encode(params: Params, x: Example | jax.Array, hypers: Hypers) -> Gaussian:
        mean, logvar = encoder.apply(params["encoder"], seen(x))
        mask = active(hypers)
        return Gaussian(jnp.where(mask, mean, 0.0), jnp.where(mask, logvar, 0.0))

    def log_prior(params: Params, z: jax.Array, hypers: Hypers) -> jax.Array:
        return jnp.sum(jnp.where(active(hypers), prior.log_prob(params["prior"], z), 0.0))

    def log_posterior(q: Gaussian, z: jax.Array, hypers: Hypers) -> jax.Array:
        return jnp.sum(jnp.where(active(hypers), distributions.log_prob(q, z), 0.0))

    def log_q(params: Params, x: Example | jax.Array, z: jax.Array, hypers: Hypers) -> jax.Array:
        return log_posterior(encode(params, x, hypers), z, hypers)

    def log_joint(params: Params, x: Example | jax.Array, z: jax.Array, hypers: Hypers) -> jax.Array:
        return p_x.log_prob(params, x, z) + log_prior(params, z, hypers)

    def draw(params: Params, x, rng: jax.Array, hypers: Hypers, path_weight=None) -> Draw:
        posterior = encode(params, x, hypers)
        eps = jnp.where(active(hypers), jax.random.normal(rng, (width,)), 0.0)
        z = distributions.sample(posterior, eps)
        q = posterior
        if path_weight is not None:
            # Only the path x -> z keeps its gradient, times path_weight: the score of q is left out, because
            # its expectation is zero (Roeder et al. 2017) or is taken care of by the weight (Tucker et al. 2019).
            z = scale_gradient(z, path_weight)
            q = encode(jax.lax.stop_gradient(params), x, hypers)
        log_p_x = p_x.log_prob(params, x, z)
        return Draw(
            distortion=-log_p_x,
            rate=jnp.where(active(hypers), prior.kl(params["prior"], posterior), 0.0),
            log_w=log_p_x + log_prior(params, z, hypers) - log_posterior(q, z, hypers),
            z=z,
            posterior=posterior,
        )

    def sample_prior(params: Params, rng: jax.Array, hypers: Hypers) -> jax.Array:
        return jnp.where(active(hypers), prior.sample(params["prior"], rng), 0.0)

    return Model(init, encode, log_q, log_joint, draw, p_x.decode, sample_prior, log_prior=log_prior)


def scale_gradient(z: jax.Array, weight: jax.Array) -> jax.Array:
    """The identity, whose backward pass multiplies by `weight` (a constant)."""
    constant = jax.lax.stop_gradient(z)
    return constant + jax.lax.stop_gradient(weight) * (z - constant)


def make(config, x_mean: jax.Array, width: int, dtype: Any = None) -> Model:
    """The VAE that the config's model section describes, for examples of the shape of `x_mean`."""
    likelihood, example_shape = LIKELIHOODS[config.likelihood](config), jnp.shape(x_mean)
    return vae(
        make_encoder(config, example_shape, width, dtype),
        make_decoder(config, example_shape, width, likelihood.start(jnp.ravel(x_mean)), dtype),
        likelihood,
        standard_normal(width),
        example_shape,
        width,
    )
