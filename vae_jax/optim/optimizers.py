"""Optimizer and schedules, both functions of traced hyper-parameters, so that members may differ in any."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from vae_jax.types import Hypers, Params

# From hyper-parameters to a gradient transformation. Any of optax may be added: one line.
OPTIMIZERS = {
    "adam": lambda h: optax.adam(h["learning_rate"]),
    "adamw": lambda h: optax.adamw(h["learning_rate"], weight_decay=h["weight_decay"]),
    "adamax": lambda h: optax.adamax(h["learning_rate"]),
    "adabelief": lambda h: optax.adabelief(h["learning_rate"]),
    "lion": lambda h: optax.lion(h["learning_rate"], weight_decay=h["weight_decay"]),
    "nadam": lambda h: optax.nadam(h["learning_rate"]),
    "radam": lambda h: optax.radam(h["learning_rate"]),
    "rmsprop": lambda h: optax.rmsprop(h["learning_rate"]),
    "sgd": lambda h: optax.sgd(h["learning_rate"], momentum=0.9),
}
STATISTIC_DECAY = 0.99  # of running statistics, which are parameters below a key "statistics"


def is_statistic(path) -> bool:
    """Whether the leaf at `path` of the parameters is a running statistic."""
    return any(getattr(key, "key", None) == "statistics" for key in path)


def norm(grads: Params) -> jax.Array:
    """The global norm of the gradient of what is learned, as the clipping sees it."""
    return optax.tree.norm(jax.tree.map_with_path(lambda path, g: 0.0 * g if is_statistic(path) else g, grads))


def make_tx(config) -> Callable[[Hypers], optax.GradientTransformation]:
    """hypers -> clip by global norm, then the optimizer named by config.optimizer (the train section).

    The gradient of a running statistic is (value - batch statistic); it moves by a fixed part of that, unclipped.
    """

    def kinds(params: Params) -> Params:
        return jax.tree.map_with_path(lambda path, _: "statistic" if is_statistic(path) else "learned", params)

    def tx(hypers: Hypers) -> optax.GradientTransformation:
        learned = optax.chain(optax.clip_by_global_norm(hypers["clip_norm"]), OPTIMIZERS[config.optimizer](hypers))
        return optax.partition({"learned": learned, "statistic": optax.sgd(1 - STATISTIC_DECAY)}, kinds)

    return tx


def moving_average(average: Params | None, params: Params, decay, step) -> Params | None:
    """decay * average + (1 - decay) * params; the first steps count more, so that it soon forgets the start."""
    if average is None:
        return None
    decay = jnp.where(decay < 1, jnp.minimum(decay, (1 + step) / (10 + step)), decay)
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)
