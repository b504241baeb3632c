"""Programs, configurations and records of the package's own parts, as tests need them."""

import numpy as np

from vae_jax import config as settings
from vae_jax.parts import catalogue
from vae_jax.training import program
from vae_jax.types import Model, Objective, Part
from vae_jax.workdir import record

KNOWN = catalogue()


def check(config, parts=()):
    return settings.check(config, catalogue(parts))


def single(config, changes):
    return settings.single(config, KNOWN, changes)


def as_command(config):
    return settings.as_command(config, KNOWN)


def read_config(stored):
    return record.read_config(stored, KNOWN)


def describe_dataset(dataset, binarization):
    return record.describe_dataset(dataset, binarization, program.facts_of(dataset).scaling)


def make_program(config, x_mean, num_train, changes=None, parts=(), **facts):
    about = program.Facts(np.asarray(x_mean), num_train, **facts)
    return program.make_program(config, about, catalogue(parts), changes)


def make_programs(config, x_mean, num_train, parts=(), **facts):
    about = program.Facts(np.asarray(x_mean), num_train, **facts)
    return program.make_programs(config, about, catalogue(parts))


def of_model(model: Model, name: str = "own") -> Part:
    """A part that is one model, whatever it is made of."""
    provides = ("a rate", "a prior")
    return Part("model", name, lambda *_: model, "a model", provides=provides, uses=())


def of_objective(objective: Objective, name: str = "own", **about) -> Part:
    """A part that is one objective."""
    return Part("objective", name, lambda *_: objective, "an objective", **about)
