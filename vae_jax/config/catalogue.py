"""All parts that a configuration may choose, and all fields that it has."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vae_jax.config import sweep
from vae_jax.errors import UserError
from vae_jax.types import Field

# {kind of part: the field that names it}; every kind but "estimator" has exactly one chosen.
CHOSEN_BY = {
    "network": "network.name",
    "likelihood": "likelihood.name",
    "prior": "prior.name",
    "model": "model.name",
    "objective": "objective.name",
    "optimizer": "optimizer.name",
    "learning_rate_schedule": "schedule.learning_rate",
    "beta_schedule": "schedule.beta",
    "estimator": "eval.estimators",
}
# The part of each kind that the default configuration names.
DEFAULTS = {
    "network": "mlp",
    "likelihood": "bernoulli",
    "prior": "standard_normal",
    "model": "vae",
    "objective": "elbo",
    "optimizer": "adam",
    "learning_rate_schedule": "cosine",
    "beta_schedule": "linear",
}
SECTIONS = ("data", "network", "likelihood", "prior", "model", "objective", "optimizer")
SECTIONS += ("schedule", "hypers", "train", "eval", "checkpoint", "sweep")


class Catalogue(NamedTuple):
    parts: dict[str, dict[str, Any]]  # {kind: {name: part}}
    fields: dict[str, Field]  # {"section.field": field}, without the lists of the sweep
    owners: dict[str, list[Any]]  # {"section.field": the parts that have it}, of parts' fields only
    given: tuple  # the parts that came from outside the package
    # (config {"section.field": value}, None) -> what is wrong between fields of no part, or ""
    fits: Callable[[dict, Any], str]

    def __deepcopy__(self, _memo) -> "Catalogue":
        return self  # it never changes

    @property
    def own(self) -> tuple[str, ...]:
        """The parts that came from outside the package, as "kind:name"."""
        return tuple(f"{part.kind}:{part.name}" for part in self.given)

    def chosen(self, kind: str, config: dict) -> Any:
        """The part of a kind that a config {"section.field": value} names."""
        return self.parts[kind][config[CHOSEN_BY[kind]]]

    def all_chosen(self, config: dict) -> list[Any]:
        """Every part that the config names."""
        parts = [self.chosen(kind, config) for kind in DEFAULTS]
        return parts + [self.parts["estimator"][name] for name in config["eval.estimators"]]

    def recorded(self, config: ConfigDict) -> tuple[list[str], dict]:
        """(parts from outside that some member is made of, as "kind:name"; the config without the
        others and without estimators from outside, for a run may be evaluated with any).
        """
        flat = {f"{s}.{f}": v for s, fields in config.items() for f, v in fields.items()}
        members = [flat | changes for changes in sweep.members(config)]
        used = {
            f"{kind}:{self.chosen(kind, member).name}" for member in members for kind in DEFAULTS
        }
        own = [name for name in self.own if name in used]
        dropped = {
            field
            for field, parts in self.owners.items()
            if all(part in self.given for part in parts)
            and not any(f"{part.kind}:{part.name}" in own for part in parts)
        }
        lists = {field: name for name, field in sweep.sweepable(config).items()}
        dropped |= {f"sweep.{lists[field]}" for field in dropped if field in lists}
        sections = {
            section: {f: v for f, v in fields.items() if f"{section}.{f}" not in dropped}
            for section, fields in config.to_dict().items()
        }
        known = [n for n in config.eval.estimators if f"estimator:{n}" not in self.own]
        sections["eval"]["estimators"] = tuple(known)
        return own, sections

    def default(self) -> ConfigDict:
        """The configuration with the default of every field."""
        sections: dict[str, dict] = {section: {} for section in SECTIONS}
        for name, field in self.fields.items():
            section, key = name.split(".")
            sections[section][key] = field.default
        sections["sweep"] |= dict.fromkeys(sweep.sweepable(sections), ())  # (): not swept
        return ConfigDict(sections)


def make_catalogue(parts: dict, own: tuple, fields: dict[str, dict[str, Field]], fits) -> Catalogue:
    """The catalogue of the package's parts {kind: {name: part}} and a user's own.

    Args:
      own: parts from outside the package.
      fields: {section: {field: Field}} that belong to no part.

    Raises:
      UserError: a part of one's own has a name or a field that is taken, or is of no kind.
    """
    known = {kind: dict(named) for kind, named in parts.items()}
    for part in own:
        kind = getattr(part, "kind", None)
        if kind not in known:
            raise UserError(
                f"parts: {part!r} is not a part: its kind is {kind!r}, not one of "
                f"{', '.join(known)}"
            )
        if part.name in known[kind]:
            raise UserError(f"parts: there is a {kind} {part.name!r} already: choose another name")
        known[kind][part.name] = part
    common = {f"{s}.{f}": field for s, named in fields.items() for f, field in named.items()}
    all_fields: dict[str, Field] = {}
    owners: dict[str, list] = {}
    for kind, named in known.items():
        section = CHOSEN_BY[kind].split(".")[0]
        if kind != "estimator":
            names = tuple(named)
            all_fields[CHOSEN_BY[kind]] = Field(
                DEFAULTS[kind], f"which {kind.replace('_', ' ')}", names
            )
        for part in named.values():
            declared = {f"{section}.{f}": field for f, field in part.fields.items()}
            declared |= {f"hypers.{f}": field for f, field in part.hypers.items()}
            for name, field in declared.items():
                if common.get(name, all_fields.setdefault(name, field)) != field:
                    raise UserError(
                        f"parts: {kind} {part.name!r} declares {name} unlike another part"
                    )
                owners.setdefault(name, []).append(part)
    all_fields |= common
    for part in own:
        _check_sweep_names(part, all_fields)
    estimators = all_fields["eval.estimators"]._replace(choices=tuple(known["estimator"]))
    all_fields["eval.estimators"] = estimators
    ordered = sorted(all_fields, key=lambda name: SECTIONS.index(name.split(".")[0]))
    fields_in_order = {name: all_fields[name] for name in ordered}
    return Catalogue(known, fields_in_order, owners, tuple(own), fits)


def _check_sweep_names(part, fields: dict[str, Field]) -> None:
    """Whether the lists of a part's hyper-parameters have names of their own in the sweep section.

    Raises:
      UserError: such a name is another field's, or that of another field's list.
    """
    for name in part.hypers:
        if f"sweep.{name}" in fields or any(name == f.replace(".", "_", 1) for f in fields):
            raise UserError(
                f"parts: hypers.{name} of {part.kind} {part.name!r} names another field of the "
                f"sweep: sweep.{name}"
            )
