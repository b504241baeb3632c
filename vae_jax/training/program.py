"""From a config to the pure functions of its population: what training, evaluation and loading share."""

import math
import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jax import config as settings
from vae_jax.config import sweep
from vae_jax.errors import UserError
from vae_jax.likelihoods import LIKELIHOODS
from vae_jax.models import make_model
from vae_jax.objectives import make_objective
from vae_jax.parallel import devices, population
from vae_jax.training.step import Steps, averaged, make_steps
from vae_jax.types import Hypers, Model, Objective, TrainState


class Program(NamedTuple):
    """A population that is trained at once: a whole sweep, or a part of it."""

    config: ConfigDict
    model: Model
    steps: Steps  # of one member
    hypers: Hypers  # [N]
    members: list[int]  # their numbers in the sweep; what follows them in `hypers` only fills up the last part
    changes: list[dict]  # {field: value}, what the sweep changes for each of them
    name: str  # of the part, "" of a whole
    alone: Callable  # (changes) -> the Program of the single run that such a member equals
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

    def latent_dim(self) -> int:
        """The width of the model's z."""
        hypers = population.member(self.hypers, 0)
        params, x = jax.eval_shape(self.steps.init, hypers).params, np.zeros(self.example_shape, np.float32)
        return jax.eval_shape(self.model.draw, params, x, jax.random.key(0), hypers).z.shape[-1]


def which_params(config: ConfigDict, params: str | None = None) -> str:
    """What `params`, by default the config's eval.params, stands for: "last", "ema" or "best"."""
    params = params or config.eval.params
    if params not in ("auto", "last", "ema", "best"):
        raise UserError(f"params is {params!r}, expected 'auto', 'last', 'ema' or 'best'")
    if params == "auto":
        return "best" if config.train.early_stop_epochs else "ema" if config.train.ema_decay else "last"
    return params


def chosen_params(state: TrainState, which: str):
    """The parameters [N, ...] called "last", "ema", or "best": by validation after beta's warm-up.

    Raises:
      UserError: no validation has counted yet; no average is kept.
    """
    if which == "last":
        return state.params
    if which == "ema":
        if state.average is None:
            raise UserError("no average of the parameters was kept: params 'ema' needs train.ema_decay")
        return state.average
    if np.all((devices.fetch(state.best.step) < 0) & (devices.fetch(state.diverged_at) < 0)):
        raise UserError(
            "there are no best parameters yet: a validation counts once hypers.beta_warmup_epochs are over; "
            "train longer, or set eval.params to 'last'"
        )
    # A member that diverged before its first validation has only its last good parameters.
    choose = jax.vmap(lambda step, best, last: jax.tree.map(lambda a, b: jnp.where(step < 0, b, a), best, last))
    return choose(state.best.step, state.best.params, averaged(state))


def make_program(
    config: ConfigDict,
    x_mean: jax.Array,
    num_train: int,
    model: Model | None = None,
    objective: Objective | None = None,
    changes: list[dict] | None = None,
) -> Program:
    """The program of a checked config; `model` and `objective` take the place of the ones it names.

    Args:
      x_mean: the mean of the training examples; where nothing is trained, its shape is all that counts.
      num_train: how many training examples there are.
      changes: what each member changes of config.hypers (`sweep.members`); by default one member changes nothing.
    """
    changes = [{}] if changes is None else changes
    hypers = population.grid(config, changes)
    alone = lambda changes: make_program(  # noqa: E731
        settings.single(config, changes), np.zeros(jnp.shape(x_mean)), num_train, model, objective
    )
    support = None if model else LIKELIHOODS[config.model.likelihood](config.model).support
    named = lambda dtype: make_model(config.model, x_mean, population.width(hypers), dtype)  # noqa: E731
    dtype = None if config.train.dtype == "float32" else config.train.dtype
    if model is not None and dtype:
        raise UserError(
            "train.dtype is for the models that config.model names: a model of your own computes as it does"
        )
    one = model or named(None)
    steps_per_epoch = num_train / config.train.batch_size
    return Program(
        config=config,
        model=one,
        steps=make_steps(
            config,
            one,
            objective or make_objective(config.objective),
            steps_per_epoch,
            trained=named(dtype) if dtype else None,
        ),
        hypers=hypers,
        members=list(range(len(changes))),
        changes=changes,
        name="",
        alone=alone,
        example_shape=jnp.shape(x_mean),
        steps_per_epoch=steps_per_epoch,
        total_steps=math.ceil(config.train.num_epochs * steps_per_epoch),
        steps_per_call=config.train.steps_per_call or max(1, min(100, round(steps_per_epoch / 5))),
        is_mass=support == ("levels" if config.data.binarize == "none" else "binary"),
    )


def make_programs(
    config: ConfigDict,
    x_mean: jax.Array,
    num_train: int,
    model: Model | None = None,
    objective: Objective | None = None,
) -> list[Program]:
    """The programs of a config's sweep, to be run one after another.

    There is a part for each combination of static fields, and several where sweep.max_members is smaller than that;
    those share their steps, and with them what is compiled.
    """
    everyone, programs = sweep.members(config), []
    for numbers in sweep.by_program(everyone):
        changes = [everyone[i] for i in numbers]
        whole = make_program(settings.single(config, changes[0]), x_mean, num_train, model, objective, changes)
        parts = sweep.equal_parts(numbers, config.sweep.max_members or len(numbers))
        for part in parts:
            filled = part + part[-1:] * (len(parts[0]) - len(part))
            hypers = population.choose(whole.hypers, [numbers.index(i) for i in filled])
            programs.append(whole._replace(hypers=hypers, members=part, changes=[everyone[i] for i in part]))
    names = [""] if len(programs) == 1 else [f"part{i}" for i in range(len(programs))]
    return [program._replace(name=name) for program, name in zip(programs, names, strict=True)]


def device_memory() -> int:
    """Bytes that a device of this process has; devices of a CPU share the machine's."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count()


def members_that_fit(program: Program, memory: int) -> int:
    """How many members of `program` fit into half of `memory` bytes, at least 1.

    Counted for each: its state twice (a copy is being saved), and every value of one step, as if none shared its
    place with another; so this is on the safe side.
    """
    hypers = population.member(program.hypers, 0)
    state = jax.eval_shape(program.steps.init, hypers)
    store = jax.ShapeDtypeStruct((1, math.prod(program.example_shape)), jnp.float32)
    index = jax.ShapeDtypeStruct((program.config.train.batch_size,), jnp.int32)
    step = jax.make_jaxpr(program.steps.train)(state, hypers, store, index)
    values = [value.aval for equation in step.eqns for value in equation.outvars]
    num_bytes = sum(a.size * a.dtype.itemsize for a in [*values, *jax.tree.leaves(state), *jax.tree.leaves(state)])
    return max(1, memory // 2 // num_bytes)
