"""From a config to the pure functions of its population, which training, evaluation and loading
use."""

import math
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jax import config as settings
from vae_jax.config import Catalogue, sweep
from vae_jax.data import Dataset, scan
from vae_jax.data.kinds import KINDS, Scaling, View, make_view, scaled
from vae_jax.errors import UserError
from vae_jax.models.ingredients import Ingredients
from vae_jax.parallel import devices, population
from vae_jax.training.step import Steps, averaged, make_steps
from vae_jax.types import (
    Draw,
    Example,
    Hypers,
    Latent,
    Likelihood,
    Model,
    Objective,
    Support,
    TrainState,
)


class Facts(NamedTuple):
    """What a program needs to know of the training set."""

    x_mean: Any  # mean example, in its shape; where nothing is trained, only its shape counts
    num_train: int
    scaling: Scaling | None = None
    observed: bool = False  # whether values may be missing
    condition: tuple[tuple[str, str], ...] = ()  # (name, dtype) of labels that the model is given
    value_range: tuple[float, float] | None = None  # (smallest, largest) value, where it is known

    def example(self) -> Example:
        """The shapes of one example."""
        x = jax.ShapeDtypeStruct((math.prod(np.shape(self.x_mean)),), jnp.float32)
        condition = {name: jax.ShapeDtypeStruct((), dtype) for name, dtype in self.condition}
        observed = jax.ShapeDtypeStruct(x.shape, bool) if self.observed else None
        return Example(x, condition or None, observed)


def facts_of(dataset: Dataset) -> Facts:
    """The facts of a dataset; its training examples are read."""
    return Facts(
        scan.mean(dataset.train),
        dataset.train.num,
        KINDS[dataset.kind].scaling(dataset.train),
        dataset.train.observed is not None,
        dataset.train.condition_dtypes(),
    )


class Program(NamedTuple):
    """A population that is trained at once: a whole sweep, or a part of it."""

    config: ConfigDict
    catalogue: Catalogue
    model: Model
    likelihood: Likelihood | None  # None of a model that is made without one of the package's
    view: View
    steps: Steps  # of one member
    hypers: Hypers  # [N]
    members: list[int]  # numbers in the sweep; what follows them in `hypers` fills up a last part
    changes: list[dict]  # {field: value}, what the sweep changes for each of them
    name: str  # of the part, "" of a whole
    facts: Facts
    draw_like: Draw  # the shapes of one draw
    steps_per_epoch: float  # batches straddle epochs
    total_steps: int
    steps_per_call: int
    one_by_one_on_cpu: bool  # whether members that share a CPU train one after another

    @property
    def example_shape(self) -> tuple[int, ...]:
        return np.shape(self.facts.x_mean)

    @property
    def is_mass(self) -> bool:
        """Whether log p(x) is the log of a probability; only then are there bits per dimension."""
        binarized = self.config.data.binarize != "none"
        wanted = "binary" if binarized else "levels"
        return self.likelihood is not None and self.likelihood.support == wanted

    @property
    def values_are_shares(self) -> bool:
        """Whether the model is of values in [0, 1] and no others."""
        real = self.likelihood is None or self.likelihood.support == "real"
        return self.config.data.binarize != "none" or not real

    def alone(self, changes: dict) -> "Program":
        """The program of the single run that a member with these changes equals."""
        single = settings.single(self.config, self.catalogue, changes)
        facts = self.facts._replace(x_mean=np.zeros(self.example_shape))
        return make_program(single, facts, self.catalogue)

    def abstract_state(self):
        """The shape of the population's state, without computing it."""
        return jax.eval_shape(population.lift(self.steps.init), self.hypers)

    def interval(self, epochs: float) -> int:
        """So many epochs in whole steps, at least one."""
        return max(1, round(epochs * self.steps_per_epoch))

    def latent_dim(self) -> int | dict[str, int]:
        """The width of z; of several layers, of each."""
        return _widths(self.draw_like.z)


def _widths(z: Latent) -> Any:
    return {k: v.shape[-1] for k, v in z.items()} if isinstance(z, dict) else z.shape[-1]


def which_params(config: ConfigDict, params: str | None = None) -> str:
    """What `params`, by default the config's eval.params, stands for: "last", "ema" or "best"."""
    params = params or config.eval.params
    if params not in ("auto", "last", "ema", "best"):
        raise UserError(f"params is {params!r}, expected 'auto', 'last', 'ema' or 'best'")
    if params == "auto":
        return (
            "best"
            if config.train.early_stop_epochs
            else "ema"
            if config.train.ema_decay
            else "last"
        )
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
            raise UserError(
                "no average of the parameters was kept: params 'ema' needs train.ema_decay"
            )
        return state.average
    never = devices.fetch(state.best.step) < 0
    if np.all(never & (devices.fetch(state.diverged_at) < 0)):
        raise UserError(
            "there are no best parameters yet: a validation counts once hypers.beta_warmup_epochs "
            "are over; train longer, or set eval.params to 'last'"
        )

    # A member that diverged before its first validation has only its last good parameters.
    def choose(step, best, last):
        return jax.tree.map(lambda a, b: jnp.where(step < 0, b, a), best, last)

    return jax.vmap(choose)(state.best.step, state.best.params, averaged(state))


@dataclass(frozen=True)
class _Recipe:
    """A model before it is made; equal ones make the same model."""

    key: tuple
    make: Callable[[], Model] = field(compare=False)


@lru_cache(maxsize=16)
def _made(recipe: _Recipe) -> Model:
    return recipe.make()


def make_model(
    config: ConfigDict, facts: Facts, catalogue: Catalogue, width: int, dtype: str | None = None
) -> Model:
    """The model that a config names, its arrays `width` latent units wide.

    Its networks compute in `dtype`, by default float32; all else is float32 in any case. The same
    settings give the same object, which shares what is compiled for it. A part of one's own is
    asked every time: what it reads may have changed.
    """

    def make() -> Model:
        return _new_model(config, facts, catalogue, width, dtype)

    named, kinds = settings.flatten(config), ("network", "likelihood", "prior", "model")
    parts = [catalogue.chosen(kind, named) for kind in kinds]
    if any(part in catalogue.given for part in parts):
        return make()
    sections = [config[kind].to_dict() for kind in kinds]
    seen = jax.tree.map(np.asarray, (facts.x_mean, facts.scaling))
    given = (config.data.binarize, sections, seen, facts.observed, facts.condition, width, dtype)
    return _made(_Recipe((*(part.make for part in parts), pickle.dumps(given)), make))


def _new_model(
    config: ConfigDict, facts: Facts, catalogue: Catalogue, width: int, dtype: str | None
) -> Model:
    named = settings.flatten(config)
    view = make_view(config.data.binarize, facts.scaling)
    prior = catalogue.chosen("prior", named)
    ingredients = Ingredients(
        make_architecture=lambda width: _architecture(config, facts, catalogue, width, dtype),
        likelihood=_likelihood(config, facts, catalogue),
        make_prior=lambda encode: prior.make(config.prior, width, encode, facts.x_mean),
        to_input=view.to_input,
        x_mean=jnp.asarray(facts.x_mean),
        width=width,
        dtype=dtype,
    )
    return catalogue.chosen("model", named).make(config.model, ingredients)


def _architecture(config: ConfigDict, facts: Facts, catalogue: Catalogue, width: int, dtype=None):
    view, shape = make_view(config.data.binarize, facts.scaling), np.shape(facts.x_mean)
    seen = jax.eval_shape(view.to_input, facts.example()).shape
    input_shape = shape if math.prod(seen) == math.prod(shape) else seen
    make = catalogue.chosen("network", settings.flatten(config)).make
    return make(config.network, input_shape, shape, width, dtype)


def _likelihood(config: ConfigDict, facts: Facts, catalogue: Catalogue) -> Likelihood:
    """p(x|z) of x in the data's own units."""
    part = catalogue.chosen("likelihood", settings.flatten(config))
    likelihood = part.make(config.likelihood)
    if likelihood.support not in get_args(Support):
        raise UserError(
            f"likelihood {part.name!r} has the support {likelihood.support!r}, expected one of "
            f"{', '.join(get_args(Support))}"
        )
    return scaled(likelihood, facts.scaling)


def make_objective(config: ConfigDict, catalogue: Catalogue, z_like: Latent) -> Objective:
    """The objective that a config names, for latents of these shapes."""
    return catalogue.chosen("objective", settings.flatten(config)).make(config.objective, z_like)


def make_program(
    config: ConfigDict, facts: Facts, catalogue: Catalogue, changes: list[dict] | None = None
) -> Program:
    """The program of a checked config.

    Args:
      facts: of the training set.
      catalogue: the parts that the config may name.
      changes: what each member changes of config.hypers (`sweep.members`); by default one member
        changes nothing.
    """
    changes = [{}] if changes is None else changes
    hypers = population.grid(config, changes)
    width = population.width(hypers)
    steps_per_epoch = facts.num_train / config.train.batch_size
    total_steps = math.ceil(config.train.num_epochs * steps_per_epoch)
    if total_steps > np.iinfo(np.int32).max:
        raise UserError(
            f"train.num_epochs {config.train.num_epochs:g} are {total_steps:.3g} steps: at most "
            f"{np.iinfo(np.int32).max:,} can be counted"
        )
    model = trained = make_model(config, facts, catalogue, width)
    if config.train.dtype != "float32":
        trained = make_model(config, facts, catalogue, width, config.train.dtype)
    draw_like = _draw_like(model, population.member(hypers, 0), facts.example())
    objective = make_objective(config, catalogue, draw_like.z)
    view = make_view(config.data.binarize, facts.scaling)
    uses = catalogue.chosen("model", settings.flatten(config)).uses

    return Program(
        config=config,
        catalogue=catalogue,
        model=model,
        likelihood=_likelihood(config, facts, catalogue) if "likelihood" in uses else None,
        view=view,
        steps=make_steps(config, model, trained, objective, catalogue, view, steps_per_epoch),
        hypers=hypers,
        members=list(range(len(changes))),
        changes=changes,
        name="",
        facts=facts,
        draw_like=draw_like,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        steps_per_call=config.train.steps_per_call or max(1, min(100, round(steps_per_epoch / 5))),
        one_by_one_on_cpu=_architecture(config, facts, catalogue, width).one_by_one_on_cpu,
    )


def _draw_like(model: Model, hypers: Hypers, example: Example) -> Draw:
    """The shapes of one draw."""
    params = jax.eval_shape(model.init, jax.random.key(0), hypers)
    return jax.eval_shape(model.draw, params, example, jax.random.key(0), hypers)


def make_programs(config: ConfigDict, facts: Facts, catalogue: Catalogue) -> list[Program]:
    """The programs of a config's sweep, to be run one after another.

    There is a part for each combination of static fields, and several where sweep.max_members is
    smaller than that; those share their steps, and with them what is compiled.
    """
    everyone, programs = sweep.members(config), []
    for numbers in sweep.by_program(everyone):
        changes = [everyone[i] for i in numbers]
        single = settings.single(config, catalogue, changes[0])
        whole = make_program(single, facts, catalogue, changes)
        parts = sweep.equal_parts(numbers, config.sweep.max_members or len(numbers))
        for part in parts:
            filled = part + part[-1:] * (len(parts[0]) - len(part))
            hypers = population.choose(whole.hypers, [numbers.index(i) for i in filled])
            own = [everyone[i] for i in part]
            programs.append(whole._replace(hypers=hypers, members=part, changes=own))
    names = [""] if len(programs) == 1 else [f"part{i}" for i in range(len(programs))]
    return [program._replace(name=name) for program, name in zip(programs, names, strict=True)]


def device_memory() -> int:
    """Bytes that a device of this process has; devices of a CPU share the machine's."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return limit or machine // jax.local_device_count()


def members_that_fit(program: Program, memory: int) -> int:
    """How many members of `program` fit into half of `memory` bytes, at least 1.

    Counted for each: its state twice (a copy is being saved), and every value of one step, as if
    none shared its place with another; so this is on the safe side.
    """
    hypers = population.member(program.hypers, 0)
    state = jax.eval_shape(program.steps.init, hypers)
    store = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((1, *a.shape), a.dtype), program.facts.example()
    )
    index = jax.ShapeDtypeStruct((program.config.train.batch_size,), jnp.int32)
    step = jax.make_jaxpr(program.steps.train)(state, hypers, store, index)
    values = [value.aval for equation in step.eqns for value in equation.outvars]
    leaves = [*values, *jax.tree.leaves(state), *jax.tree.leaves(state)]
    return max(1, memory // 2 // sum(a.size * a.dtype.itemsize for a in leaves))
