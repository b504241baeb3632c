"""Many members in one program: every leaf of their state has a leading axis N. A single run is N = 1."""

import jax
import jax.numpy as jnp

from vae_jax.types import Hypers


def grid(config) -> Hypers:
    """The hyper-parameters of every member, each [N]: integers stay int32, the rest is float32."""
    return {
        name: jnp.asarray([value], jnp.int32 if isinstance(value, int) else jnp.float32)
        for name, value in config.hypers.items()
    }


def width(hypers: Hypers) -> int:
    """The latent width of the arrays: that of the widest member."""
    return int(max(hypers["latent_dim"]))


def size(hypers: Hypers) -> int:
    return len(hypers["seed"])


def lift(step, in_axes=0):
    """A step of one member as a step of all; `in_axes` marks with None what members share."""
    return jax.vmap(step, in_axes)


def member(tree, i: int):
    """Member i of a population's tree."""
    return jax.tree.map(lambda leaf: leaf[i], tree)
