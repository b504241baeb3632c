"""The ladder variational autoencoder (Sonderby et al. 2016, arXiv:1602.02282).

Of one example:

    d1 = f(x),  dl = fl(dl-1)                            upwards, without noise
    q(zL|x)       = N(m^L, s^L)                          m^l and s^l: linear in dl
    q(zl|zl+1, x) = N(m^l, s^l) p(zl|zl+1) / c           downwards: precisions add up (equation 12)

p(x, z) is that of the hierarchical model. q and p of a layer are given the same zl+1, so the rate
of each layer has a closed form given the one above; and q has parameters of p, so no encoder stands
apart. There is no batch normalization, which would need more than one example.
"""

import jax

from vae_jax import distributions
from vae_jax.distributions import Gaussian
from vae_jax.models.hierarchical import (
    FIELDS,
    Inference,
    Layers,
    hierarchical,
    layers_of,
    several_layers,
)
from vae_jax.models.ingredients import Ingredients
from vae_jax.networks.layers import ACTIVATIONS
from vae_jax.networks.mlp import conditional, features
from vae_jax.types import Field, Hypers, Latent, Model, Params, Part


def downwards(section, layers: Layers, ingredients: Ingredients) -> Inference:
    """q(zL|x) ... q(z1|z2, x): what x says of a layer, times p of it given the one above."""
    names, dtype = layers.names, ingredients.dtype
    activation = ACTIVATIONS[section.activation]
    # Its first output is d1, before the activation; the second is left unused.
    encoder = ingredients.make_architecture(section.features).encoder
    above = section.hidden[-1] if section.hidden else section.features
    sizes = [section.features] + [above] * (len(names) - 1)
    up = {
        name: features(below, section.hidden, section.activation, dtype)
        for name, below in zip(names[1:], sizes, strict=False)
    }
    heads = {
        name: conditional(size, layers.widths[name], (), section.activation, dtype)
        for name, size in zip(names, sizes, strict=True)
    }

    def init(rng: jax.Array, hypers: Hypers) -> Params:
        x_rng, *rngs = jax.random.split(rng, 1 + len(names))
        params: Params = {"x": encoder.init(x_rng, section.features)}
        for name, key in zip(names, rngs, strict=True):
            up_rng, head_rng = jax.random.split(key)
            head = heads[name].init(head_rng, (None, layers.active(name, hypers)))
            params[name] = {"head": head}
            if name in up:
                params[name]["up"] = up[name].init(up_rng, None)
        return params

    def context(params: Params, example) -> dict[str, Gaussian]:
        """What x says of each layer."""
        encoders, says = params["encoder"], {}
        d = activation(encoder.apply(encoders["x"], ingredients.to_input(example))[0])
        for name in names:
            if name in up:
                d = up[name].apply(encoders[name]["up"], d)
            says[name] = layers.gaussian(heads[name].apply(encoders[name]["head"], d))
        return says

    def q(params: Params, context, name: str, z: Latent, hypers: Hypers) -> Gaussian:
        if name == names[-1]:
            return context[name]
        return distributions.product(context[name], layers.p(params, name, z))

    return Inference(names[::-1], init, context, q)


def make(section, ingredients: Ingredients) -> Model:
    layers = layers_of(section, ingredients)
    p_x = ingredients.generator(ingredients.make_architecture(layers.widths["z1"]))
    return hierarchical(layers, downwards(section, layers, ingredients), p_x)


PART = Part(
    "model",
    "ladder",
    make,
    "Ladder VAE",
    fields=FIELDS
    | {"features": Field(200, "units of the layer d1 above the network of x", above=0)},
    provides=("a rate", "a prior", "importance weights"),
    fits=several_layers,
)
