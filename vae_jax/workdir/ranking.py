"""Members of a run: their names, their metrics, and which is the best by validation."""

import math

import numpy as np

BETA, LATENT_DIM, SEED = "hypers.beta", "hypers.latent_dim", "hypers.seed"


NAMES = {"nll": "NLL", "elbo": "ELBO", "distortion": "distortion", "active_units": "active units"}


HIGHER_IS_BETTER = ("elbo", "active_units")


def value(member: dict, field: str | None):
    """The member's value of a swept field, a JSON list as the tuple that it was."""
    return as_tuples(member["swept"].get(field))


def as_tuples(x):
    return tuple(as_tuples(part) for part in x) if isinstance(x, list | tuple) else x


def numeric(values: list) -> bool:
    return all(isinstance(v, int | float | np.number) for v in values)


def values(members: list[dict], field: str | None) -> list:
    """The distinct values of a field: numbers from low to high, others in the members' order."""
    found = list(dict.fromkeys(value(member, field) for member in members))
    return sorted(found) if numeric(found) else found


def metric_of(member: dict, split: str, metric: str) -> float:
    """A metric of a member, nan where it has none."""
    number = (member.get(split) or {}).get(metric)
    return math.nan if number is None else float(number)


def ranking(members: list[dict], metric: str = "nll") -> tuple[str, list[dict]]:
    """(the metric, the members that have not diverged, from the best to the worst by it on validation data, never
    on test data). The ELBO takes the place of a metric that no member has, and of that the distortion."""
    for name in (metric, "elbo", "distortion"):
        sign = -1 if name in HIGHER_IS_BETTER else 1
        scored = [(sign * metric_of(m, "valid", name), m) for m in members if m["diverged_at"] is None]
        if any(math.isfinite(score) for score, _ in scored):
            scored = [pair for pair in scored if math.isfinite(pair[0])]
            return name, [m for _, m in sorted(scored, key=lambda pair: pair[0])]
    return metric, []


def best(members: list[dict], metric: str = "nll") -> int | None:
    """The number of the member with the lowest validation NLL (the first of equals), None where there is none."""
    return next((member["member"] for member in ranking(members, metric)[1]), None)


def short(field: str) -> str:
    return field.removeprefix("hypers.")


def show(x) -> str:
    """A swept value as a person writes it."""
    return "-" if x is None else f"{x:.6g}" if isinstance(x, float | np.floating) else str(as_tuples(x))


def label(member: dict) -> str:
    """What sets a member apart: "beta 4, latent_dim 8, seed 1"."""
    return ", ".join(f"{short(field)} {show(x)}" for field, x in member["swept"].items())


def named(member: dict) -> str:
    """ "member 12 (beta 4, latent_dim 8, seed 1)"."""
    return f"member {member['member']}" + (f" ({label(member)})" if member["swept"] else "")
