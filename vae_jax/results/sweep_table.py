"""A sweep's members as tables: on the terminal, and sweep.csv.

`members` are the dicts of results.json: "member" (its number), "swept" (only the fields that the
sweep varies, in its order), "diverged_at", "best_step", and the metrics of "valid" and "test", each
a number or None.
"""

import csv
import io
import math
import operator
from pathlib import Path

import numpy as np

from vae_jax.plots.pivot import Cells, averaged, cell_texts, cells
from vae_jax.workdir import files
from vae_jax.workdir.ranking import (
    HIGHER_IS_BETTER,
    NAMES,
    SEED,
    as_tuples,
    label,
    layer_metrics,
    metric_of,
    named,
    ranking,
    short,
    show,
    value,
    with_layers,
)

METRICS = (
    "num_examples",
    "elbo",
    "distortion",
    "rate",
    "nll",
    "nll_stderr",
    "nll_samples",
    "mse",
    "active_units",
    "bits_per_dim",
)
LISTED = ("nll", "elbo", "distortion", "rate", "active_units")  # on the terminal, as columns
LINE_WIDTH = 110  # characters: a wider table continues below
MOST_LINES = 20  # of a list of members


def write_csv(path: Path, members: list[dict]) -> None:
    """Writes sweep.csv: a row for each member, in the members' order."""
    swept = list(dict.fromkeys(field for member in members for field in member["swept"]))
    names, splits = (*METRICS, *layer_metrics(members, "test")), ("valid", "test")
    scores = [(split, name) for split in splits for name in names]
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    columns = [f"{split}_{name}" for split, name in scores]
    table.writerow(["member", *swept, "diverged_at", "best_step", *columns])
    for member in members:
        numbers = {split: with_layers(member, split) for split in splits}
        row = [
            member["member"],
            *(value(member, field) for field in swept),
            member["diverged_at"],
            member["best_step"],
            *(numbers[split].get(name) for split, name in scores),
        ]
        # str gives a float with all its digits.
        table.writerow(["" if x is None else str(as_tuples(x)) for x in files.finite(row)])
    files.write_text(path, file.getvalue())


def text(members: list[dict]) -> str:
    """The sweep on a terminal: the table, the best member by validation, the diverged ones."""
    metric, ranked = ranking(members)
    diverged = [member for member in members if member["diverged_at"] is not None]
    lines = _table(members, ranked)
    if ranked:
        lines += standing(metric, ranked)
    elif len(diverged) < len(members):
        lines.append("no best member: none has a validation NLL or ELBO")
    lines += [f"{named(member)} diverged at step {member['diverged_at']}" for member in diverged]
    return "\n".join(lines)


def standing(metric: str, ranked: list[dict]) -> list[str]:
    """The numbers of the best member, and in a second line how far behind the next one is.

    Args:
      metric, ranked: from `ranking`.
    """
    best = ranked[0]
    score = metric_of(best, "valid", metric)
    test = metric_of(best, "test", metric)
    error = metric_of(best, "test", "nll_stderr")
    line = f"* best by validation {NAMES[metric]}: {named(best)}, valid {score:.2f}"
    if math.isfinite(test):
        line += f", test {test:.2f}"
    if metric == "nll" and math.isfinite(error):
        line += f" ± {error:.2f} over examples"
    lines = [line]
    for second in ranked[1:2]:
        behind = metric_of(second, "valid", metric) - score
        lines.append(f"  next: {named(second)}, valid {behind:+.2f}")
    return lines


def _table(members: list[dict], ranked: list[dict]) -> list[str]:
    """The table that suits the sweep: of two axes, of one, or a row for each member."""
    table = cells(members, "test", _shown_metric(members))
    if table.column is None:
        return _metrics_table(members, ranked)
    filled = np.sum(table.count + table.diverged > 0)
    sparse = 8 < filled < table.count.size / 4  # as where a sweep's mode is "zip"
    return _ranking_table(ranked) if ranked and sparse else _pivot_table(members, ranked, table)


def _shown_metric(members: list[dict]) -> str:
    """The NLL, or the ELBO or the distortion where no member has it."""
    for name in ("nll", "elbo"):
        if any(math.isfinite(metric_of(member, "test", name)) for member in members):
            return name
    return "distortion"


def _pivot_table(members: list[dict], ranked: list[dict], table: Cells) -> list[str]:
    """One metric over two axes."""
    better = "higher" if table.metric in HIGHER_IS_BETTER else "lower"
    mean = averaged(members, table)
    title = f"test {NAMES[table.metric]} in nats ({better} is better), {mean}"
    corner = f"{short(table.row or '')} \\ {short(table.column or '')}"
    star = table.index(ranked[0]) if ranked else None
    return [title, *_aligned(corner, table.columns, table.rows, cell_texts(table), star)]


def _metrics_table(members: list[dict], ranked: list[dict]) -> list[str]:
    """A row for each value of the one axis, a column for each metric."""
    tables = [cells(members, "test", name) for name in LISTED]
    first = tables[0]
    names = list(first.rows)
    columns = [[line[0] for line in cell_texts(table)] for table in tables]
    if first.row == SEED and len(names) > 1:  # what seeds are swept for
        names.append("mean ± sd")
        for column, metric in zip(columns, LISTED, strict=True):
            column.append(_mean_over_all(members, metric))
    texts = [list(row) for row in zip(*columns, strict=True)]
    star = (first.index(ranked[0])[0], 0) if ranked else None
    title = f"test, in nats, {averaged(members, tables[1])}"
    corner = short(first.row or "")
    return [title, *_aligned(corner, _titles(), names, texts, star)]


def _mean_over_all(members: list[dict], metric: str) -> str:
    """ "97.12 ± 0.05": the mean over all members, as if nothing were swept."""
    alike = [member | {"swept": {}} for member in members]
    return cell_texts(cells(alike, "test", metric))[0][0]


def _ranking_table(ranked: list[dict]) -> list[str]:
    """A row for each member, the best first: for sweeps whose table would be mostly empty."""
    shown = ranked[:MOST_LINES]
    texts = [[f"{metric_of(member, 'test', name):.2f}" for name in LISTED] for member in shown]
    title = "test, in nats, the best by validation first"
    lines = [title, *_aligned("", _titles(), [label(member) for member in shown], texts, (0, 0))]
    if len(ranked) > MOST_LINES:
        lines.append(f"and {len(ranked) - MOST_LINES} more in sweep.csv")
    return lines


def _titles() -> list[str]:
    return [NAMES.get(name, name) for name in LISTED]


def _aligned(
    corner: str, columns: list, names: list, texts: list[list[str]], star: tuple | None
) -> list[str]:
    """The lines of a table with all columns flush right.

    Columns that do not fit into a line go on below, under the names again.

    Args:
      corner: above the names.
      columns: their titles.
      names: of the rows.
      texts: [rows][columns].
      star: (row, column) of the cell that is marked with a star.
    """
    table = [[corner, *(f"{show(column)} " for column in columns)]]
    for i, (name, line) in enumerate(zip(names, texts, strict=True)):
        marks = ["*" if (i, j) == star else " " for j in range(len(line))]
        table.append([show(name), *map(operator.add, line, marks)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    fit = max(1, (LINE_WIDTH - widths[0]) // (max(widths[1:]) + 2))
    fit = math.ceil(len(columns) / math.ceil(len(columns) / fit))  # blocks of equal width
    lines = []
    for start in range(1, len(widths), fit):
        shown = [0, *range(start, min(start + fit, len(widths)))]
        for row in table:
            lines.append("  ".join(row[j].rjust(widths[j]) for j in shown).rstrip())
    return lines
