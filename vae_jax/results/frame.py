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
    numbers = [ranking.with_layers(member, split) for member in members]
    names = (*METRICS, *ranking.layer_metrics(members, split))
    known = [name for name in names if any(one.get(name) is not None for one in numbers)]
    rows = []
    for member, one in zip(members, numbers, strict=True):
        row = {"member": member["member"]}
        row |= {ranking.short(field): ranking.value(member, field) for field in swept}
        rows.append(row | {name: one.get(name) for name in known})
    try:
        import pandas
    except ImportError:
        return Rows(rows)
    return pandas.DataFrame(rows).set_index("member")
