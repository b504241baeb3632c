"""From a config to the pure functions of its population: what training, evaluation and loading share."""

import math
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from vae_jax import population
from vae_jax.errors import UserError
from vae_jax.likelihoods import LIKELIHOODS
from vae_jax.models import make_model
from vae_jax.objectives import make_objective
from vae_jax.step import Steps, make_steps
from vae_jax.types import Hypers, Model, Objective, TrainState


class Program(NamedTuple):
    config: ConfigDict
    model: Model
    steps: Steps  # of one member
    hypers: Hypers  # [N]
    example_shape: tuple[int, ...]
    steps_per_epoch: float  # batches straddle epochs
    total_steps: int
    steps_per_call: int
    is_mass: bool  # whether log p(x) is the log of a probability mass, so that bits per dimension mean something

    def abstract_state(self):
        """The shape of the population's state, without computing it."""
        return jax.eval_shape(population.lift(self.steps.init), self.hypers)

    def interval(self, epochs: float) -> int:
        """So many epochs in whole steps, at least one."""
        return max(1, round(epochs * self.steps_per_epoch))


def chosen_params(state: TrainState, which: str):
    """The parameters [N, ...] that eval.params names: "last", or "best" by validation after beta's warm-up.

    Raises:
      UserError: no validation has counted yet.
    """
    if which not in ("last", "best"):
        raise UserError(f"params is {which!r}, expected 'last' or 'best'")
    if which == "best" and min(state.best.step) < 0:
        raise UserError(
            "there are no best parameters yet: a validation counts once hypers.beta_warmup_epochs are over; "
            "train longer, or set eval.params to 'last'"
        )
    return state.best.params if which == "best" else state.params


def make_program(
    config: ConfigDict,
    x_mean: jax.Array,
    num_train: int,
    model: Model | None = None,
    objective: Objective | None = None,
) -> Program:
    """The program of a checked config; `model` and `objective` take the place of the ones it names.

    `x_mean` is the mean of the training examples; where nothing is trained, its shape is all that counts.
    """
    hypers = population.grid(config)
    is_mass = model is None and LIKELIHOODS[config.model.likelihood](config.model).mass
    model = model or make_model(config.model, x_mean, population.width(hypers))
    objective = objective or make_objective(config.objective)
    steps_per_epoch = num_train / config.train.batch_size
    return Program(
        config=config,
        model=model,
        steps=make_steps(config, model, objective, steps_per_epoch),
        hypers=hypers,
        example_shape=jax.numpy.shape(x_mean),
        steps_per_epoch=steps_per_epoch,
        total_steps=math.ceil(config.train.num_epochs * steps_per_epoch),
        steps_per_call=config.train.steps_per_call or max(1, min(100, round(steps_per_epoch / 5))),
        is_mass=is_mass and config.data.binarize != "none",
    )
