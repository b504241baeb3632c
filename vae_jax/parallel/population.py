"""Many members in one program: every leaf of their state has a leading axis N. A single run is N = 1."""

import jax
import jax.numpy as jnp

from vae_jax.types import Hypers


def grid(config, members: list[dict]) -> Hypers:
    """The hyper-parameters of `members` (`sweep.members`), each [N]: integers stay int32, the rest is float32."""

    def values(name, default):
        return jnp.asarray(
            [changes.get(f"hypers.{name}", default) for changes in members],
            jnp.int32 if isinstance(default, int) else jnp.float32,
        )

    return {name: values(name, default) for name, default in config.hypers.items()}


def width(hypers: Hypers) -> int:
    """The latent width of the arrays: that of the widest member."""
    return int(max(hypers["latent_dim"]))


def size(hypers: Hypers) -> int:
    return len(hypers["seed"])


def lift(step, in_axes=0, one_by_one=False):
    """A step of one member as a step of all, side by side or one after another; `in_axes`, 0 for what each member has
    its own of, marks with None what they share."""
    if not one_by_one:
        return jax.vmap(step, in_axes)

    def steps(*args):
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        own = [arg for arg, axis in zip(args, axes, strict=True) if axis == 0]

        def one(own):
            own = iter(own)
            return step(*(next(own) if axis == 0 else arg for arg, axis in zip(args, axes, strict=True)))

        return jax.lax.map(one, own)

    return steps


def member(tree, i: int):
    """Member i of a population's tree."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


def choose(tree, numbers: list[int]):
    """The members `numbers` of a population's tree, in this order."""
    return jax.tree.map(lambda leaf: leaf[jnp.asarray(numbers)], tree)


def narrow(tree, like):
    """One member's tree cut to the shapes of `like`, a model as wide as the member's own latent dimension.

    Active units come first on every latent axis, so cutting each axis to its length keeps just these.
    """
    return jax.tree.map(lambda leaf, small: leaf[tuple(map(slice, small.shape))], tree, like)
