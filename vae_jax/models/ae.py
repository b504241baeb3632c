"""The plain autoencoder: x -> code -> x, the baseline that the VAE answers.

    z = encoder(x)                            one point, not a distribution
    distortion = -log p(x|z)                  all there is to minimize

It has the VAE's networks and likelihood, but neither a rate nor a prior. Nothing asks the codes to
fill a known distribution, so what lies between them means nothing, x has no likelihood, and the
model cannot be sampled. With `code_sampler="gaussian_fit"` codes are drawn from a Gaussian that is
fitted, after training, to those of the training set.
"""

import jax
import jax.numpy as jnp

from vae_jax.distributions import Point
from vae_jax.models.draws import shifted
from vae_jax.models.ingredients import Ingredients, as_example, observed_values
from vae_jax.types import Draw, Field, Generator, Hypers, Model, Network, Params, Part


def autoencoder(
    encoder: Network,
    p_x: Generator,
    width: int,
    to_input=observed_values,
    fits_prior: bool = False,
) -> Model:
    """A Model without densities of z. The second output of its encoder, the logvar of a VAE, is
    left unused, so that both have the same network.

    Args:
      encoder, p_x, width, to_input: as in `vae.vae`.
      fits_prior: whether a Gaussian is fitted to the codes, to sample from.
    """

    def active(hypers: Hypers) -> jax.Array:
        return jnp.arange(width) < hypers["latent_dim"]

    def init(rng: jax.Array, hypers: Hypers) -> Params:
        encoder_rng, decoder_rng, _ = jax.random.split(rng, 3)
        prior = {"mean": jnp.zeros(width), "scale": jnp.zeros((width, width))}
        return {
            "encoder": encoder.init(encoder_rng, hypers["latent_dim"]),
            "decoder": p_x.init(decoder_rng, hypers["latent_dim"]),
            "prior": prior if fits_prior else {},
            "statistics": p_x.statistics(),
        }

    def encode(params: Params, x, hypers: Hypers, rng=None) -> Point:
        code, _ = encoder.apply(params["encoder"], to_input(as_example(x)))
        return Point(jnp.where(active(hypers), code, 0.0))

    def draw(
        params: Params, x, rng, hypers: Hypers, path_weight=None, score=None, offset=None
    ) -> Draw:
        posterior = shifted(encode(params, x, hypers), offset)
        distortion = -p_x.log_prob(params, posterior.mean, as_example(x))
        return Draw(distortion, rate=None, log_w=None, z=posterior.mean, posterior=posterior)

    def decode(params: Params, z: jax.Array, condition=None, rng=None) -> jax.Array:
        if rng is not None:
            return p_x.sample(params, z, rng, condition)
        return p_x.mean(params, z, condition)

    def sample_code(params: Params, rng: jax.Array, hypers: Hypers, condition=None) -> jax.Array:
        prior = params["prior"]
        z = prior["mean"] + prior["scale"] @ jax.random.normal(rng, (width,))
        return jnp.where(active(hypers), z, 0.0)

    def fit_prior(params: Params, mean: jax.Array, covariance: jax.Array) -> Params:
        # Unused units have no variance; the jitter lets the Cholesky factor exist.
        jitter = 1e-6 * jnp.eye(width) * (1.0 + jnp.max(jnp.diag(covariance)))
        return params | {"prior": {"mean": mean, "scale": jnp.linalg.cholesky(covariance + jitter)}}

    return Model(
        init=init,
        encode=encode,
        log_q=None,
        log_joint=None,
        draw=draw,
        decode=decode,
        sample_prior=sample_code if fits_prior else None,
        fit_prior=fit_prior if fits_prior else None,
        perceptron=p_x.perceptron,
    )


def make(section, ingredients: Ingredients) -> Model:
    return autoencoder(
        ingredients.architecture.encoder,
        ingredients.generator(),
        ingredients.width,
        ingredients.to_input,
        section.code_sampler == "gaussian_fit",
    )


PART = Part(
    "model",
    "ae",
    make,
    "Autoencoder",
    uses=("network", "likelihood"),
    fields={
        "code_sampler": Field(
            "none", "how the codes of an autoencoder are sampled", choices=("none", "gaussian_fit")
        )
    },
)
