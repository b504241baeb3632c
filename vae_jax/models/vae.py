"""The variational autoencoder of Kingma & Welling 2014 (arXiv:1312.6114), for one example.

    q(z|x) = N(z; mean(x), exp(logvar(x)))     the encoder
    p(z)                                       the prior
    p(x|z)                                     the decoder and its likelihood

    log p(x) >= ELBO = E_q[log p(x|z)] - KL(q(z|x) || p(z)) = -(distortion + rate)

Arrays are as wide as the widest member of the population; the first `hypers["latent_dim"]` units
are active. An inactive unit has z = 0 and rate 0, so its gradients, and with them its optimizer
moments, are exactly zero.
"""

import jax
import jax.numpy as jnp

from vae_jax import distributions
from vae_jax.distributions import Gaussian
from vae_jax.models.draws import keeps_score, scale_gradient, shifted
from vae_jax.models.ingredients import Ingredients, as_example, observed_values
from vae_jax.types import Draw, Field, Generator, Hypers, Model, Network, Params, Part


def vae(
    encoder: Network,
    p_x: Generator,
    make_prior,
    width: int,
    to_input=observed_values,
    log_sigma: bool = False,
) -> Model:
    """A Model from its parts; x may come flat or in the shape that `p_x` decodes to.

    Args:
      encoder: of q(z|x).
      p_x: p(x|z).
      make_prior: encode -> p(z).
      width: latent units of the arrays.
      to_input: Example -> what the encoder network sees.
      log_sigma: whether the encoder's second output is log sigma, not logvar = 2 log sigma.
    """

    def active(hypers: Hypers) -> jax.Array:
        return jnp.arange(width) < hypers["latent_dim"]

    def posterior_of(params: Params, x, hypers: Hypers, offset=None) -> Gaussian:
        mean, logvar = encoder.apply(params["encoder"], to_input(as_example(x)))
        logvar = 2 * logvar if log_sigma else logvar
        q = shifted(Gaussian(mean, distributions.bounded(logvar)), offset)
        mask = active(hypers)
        return Gaussian(jnp.where(mask, q.mean, 0.0), jnp.where(mask, q.logvar, 0.0))

    def encode(params: Params, x, hypers: Hypers, rng=None) -> Gaussian:
        return posterior_of(params, x, hypers)

    prior = make_prior(encode)

    def init(rng: jax.Array, hypers: Hypers) -> Params:
        encoder_rng, decoder_rng, prior_rng = jax.random.split(rng, 3)
        return {
            "encoder": encoder.init(encoder_rng, hypers["latent_dim"]),
            "decoder": p_x.init(decoder_rng, hypers["latent_dim"]),
            "prior": prior.init(prior_rng, hypers["latent_dim"]),
            "statistics": p_x.statistics(),
        }

    def log_prior(params: Params, z: jax.Array, hypers: Hypers) -> jax.Array:
        return prior.log_prob(params, z, hypers["latent_dim"])

    def log_posterior(q: Gaussian, z: jax.Array, hypers: Hypers) -> jax.Array:
        return jnp.sum(jnp.where(active(hypers), distributions.log_prob(q, z), 0.0))

    def log_q(params: Params, x, z: jax.Array, hypers: Hypers) -> jax.Array:
        return log_posterior(encode(params, x, hypers), z, hypers)

    def log_joint(params: Params, x, z: jax.Array, hypers: Hypers) -> jax.Array:
        return p_x.log_prob(params, z, as_example(x)) + log_prior(params, z, hypers)

    def draw(
        params: Params, x, rng, hypers: Hypers, path_weight=None, score=None, offset=None
    ) -> Draw:
        posterior = q = posterior_of(params, x, hypers, offset)
        eps = jnp.where(active(hypers), jax.random.normal(rng, (width,)), 0.0)
        z = distributions.sample(posterior, eps)
        if path_weight is not None:
            z = scale_gradient(z, path_weight)
        if not keeps_score(path_weight, score):
            # The expectation of the score is zero (Roeder et al. 2017), or the path's weight takes
            # care of it (Tucker et al. 2019).
            constant = jax.lax.stop_gradient
            q = posterior_of(constant(params), x, hypers, constant(offset))
        log_p_x = p_x.log_prob(params, z, as_example(x))
        log_p_z = log_prior(params, z, hypers)
        log_q_z = log_posterior(q, z, hypers)
        if prior.kl is None:
            rate = log_q_z - log_p_z  # its expectation is KL(q(z|x) || p(z))
        else:
            rate = prior.kl(params, posterior, hypers["latent_dim"])
        log_w = log_p_x + log_p_z - log_q_z
        return Draw(-log_p_x, rate, log_w, z, posterior)

    def decode(params: Params, z: jax.Array, condition=None, rng=None) -> jax.Array:
        if rng is not None:
            return p_x.sample(params, z, rng, condition)
        return p_x.mean(params, z, condition)

    def sample_prior(params: Params, rng: jax.Array, hypers: Hypers, condition=None) -> jax.Array:
        return prior.sample(params, rng, hypers["latent_dim"])

    return Model(
        init=init,
        encode=encode,
        log_q=log_q,
        log_joint=log_joint,
        draw=draw,
        decode=decode,
        sample_prior=sample_prior,
        log_prior=log_prior,
        standard_normal=prior.standard_normal,
        perceptron=p_x.perceptron,
    )


def make(section, ingredients: Ingredients) -> Model:
    return vae(
        ingredients.architecture.encoder,
        ingredients.generator(),
        ingredients.make_prior,
        ingredients.width,
        ingredients.to_input,
        section.encoder_scale == "log_sigma",
    )


ENCODER_SCALE = Field(
    "logvar", "what the encoder's second output is", choices=("logvar", "log_sigma")
)
PART = Part(
    "model",
    "vae",
    make,
    "Variational autoencoder",
    fields={"encoder_scale": ENCODER_SCALE},
    provides=("a rate", "a prior", "importance weights", "an encoder apart from p(x, z)"),
)
