"""The members of a run: their names, their metrics, and which is best on the validation split.

A member is a dict, an entry of `members` in results.json.
"""

import math

import numpy as np

BETA, LATENT_DIM, SEED = "hypers.beta", "hypers.latent_dim", "hypers.seed"
NAMES = {"nll": "NLL", "elbo": "ELBO", "distortion": "distortion", "active_units": "active units"}
HIGHER_IS_BETTER = ("elbo", "active_units")


def value(member: dict, field: str | None):
    """The member's value of a swept field, None where it has none."""
    return as_tuples(member["swept"].get(field))


def as_tuples(x):
    """`x` with tuples in place of the lists that JSON makes of them."""
    return tuple(as_tuples(part) for part in x) if isinstance(x, list | tuple) else x


def numeric(values: list) -> bool:
    """Whether all `values` are numbers."""
    return all(isinstance(v, int | float | np.number) for v in values)


def values(members: list[dict], field: str | None) -> list:
    """The distinct values of a field: numbers in increasing order, others in the members' order."""
    found = list(dict.fromkeys(value(member, field) for member in members))
    return sorted(found) if numeric(found) else found


def metric_of(member: dict, split: str, metric: str) -> float:
    """A metric of a member on a split, nan where it has none."""
    number = (member.get(split) or {}).get(metric)
    return math.nan if number is None else float(number)


def with_layers(member: dict, split: str) -> dict:
    """The numbers of a split, {} where there are none; of several stochastic layers also "rate_z1",
    "active_units_z1" and so on."""
    numbers = member.get(split) or {}
    layers = numbers.get("layers") or {}
    return numbers | {
        f"{k}_{name}": v for name, of_one in layers.items() for k, v in of_one.items()
    }


def layer_metrics(members: list[dict], split: str) -> list[str]:
    """The names that `with_layers` adds."""
    names = [
        f"{key}_{name}"
        for member in members
        for name, of_one in ((member.get(split) or {}).get("layers") or {}).items()
        for key in of_one
    ]
    return list(dict.fromkeys(names))


def ranking(members: list[dict], metric: str = "nll") -> tuple[str, list[dict]]:
    """(the metric, the members from best to worst): by validation data, never by test data.

    Members that diverged, or have no such number, are left out. Where no member has `metric`, they
    are ranked by the ELBO, and where none has that, by the distortion.
    """
    running = [member for member in members if member["diverged_at"] is None]
    for name in (metric, "elbo", "distortion"):
        scored = [m for m in running if math.isfinite(metric_of(m, "valid", name))]
        if scored:
            scored.sort(
                key=lambda member: metric_of(member, "valid", name),
                reverse=name in HIGHER_IS_BETTER,
            )
            return name, scored
    return metric, []


def best(members: list[dict], metric: str = "nll") -> int | None:
    """The number of the member that ranks first, None where none is ranked."""
    ranked = ranking(members, metric)[1]
    return ranked[0]["member"] if ranked else None


def short(field: str) -> str:
    """A field's name without "hypers."."""
    return field.removeprefix("hypers.")


def show(x) -> str:
    """A swept value as text: "-" for None, floats to six digits."""
    if x is None:
        return "-"
    return f"{x:.6g}" if isinstance(x, float | np.floating) else str(as_tuples(x))


def label(member: dict) -> str:
    """The swept values of a member: "beta 4, latent_dim 8, seed 1"."""
    return ", ".join(f"{short(field)} {show(x)}" for field, x in member["swept"].items())


def named(member: dict) -> str:
    """ "member 12 (beta 4, latent_dim 8, seed 1)"."""
    return f"member {member['member']}" + (f" ({label(member)})" if member["swept"] else "")
