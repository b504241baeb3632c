"""The models by name, and the draws of many examples and samples from one."""

from typing import Any

import jax
import jax.numpy as jnp

from vae_jax import rng as streams
from vae_jax.models import ae, vae
from vae_jax.types import Draw, Example, Hypers, Model, Params

MODELS = {"vae": vae.make, "ae": ae.make}


def make_model(config, x_mean: jax.Array, width: int, dtype: Any = None) -> Model:
    """The model named by config.name (the config's model section), its arrays `width` latent units wide.

    `x_mean` is the mean of the training examples, in their shape; the first parameters may start from it. The
    networks compute in `dtype`, None for float32; parameters, densities and losses are float32 in any case.
    """
    return MODELS[config.name](config, x_mean, width, dtype)


def draw_batch(
    model: Model,
    params: Params,
    x: Example | jax.Array,
    key: jax.Array,
    positions: jax.Array,
    samples: jax.Array,
    hypers: Hypers,
    path_weight: jax.Array | None = None,
) -> Draw:
    """Draws with axes [B, K] for a batch `x` [B, ...].

    The noise of example b and sample k is fold_in(fold_in(key, positions[b]), samples[k]), a function of
    these two numbers alone. `path_weight` [B, K] is handed to `Model.draw`.
    """
    keys = jax.vmap(streams.fold, (0, None))(streams.fold(key, positions), samples)
    draw = lambda x, key, weight: model.draw(params, x, key, hypers, weight)  # noqa: E731
    return jax.vmap(jax.vmap(draw, (None, 0, 0)))(x, keys, path_weight)


def sample_batch(
    model: Model, params: Params, rng: jax.Array, hypers: Hypers, num: int, noise: bool = False
) -> jax.Array:
    """Decoded draws from the prior, [num, ...]: means of p(x|z), or draws of it with `noise`."""

    def one(rng: jax.Array) -> jax.Array:
        prior_rng, x_rng = jax.random.split(rng)
        z = model.sample_prior(params, prior_rng, hypers)
        return model.decode(params, z, x_rng if noise else None)

    return jax.vmap(one)(streams.fold(rng, jnp.arange(num)))


def batch_size(x: Example | jax.Array) -> int:
    return jnp.shape(jax.tree.leaves(x)[0])[0]
