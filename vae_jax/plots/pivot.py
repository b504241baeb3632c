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
        return self.rows.index(value(member, self.row)), self.columns.index(value(member, self.column))


def axes(members: list[dict]) -> tuple[list[str], list[str]]:
    """(the fields of the table's axes: [rows, columns], or one field, or none; the other swept fields). Beta makes the
    columns and the latent dimension the rows where they are swept; the seed is an axis only where it is alone."""
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
    found: dict[tuple, list] = {}
    for member in members:
        place, number = table.index(member), metric_of(member, split, metric)
        if member["diverged_at"] is not None:
            table.diverged[place] += 1
        elif math.isfinite(number):
            found.setdefault(place, []).append(number)
    for place, numbers in found.items():
        table.mean[place], table.count[place] = np.mean(numbers), len(numbers)
        table.sd[place] = np.std(numbers, ddof=1) if len(numbers) > 1 else np.nan
    return table


def averaged(members: list[dict], table: Cells) -> str:
    """What a cell of the table is the mean of, in words."""
    others = ", ".join(short(field) for field in axes(members)[1]) or "members of equal settings"
    counts = set(table.count[table.count > 0].tolist())
    several = f"{max(counts, default=0)} members per cell" if len(counts) == 1 else "number of members in brackets"
    return "one member per cell" if counts <= {1} else f"mean ± sd over {others}, {several}"


def cell_texts(table: Cells) -> list[list[str]]:
    """ "97.12 ± 0.05" per cell [rows, columns], with the number of members where cells differ; "-" where none."""
    means, several = table.mean[table.count > 0], len(set(table.count[table.count > 0].tolist())) > 1
    spread = max(np.ptp(means) if means.size else 0.0, *table.sd[table.count > 1], 0.0)
    places = int(np.clip(1 - math.floor(math.log10(spread)), 2, 6)) if spread > 1e-6 else 2  # tells means apart
    if table.metric == "active_units":
        places = int(np.any(table.count > 1))

    def one(mean, sd, count, diverged):
        if not count:
            return "diverged" if diverged else "-"
        return f"{mean:.{places}f}" + (f" ± {sd:.{places}f}" if count > 1 else "") + (f" ({count})" if several else "")

    arrays = (table.mean, table.sd, table.count, table.diverged)
    return [[one(*cell) for cell in zip(*lines, strict=True)] for lines in zip(*arrays, strict=True)]
