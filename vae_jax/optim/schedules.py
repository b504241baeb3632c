"""Schedules: the hyper-parameters in force at a step, as functions of traced ones.

A learning-rate schedule's `make(section) -> decay`, where decay(progress, final) is the part of the
learning rate that is left at a progress from 0 to 1 of the horizon, `final` being the part at its
end.
A beta schedule's `make(section) -> position`, where position(step, hypers, steps_per_epoch) is the
step from which the warm-up of beta counts.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from vae_jax.types import Field, Hypers, Objective, Part


def warm_up(step, epochs, steps_per_epoch):
    """From 1/length at the first step to 1 after `epochs`; 1 throughout where epochs is 0."""
    return jnp.minimum(1.0, (step + 1) / jnp.maximum(epochs * steps_per_epoch, 1.0))


def _cosine(_section) -> Callable:
    def decay(progress, final):
        return final + (1 - final) * (0.5 * (1 + jnp.cos(jnp.pi * progress)))

    return decay


def _linear(_section) -> Callable:
    def decay(progress, final):
        return final + (1 - final) * (1.0 - progress)

    return decay


def _constant(_section) -> Callable:
    return lambda progress, _final: jnp.ones_like(progress)


NUM_STAGES = 8


def _stages(section) -> Callable:
    """Stage i = 0, ..., 7 takes 3^i parts of the horizon, at the rate final^(i/7)."""
    ends = np.cumsum(3.0 ** np.arange(NUM_STAGES))
    starts = ends[:-1] / ends[-1]

    def decay(progress, final):
        left = final ** (jnp.sum(progress >= starts) / (NUM_STAGES - 1))
        return jnp.round(left, 1) if section.rounded_rates else left

    return decay


def _decays_to_zero(config: dict, _data) -> str:
    """What is wrong where training goes on after the learning rate has become 0."""
    horizon = config["train.schedule_epochs"] or config["train.num_epochs"]
    if config["train.num_epochs"] <= horizon or config["hypers.lr_final_fraction"] > 0:
        return ""
    return (
        "train.num_epochs goes beyond train.schedule_epochs, where hypers.lr_final_fraction 0 "
        "makes the learning rate 0: start another run, from this one's parameters, with "
        "train.init_from"
    )


LR_FINAL_FRACTION = Field(
    0.01, "of learning_rate, at the end of the schedule and beyond", least=0, most=1
)


_FALLS = {"hypers": {"lr_final_fraction": LR_FINAL_FRACTION}, "fits": _decays_to_zero}
_KIND = "learning_rate_schedule"
LEARNING_RATE_SCHEDULES = {
    "cosine": Part(_KIND, "cosine", _cosine, "half a period of a cosine", **_FALLS),
    "linear": Part(_KIND, "linear", _linear, "a straight line", **_FALLS),
    "constant": Part(_KIND, "constant", _constant, "no decay"),
    "stages": Part(
        _KIND,
        "stages",
        _stages,
        "eight stages, each three times as long as the one before (Burda et al. 2016)",
        fields={
            "rounded_rates": Field(
                False, "whether each rate is rounded to tenths of the first, as in Burda's code"
            )
        },
        **_FALLS,
    ),
}


def _once(step, _hypers: Hypers, _steps_per_epoch: float):
    return step


def _in_cycle(step, hypers: Hypers, steps_per_epoch: float):
    """Fu et al. 2019 (arXiv:1903.10145): beta begins anew at every cycle."""
    return step % (hypers["beta_cycle_epochs"] * steps_per_epoch)


def _reaches_its_value(config: dict, _data) -> str:
    warm, cycle = config["hypers.beta_warmup_epochs"], config["hypers.beta_cycle_epochs"]
    if warm < cycle:
        return ""
    return (
        f"hypers.beta_warmup_epochs ({warm:g}) is not less than hypers.beta_cycle_epochs "
        f"({cycle:g}): beta would never reach its value"
    )


BETA_SCHEDULES = {
    "linear": Part("beta_schedule", "linear", lambda _section: _once, "rises once, linearly"),
    "cyclic": Part(
        "beta_schedule",
        "cyclic",
        lambda _section: _in_cycle,
        "rises anew in every cycle",
        hypers={"beta_cycle_epochs": Field(20.0, "beta rises anew after so many epochs", above=0)},
        fits=_reaches_its_value,
    ),
}
# Hyper-parameters that all schedules have.
HYPERS = {
    "lr_warmup_epochs": Field(1.0, "the learning rate rises linearly from 0 over them", least=0),
    "beta_warmup_epochs": Field(5.0, "beta rises linearly from 0 over so many epochs", least=0),
}


def make_schedule(
    decay: Callable,
    position: Callable,
    objective: Objective,
    horizon: float,
    steps_per_epoch: float,
) -> Callable[[Hypers, Any], Hypers]:
    """`at(hypers, step)`: the hyper-parameters in force at a step.

    The learning rate warms up linearly over `lr_warmup_epochs` and decays over `horizon` steps to
    `lr_final_fraction` of itself; beta warms up linearly over `beta_warmup_epochs`, once or in
    every cycle. An objective may have a schedule of its own. All else stays as it is.
    """

    def at(hypers: Hypers, step) -> Hypers:
        left = decay(jnp.clip(step / horizon, 0.0, 1.0), hypers["lr_final_fraction"])
        rising = warm_up(step, hypers["lr_warmup_epochs"], steps_per_epoch)
        in_cycle = position(step, hypers, steps_per_epoch)
        of_beta = warm_up(in_cycle, hypers["beta_warmup_epochs"], steps_per_epoch)
        now = hypers | {
            "learning_rate": hypers["learning_rate"] * rising * left,
            "beta": hypers["beta"] * of_beta,
        }
        return objective.schedule(now, step, steps_per_epoch) if objective.schedule else now

    return at


def beta_is_reached(position: Callable, hypers: Hypers, step, steps_per_epoch: float):
    """Whether beta has reached its value: only then does a validation count for the best."""
    in_cycle = position(step, hypers, steps_per_epoch)
    return in_cycle >= hypers["beta_warmup_epochs"] * steps_per_epoch
