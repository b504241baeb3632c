"""Whether a dataset suits the configuration: its size, its labels, and the range of its values."""

import math

import jax
from absl import logging
from ml_collections import ConfigDict

from vae_jax.data import Dataset, scan
from vae_jax.errors import UserError
from vae_jax.parallel import population
from vae_jax.training.program import Program
from vae_jax.types import Likelihood


def check_data(program: Program, dataset: Dataset, low: float, high: float) -> None:
    """Checks that `dataset` suits `program`.

    Args:
      low, high: the smallest and the largest value, as the model sees them.

    Raises:
      UserError: it does not.
    """
    config = program.config
    if config.train.batch_size > dataset.train.num:
        raise UserError(
            f"train.batch_size is {config.train.batch_size}, but {dataset.name} has only "
            f"{dataset.train.num} training examples"
        )
    label = config.eval.label
    for part in ("train", "valid", "test"):
        columns = getattr(dataset, part).columns
        if label and label not in columns:
            there = ", ".join(columns) or "no labels"
            where = "" if part == "train" else f" in its {part} split"
            raise UserError(f"eval.label is {label!r}, but {dataset.name} has {there}{where}")
    own, _ = program.catalogue.recorded(config)
    reads_labels = any(name.startswith(("model:", "objective:")) for name in own)
    if config.data.condition and not reads_labels:
        names = ", ".join(config.data.condition)
        raise UserError(
            f"data.condition names {names}, but only models and objectives of your own can read "
            "labels: leave it empty, or give such a part, in parts="
        )
    if config.data.binarize != "none" and not 0.0 <= low <= high <= 1.0:
        raise UserError(
            f"data.binarize is {config.data.binarize!r}, but the values of {dataset.name} lie in "
            f"[{low:g}, {high:g}]: scale them to [0, 1] (data.scale='range'), or set data.binarize "
            "to 'none' and likelihood.name to 'gaussian'"
        )
    if dataset.kind == "image" and config.data.scale == "type":
        _warn_of_range(dataset, low, high)
    if program.likelihood is not None:
        _check_support(program.likelihood, config, dataset, low, high)


def _warn_of_range(dataset: Dataset, low: float, high: float) -> None:
    """Warns of images that are probably meant to lie in [0, 1]; of uint8 see `data.ranges`."""
    is_dark = 0.0 <= low <= high < 0.5 and dataset.dtype != "uint8"
    if -1.0 <= low <= high <= 1.0 and not is_dark:
        return
    logging.warning(
        "the values of the images of %s lie in [%g, %g], where [0, 1] and most of it is expected: "
        "they are taken as they are; data.scale='range' scales them",
        dataset.name,
        low,
        high,
    )


def check_memory(program: Program, memory: int) -> None:
    """Checks that nothing that a member needs at once is larger than `memory` bytes alone.

    Raises:
      UserError: something is; it names the fields to make smaller.
    """
    config, size = program.config, math.prod(program.example_shape)
    state = jax.eval_shape(program.steps.init, population.member(program.hypers, 0))
    values = math.prod((config.train.batch_size, config.objective.num_samples, size))
    block = math.prod((config.eval.batch_size, config.eval.samples_per_step, size))
    needed = {
        "the model with its optimizer": (state, "the network or hypers.latent_dim"),
        "p(x|z) of a training step": (values, "train.batch_size or objective.num_samples"),
        "p(x|z) of a block of the evaluation": (block, "eval.batch_size or eval.samples_per_step"),
    }
    for what, (arrays, fields) in needed.items():
        num_bytes = 4 * arrays if isinstance(arrays, int) else _num_bytes(arrays)
        if num_bytes > memory:
            raise UserError(
                f"{what} takes {num_bytes / 2**30:,.1f} GiB, where a device has "
                f"{memory / 2**30:,.1f}: make {fields} smaller"
            )


def _num_bytes(tree) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _check_support(
    likelihood: Likelihood, config: ConfigDict, dataset: Dataset, low: float, high: float
) -> None:
    """Checks that the values, binarized as data.binarize says, lie in the likelihood's support."""
    support = likelihood.support
    named = f"likelihood.name {config.likelihood.name!r}"
    if support == "levels" and dataset.dtype != "uint8":
        raise UserError(
            f"{named} is a probability of the 256 levels of uint8 data, but the values of "
            f"{dataset.name} are {dataset.dtype}: give them as uint8, or use a density such as "
            "'gaussian'"
        )
    if support in ("binary", "unit") and not 0.0 <= low <= high <= 1.0:
        raise UserError(
            f"the values of {dataset.name} lie in [{low:g}, {high:g}], outside the range [0, 1] "
            f"of {named}: scale them to it (data.scale='range'), or use 'gaussian'"
        )
    if config.data.binarize != "none":
        _check_binarized(likelihood, config.data.binarize, named)
    elif support == "binary" and not scan.is_binary(dataset):
        logging.warning(
            "%s is not a likelihood of grey values: do not compare these numbers", named
        )


def _check_binarized(likelihood: Likelihood, binarize: str, named: str) -> None:
    """Checks that the likelihood can be one of binary values."""
    if likelihood.support == "levels":
        raise UserError(
            f"{named} is a probability of 256 levels, but data.binarize {binarize!r} leaves two "
            "of them: set data.binarize to 'none', or likelihood.name to 'bernoulli'"
        )
    if not likelihood.mass and not likelihood.bounded:
        raise UserError(
            f"{named} is a density, which grows without bound on the binary values that "
            f"data.binarize {binarize!r} makes: set data.binarize to 'none', or likelihood.name "
            "to 'bernoulli'"
        )
    if not likelihood.mass:
        logging.warning(
            "%s is a density, not a likelihood of binary values: do not compare these numbers",
            named,
        )
