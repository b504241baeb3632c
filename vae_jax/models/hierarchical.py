"""The VAE with several stochastic layers of Burda et al. 2016 (arXiv:1509.00519, section 2).

Of one example:

    q(z|x)    = q(z1|x) q(z2|z1) ... q(zL|zL-1)             the encoder, from x upwards
    p(x, z)   = p(x|z1) p(z1|z2) ... p(zL-1|zL) p(zL)       the decoder, from the top downwards

z1 is nearest to x. Every q and every p(zl|zl+1) is a diagonal Gaussian, whose mean and logvar are a
network of the layer before; p(zL) is the prior. A z is the dict {"z1": ..., "z2": ...}.

`hierarchical` takes any q that is drawn layer by layer, see `Inference`: the ladder (ladder.py),
which draws from the top downwards, is another one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vae_jax import distributions
from vae_jax.distributions import Gaussian
from vae_jax.models.draws import keeps_score, scale_gradient, shifted, total
from vae_jax.models.ingredients import Ingredients, as_example
from vae_jax.models.vae import ENCODER_SCALE
from vae_jax.networks.layers import ACTIVATIONS
from vae_jax.networks.mlp import conditional
from vae_jax.types import (
    Draw,
    Field,
    Generator,
    Hypers,
    Latent,
    Model,
    Network,
    Params,
    Part,
    Prior,
)


class Layers(NamedTuple):
    """The stochastic layers and p(z)."""

    widths: dict[str, int]  # of the arrays of each, {"z1": ..., "z2": ...}
    top: Prior  # p(zL), of which hypers["latent_dim"] units are active
    down: dict[str, Network]  # of p(zl|zl+1), by the name of zl; all but the top one
    log_sigma: bool  # whether the networks' second output is log sigma, not logvar

    @property
    def names(self) -> list[str]:
        return list(self.widths)

    def active(self, name: str, hypers: Hypers) -> Any:
        """The number of active units of a layer."""
        return hypers["latent_dim"] if name == self.names[-1] else self.widths[name]

    def gaussian(self, outputs: tuple[jax.Array, jax.Array]) -> Gaussian:
        """The Gaussian that a network's two outputs say."""
        mean, scale = outputs
        return Gaussian(mean, distributions.bounded(2 * scale if self.log_sigma else scale))

    def masked(self, name: str, q: Gaussian, hypers: Hypers) -> Gaussian:
        """q with mean and logvar 0 of units that are not active."""
        mask = jnp.arange(self.widths[name]) < self.active(name, hypers)
        return Gaussian(jnp.where(mask, q.mean, 0.0), jnp.where(mask, q.logvar, 0.0))

    def p(self, params: Params, name: str, z: Latent) -> Gaussian:
        """p(zl|zl+1) of a layer below the top."""
        above = self.names[self.names.index(name) + 1]
        return self.gaussian(self.down[name].apply(params["prior"][name], z[above]))

    def of_top(self, params: Params) -> Params:
        """`params` as the prior of the top layer expects them."""
        return params | {"prior": params["prior"][self.names[-1]]}


class Inference(NamedTuple):
    """q(z|x), drawn layer by layer."""

    order: list[str]  # the names of the layers, the one that is drawn first first
    init: Callable[[jax.Array, Hypers], Params]  # (rng, hypers) -> params["encoder"]
    context: Callable[[Params, Any], Any]  # (params, example) -> what q makes of x alone
    # (params, context, name, z, hypers) -> q(name|x, the layers before it, found in z)
    q: Callable[[Params, Any, str, Latent, Hypers], Gaussian]


def hierarchical(layers: Layers, inference: Inference, p_x: Generator) -> Model:
    """A Model from its parts; `p_x` is p(x|z1)."""
    names, order = layers.names, inference.order
    top, lowest = names[-1], names[0]
    downwards = order[0] == top  # then q(zl|...) and p(zl|zl+1) are given the same zl+1

    def init(rng: jax.Array, hypers: Hypers) -> Params:
        encoder_rng, decoder_rng, *prior_rngs = jax.random.split(rng, 2 + len(names))
        prior = {top: layers.top.init(prior_rngs[-1], hypers["latent_dim"])}
        for name, above, key in zip(names, names[1:], prior_rngs, strict=False):
            active = (layers.active(above, hypers), layers.active(name, hypers))
            prior[name] = layers.down[name].init(key, active)
        return {
            "encoder": inference.init(encoder_rng, hypers),
            "decoder": p_x.init(decoder_rng, layers.active(lowest, hypers)),
            "prior": prior,
            "statistics": p_x.statistics(),
        }

    def q_of(params, context, name, z, hypers, offset=None) -> Gaussian:
        q = inference.q(params, context, name, z, hypers)
        return layers.masked(name, shifted(q, offset and offset[name]), hypers)

    def drawn(params, x, hypers, offset, sample) -> tuple[Latent, dict[str, Gaussian]]:
        """(z, q): sample(name, q) is called in the order of inference."""
        context = inference.context(params, as_example(x))
        z, q = {}, {}
        for name in order:
            q[name] = q_of(params, context, name, z, hypers, offset)
            z[name] = sample(name, q[name])
        return z, q

    def at(params, x, z, hypers, offset=None) -> dict[str, Gaussian]:
        """q of every layer, given all of z."""
        context = inference.context(params, as_example(x))
        return {name: q_of(params, context, name, z, hypers, offset) for name in order}

    def sampler(rng: jax.Array, hypers: Hypers) -> Callable[[str, Gaussian], jax.Array]:
        keys = dict(zip(names, jax.random.split(rng, len(names)), strict=True))

        def sample(name: str, q: Gaussian) -> jax.Array:
            width = layers.widths[name]
            eps = jax.random.normal(keys[name], (width,))
            eps = jnp.where(jnp.arange(width) < layers.active(name, hypers), eps, 0.0)
            return distributions.sample(q, eps)

        return sample

    def encode(params: Params, x, hypers: Hypers, rng=None) -> dict[str, Gaussian]:
        sample = (lambda _name, q: q.mean) if rng is None else sampler(rng, hypers)
        return drawn(params, x, hypers, None, sample)[1]

    def log_q_units(q: dict[str, Gaussian], z: Latent, hypers: Hypers) -> dict[str, jax.Array]:
        """log q per unit of each layer."""

        def units(name: str) -> jax.Array:
            mask = jnp.arange(layers.widths[name]) < layers.active(name, hypers)
            return jnp.where(mask, distributions.log_prob(q[name], z[name]), 0.0)

        return {name: units(name) for name in names}

    def log_p_units(params: Params, z: Latent, hypers: Hypers) -> dict[str, jax.Array]:
        """log p per unit of each layer; of the top one a single number."""
        log_p = {n: distributions.log_prob(layers.p(params, n, z), z[n]) for n in names[:-1]}
        log_top = layers.top.log_prob(layers.of_top(params), z[top], hypers["latent_dim"])
        return log_p | {top: log_top}

    def log_q(params: Params, x, z: Latent, hypers: Hypers) -> jax.Array:
        return total(log_q_units(at(params, x, z, hypers), z, hypers), batch_axes=0)

    def log_prior(params: Params, z: Latent, hypers: Hypers) -> jax.Array:
        return total(log_p_units(params, z, hypers), batch_axes=0)

    def log_joint(params: Params, x, z: Latent, hypers: Hypers) -> jax.Array:
        return p_x.log_prob(params, z[lowest], as_example(x)) + log_prior(params, z, hypers)

    def draw(
        params: Params, x, rng, hypers: Hypers, path_weight=None, score=None, offset=None
    ) -> Draw:
        # The z that feeds the layers after it is the drawn one; the weighted one enters densities,
        # and the networks of log q once more: Bauer & Mnih 2021 (arXiv:2101.11046), section 4.
        z, posterior = drawn(params, x, hypers, offset, sampler(rng, hypers))
        q = posterior
        if path_weight is not None:
            z = scale_gradient(z, path_weight)
            q = at(params, x, z, hypers, offset)
        if not keeps_score(path_weight, score):
            constant = jax.lax.stop_gradient
            q = at(constant(params), x, z, hypers, constant(offset))
        log_p_x = p_x.log_prob(params, z[lowest], as_example(x))
        log_q_z, log_p_z = log_q_units(q, z, hypers), log_p_units(params, z, hypers)

        def rate_of(name: str) -> jax.Array:
            """KL(q || p) where it is known given the layers before, else that of this draw."""
            if name == top and layers.top.kl is not None:
                known = layers.of_top(params), posterior[top], hypers["latent_dim"]
                return layers.top.kl(*known)
            if name == top:
                return jnp.sum(log_q_z[top]) - log_p_z[top]
            if downwards:
                return distributions.kl(posterior[name], layers.p(params, name, z))
            return log_q_z[name] - log_p_z[name]

        log_w = log_p_x + total(log_p_z, batch_axes=0) - total(log_q_z, batch_axes=0)
        rate = {name: rate_of(name) for name in names}
        return Draw(-log_p_x, rate, log_w, z, posterior)

    def decode(params: Params, z: Latent, condition=None, rng=None) -> jax.Array:
        if rng is not None:
            return p_x.sample(params, z[lowest], rng, condition)
        return p_x.mean(params, z[lowest], condition)

    def from_layer(params: Params, z: Latent, name: str, rng=None) -> Latent:
        below = names[: names.index(name)]
        keys = [None] * len(below) if rng is None else jax.random.split(rng, len(below))
        for layer, key in zip(reversed(below), keys, strict=True):
            p = layers.p(params, layer, z)
            width = (layers.widths[layer],)
            eps = jnp.zeros(width) if key is None else jax.random.normal(key, width)
            z = z | {layer: distributions.sample(p, eps)}
        return z

    def sample_prior(params: Params, rng: jax.Array, hypers: Hypers, condition=None) -> Latent:
        top_rng, below_rng = jax.random.split(rng)
        z = {top: layers.top.sample(layers.of_top(params), top_rng, hypers["latent_dim"])}
        return from_layer(params, z, top, below_rng)

    return Model(
        init=init,
        encode=encode,
        log_q=log_q,
        log_joint=log_joint,
        draw=draw,
        decode=decode,
        sample_prior=sample_prior,
        log_prior=log_prior,
        from_layer=from_layer,
    )


def layers_of(section, ingredients: Ingredients) -> Layers:
    """The layers that a configuration names. The prior's `encode` is that of the top layer, which
    none of the package's priors needs."""
    widths = [*section.widths, ingredients.width]
    names = [f"z{i + 1}" for i in range(len(widths))]
    down = {
        name: conditional(above, width, section.hidden, section.activation, ingredients.dtype)
        for name, width, above in zip(names, widths, widths[1:], strict=False)
    }
    top = ingredients.make_prior(_no_encode)
    by_name = dict(zip(names, widths, strict=True))
    return Layers(by_name, top, down, section.encoder_scale == "log_sigma")


def _no_encode(*_args, **_kwargs):
    raise NotImplementedError("a prior that encodes examples needs a model with one layer")


def upwards(section, layers: Layers, ingredients: Ingredients) -> Inference:
    """q(z1|x) q(z2|z1) ...: each layer given the one below."""
    names, widths = layers.names, list(layers.widths.values())
    encoder = ingredients.make_architecture(widths[0]).encoder
    up = {
        name: conditional(below, width, section.hidden, section.activation, ingredients.dtype)
        for name, width, below in zip(names[1:], widths[1:], widths, strict=False)
    }
    below = dict(zip(names[1:], names, strict=False))

    def init(rng: jax.Array, hypers: Hypers) -> Params:
        keys = dict(zip(names, jax.random.split(rng, len(names)), strict=True))
        params = {"z1": encoder.init(keys["z1"], widths[0])}
        for name in names[1:]:
            active = (layers.active(below[name], hypers), layers.active(name, hypers))
            params[name] = up[name].init(keys[name], active)
        return params

    def context(params: Params, example) -> Gaussian:
        seen = ingredients.to_input(example)
        return layers.gaussian(encoder.apply(params["encoder"]["z1"], seen))

    def q(params: Params, context: Gaussian, name: str, z: Latent, hypers: Hypers) -> Gaussian:
        if name == "z1":
            return context
        return layers.gaussian(up[name].apply(params["encoder"][name], z[below[name]]))

    return Inference(names, init, context, q)


def make(section, ingredients: Ingredients) -> Model:
    layers = layers_of(section, ingredients)
    p_x = ingredients.generator(ingredients.make_architecture(layers.widths["z1"]))
    return hierarchical(layers, upwards(section, layers, ingredients), p_x)


def several_layers(config: dict, _data) -> str:
    """What is wrong where there is one layer."""
    if config["model.widths"]:
        return ""
    return "model.widths is empty: a model with one stochastic layer is model.name 'vae'"


FIELDS = {
    "encoder_scale": ENCODER_SCALE,
    "widths": Field(
        (100,), "units of the layers below the top one, which has latent_dim; z1 first", above=0
    ),
    "hidden": Field((100, 100), "hidden layers of each network between two layers", above=0),
    "activation": Field(
        "tanh", "activation function of these networks", choices=tuple(ACTIVATIONS)
    ),
}
PART = Part(
    "model",
    "hierarchical",
    make,
    "VAE with several stochastic layers",
    fields=FIELDS,
    provides=("a rate", "a prior", "importance weights", "an encoder apart from p(x, z)"),
    fits=several_layers,
)
