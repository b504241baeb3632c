"""Many draws and samples of one model, and what a tree of stochastic layers adds up to."""

import jax
import jax.numpy as jnp

from vae_jax import rng as streams
from vae_jax.types import Draw, Example, Hypers, Latent, Model, Params


def batch_size(x: Example | jax.Array) -> int:
    return jnp.shape(jax.tree.leaves(x)[0])[0]


def draw_batch(
    model: Model,
    params: Params,
    x: Example | jax.Array,
    key: jax.Array,
    positions: jax.Array,
    samples: jax.Array,
    hypers: Hypers,
    path_weight: jax.Array | None = None,
    score: bool | None = None,
) -> Draw:
    """Draws with axes [B, K] for a batch `x` [B, ...].

    The noise of example b and sample k is fold_in(fold_in(key, positions[b]), samples[k]), a
    function of these two numbers alone. `path_weight` [B, K] and `score`: see `types.DrawOne`.
    """

    def one(x, key, weight) -> Draw:
        return model.draw(params, x, key, hypers, weight, score)

    keys = jax.vmap(streams.fold, (0, None))(streams.fold(key, positions), samples)
    return jax.vmap(jax.vmap(one, (None, 0, 0)))(x, keys, path_weight)


def sample_batch(
    model: Model,
    params: Params,
    rng: jax.Array,
    hypers: Hypers,
    positions: jax.Array,
    noise: bool = False,
    condition: dict[str, jax.Array] | None = None,
    level: str | None = None,
    each: int = 1,
) -> jax.Array:
    """Decoded draws from the prior, [n, ...]: means of p(x|z), or draws of it with `noise`.

    The noise of a draw is a function of `rng` and its position [n] alone.

    Args:
      condition: arrays [n, ...], what the model is given beside x.
      level: the name of a stochastic layer: `each` draws one after another share it and those above
        it, and have layers below of their own. None: every draw has all layers of its own.
    """

    def one(rng: jax.Array, position: jax.Array, condition) -> jax.Array:
        prior_rng, x_rng = jax.random.split(rng)
        z = model.sample_prior(params, prior_rng, hypers, condition)
        if level is not None:
            below_rng, x_rng = jax.random.split(jax.random.fold_in(x_rng, position))
            z = model.from_layer(params, z, level, below_rng)
        return model.decode(params, z, condition, x_rng if noise else None)

    groups = positions if level is None else positions // each
    return jax.vmap(one)(streams.fold(rng, groups), positions, condition)


def total(tree: Latent, batch_axes: int) -> jax.Array:
    """The sum over layers and units of a tree of rates, one number for each of the batch axes."""
    leaves = jax.tree.leaves(tree)
    sums = [jnp.sum(leaf, axis=tuple(range(batch_axes, leaf.ndim))) for leaf in leaves]
    return sum(sums[1:], sums[0])


def scale_gradient(z: Latent, weight: jax.Array) -> Latent:
    """The identity, whose backward pass multiplies by `weight` (a constant)."""

    def one(leaf: jax.Array) -> jax.Array:
        constant = jax.lax.stop_gradient(leaf)
        return constant + jax.lax.stop_gradient(weight) * (leaf - constant)

    return jax.tree.map(one, z)


def keeps_score(path_weight: jax.Array | None, score: bool | None) -> bool:
    """Whether log q keeps its gradient through its parameters: see `types.DrawOne`."""
    return path_weight is None if score is None else score


def shifted(posterior, offset):
    """`posterior` plus `offset`, a tree like it or None: see `types.DrawOne`."""
    return posterior if offset is None else jax.tree.map(jnp.add, posterior, offset)


def posterior_means(posterior) -> Latent | None:
    """The means of q(z|x), a tree like z; None of a posterior without means."""
    if isinstance(posterior, dict):
        means = {name: posterior_means(layer) for name, layer in posterior.items()}
        return None if any(mean is None for mean in means.values()) else means
    return getattr(posterior, "mean", None)
