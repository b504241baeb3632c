"""A sweep's members as tables: which fields are the axes, the mean and spread of each cell, sweep.csv, the best.

`members` are the dicts of results.json: "member" (its number), "swept" (only the fields that the sweep varies, in its
order), "diverged_at", "best_step", and the metrics of "valid" and "test", each a number or None.
"""

import csv
import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax import writers

BETA, LATENT_DIM, SEED = "hypers.beta", "hypers.latent_dim", "hypers.seed"
METRICS = ("num_examples", "elbo", "distortion", "rate", "nll", "nll_stderr", "nll_samples")
METRICS += ("mse", "active_units", "bits_per_dim")
LISTED = ("nll", "elbo", "distortion", "rate", "active_units")  # on the terminal, where there is room
NAMES = {"nll": "NLL", "elbo": "ELBO", "distortion": "distortion", "active_units": "active units"}
HIGHER_IS_BETTER = ("elbo", "active_units")
LINE_WIDTH, MOST_LINES = 110, 20  # characters, beyond which a table continues below; lines of a list of members


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


def value(member: dict, field: str | None):
    """The member's value of a swept field, a JSON list as the tuple that it was."""
    return _tuples(member["swept"].get(field))


def _tuples(x):
    return tuple(_tuples(part) for part in x) if isinstance(x, list | tuple) else x


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
    return "-" if x is None else f"{x:.6g}" if isinstance(x, float | np.floating) else str(_tuples(x))


def label(member: dict) -> str:
    """What sets a member apart: "beta 4, latent_dim 8, seed 1"."""
    return ", ".join(f"{short(field)} {show(x)}" for field, x in member["swept"].items())


def write_csv(path: Path, members: list[dict]) -> None:
    """sweep.csv: a row per member, in the members' order. Whole or not at all."""
    swept = list(dict.fromkeys(field for member in members for field in member["swept"]))
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    scores = [(split, name) for split in ("valid", "test") for name in METRICS]
    table.writerow(["member", *swept, "diverged_at", "best_step", *(f"{split}_{name}" for split, name in scores)])
    for member in members:
        row = [member["member"], *(value(member, field) for field in swept), member["diverged_at"], member["best_step"]]
        row += [(member.get(split) or {}).get(name) for split, name in scores]
        table.writerow(["" if x is None else str(_tuples(x)) for x in writers.finite(row)])  # str: every digit
    writers.write_text(path, file.getvalue())


def text(members: list[dict]) -> str:
    """The sweep on a terminal: the table, the best member by validation, the diverged ones."""
    metric, ranked = ranking(members)
    lost = [member for member in members if member["diverged_at"] is not None]
    has = lambda name: any(math.isfinite(metric_of(member, "test", name)) for member in members)  # noqa: E731
    table = cells(members, "test", next(filter(has, ("nll", "elbo")), "distortion"))
    if table.column is None:
        lines = _list(members, ranked)
    else:  # mostly empty where the fields were not crossed
        sparse = 8 < np.sum(table.count + table.diverged > 0) < table.count.size / 4
        lines = _ranks(ranked) if ranked and sparse else _pivot(members, ranked, table)
    if ranked:
        lines += standing(metric, ranked)
    elif len(lost) < len(members):
        lines += ["no best member: none has a validation NLL or ELBO"]
    return "\n".join(lines + [f"{named(member)} diverged at step {member['diverged_at']}" for member in lost])


def named(member: dict) -> str:
    """ "member 12 (beta 4, latent_dim 8, seed 1)"."""
    return f"member {member['member']}" + (f" ({label(member)})" if member["swept"] else "")


def standing(metric: str, ranked: list[dict]) -> list[str]:
    """How the best of a ranking did and, on a line of its own, how far behind the next is."""
    scores = [metric_of(member, "valid", metric) for member in ranked[:2]]
    test, error = metric_of(ranked[0], "test", metric), metric_of(ranked[0], "test", "nll_stderr")
    line = f"* best by validation {NAMES[metric]}: {named(ranked[0])}, valid {scores[0]:.2f}"
    line += f", test {test:.2f}" if math.isfinite(test) else ""
    line += f" ± {error:.2f} over examples" if metric == "nll" and math.isfinite(error) else ""
    return [line, *(f"  next: {named(m)}, valid {scores[1] - scores[0]:+.2f}" for m in ranked[1:2])]


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


def _pivot(members: list[dict], ranked: list[dict], table: Cells) -> list[str]:
    """One metric over two axes."""
    better = "higher" if table.metric in HIGHER_IS_BETTER else "lower"
    title = f"test {NAMES[table.metric]} in nats ({better} is better), {averaged(members, table)}"
    corner, star = f"{short(table.row)} \\ {short(table.column)}", table.index(ranked[0]) if ranked else None
    return [title, *_aligned(corner, table.columns, table.rows, cell_texts(table), star)]


def _list(members: list[dict], ranked: list[dict]) -> list[str]:
    """A row per value of the one axis, a column per metric."""
    tables = [cells(members, "test", name) for name in LISTED]
    names, texts = list(tables[0].rows), [[x for (x,) in row] for row in zip(*map(cell_texts, tables), strict=True)]
    if tables[0].row == SEED and len(names) > 1:  # what a sweep over seeds is for
        whole = [cells([member | {"swept": {}} for member in members], "test", name) for name in LISTED]
        names, texts = [*names, "mean ± sd"], [*texts, [cell_texts(table)[0][0] for table in whole]]
    star = (tables[0].index(ranked[0])[0], 0) if ranked else None
    title = f"test, in nats, {averaged(members, tables[1])}"
    return [title, *_aligned(short(tables[0].row or ""), [NAMES.get(x, x) for x in LISTED], names, texts, star)]


def _ranks(ranked: list[dict]) -> list[str]:
    """For a table of mostly empty cells: a row per member instead, the best first."""
    shown = ranked[:MOST_LINES]
    texts = [[f"{metric_of(member, 'test', name):.2f}" for name in LISTED] for member in shown]
    lines = _aligned("", [NAMES.get(name, name) for name in LISTED], [label(member) for member in shown], texts, (0, 0))
    left = [f"and {len(ranked) - MOST_LINES} more in sweep.csv"] if len(ranked) > MOST_LINES else []
    return ["test, in nats, the best by validation first", *lines, *left]


def _aligned(corner: str, columns: list, names: list, texts: list[list[str]], star: tuple | None) -> list[str]:
    """Columns flush right, a star in one cell; what is wider than a line goes on below, under the names again."""
    rows = [[corner, *(f"{show(column)} " for column in columns)]]
    for i, (name, line) in enumerate(zip(names, texts, strict=True)):
        rows.append([show(name), *(f"{x}{' *'[(i, j) == star]}" for j, x in enumerate(line))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    fit = max(1, (LINE_WIDTH - widths[0]) // (max(widths[1:]) + 2))
    fit = math.ceil(len(columns) / math.ceil(len(columns) / fit))  # blocks of equal width
    lines = []
    for start in range(1, len(widths), fit):
        shown = [0, *range(start, min(start + fit, len(widths)))]
        lines += ["  ".join(row[j].rjust(widths[j]) for j in shown).rstrip() for row in rows]
    return lines
