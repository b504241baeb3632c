"""Everything that a configuration may choose by name.

To add a part to the package: a file beside its neighbours, and a line in the dict of its package.
A user's own parts come as `parts=` to `vae_jax.train`, `evaluate`, `load` and `report`.
"""

import copyreg
import pickle

from ml_collections import ConfigDict

from vae_jax.config import Catalogue, make_catalogue
from vae_jax.data.fields import FIELDS as DATA
from vae_jax.errors import UserError
from vae_jax.estimators import ESTIMATORS
from vae_jax.likelihoods import LIKELIHOODS
from vae_jax.models import MODELS
from vae_jax.networks import NETWORKS
from vae_jax.objectives import OBJECTIVES
from vae_jax.optim import optimizers, schedules
from vae_jax.priors import PRIORS
from vae_jax.training import fields

PARTS = {
    "network": NETWORKS,
    "likelihood": LIKELIHOODS,
    "prior": PRIORS,
    "model": MODELS,
    "objective": OBJECTIVES,
    "optimizer": optimizers.OPTIMIZERS,
    "learning_rate_schedule": schedules.LEARNING_RATE_SCHEDULES,
    "beta_schedule": schedules.BETA_SCHEDULES,
    "estimator": ESTIMATORS,
}
FIELDS = {
    "data": DATA,
    "objective": fields.OBJECTIVE,
    "hypers": fields.HYPERS | optimizers.HYPERS | schedules.HYPERS,
    "train": fields.TRAIN,
    "eval": fields.EVAL,
    "checkpoint": fields.CHECKPOINT,
    "sweep": fields.SWEEP,
}


def catalogue(own: tuple = ()) -> Catalogue:
    """The package's parts and a user's own, with all their fields."""
    return make_catalogue(PARTS, own, FIELDS, fields.fits)


def default(parts: tuple = ()) -> ConfigDict:
    """The configuration with the default of every field, those of a user's own `parts` too."""
    return catalogue(parts).default()


def _by_name(known: Catalogue):
    """What a pickle holds of a catalogue: a user's own parts, by the names of their functions."""
    for part in known.given:
        try:
            pickle.dumps(part)
        except Exception as error:  # pickle raises nearly anything
            raise UserError(
                f"the {part.kind} {part.name!r} of your own cannot be pickled ({error}): define "
                "its functions at the top of a module, where they can be imported"
            ) from error
    return catalogue, (known.given,)


copyreg.pickle(Catalogue, _by_name)  # pyright: ignore[reportArgumentType]
