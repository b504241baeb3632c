"""p(x|z) of a decoder network and a likelihood whose values are independent given z."""

import jax
import jax.numpy as jnp

from vae_jax.types import Example, Generator, Likelihood, Network, Params, Perceptron


def generator(
    decoder: Network, likelihood: Likelihood, example_shape: tuple[int, ...]
) -> Generator:
    """p(x|z) of examples that may come flat or in `example_shape`; means and samples have it."""

    def init(rng: jax.Array, latent_dim: jax.Array) -> Params:
        return {"network": decoder.init(rng, latent_dim), "likelihood": likelihood.init()}

    def parameters(params: Params) -> Params:
        """theta: the likelihood's own parameters, and its running statistics."""
        theta, statistics = params["decoder"]["likelihood"], params.get("statistics")
        return theta | {"statistics": statistics} if statistics else theta

    def log_prob(params: Params, z: jax.Array, example: Example) -> jax.Array:
        out = decoder.apply(params["decoder"]["network"], z)
        log_p = likelihood.log_prob(parameters(params), out, example.x.ravel())
        if example.observed is not None:
            log_p = jnp.where(example.observed.ravel(), log_p, 0.0)
        return jnp.sum(log_p)

    def mean(params: Params, z: jax.Array, _condition=None) -> jax.Array:
        out = decoder.apply(params["decoder"]["network"], z)
        return likelihood.mean(parameters(params), out).reshape(example_shape)

    def sample(params: Params, z: jax.Array, rng: jax.Array, _condition=None) -> jax.Array:
        out = decoder.apply(params["decoder"]["network"], z)
        return likelihood.sample(parameters(params), rng, out).reshape(example_shape)

    perceptron = decoder.perceptron
    if perceptron is not None:
        layers = perceptron.layers
        perceptron = Perceptron(
            lambda params: layers(params["decoder"]["network"]), perceptron.activation
        )
    return Generator(init, log_prob, mean, sample, likelihood.statistics, perceptron)
