"""The plain autoencoder: x -> code -> x, the baseline that the VAE answers.

    z = encoder(x)                            one point, not a distribution
    distortion = -log p(x|z)                  all there is to minimize

It has the VAE's networks and likelihood, but neither a rate nor a prior: nothing asks the codes to fill any known
distribution, so what lies between them means nothing, the model gives x no likelihood, and it cannot be sampled. With
`code_sampler="gaussian_fit"` codes are drawn from a Gaussian fitted, after training, to those of the training set.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vae_jax.distributions import Point
from vae_jax.likelihoods import LIKELIHOODS, Likelihood
from vae_jax.models.generator import generator, seen
from vae_jax.networks import Network, make_decoder, make_encoder
from vae_jax.types import Draw, Example, Hypers, Model, Params

# From config.code_sampler to whether there is one.
CODE_SAMPLERS = {"none": False, "gaussian_fit": True}


def autoencoder(
    encoder: Network,
    decoder: Network,
    likelihood: Likelihood,
    sampler: bool,
    example_shape: tuple[int, ...],
    width: int,
) -> Model:
    """A Model without densities of z. Its encoder's second output, a VAE's logvar, is left unused, so that the two
    have the same network."""
    p_x = generator(decoder, likelihood, example_shape)

    def active(hypers: Hypers) -> jax.Array:
        return jnp.arange(width) < hypers["latent_dim"]

    def init(rng: jax.Array, hypers: Hypers) -> Params:
        encoder_rng, decoder_rng, _ = jax.random.split(rng, 3)
        return {
            "encoder": encoder.init(encoder_rng, hypers["latent_dim"]),
            "decoder": p_x.init(decoder_rng, hypers["latent_dim"]),
            "prior": {"mean": jnp.zeros(width), "scale": jnp.zeros((width, width))} if sampler else {},
        }

    def encode(params: Params, x: Example | jax.Array, hypers: Hypers) -> Point:
        code, _ = encoder.apply(params["encoder"], seen(x))
        return Point(jnp.where(active(hypers), code, 0.0))

    def draw(params: Params, x: Example | jax.Array, _rng: jax.Array, hypers: Hypers, path_weight=None) -> Draw:
        posterior = encode(params, x, hypers)
        distortion = -p_x.log_prob(params, x, posterior.mean)
        return Draw(distortion, rate=None, log_w=None, z=posterior.mean, posterior=posterior)

    def sample_code(params: Params, rng: jax.Array, hypers: Hypers) -> jax.Array:
        z = params["prior"]["mean"] + params["prior"]["scale"] @ jax.random.normal(rng, (width,))
        return jnp.where(active(hypers), z, 0.0)

    def fit_prior(params: Params, mean: jax.Array, covariance: jax.Array) -> Params:
        # Unused units have no variance; the little that is added lets the Cholesky factor exist.
        jitter = 1e-6 * jnp.eye(width) * (1.0 + jnp.max(jnp.diag(covariance)))
        return params | {"prior": {"mean": mean, "scale": jnp.linalg.cholesky(covariance + jitter)}}

    densities = {"log_q": None, "log_joint": None}
    if not sampler:
        return Model(init, encode, **densities, draw=draw, decode=p_x.decode, sample_prior=None)
    return Model(init, encode, **densities, draw=draw, decode=p_x.decode, sample_prior=sample_code, fit_prior=fit_prior)


def make(config, x_mean: jax.Array, width: int, dtype: Any = None) -> Model:
    """The autoencoder that the config's model section describes, for examples of the shape of `x_mean`."""
    likelihood, example_shape = LIKELIHOODS[config.likelihood](config), jnp.shape(x_mean)
    return autoencoder(
        make_encoder(config, example_shape, width, dtype),
        make_decoder(config, example_shape, width, likelihood.start(jnp.ravel(x_mean)), dtype),
        likelihood,
        CODE_SAMPLERS[config.code_sampler],
        example_shape,
        width,
    )
