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


def _warm_up(step, epochs, steps_per_epoch):
    """From 1/length at the first step to 1 after `epochs`; 1 throughout where epochs is 0."""
    return jnp.minimum(1.0, (step + 1) / jnp.maximum(epochs * steps_per_epoch, 1.0))


def _cosine(progress):
    return 0.5 * (1 + jnp.cos(jnp.pi * progress))


DECAYS = {
    "cosine": _cosine,
    "linear": lambda progress: 1.0 - progress,
    "constant": jnp.ones_like,
}
# From (step, hypers, steps_per_epoch) to the step from which beta's warm-up counts.
BETA_SCHEDULES = {
    "linear": lambda step, _hypers, _steps_per_epoch: step,
    # Fu et al. 2019 (arXiv:1903.10145): beta begins anew at every cycle.
    "cyclic": lambda step, hypers, steps_per_epoch: step % (hypers["beta_cycle_epochs"] * steps_per_epoch),
}


def make_schedule(config, steps_per_epoch: float) -> Callable[[Hypers, int], Hypers]:
    """`at(hypers, step)`: the hyper-parameters in force at a step.

    The learning rate warms up linearly over `lr_warmup_epochs` and decays over the whole horizon
    (config.schedule_epochs) to `lr_final_fraction` of itself; beta warms up linearly over `beta_warmup_epochs`, once
    or in every cycle, and the capacity over `capacity_warmup_epochs`. Everything else stays what it is.
    """
    horizon = config.schedule_epochs * steps_per_epoch

    def at(hypers: Hypers, step) -> Hypers:
        decay = DECAYS[config.lr_decay](jnp.clip(step / horizon, 0.0, 1.0))
        decay = hypers["lr_final_fraction"] + (1 - hypers["lr_final_fraction"]) * decay
        warm_up = _warm_up(step, hypers["lr_warmup_epochs"], steps_per_epoch)
        in_cycle = BETA_SCHEDULES[config.beta_schedule](step, hypers, steps_per_epoch)
        beta_warm_up = _warm_up(in_cycle, hypers["beta_warmup_epochs"], steps_per_epoch)
        return hypers | {
            "learning_rate": hypers["learning_rate"] * warm_up * decay,
            "beta": hypers["beta"] * beta_warm_up,
            "capacity": hypers["capacity"] * _warm_up(step, hypers["capacity_warmup_epochs"], steps_per_epoch),
        }

    return at


def beta_is_reached(config, hypers: Hypers, step, steps_per_epoch: float):
    """Whether beta has reached its value: only then does a validation count for the best parameters."""
    in_cycle = BETA_SCHEDULES[config.beta_schedule](step, hypers, steps_per_epoch)
    return in_cycle >= hypers["beta_warmup_epochs"] * steps_per_epoch
