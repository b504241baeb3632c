"""A configuration: whether it is complete and possible, what single run a member of its sweep is, and its command.

`configs/*.py` start from `default()` (vae_jax/config/defaults.py lists every field) and change what they need.
"""

import difflib
import math
import shlex

import numpy as np
from ml_collections import ConfigDict

from vae_jax.config import sweep
from vae_jax.config.defaults import CHOICES, NOT_NEGATIVE, POSITIVE, default
from vae_jax.errors import UserError
from vae_jax.likelihoods import LIKELIHOODS


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
    if not isinstance(config, ConfigDict):
        raise UserError(f"the config is {type(config).__name__}, not the ConfigDict that config.default() makes")
    for section, fields in config.items():
        if not isinstance(fields, ConfigDict):
            raise unknown_field(section)
    known, given = _completed(flatten(config), own_hypers)
    sweepable = {f"sweep.{name}": field for name, field in sweep.sweepable(config).items()}
    for name, value in given.items():
        if name in sweepable:
            given[name] = _checked_list(name, value, sweepable[name], known[sweepable[name]])
        else:
            given[name] = _checked(name, value, known[name])
    if given["train.schedule_epochs"] == 0 and not given["sweep.train_num_epochs"]:
        given["train.schedule_epochs"] = given["train.num_epochs"]
    checked = unflatten(given)
    for changes in _members(checked):
        _check_together(given | changes)
    return checked.lock()


def _completed(given: dict, own_hypers: bool) -> tuple[dict, dict]:
    """(the fields there may be, with their defaults; `given` with the lists of the sweep that it leaves out)."""
    known = flatten(default())
    own = [name for name in given if own_hypers and name.startswith("hypers.") and name not in known]
    lists = {f"sweep.{name.removeprefix('hypers.')}": () for name in own}
    if taken := known.keys() & lists.keys():
        raise UserError(f"config.hypers may not have a key that names another field of the sweep: {min(taken)}")
    known |= dict.fromkeys(own, 0.0) | lists
    given = {name: () for name in known if known[name] == () and name.startswith("sweep.")} | given
    for name in given:
        if name not in known:
            raise unknown_field(name)
    for name in known:
        if name not in given:
            raise UserError(f"config lacks the field {name!r}; start from vae_jax.config.default()")
    return known, given


def unflatten(given: dict[str, object]) -> ConfigDict:
    """The config of {"section.field": value}."""
    sections = {name.split(".")[0]: {} for name in given}
    for name, value in given.items():
        section, field = name.split(".", 1)
        sections[section][field] = value
    return ConfigDict(sections)


def single(config: ConfigDict, changes: dict) -> ConfigDict:
    """The config of a single run with `changes` ({field: value}, of `sweep.members`) in place of the sweep."""
    cleared = {f"sweep.{name}": () for name in sweep.sweepable(config)}
    cleared |= {"sweep.mode": "product", "sweep.max_members": 0}
    return check(unflatten(flatten(config) | cleared | changes), own_hypers=True)


def as_command(config: ConfigDict) -> str:
    """The command that runs a single run's config, whatever file it came from."""
    start, given = flatten(default()), flatten(config)
    if given["train.schedule_epochs"] == given["train.num_epochs"]:
        given["train.schedule_epochs"] = 0.0  # which stands for that, as it does in the file
    shown = {name: str(v).replace(" ", "") if isinstance(v, tuple) else v for name, v in given.items()}
    shown["eval.estimators"] = ",".join(given["eval.estimators"])
    overrides = [f"--config.{name}={shown[name]}" for name, value in given.items() if value != start[name]]
    return shlex.join(["python3", "-m", "vae_jax.main", "--config=configs/mnist.py", *overrides])


def _members(config: ConfigDict) -> list[dict]:
    """`sweep.members`, if they are not too many."""
    lengths = {field: len(values) for field, values in sweep.swept(config).items()}
    shown = ", ".join(f"{field} {n}" for field, n in lengths.items())
    if config.sweep.mode == "zip" and len(set(lengths.values())) > 1:
        raise UserError(f"sweep.mode is 'zip', but its lists differ in length: {shown}")
    num = math.prod(lengths.values()) if config.sweep.mode == "product" else max(lengths.values(), default=1)
    if num > sweep.MAX_MEMBERS:
        raise UserError(
            f"the sweep has {num:,} members ({shown}), more than {sweep.MAX_MEMBERS:,}: shorten its lists, or split "
            "it over several --workdir"
        )
    likelihoods = [LIKELIHOODS[name](config.model) for name in config.sweep.model_likelihood]
    if len({likelihood.mass and likelihood.support for likelihood in likelihoods}) > 1:
        raise UserError(
            f"sweep.model_likelihood is {config.sweep.model_likelihood}: probabilities and densities cannot be ranked "
            "in one table, nor probabilities of binary values and of 256 levels; train them as separate runs"
        )
    members = sweep.members(config)
    seen = set()
    for changes in members:
        if (values := tuple(changes.values())) in seen:
            raise UserError(f"the sweep lists the member {changes} more than once")
        seen.add(values)
    return members


def _checked_list(name: str, values, field: str, like) -> tuple:
    """The values that a sweep lists for `field`, each checked as the field's own."""
    if not isinstance(values, list | tuple):
        raise UserError(f"{name} is {values!r}, expected a tuple of values for {field}, such as ({like!r},)")
    if isinstance(like, tuple) and not all(isinstance(v, list | tuple) for v in values):
        raise UserError(
            f"{name} is {values!r}, but {field} is a tuple itself: give a tuple of tuples, such as ({like!r},)"
        )
    try:
        return tuple(_checked(field, value, like) for value in values)
    except UserError as error:
        quote = " (strings in a tuple need quotes)" if isinstance(like, str) and "," in str(values[0]) else ""
        raise UserError(f"{name}: {error}{quote}") from error


def _checked(name: str, value, like):
    value = _typed(name, value, like)
    _check_value(name, value)
    return value


def _check_together(given: dict) -> None:
    bounded = given["model.likelihood"] in ("gaussian_per_pixel", "gaussian_optimal_sigma")
    if bounded and given["model.sigma"] <= given["model.min_sigma"]:
        raise UserError(
            f"model.sigma is {given['model.sigma']:g}, where {given['model.likelihood']} begins, but must be more than "
            f"model.min_sigma ({given['model.min_sigma']:g})"
        )
    if given["train.init_from"] and given["sweep.latent_dim"]:
        raise UserError(
            "train.init_from gives every member the parameters of one run, so sweep.latent_dim must be empty"
        )
    beyond = given["train.num_epochs"] > (given["train.schedule_epochs"] or given["train.num_epochs"])
    if beyond and given["train.lr_decay"] != "constant" and given["hypers.lr_final_fraction"] == 0:
        raise UserError(
            "train.num_epochs goes beyond train.schedule_epochs, where hypers.lr_final_fraction 0 makes the learning "
            "rate 0: start another run, from this one's parameters, with train.init_from"
        )
    if given["eval.params"] == "ema" and not given["train.ema_decay"]:
        raise UserError("eval.params is 'ema', but no average is kept: set train.ema_decay, such as 0.999")
    if given["train.early_stop_epochs"] and given["train.early_stop_epochs"] < given["eval.every_epochs"]:
        raise UserError(
            f"train.early_stop_epochs is {given['train.early_stop_epochs']:g}, but a validation comes only every "
            f"{given['eval.every_epochs']:g} epochs (eval.every_epochs): be at least as patient"
        )
    if given["model.name"] == "ae" and given["objective.name"] != "elbo":
        raise UserError(
            f"objective.name {given['objective.name']!r} weighs the rate, which model.name 'ae' does not have: use "
            "objective 'elbo', of which the distortion is left"
        )
    if given["model.name"] != "ae" and given["model.code_sampler"] != "none":
        raise UserError("model.code_sampler is for model.name 'ae': a VAE has a prior to sample from")
    if "gaps" in given["eval.estimators"] and "ais" not in given["eval.estimators"]:
        raise UserError("eval.estimators: 'gaps' are measured from the estimate of 'ais', so name that, too")
    if not given["eval.iwae_samples"]:
        raise UserError("eval.iwae_samples is empty, expected at least one number of samples")
    if given["eval.rate_distortion_max_beta"] < 1:
        raise UserError(
            f"eval.rate_distortion_max_beta is {given['eval.rate_distortion_max_beta']:g}, expected 1 or more"
        )
    cycle = given["hypers.beta_cycle_epochs"]
    if given["train.beta_schedule"] == "cyclic" and given["hypers.beta_warmup_epochs"] >= cycle:
        raise UserError(
            f"hypers.beta_warmup_epochs ({given['hypers.beta_warmup_epochs']:g}) is not less than "
            f"hypers.beta_cycle_epochs ({cycle:g}): beta would never reach its value"
        )
    if given["eval.params"] == "best" and given["hypers.beta_warmup_epochs"] >= given["train.num_epochs"]:
        raise UserError(
            "eval.params is 'best', but no validation counts before hypers.beta_warmup_epochs "
            f"({given['hypers.beta_warmup_epochs']:g}) are over: train longer or warm up faster"
        )


def _typed(name: str, value, like):
    """`value` as the type of the default `like`: int stands for float, a list for a tuple, nothing else."""
    if isinstance(value, np.generic):  # an element of what np.logspace gives
        value = value.item()
    if isinstance(like, float) and type(value) is int:
        return float(value)
    if isinstance(like, tuple) and isinstance(value, list | tuple):
        if name in CHOICES and all(isinstance(v, str) for v in value):
            return tuple(part.strip() for v in value for part in v.split(",") if part)  # the command line's a,b
        if all(type(v) is int for v in value):
            return tuple(value)
        if name in CHOICES:
            raise UserError(f"{name} is {value!r}, expected a tuple of names such as {CHOICES[name][:2]!r}")
        raise UserError(f"{name} is {value!r}, expected a tuple of whole numbers such as {like!r}")
    if type(value) is not type(like):
        expected = {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}
        raise UserError(f"{name} is {value!r} ({type(value).__name__}), expected {expected.get(type(like), 'a tuple')}")
    return value


def _check_value(name: str, value) -> None:
    numbers = value if isinstance(value, tuple) else (value,)
    for choice in numbers:
        if name in CHOICES and choice not in CHOICES[name]:
            raise UserError(f"{name} is {value!r}; {nearest(str(choice), CHOICES[name])}")
    if any(isinstance(v, float) and not math.isfinite(v) for v in numbers):
        raise UserError(f"{name} is {value!r}, expected a finite number")
    if (name in POSITIVE or name in ("model.hidden", "model.channels")) and any(v <= 0 for v in numbers):
        raise UserError(f"{name} is {value!r}, expected more than 0")
    if name in NOT_NEGATIVE and value < 0:
        raise UserError(f"{name} is {value!r}, expected 0 or more")
    if name.endswith("seed") and value >= 2**31:
        raise UserError(f"{name} is {value!r}, expected less than 2**31")
    if name == "hypers.lr_final_fraction" and value > 1:
        raise UserError(f"{name} is {value!r}, expected at most 1")
    if name == "train.ema_decay" and value >= 1:
        raise UserError(f"{name} is {value!r}, expected less than 1, such as 0.999")
