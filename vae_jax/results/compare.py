"""Finished runs side by side: where their configs differ, and their test numbers.

Differences of NLL and ELBO are paired over examples.
"""

import io
import math
import os
import re
import string
import textwrap
import zipfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax.errors import UserError
from vae_jax.workdir import files, record

WIDTH = 100  # characters of a line
METRICS = (
    "nll",
    "nll_stderr",
    "elbo",
    "distortion",
    "rate",
    "mse",
    "active_units",
    "bits_per_dim",
    "nll_samples",
)
FORMATS = {"mse": ".4f", "active_units": ",d", "bits_per_dim": ".4f", "nll_samples": ",d"}
DATA = "{num_test:,} test examples of {name} ({source}), binarization {binarization}"


class Entry(NamedTuple):
    """One of the compared runs: a run of its own, or a member of a sweep."""

    path: Path
    notes: list[str]  # which member it is, and what is wrong with it
    config: dict  # {"section.field": value}, as this member had it
    dataset: dict
    numbers: dict  # of the test split
    examples: dict  # {"log_p": [num_test], "elbo": [num_test]}, {} where they are not known


class Obstacle(NamedTuple):
    """A reason why the examples of two runs cannot be paired."""

    reason: str
    grave: bool = False  # whether not even the numbers of the two runs may be compared


def compare(text: str) -> str:
    """The report on the runs that `text`, the value of --workdir, names.

    Raises:
      UserError: it does not name finished runs.
    """
    runs = [read(path, member) for path, member in split(text)]
    entries = dict(zip(string.ascii_uppercase, runs, strict=False))
    parts = (legend(entries), config_table(entries), metrics_table(entries), paired_table(entries))
    return "\n\n".join("\n".join(lines) for lines in parts)


# --- which runs


def split(text: str) -> list[tuple[Path, int | None]]:
    """The (workdir, member) of each run in a comma-separated list.

    Names of workdirs may hold commas: of the runs that could be meant, the longest name counts.
    """
    pieces = [piece for piece in text.split(",") if piece.strip()]
    runs = []
    while pieces:
        run, length = _longest_run(pieces)
        runs.append(run)
        pieces = pieces[length:]
    if not 2 <= len(runs) <= 26:
        raise UserError(
            f"--mode=compare takes 2 to 26 runs, as --workdir=A,B; {text!r} names {len(runs)}"
        )
    return runs


def _longest_run(pieces: list[str]) -> tuple[tuple[Path, int | None], int]:
    """The run with the longest name that `pieces` begin with, and the number of its pieces."""
    for length in range(len(pieces), 0, -1):
        run = find_run(",".join(pieces[:length]).strip())
        if run is not None:
            return run, length
    raise UserError(
        f"{pieces[0].strip()} holds no run (no config.json); --workdir=A,B takes finished runs"
    )


def find_run(name: str) -> tuple[Path, int | None] | None:
    """The run in the folder `name`; where there is none, A:3 is member 3 of the run in A."""
    # os.path, because pathlib raises for a name that is too long, as several joined ones may be.
    if os.path.isfile(os.path.join(name, "config.json")):
        return Path(name), None
    match = re.fullmatch(r"(.+):(\d+)", name)
    if match is None or os.path.exists(name):
        return None
    if os.path.isfile(os.path.join(match[1], "config.json")):
        return Path(match[1]), int(match[2])
    return None


def read(path: Path, member: int | None) -> Entry:
    """The run in a workdir, or one member of its sweep; None: the best.

    Raises:
      UserError: it has not been evaluated, or has no such member.
    """
    stored, results = record.read_record(path), files.read_json(path / "results.json")
    if stored is None or results is None:
        raise UserError(
            f"{path} has not been evaluated; train it to its end, or "
            f"--mode=evaluate --workdir={path}"
        )
    number, chosen = choose_member(path, results, member)
    numbers = chosen.get("test") or {}
    notes = _problems(results, chosen)
    if len(results["members"]) > 1 or chosen.get("swept"):
        named = member is not None
        notes.insert(0, _which_member(number, chosen, len(results["members"]), named))
    return Entry(
        path=path,
        notes=notes,
        config=effective_config(stored["config"], chosen.get("swept", {}), results["eval"]),
        dataset=results["dataset"],
        numbers=numbers,
        examples=read_examples(path / "examples.npz", number, numbers),
    )


def choose_member(path: Path, results: dict, member: int | None) -> tuple[int, dict]:
    """(number, results) of the member `member`; None: of the best."""
    members = {part.get("member", i): part for i, part in enumerate(results["members"])}
    if member is None:
        member = next(iter(members)) if len(members) == 1 else results.get("best_member")
    if member is None or member not in members:
        missing = "no best member" if member is None else f"no member {member}"
        raise UserError(
            f"{path} has {missing}; name one of {min(members)} to {max(members)}, as {path}:N"
        )
    return member, members[member]


def _which_member(number: int, chosen: dict, num_members: int, named: bool) -> str:
    which = "as named" if named else f"the best of {num_members} by validation"
    swept = ", ".join(f"{k}={show(v)}" for k, v in chosen.get("swept", {}).items())
    return f"member {number}, {which}: {swept}"


def _problems(results: dict, chosen: dict) -> list[str]:
    """What a reader of a member's numbers must know."""
    problems = []
    if not results.get("complete"):
        problems.append(f"INCOMPLETE: numbers of step {results['step']:,}, before the end")
    if chosen.get("diverged_at") is not None:
        problems.append(f"DIVERGED at step {chosen['diverged_at']:,}")
    return problems


def effective_config(config: dict, swept: dict, evaluation: dict) -> dict:
    """{"section.field": value} as a member was trained and evaluated.

    Args:
      config: {section: {field: value}} of the whole run.
      swept: {"section.field": value} of the member.
      evaluation: {field: value} of section eval that the results were computed with.
    """
    sections = {name: fields for name, fields in config.items() if name != "sweep"}
    flat = {f"{s}.{f}": value for s, fields in sections.items() for f, value in fields.items()}
    flat |= swept
    if not flat.get("train.schedule_epochs", True):
        flat["train.schedule_epochs"] = flat["train.num_epochs"]
    # The one field of the sweep that changes how a member is trained.
    flat["sweep.shared_data"] = config.get("sweep", {}).get("shared_data", True)
    return flat | {f"eval.{name}": value for name, value in evaluation.items()}


def read_examples(path: Path, member: int, numbers: dict) -> dict:
    """{"log_p": [n], "elbo": [n]} of a member's n test examples.

    {} where there is no such file, or `numbers` are not their means.

    Raises:
      UserError: the file is damaged.
    """
    means = {
        "log_p": -(numbers.get("nll") or math.nan),
        "elbo": numbers.get("elbo") or math.nan,
    }
    examples = {}
    try:
        with np.load(io.BytesIO(files.read_bytes(path))) as file:
            for name in means:
                if f"{name}/{member}" in file:
                    examples[name] = file[f"{name}/{member}"].astype(np.float64)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be read ({error}); --mode=evaluate writes it again"
        ) from error
    if examples.keys() != means.keys():
        return {}
    for name, values in examples.items():
        if values.shape != (numbers.get("num_examples"),):
            return {}
        if not np.isclose(values.mean(), means[name], rtol=1e-4, atol=1e-3):
            return {}
    return examples


# --- what the report says


def legend(entries: dict[str, Entry]) -> list[str]:
    """The letter, path and notes of each run."""
    lines = []
    for name, entry in entries.items():
        lines.append(f"{name}  {entry.path}")
        lines += wrapped(entry.notes, "   ")
    return lines


def config_table(entries: dict[str, Entry]) -> list[str]:
    """The fields whose values differ."""
    found = differences([entry.config for entry in entries.values()])
    if not found:
        return ["their configs do not differ"]
    rows = [[name, *map(show, values)] for name, values in found.items()]
    return list(table([["config, where it differs", *entries], *rows], "<"))


def differences(configs: list[dict]) -> dict[str, list]:
    """{"section.field": its value in each config, None: not there} of the fields that differ."""
    found = {}
    for name in sorted(set().union(*configs)):
        values = [config.get(name) for config in configs]
        if any(value != values[0] for value in values):
            found[name] = values
    return found


def metrics_table(entries: dict[str, Entry]) -> list[str]:
    """The numbers under their names in results.json, and the data they are of."""
    rows = [["test (nats per example)", *entries]]
    for metric in METRICS:
        values = [entry.numbers.get(metric) for entry in entries.values()]
        form = FORMATS.get(metric, ".2f")
        rows.append([metric, *("-" if v is None else f"{v:{form}}" for v in values)])
    return [*table(rows, ">"), *wrapped(_data_notes(entries), "")]


def _data_notes(entries: dict[str, Entry]) -> list[str]:
    """What the numbers are of: a line for each test set."""
    names: dict[str, list[str]] = {}
    for name, entry in entries.items():
        text = DATA.format_map(entry.dataset)
        if record.is_subset(entry.dataset):  # never called by the name of the whole
            text = f"a SUBSET, {text}"
        names.setdefault(text, []).append(name)
    notes = [f"{', '.join(letters)}: {text}" for text, letters in names.items()]
    samples = {entry.numbers.get("nll_samples") for entry in entries.values()}
    if len(samples - {None}) > 1:
        notes.append(
            "note: nll_samples differ; a bound with more samples is tighter, its nll lower "
            "(not so the elbo)"
        )
    return notes


def paired_table(entries: dict[str, Entry]) -> list[str]:
    """The paired differences of each run to the first, or why there are none."""
    (a, first), *others = entries.items()
    title = f"paired differences to {a}"
    rows = [[title, "", "+- stderr", "over examples; better: nll < 0, elbo > 0"]]
    problems = []
    for b, other in others:
        found = obstacles(first, other)
        if found:
            reasons = "; ".join(obstacle.reason for obstacle in found)
            problems.append(f"{b} - {a} not paired: {reasons}")
        else:
            rows += _paired_rows(f"{b} - {a}", first, other)
        if any(obstacle.grave for obstacle in found):
            problems.append(f"WARNING: the numbers of {a} and {b} must not be compared at all")
    lines = list(table(rows, "<")) if len(rows) > 1 else []
    return lines + wrapped(problems, "")


def _paired_rows(name: str, first: Entry, other: Entry) -> list[list[str]]:
    """The rows of the NLL and of the ELBO."""
    rows = []
    for metric, key, sign in (("nll", "log_p", -1), ("elbo", "elbo", 1)):
        ours, theirs = sign * other.examples[key], sign * first.examples[key]
        mean, error = paired_difference(ours, theirs)
        judged = verdict(mean, error, lower_is_better=metric == "nll")
        rows.append([f"  {name}  {metric}", f"{mean:+.3f}", f"+- {error:.3f}", judged])
    return rows


def paired_difference(ours: np.ndarray, first: np.ndarray) -> tuple[float, float]:
    """(mean, its standard error) of ours - first over examples; each is [n].

    What makes an example hard for both models cancels, so the error is smaller than that of either.
    """
    difference = ours - first
    num = len(difference)
    error = difference.std(ddof=1) / math.sqrt(num) if num > 1 else math.inf
    return float(difference.mean()), float(error)


def verdict(difference: float, error: float, lower_is_better: bool) -> str:
    """Whether a difference of more than two standard errors is "better" or "worse"."""
    if not abs(difference) > 2 * error:  # also where it is nan
        return "no difference beyond 2 standard errors"
    return "better" if (difference < 0) == lower_is_better else "worse"


# --- what cannot be compared


def obstacles(first: Entry, other: Entry) -> list[Obstacle]:
    """Why two runs cannot be paired, grave reasons first; none: they can."""
    found = [
        *_other_data(first, other),
        *_other_binarization(first, other),
        *_other_likelihood(first, other),
        *_no_examples(first),
        *_no_examples(other),
    ]
    return sorted(found, key=lambda obstacle: not obstacle.grave)


def _other_data(first: Entry, other: Entry) -> list[Obstacle]:
    if not _differing(first, other, "fingerprint", "num_test"):
        return []
    shape = _differing(first, other, "name", "num_test", "example_shape")
    cut = _differing(first, other, "num_train", "num_valid")
    reason = shape or cut or _differing(first, other, "source", "fingerprint")
    # The fingerprint is of all splits: if train and valid are cut in another place, the test set
    # may still be the same.
    only_cut = bool(cut) and not shape
    return [Obstacle(f"other data ({reason})", grave=not only_cut)]


def _other_binarization(first: Entry, other: Entry) -> list[Obstacle]:
    binarization = _differing(first, other, "binarization")
    if binarization:
        return [Obstacle(f"other binarization ({binarization})", grave=True)]
    seed = _differing(first, other, "eval.seed")
    if first.dataset["binarization"] == "dynamic" and seed:
        return [Obstacle(f"other noise in the binarization of the test images ({seed})")]
    return []


def _other_likelihood(first: Entry, other: Entry) -> list[Obstacle]:
    """Bits per dimension are known exactly where the likelihood is a probability."""
    likelihood = _differing(first, other, "likelihood.name")
    bits = (first.numbers.get("bits_per_dim"), other.numbers.get("bits_per_dim"))
    if likelihood and None in bits:
        return [Obstacle(f"densities are not probabilities ({likelihood})", grave=True)]
    return []


def _no_examples(entry: Entry) -> list[Obstacle]:
    if entry.examples:
        return []
    if entry.config.get("model.name") == "ae":
        return [Obstacle(f"{entry.path} is of a plain autoencoder, without NLL or ELBO")]
    return [
        Obstacle(
            f"{entry.path} has no examples.npz that fits its results.json "
            "(--mode=evaluate writes it)"
        )
    ]


def _differing(first: Entry, other: Entry, *names: str) -> str:
    """ "eval.seed 0 and 1": those of `names` that differ; fields of the config have a dot."""
    texts = []
    for name in names:
        a, b = (
            entry.config.get(name) if "." in name else entry.dataset[name]
            for entry in (first, other)
        )
        if a != b:
            texts.append(f"{name} {show(a)} and {show(b)}")
    return "; ".join(texts)


# --- text


def show(value) -> str:
    """A value of the config as text."""
    return "unset" if value is None else str(value) or "''"


def wrapped(lines: list[str], indent: str) -> list[str]:
    """The lines, each wrapped to the page."""
    wrapper = textwrap.TextWrapper(
        WIDTH, indent, f"{indent}  ", break_long_words=False, break_on_hyphens=False
    )
    return [part for line in lines for part in wrapper.wrap(line)]


def table(rows: list[list[str]], align: str) -> Iterator[str]:
    """The lines of a table whose rows are [name, *cells].

    Where it would be wider than the page, long cells go on in the next lines.

    Args:
      align: "<" or ">", of the cells; names are flush left.
    """
    name_width, *widths = _column_widths(rows)
    for name, *cells in rows:
        columns = [
            [cell[i : i + width] for i in range(0, len(cell), width)]
            for cell, width in zip(cells, widths, strict=True)
        ]
        for parts in zip_longest(*columns, fillvalue=""):
            padded = [f"{part:{align}{w}}" for part, w in zip(parts, widths, strict=True)]
            yield "  ".join([f"{name:<{name_width}}", *padded]).rstrip()
            name = ""  # stands in the first line only


def _column_widths(rows: list[list[str]]) -> list[int]:
    """The width of each column: of its longest cell, or less where the page is too narrow."""
    first, *widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if first + sum(widths) + 2 * len(widths) > WIDTH:
        share = max((WIDTH - first) // len(widths) - 2, 8)
        widths = [min(width, share) for width in widths]
    return [first, *widths]
