"""A sweep's members as tables: on the terminal, and sweep.csv.

`members` are the dicts of results.json: "member" (its number), "swept" (only the fields that the sweep varies, in its
order), "diverged_at", "best_step", and the metrics of "valid" and "test", each a number or None.
"""

import csv
import io
import math
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
    metric_of,
    named,
    ranking,
    short,
    show,
    value,
)

METRICS = ("num_examples", "elbo", "distortion", "rate", "nll", "nll_stderr", "nll_samples")
METRICS += ("mse", "active_units", "bits_per_dim")
LISTED = ("nll", "elbo", "distortion", "rate", "active_units")  # on the terminal, where there is room
LINE_WIDTH, MOST_LINES = 110, 20  # characters, beyond which a table continues below; lines of a list of members


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
        table.writerow(["" if x is None else str(as_tuples(x)) for x in files.finite(row)])  # str: every digit
    files.write_text(path, file.getvalue())


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


def standing(metric: str, ranked: list[dict]) -> list[str]:
    """How the best of a ranking did and, on a line of its own, how far behind the next is."""
    scores = [metric_of(member, "valid", metric) for member in ranked[:2]]
    test, error = metric_of(ranked[0], "test", metric), metric_of(ranked[0], "test", "nll_stderr")
    line = f"* best by validation {NAMES[metric]}: {named(ranked[0])}, valid {scores[0]:.2f}"
    line += f", test {test:.2f}" if math.isfinite(test) else ""
    line += f" ± {error:.2f} over examples" if metric == "nll" and math.isfinite(error) else ""
    return [line, *(f"  next: {named(m)}, valid {scores[1] - scores[0]:+.2f}" for m in ranked[1:2])]


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
