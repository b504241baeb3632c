"""Many members in one program: each leaf of their state has a leading axis N.

A single run is a population with N = 1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vae_jax.types import Hypers


def grid(config, members: list[dict]) -> Hypers:
    """The hyper-parameters of a population, each [N]: integers as int32, the rest as float32.

    Args:
      config: gives what a member does not change.
      members: what each changes, {field: value}, from `sweep.members`.
    """

    def values(name: str, default) -> jax.Array:
        dtype = jnp.int32 if isinstance(default, int) else jnp.float32
        given = [changes.get(f"hypers.{name}", default) for changes in members]
        return jnp.asarray(given, dtype)

    return {name: values(name, default) for name, default in config.hypers.items()}


def width(hypers: Hypers) -> int:
    """The latent width of the population's arrays: the latent_dim of its widest member."""
    return int(max(hypers["latent_dim"]))


def size(hypers: Hypers) -> int:
    """N, the number of members."""
    return len(hypers["seed"])


def lift(
    step: Callable, in_axes: int | tuple[int | None, ...] = 0, one_by_one: bool = False
) -> Callable:
    """A function of one member as a function of the population.

    Args:
      step: a function of one member's arguments.
      in_axes: as of `jax.vmap`: 0 for an argument with an axis N, None for one that all share.
      one_by_one: whether members run one after another, as they do faster on some CPUs, instead of
        side by side.
    """
    return _map(step, in_axes) if one_by_one else jax.vmap(step, in_axes)


def _map(step: Callable, in_axes: int | tuple[int | None, ...]) -> Callable:
    """`jax.lax.map` of a function of several arguments, of which some may be shared."""

    def steps(*args):
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        pairs = enumerate(zip(args, axes, strict=True))
        own = {i: arg for i, (arg, axis) in pairs if axis == 0}

        def one(own):
            return step(*(own.get(i, arg) for i, arg in enumerate(args)))

        return jax.lax.map(one, own)

    return steps


def member(tree, i: int):
    """Member i of a population's tree."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


def choose(tree, numbers: list[int]):
    """The members `numbers` of a population's tree, in this order."""
    return jax.tree.map(lambda leaf: leaf[jnp.asarray(numbers)], tree)


def narrow(tree, like):
    """One member's tree cut to the shapes of `like`, a model of the member's own latent dimension.

    Active units come first on every latent axis, so the first ones are kept.
    """
    return jax.tree.map(lambda leaf, small: leaf[tuple(map(slice, small.shape))], tree, like)
