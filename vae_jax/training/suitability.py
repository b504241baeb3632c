"""Whether data and config suit each other: what p(x|z) is a distribution of, and what the model sees."""

from absl import logging
from ml_collections import ConfigDict

from vae_jax.data import Dataset, scan
from vae_jax.errors import UserError
from vae_jax.likelihoods import LIKELIHOODS


def check_data(config: ConfigDict, dataset: Dataset, own: list[str], low: float, high: float) -> None:
    """Whether the values of `dataset`, from `low` to `high` as the model sees them, suit the config.

    `own` names the parts that came as Python objects: of a model of one's own the likelihood is not known.

    Raises:
      UserError: they do not.
    """
    if config.train.batch_size > dataset.train.num:
        raise UserError(
            f"train.batch_size is {config.train.batch_size}, but {dataset.name} has only {dataset.train.num} "
            "training examples"
        )
    if config.data.binarize != "none" and not 0.0 <= low <= high <= 1.0:
        raise UserError(
            f"data.binarize is {config.data.binarize!r}, but the values of {dataset.name} lie in "
            f"[{low:g}, {high:g}]: scale them to [0, 1], or set data.binarize to 'none' and model.likelihood to "
            "'gaussian'"
        )
    if "model" not in own:
        _check_support(config, dataset, low, high)


def _check_support(config: ConfigDict, dataset: Dataset, low: float, high: float) -> None:
    """Whether the likelihood is a distribution of such values."""
    name, binarize = config.model.likelihood, config.data.binarize
    support = LIKELIHOODS[name](config.model).support
    if support == "levels" and dataset.dtype != "uint8":
        raise UserError(
            f"model.likelihood {name!r} is a probability of the 256 levels of uint8 data, but the values of "
            f"{dataset.name} are {dataset.dtype}: give them as uint8, or use a density such as 'gaussian'"
        )
    if support == "levels" and binarize != "none":
        raise UserError(
            f"model.likelihood {name!r} is a probability of 256 levels, but data.binarize {binarize!r} leaves two of "
            "them: set data.binarize to 'none', or model.likelihood to 'bernoulli'"
        )
    if support in ("binary", "unit") and not 0.0 <= low <= high <= 1.0:
        raise UserError(
            f"the values of {dataset.name} lie in [{low:g}, {high:g}], outside the range [0, 1] of model.likelihood "
            f"{name!r}: scale them to it, or use 'gaussian'"
        )
    if support in ("unit", "real") and binarize != "none":
        if name != "gaussian" or config.model.learn_sigma:
            raise UserError(
                f"model.likelihood {name!r} is a density, which grows without bound on the binary values that "
                f"data.binarize {binarize!r} makes: set data.binarize to 'none', or model.likelihood to 'bernoulli'"
            )
        logging.warning("a Gaussian on binary values is not their likelihood: do not compare these numbers")
    if support == "binary" and binarize == "none" and not scan.is_binary(dataset):
        logging.warning("a Bernoulli likelihood on grey values is not a likelihood: do not compare these numbers")
