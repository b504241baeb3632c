"""A metric over the axes of a sweep: the mean and spread of each cell."""

import math
from typing import NamedTuple

import numpy as np

from vae_jax.workdir.ranking import BETA, LATENT_DIM, SEED, metric_of, short, value, values


class Cells(NamedTuple):
    """One metric over the axes of a sweep; the arrays are [rows, columns]."""

    metric: str
    row: str | None  # the field whose values are the rows; None: nothing is swept
    column: str | None  # None: the sweep has one axis, and the table one column
    rows: list
    columns: list
    mean: np.ndarray  # over the members that have not diverged; nan where there are none
    sd: np.ndarray  # the sample standard deviation; nan below two members
    count: np.ndarray  # members in the mean
    diverged: np.ndarray  # members that have diverged, in neither

    def index(self, member: dict) -> tuple[int, int]:
        """The row and column of a member."""
        row = self.rows.index(value(member, self.row))
        return row, self.columns.index(value(member, self.column))


def axes(members: list[dict]) -> tuple[list[str], list[str]]:
    """(the fields of the axes: [rows, columns], one field, or none; the other swept fields).

    Beta makes the columns and the latent dimension the rows where they are swept; the seed is an
    axis only where it is alone.
    """
    swept = list(dict.fromkeys(field for member in members for field in member["swept"]))
    chosen = [field for field in swept if field != SEED] or swept
    if len(chosen) > 1:
        column = BETA if BETA in chosen else next(field for field in chosen if field != LATENT_DIM)
        left = [field for field in chosen if field != column]
        chosen = [LATENT_DIM if LATENT_DIM in left else left[0], column]
    return chosen, [field for field in swept if field not in chosen]


def cells(members: list[dict], split: str, metric: str) -> Cells:
    """The mean and spread of a metric in every cell of the table, over whatever else varies."""
    row, column = (*axes(members)[0], None, None)[:2]
    rows, columns = values(members, row), values(members, column)
    mean, sd = np.full((2, len(rows), len(columns)), np.nan)
    count, diverged = np.zeros((2, len(rows), len(columns)), int)
    table = Cells(metric, row, column, rows, columns, mean, sd, count, diverged)
    found: dict[tuple[int, int], list[float]] = {}
    for member in members:
        place = table.index(member)
        number = metric_of(member, split, metric)
        if member["diverged_at"] is not None:
            diverged[place] += 1
        elif math.isfinite(number):
            found.setdefault(place, []).append(number)
    for place, numbers in found.items():
        mean[place] = np.mean(numbers)
        count[place] = len(numbers)
        sd[place] = np.std(numbers, ddof=1) if len(numbers) > 1 else np.nan
    return table


def averaged(members: list[dict], table: Cells) -> str:
    """What a cell of the table is the mean of, in words."""
    counts = _counts(table)
    if counts <= {1}:
        return "one member per cell"
    others = ", ".join(short(field) for field in axes(members)[1]) or "members of equal settings"
    same = f"{max(counts)} members per cell"
    return (
        f"mean ± sd over {others}, {same if len(counts) == 1 else 'number of members in brackets'}"
    )


def cell_texts(table: Cells) -> list[list[str]]:
    """ "97.12 ± 0.05" per cell [rows, columns]; "-" where there is no member.

    The number of members is added where cells differ in it.
    """
    places = _decimal_places(table)
    several = len(_counts(table)) > 1

    def text(cell: tuple[int, int]) -> str:
        count = table.count[cell]
        if not count:
            return "diverged" if table.diverged[cell] else "-"
        spread = f" ± {table.sd[cell]:.{places}f}" if count > 1 else ""
        return f"{table.mean[cell]:.{places}f}{spread}" + (f" ({count})" if several else "")

    rows, columns = table.mean.shape
    return [[text((i, j)) for j in range(columns)] for i in range(rows)]


def _counts(table: Cells) -> set[int]:
    """The different numbers of members in a cell, but for empty ones."""
    return set(table.count[table.count > 0].tolist())


def _decimal_places(table: Cells) -> int:
    """As many as tell the means apart."""
    if table.metric == "active_units":
        return int(np.any(table.count > 1))
    means = table.mean[table.count > 0]
    spread = max(np.ptp(means) if means.size else 0.0, *table.sd[table.count > 1], 0.0)
    return int(np.clip(1 - math.floor(math.log10(spread)), 2, 6)) if spread > 1e-6 else 2
