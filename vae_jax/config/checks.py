"""Whether a configuration is complete and possible, what single run a member of its sweep is, and
the command that runs it."""

import difflib
import math
import shlex

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax.config import sweep
from vae_jax.config.catalogue import CHOSEN_BY, DEFAULTS, Catalogue
from vae_jax.errors import UserError
from vae_jax.types import Field

# The largest number of a field that does not say more: what arrays can be sized by, and float32.
LARGEST = {int: 1e9, float: 1e30}


def nearest(name: str, known) -> str:
    """What a misspelt name was meant to be: "did you mean a, b?", or else all that there is."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.75)
    last = name.split(".")[-1]
    close += [k for k in known if k.split(".")[-1] == last and k not in close]
    return f"did you mean {', '.join(close[:3])}?" if close else f"there are {', '.join(known)}"


def flatten(config: ConfigDict) -> dict[str, object]:
    """{"section.field": value}."""
    return {f"{s}.{f}": v for s, fields in config.items() for f, v in fields.items()}


def unflatten(given: dict[str, object]) -> ConfigDict:
    """The config of {"section.field": value}."""
    sections: dict[str, dict] = {name.split(".")[0]: {} for name in given}
    for name, value in given.items():
        section, field = name.split(".", 1)
        sections[section][field] = value
    return ConfigDict(sections)


def unknown_field(name: str, catalogue: Catalogue) -> UserError:
    """The error that there is no such field; it names fields of a similar name."""
    known = list(flatten(catalogue.default()))
    last = name.split(".")[-1]
    close = [field for field in known if last in field.split(".")[-1]]
    told = nearest(name, known)
    if not told.startswith("did you mean"):
        told = f"did you mean {', '.join(close[:3])}?" if close else "--help-config lists them all"
    return UserError(f"config has no field {name!r}; {told}")


def check(config: ConfigDict, catalogue: Catalogue, asked: tuple[str, ...] = ()) -> ConfigDict:
    """A locked copy of `config`, complete and possible.

    Args:
      asked: the fields that were given one by one, on the command line: it is an error if the
        chosen parts do not have them. Where the config itself sets them, see `warn_of_unused`.

    Raises:
      UserError: it names the first wrong field.
    """
    if not isinstance(config, ConfigDict):
        kind = type(config).__name__
        raise UserError(f"the config is {kind}, not the ConfigDict that vae_jax.default() makes")
    for section, fields in config.items():
        if not isinstance(fields, ConfigDict):
            raise unknown_field(section, catalogue)
    given = _completed(flatten(config), catalogue)
    swept = {f"sweep.{name}": field for name, field in sweep.sweepable(catalogue.default()).items()}
    for name, value in given.items():
        if name in swept:
            given[name] = _checked_list(name, value, swept[name], catalogue.fields[swept[name]])
        else:
            given[name] = _checked(name, value, catalogue.fields[name])
    if given["train.schedule_epochs"] == 0 and not given["sweep.train_num_epochs"]:
        given["train.schedule_epochs"] = given["train.num_epochs"]
    checked = unflatten(given)
    members = _members(checked, catalogue)
    for changes in members:
        _check_together(given | changes, catalogue)
    _check_owned(given, members, catalogue, asked)
    return checked.lock()


def _completed(given: dict, catalogue: Catalogue) -> dict:
    """`given`, completed by the defaults of a user's own parts and by the lists of the sweep."""
    known = flatten(catalogue.default())
    own = {
        name
        for name, parts in catalogue.owners.items()
        if all(f"{part.kind}:{part.name}" in catalogue.own for part in parts)
    }
    optional = {
        name for name in known if name in own or (name.startswith("sweep.") and known[name] == ())
    }
    for name in given:
        if name not in known:
            raise unknown_field(name, catalogue)
    given = {name: known[name] for name in known if name in optional} | given
    for name in known:
        if name not in given:
            raise UserError(f"config lacks the field {name!r}; start from vae_jax.default()")
    return {name: given[name] for name in known}


def single(config: ConfigDict, catalogue: Catalogue, changes: dict) -> ConfigDict:
    """The config of a single run with `changes` ({field: value}, of `sweep.members`) in place of
    the sweep."""
    cleared: dict[str, object] = {f"sweep.{name}": () for name in sweep.sweepable(config)}
    cleared |= {"sweep.mode": "product", "sweep.max_members": 0}
    return check(unflatten(flatten(config) | cleared | changes), catalogue)


def as_command(config: ConfigDict, catalogue: Catalogue) -> str:
    """The command that runs a single run's config, whatever file it came from."""
    start, given = flatten(catalogue.default()), flatten(config)
    if given["train.schedule_epochs"] == given["train.num_epochs"]:
        given["train.schedule_epochs"] = 0.0  # which stands for that, as it does in the file
    shown = {k: str(v).replace(" ", "") if isinstance(v, tuple) else v for k, v in given.items()}
    shown["eval.estimators"] = ",".join(config.eval.estimators)
    unused = _unused(given, sweep.members(config), catalogue)
    overrides = [
        f"--config.{name}={shown[name]}"
        for name, value in given.items()
        if value != start[name] and name not in unused
    ]
    return shlex.join(["python3", "-m", "vae_jax.main", "--config=configs/mnist.py", *overrides])


def _members(config: ConfigDict, catalogue: Catalogue) -> list[dict]:
    """`sweep.members`, if they are not too many and can be compared."""
    lengths = {field: len(values) for field, values in sweep.swept(config).items()}
    shown = ", ".join(f"{field} {n}" for field, n in lengths.items())
    if config.sweep.mode == "zip" and len(set(lengths.values())) > 1:
        raise UserError(f"sweep.mode is 'zip', but its lists differ in length: {shown}")
    product = config.sweep.mode == "product"
    num = math.prod(lengths.values()) if product else max(lengths.values(), default=1)
    if num > sweep.MAX_MEMBERS:
        raise UserError(
            f"the sweep has {num:,} members ({shown}), more than {sweep.MAX_MEMBERS:,}: shorten "
            "its lists, or split it over several --workdir"
        )
    named = config.sweep.likelihood_name
    likelihoods = [catalogue.parts["likelihood"][name].make(config.likelihood) for name in named]
    if len({likelihood.mass and likelihood.support for likelihood in likelihoods}) > 1:
        raise UserError(
            f"sweep.likelihood_name is {named}: probabilities and densities cannot be ranked in "
            "one table, nor probabilities of binary values and of 256 levels; train them as "
            "separate runs"
        )
    members = sweep.members(config)
    seen = set()
    for changes in members:
        values = tuple(changes.values())
        if values in seen:
            raise UserError(f"the sweep lists the member {changes} more than once")
        seen.add(values)
    return members


def _check_together(config: dict, catalogue: Catalogue) -> None:
    """Whether the parts that one member's config names fit each other and their fields."""
    parts = catalogue.all_chosen(config)
    there = {need for part in parts for need in getattr(part, "provides", ())}
    for kind in DEFAULTS:
        part = catalogue.chosen(kind, config)
        for need in _needs(part, config):
            if need not in there:
                named = catalogue.parts[kind].values()
                fit = [p.name for p in named if there.issuperset(_needs(p, config))]
                raise UserError(
                    f"{CHOSEN_BY[kind]} {part.name!r} needs {need}, which model.name "
                    f"{config['model.name']!r} does not have; what fits is {', '.join(fit)}"
                )
    for fits in (*(part.fits for part in parts if part.fits), catalogue.fits):
        wrong = fits(config, None)
        if wrong:
            raise UserError(wrong)


def _needs(part, config: dict) -> tuple[str, ...]:
    """What a part must find in the others."""
    needs = part.needs
    return needs if isinstance(needs, tuple) else needs(config)


def _unused(given: dict, members: list[dict], catalogue: Catalogue) -> dict[str, list]:
    """{field: the parts that have it} of the fields that no part has which some member names."""
    chosen = set()
    for changes in members:
        config = given | changes
        made_of = catalogue.chosen("model", config).uses
        unused = {"network", "likelihood", "prior"}.difference(made_of)
        parts = catalogue.all_chosen(config)
        chosen |= {(part.kind, part.name) for part in parts if part.kind not in unused}
    return {
        field: parts
        for field, parts in catalogue.owners.items()
        if not any((part.kind, part.name) in chosen for part in parts)
    }


def _check_owned(given: dict, members: list[dict], catalogue: Catalogue, asked: tuple) -> None:
    """Whether the fields that are swept or were asked for are those of the chosen parts."""
    lists = {field: f"sweep.{name}" for name, field in sweep.sweepable(catalogue.default()).items()}
    for field, parts in _unused(given, members, catalogue).items():
        if field in asked or given.get(lists.get(field, ""), ()):
            raise UserError(f"{field} {_owners(given, parts)}")


def warn_of_unused(config: ConfigDict, catalogue: Catalogue, asked: tuple[str, ...] = ()) -> None:
    """Logs the fields of a checked config that are set without effect; `asked` as in `check`."""
    start, given = flatten(catalogue.default()), flatten(config)
    for name, field in sweep.sweepable(catalogue.default()).items():
        if field in asked and given[f"sweep.{name}"]:
            logging.warning("%s has no effect: sweep.%s takes its place", field, name)
    for field, parts in _unused(given, sweep.members(config), catalogue).items():
        if given[field] != start[field]:
            logging.warning("%s has no effect: it %s", field, _owners(given, parts))


def _owners(given: dict, parts: list) -> str:
    """Which parts have a field that no member uses, in words."""
    return " and ".join(
        _owner(given, chooser, [p.name for p in parts if CHOSEN_BY[p.kind] == chooser])
        for chooser in dict.fromkeys(CHOSEN_BY[part.kind] for part in parts)
    )


def _owner(given: dict, chooser: str, names: list[str]) -> str:
    of, chosen = f"is of {chooser} {', '.join(names)}", given[chooser]
    if chosen in names:
        return f"{of}, which model.name {given['model.name']!r} does not use"
    return f"{of}, but {chooser} is {chosen or 'empty'!r}"


def _checked_list(name: str, values, of: str, field: Field) -> tuple:
    """The values that a sweep lists for the field `of`, each checked as the field's own."""
    like = field.default
    if not isinstance(values, list | tuple):
        raise UserError(
            f"{name} is {values!r}, expected a tuple of values for {of}, such as ({like!r},)"
        )
    if isinstance(like, tuple) and not all(isinstance(v, list | tuple) for v in values):
        raise UserError(
            f"{name} is {values!r}, but {of} is a tuple itself: give a tuple of tuples, such as "
            f"({like!r},)"
        )
    try:
        return tuple(_checked(of, value, field) for value in values)
    except UserError as error:
        several = isinstance(like, str) and "," in str(values[0])
        quote = " (strings in a tuple need quotes)" if several else ""
        raise UserError(f"{name}: {error}{quote}") from error


def _checked(name: str, value, field: Field):
    value = _typed(name, value, field)
    for one in value if isinstance(value, tuple) else (value,):
        _check_value(name, value, one, field)
    return value


def _typed(name: str, value, field: Field):
    """`value` as the type of the default: int stands for float, a list for a tuple."""
    like = field.default
    if isinstance(value, np.generic):  # an element of what np.logspace gives
        value = value.item()
    if isinstance(like, float) and type(value) is int:
        return float(value)
    if isinstance(like, tuple) and isinstance(value, list | tuple):
        return _typed_tuple(name, value, field)
    if type(value) is not type(like):
        expected = {
            int: "a whole number",
            float: "a number",
            str: "a string",
            bool: "True or False",
        }
        kind = expected.get(type(like), "a tuple")
        raise UserError(f"{name} is {value!r} ({type(value).__name__}), expected {kind}")
    return value


def _typed_tuple(name: str, value, field: Field) -> tuple:
    words = bool(field.choices) or field.of_names
    if words and all(isinstance(v, str) for v in value):
        parts = [part.strip() for v in value for part in v.split(",")]  # the command line's a,b
        return tuple(part for part in parts if part)
    if words:
        such = field.choices[:2] or ("label",)
        raise UserError(f"{name} is {value!r}, expected a tuple of names such as {such!r}")
    if all(type(v) is int for v in value):
        return tuple(value)
    raise UserError(
        f"{name} is {value!r}, expected a tuple of whole numbers such as {field.default!r}"
    )


def _check_value(name: str, value, one, field: Field) -> None:
    """Whether `one`, which is `value` or a part of it, lies within the field's limits."""
    if field.choices and one not in field.choices:
        raise UserError(f"{name} is {value!r}; {nearest(str(one), field.choices)}")
    if isinstance(one, float) and not math.isfinite(one):
        raise UserError(f"{name} is {value!r}, expected a finite number")
    unlimited = field.most is None and field.below is None
    largest = LARGEST.get(type(one))
    if unlimited and largest is not None and abs(one) > largest:
        raise UserError(f"{name} is {value!r}, expected at most {largest:g}")
    limits = (
        (field.above, lambda limit: one > limit, "more than"),
        (field.least, lambda limit: one >= limit, "at least"),
        (field.below, lambda limit: one < limit, "less than"),
        (field.most, lambda limit: one <= limit, "at most"),
    )
    for limit, holds, words in limits:
        if limit is not None and not holds(limit):
            shown = str(limit) if isinstance(limit, int) else f"{limit:g}"
            expected = f"{shown} or more" if words == "at least" else f"{words} {shown}"
            raise UserError(f"{name} is {value!r}, expected {expected}")
