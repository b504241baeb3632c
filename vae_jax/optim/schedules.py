"""Schedules: the hyper-parameters in force at a step, as functions of traced ones."""

from collections.abc import Callable

import jax.numpy as jnp

from vae_jax.types import Hypers


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
