"""Optimizers, functions of traced hyper-parameters, so that members may differ in any.

A part's `make(section, hypers) -> optax.GradientTransformation` takes the section config.optimizer
and one member's hyper-parameters.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vae_jax.types import Field, Hypers, Objective, Params, Part

MOMENTS = {
    "adam_b1": Field(0.9, "decay of the first moments", least=0, below=1),
    "adam_b2": Field(0.999, "decay of the second moments", least=0, below=1),
    "adam_epsilon": Field(1e-8, "added to the root of the second moments", above=0),
    "second_moments": Field(
        "zeros", "what they start at; Burda et al. 2016: ones", choices=("zeros", "ones")
    ),
}
WEIGHT_DECAY = {"weight_decay": Field(1e-4, "of adamw and lion", least=0)}
# Hyper-parameters that all optimizers have.
HYPERS = {
    "learning_rate": Field(3e-3, "before warm-up and decay", above=0),
    "clip_norm": Field(100.0, "gradients of a larger norm are scaled down to it, nats", above=0),
}


def _optimizer(name: str, make: Callable, hypers: dict[str, Field] | None = None) -> Part:
    return Part(
        "optimizer", name, lambda _section, h: make(h), f"optax.{name}", hypers=hypers or {}
    )


def _with_rate(make: Callable) -> Callable:
    return lambda h: make(h["learning_rate"])


def _with_decay(make: Callable) -> Callable:
    return lambda h: make(h["learning_rate"], weight_decay=h["weight_decay"])


def _adam(section, hypers: Hypers) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1)."""
    rate, decays = hypers["learning_rate"], (section.adam_b1, section.adam_b2)
    adam = optax.adam(rate, *decays, eps=section.adam_epsilon)
    if section.second_moments == "zeros":
        return adam

    def init(params: Params):
        return optax.tree_utils.tree_set(adam.init(params), nu=jax.tree.map(jnp.ones_like, params))

    return optax.GradientTransformation(init, adam.update)


def _momentum(h: Hypers) -> optax.GradientTransformation:
    return optax.sgd(h["learning_rate"], momentum=0.9)


OPTIMIZERS = {
    "adam": Part("optimizer", "adam", _adam, "optax.adam", fields=MOMENTS),
    "adamw": _optimizer("adamw", _with_decay(optax.adamw), WEIGHT_DECAY),
    "adamax": _optimizer("adamax", _with_rate(optax.adamax)),
    "adabelief": _optimizer("adabelief", _with_rate(optax.adabelief)),
    "lion": _optimizer("lion", _with_decay(optax.lion), WEIGHT_DECAY),
    "nadam": _optimizer("nadam", _with_rate(optax.nadam)),
    "radam": _optimizer("radam", _with_rate(optax.radam)),
    "rmsprop": _optimizer("rmsprop", _with_rate(optax.rmsprop)),
    "sgd": _optimizer("sgd", _momentum),
}
STATISTIC_DECAY = 0.99  # of the running statistics in params["statistics"]


def partition(params: Params) -> Params:
    """The name of the partition of every leaf: "model", "objective" or "statistics"."""

    def of(name: str, tree: Params) -> Params:
        kind = name if name in ("objective", "statistics") else "model"
        return jax.tree.map(lambda _: kind, tree)

    return {name: of(name, tree) for name, tree in params.items()}


def norm(grads: Params) -> jax.Array:
    """The global norm of the gradient of the model's parameters, as its clipping sees it."""
    model = {k: v for k, v in grads.items() if k not in ("objective", "statistics")}
    return optax.tree.norm(model)


def make_tx(
    optimizer: Callable[[Hypers], optax.GradientTransformation], objective: Objective
) -> Callable[[Hypers], optax.GradientTransformation]:
    """hypers -> the transformation of all gradients, in three partitions.

    model: clipped by its global norm, then `optimizer`.
    objective: the networks of an objective, by the optimizer that it declares, else as the model.
    statistics: their gradient is (value - batch statistic); SGD moves them by a fixed part of it,
      unclipped.
    """

    def tx(hypers: Hypers) -> optax.GradientTransformation:
        clip = optax.clip_by_global_norm(hypers["clip_norm"])
        model = optax.chain(clip, optimizer(hypers))
        own = objective.optimizer(hypers) if objective.optimizer else model
        statistics = optax.sgd(1 - STATISTIC_DECAY)
        transforms: Any = {"model": model, "objective": own, "statistics": statistics}
        return optax.partition(transforms, partition)

    return tx


def moving_average(average: Params | None, params: Params, decay, step) -> Params | None:
    """decay * average + (1 - decay) * params; the first steps weigh more, to forget the start."""
    if average is None:
        return None
    decay = jnp.where(decay < 1, jnp.minimum(decay, (1 + step) / (10 + step)), decay)
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)
