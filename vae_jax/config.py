"""Every field of the configuration with its default, and the checks that make a wrong one a clear line.

`configs/*.py` start from `default()` and change what they need; so does a notebook.
"""

import difflib
import math

from ml_collections import ConfigDict

from vae_jax.errors import UserError
from vae_jax.likelihoods import LIKELIHOODS
from vae_jax.models import MODELS
from vae_jax.networks import ENCODERS
from vae_jax.networks.mlp import ACTIVATIONS
from vae_jax.objectives import OBJECTIVES
from vae_jax.optim import DECAYS, OPTIMIZERS


def _section(**fields) -> ConfigDict:
    return ConfigDict(fields)


def default() -> ConfigDict:
    return ConfigDict(
        {
            "data": _section(
                name="mnist",  # "mnist" | "digits" | "file"
                source="auto",  # "auto" | "tfds" | "official" | "embedded"
                data_dir="",  # where prepared TFDS data lies; empty = $TFDS_DATA_DIR, then TFDS's default
                manual_dir="",  # where the official files lie; empty = the download cache, then the network
                path="",  # of an .npy or .npz file, when name = "file"
                num_valid=5000,  # examples of train that are held out for validation
                num_test=0,  # likewise for test, where the data has no test split of its own
                binarize="dynamic",  # "dynamic" | "threshold" | "none"
                seed=0,  # of the order of examples
                resident="auto",  # "auto" | "yes" | "no": whether the training set lies on the device
            ),
            "model": _section(
                name="vae",
                encoder="mlp",
                hidden=(200, 200),  # layer sizes of the encoder; the decoder mirrors them
                activation="relu",
                likelihood="bernoulli",  # "bernoulli" | "gaussian"
                sigma=1.0,  # standard deviation of the Gaussian likelihood, in units of x
                learn_sigma=False,  # whether sigma is a parameter that starts there
            ),
            "objective": _section(
                name="elbo",
                num_samples=1,  # posterior samples per example and step
            ),
            "hypers": _section(
                seed=0,  # of initial parameters and training noise
                beta=1.0,  # weight of the rate
                beta_warmup_epochs=5.0,  # beta rises linearly from 0 over so many epochs
                latent_dim=50,
                learning_rate=3e-3,  # before warm-up and decay
                lr_warmup_epochs=1.0,  # the learning rate rises linearly from 0 over so many epochs
                lr_final_fraction=0.01,  # of learning_rate, at the end of the schedule and beyond
                clip_norm=100.0,  # gradients with a larger global norm are scaled down to it, in nats
            ),
            "train": _section(
                batch_size=100,
                num_epochs=100.0,
                schedule_epochs=0.0,  # the horizon of the learning-rate decay; 0 = num_epochs
                optimizer="adam",
                lr_decay="cosine",  # "cosine" | "linear" | "constant"
                steps_per_call=0,  # optimizer steps per compiled call and logged row; 0 = a fifth of an epoch, <= 100
                init_from="",  # a finished run's workdir: start from its parameters, at step 0
            ),
            "eval": _section(
                every_epochs=1.0,  # validation during training
                nll_samples=500,  # importance samples per example at the end
                params="last",  # "last" | "best": the parameters that are evaluated and loaded
                seed=0,  # of the evaluation noise and the binarization of valid and test
                batch_size=100,  # examples per compiled call
                samples_per_step=10,  # importance samples of each held in memory at a time
            ),
            "checkpoint": _section(
                every_epochs=5.0,
                keep=2,  # the latest so many
            ),
        }
    )


CHOICES = {
    "data.source": ("auto", "tfds", "official", "embedded"),
    "data.binarize": ("dynamic", "threshold", "none"),
    "data.resident": ("auto", "yes", "no"),
    "model.name": tuple(MODELS),
    "model.encoder": tuple(ENCODERS),
    "model.activation": tuple(ACTIVATIONS),
    "model.likelihood": tuple(LIKELIHOODS),
    "objective.name": tuple(OBJECTIVES),
    "train.optimizer": tuple(OPTIMIZERS),
    "train.lr_decay": tuple(DECAYS),
    "eval.params": ("last", "best"),
}
POSITIVE = (
    "model.sigma",
    "objective.num_samples",
    "hypers.latent_dim",
    "hypers.learning_rate",
    "hypers.clip_norm",
    "train.batch_size",
    "train.num_epochs",
    "eval.every_epochs",
    "eval.nll_samples",
    "eval.batch_size",
    "eval.samples_per_step",
    "checkpoint.every_epochs",
    "checkpoint.keep",
)
NOT_NEGATIVE = (
    "data.num_valid",
    "data.num_test",
    "data.seed",
    "hypers.seed",
    "hypers.beta",
    "hypers.beta_warmup_epochs",
    "hypers.lr_warmup_epochs",
    "hypers.lr_final_fraction",
    "train.schedule_epochs",
    "train.steps_per_call",
    "eval.seed",
)


def nearest(name: str, known) -> str:
    """ ", did you mean a, b?" for a misspelt name, or what there is."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.75)
    close += [k for k in known if k.split(".")[-1] == name.split(".")[-1] and k not in close]
    return f"did you mean {', '.join(close[:3])}?" if close else f"there are {', '.join(known)}"


def flatten(config: ConfigDict) -> dict[str, object]:
    """{"section.field": value}."""
    return {f"{s}.{f}": v for s, fields in config.items() for f, v in fields.items()}


def unknown_field(name: str) -> UserError:
    return UserError(f"config has no field {name!r}; {nearest(name, flatten(default()))}")


def check(config: ConfigDict, own_hypers: bool = False) -> ConfigDict:
    """A locked copy of `config`, complete and possible, or a UserError that names the first wrong field.

    With `own_hypers` (a model or objective from outside the package) config.hypers may have further keys.
    """
    known = flatten(default())
    if not isinstance(config, ConfigDict):
        raise UserError(f"the config is {type(config).__name__}, not the ConfigDict that config.default() makes")
    for section, fields in config.items():
        if not isinstance(fields, ConfigDict):
            raise unknown_field(section)
    given = flatten(config)
    for name in given:
        if name not in known and not (own_hypers and name.startswith("hypers.")):
            raise unknown_field(name)
    for name in known:
        if name not in given:
            raise UserError(f"config lacks the field {name!r}; start from vae_jax.config.default()")
    given = {name: _typed(name, value, known.get(name, 0.0)) for name, value in given.items()}
    for name, value in given.items():
        _check_value(name, value)
    if given["train.schedule_epochs"] == 0:
        given["train.schedule_epochs"] = given["train.num_epochs"]
    _check_together(given)
    sections = {name.split(".")[0]: {} for name in given}
    for name, value in given.items():
        section, field = name.split(".", 1)
        sections[section][field] = value
    return ConfigDict(sections).lock()


def _check_together(given: dict) -> None:
    beyond = given["train.num_epochs"] > given["train.schedule_epochs"]
    if beyond and given["train.lr_decay"] != "constant" and given["hypers.lr_final_fraction"] == 0:
        raise UserError(
            "train.num_epochs goes beyond train.schedule_epochs, where hypers.lr_final_fraction 0 makes the learning "
            "rate 0: start another run, from this one's parameters, with train.init_from"
        )
    if given["eval.params"] == "best" and given["hypers.beta_warmup_epochs"] >= given["train.num_epochs"]:
        raise UserError(
            "eval.params is 'best', but no validation counts before hypers.beta_warmup_epochs "
            f"({given['hypers.beta_warmup_epochs']:g}) are over: train longer or warm up faster"
        )


def _typed(name: str, value, like):
    """`value` as the type of the default `like`: int stands for float, a list for a tuple, nothing else."""
    if isinstance(like, float) and type(value) is int:
        return float(value)
    if isinstance(like, tuple) and isinstance(value, list | tuple):
        if all(type(v) is int for v in value):
            return tuple(value)
        raise UserError(f"{name} is {value!r}, expected a tuple of whole numbers such as {like!r}")
    if type(value) is not type(like):
        expected = {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}
        raise UserError(f"{name} is {value!r} ({type(value).__name__}), expected {expected.get(type(like), 'a tuple')}")
    return value


def _check_value(name: str, value) -> None:
    if name in CHOICES and value not in CHOICES[name]:
        raise UserError(f"{name} is {value!r}; {nearest(str(value), CHOICES[name])}")
    numbers = value if isinstance(value, tuple) else (value,)
    if any(isinstance(v, float) and not math.isfinite(v) for v in numbers):
        raise UserError(f"{name} is {value!r}, expected a finite number")
    if (name in POSITIVE or name == "model.hidden") and any(v <= 0 for v in numbers):
        raise UserError(f"{name} is {value!r}, expected more than 0")
    if name in NOT_NEGATIVE and value < 0:
        raise UserError(f"{name} is {value!r}, expected 0 or more")
    if name.endswith("seed") and value >= 2**31:
        raise UserError(f"{name} is {value!r}, expected less than 2**31")
    if name == "hypers.lr_final_fraction" and value > 1:
        raise UserError(f"{name} is {value!r}, expected at most 1")
