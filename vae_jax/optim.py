"""Optimizer and schedules, both functions of traced hyper-parameters, so that members may differ in any."""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from vae_jax.types import Hypers

# From a learning rate to a gradient transformation.
OPTIMIZERS = {"adam": optax.adam}


def make_tx(config) -> Callable[[Hypers], optax.GradientTransformation]:
    """hypers -> clip by global norm, then the optimizer named by config.optimizer (the train section)."""

    def tx(hypers: Hypers) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(hypers["clip_norm"]),
            OPTIMIZERS[config.optimizer](hypers["learning_rate"]),
        )

    return tx


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


def make_schedule(config, steps_per_epoch: float) -> Callable[[Hypers, int], Hypers]:
    """`at(hypers, step)`: the hyper-parameters in force at a step.

    The learning rate warms up linearly over `lr_warmup_epochs` and decays over the whole horizon
    (config.schedule_epochs) to `lr_final_fraction` of itself; beta warms up linearly over
    `beta_warmup_epochs`. Everything else stays what it is.
    """
    horizon = config.schedule_epochs * steps_per_epoch

    def at(hypers: Hypers, step) -> Hypers:
        decay = DECAYS[config.lr_decay](jnp.clip(step / horizon, 0.0, 1.0))
        decay = hypers["lr_final_fraction"] + (1 - hypers["lr_final_fraction"]) * decay
        warm_up = _warm_up(step, hypers["lr_warmup_epochs"], steps_per_epoch)
        beta_warm_up = _warm_up(step, hypers["beta_warmup_epochs"], steps_per_epoch)
        return hypers | {
            "learning_rate": hypers["learning_rate"] * warm_up * decay,
            "beta": hypers["beta"] * beta_warm_up,
        }

    return at


def warm_up_is_over(hypers: Hypers, step, steps_per_epoch: float):
    """Whether beta has reached its value: only then does a validation count for the best parameters."""
    return step >= hypers["beta_warmup_epochs"] * steps_per_epoch
