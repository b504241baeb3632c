"""The members of a run or sweep as a table in Python: a pandas DataFrame where pandas is there."""

from typing import Any

from vae_jax.workdir import ranking
from vae_jax.workdir.card import table
from vae_jax.workdir.markup import render

METRICS = ("nll", "nll_stderr", "elbo", "distortion", "rate", "mse", "active_units", "bits_per_dim")


class Rows(list):
    """A list of dicts with the same keys, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        titles = list(self[0]) if self else []
        return render(table(titles, [[ranking.show(row[name]) for name in titles] for row in self]))


def frame(members: list[dict], split: str) -> Any:
    """A row for each member: its number, what is swept, and the metrics of a split that there are.

    A DataFrame with the members' numbers as its index, or `Rows` where pandas is not installed.

    Args:
      members: those of results.json.
    """
    swept = list(dict.fromkeys(field for member in members for field in member["swept"]))
    names = [*METRICS, *(n for member in members for n in _of_layers(member, split))]
    names = list(dict.fromkeys(names))
    known = [name for name in names if any(_metric(m, split, name) is not None for m in members)]
    rows = []
    for member in members:
        row = {"member": member["member"]}
        row |= {ranking.short(field): ranking.value(member, field) for field in swept}
        rows.append(row | {name: _metric(member, split, name) for name in known})
    try:
        import pandas
    except ImportError:
        return Rows(rows)
    return pandas.DataFrame(rows).set_index("member")


def _of_layers(member: dict, split: str) -> dict:
    """{"rate_z1": ..., "active_units_z1": ..., ...} of a model with several stochastic layers."""
    layers = (member.get(split) or {}).get("layers") or {}
    return {f"{k}_{name}": value for name, layer in layers.items() for k, value in layer.items()}


def _metric(member: dict, split: str, name: str):
    return ((member.get(split) or {}) | _of_layers(member, split)).get(name)
