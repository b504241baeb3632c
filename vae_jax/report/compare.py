"""Finished runs side by side: where their configs differ, and their test numbers with paired errors."""

import math
import os
import re
import textwrap
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax.errors import UserError
from vae_jax.workdir import files, record

WIDTH = 100
METRICS = ("nll", "nll_stderr", "elbo", "distortion", "rate", "mse", "active_units", "bits_per_dim", "nll_samples")
DATA = "{num_test:,} test examples of {name} ({source}), binarization {binarization}"


class Entry(NamedTuple):
    """One of the compared runs: a run of its own, or a member of a sweep."""

    path: Path
    notes: list[str]  # which member it is, and what is wrong with it
    config: dict  # {"section.field": value}, as this member had it
    dataset: dict
    numbers: dict  # of the test split
    examples: dict | None  # {"log_p": [num_test], "elbo": [num_test]}


def compare(text: str) -> str:
    """The report on the runs that `text`, the value of --workdir, names; a UserError where it names none."""
    entries = {chr(ord("A") + i): read(*run) for i, run in enumerate(split(text))}
    legend = [line for name, e in entries.items() for line in (f"{name}  {e.path}", *wrapped(e.notes, "   "))]
    rows = [[k, *map(show, values)] for k, values in differences([e.config for e in entries.values()]).items()]
    configs = table([["config, where it differs", *entries], *rows], "<") if rows else ["their configs do not differ"]
    return "\n\n".join("\n".join(part) for part in (legend, configs, metrics_table(entries), paired_table(entries)))


def split(text: str) -> list[tuple[Path, int | None]]:
    """(workdir, member) of the runs named: the longest stretches that are runs, for names hold commas themselves."""
    pieces, runs = [piece for piece in text.split(",") if piece.strip()], []
    while pieces:
        found = ((n, run) for n in range(len(pieces), 0, -1) if (run := find_run(",".join(pieces[:n]).strip())))
        length, run = next(found, (0, None))
        if run is None:
            raise UserError(f"{pieces[0].strip()} holds no run (no config.json); --workdir=A,B takes finished runs")
        runs, pieces = [*runs, run], pieces[length:]
    if not 2 <= len(runs) <= 26:
        raise UserError(f"--mode=compare takes 2 to 26 runs, as --workdir=A,B; {text!r} names {len(runs)}")
    return runs


def find_run(name: str) -> tuple[Path, int | None] | None:
    """The run in the folder `name`; for a `name` like A:3 that is no folder, member 3 of the one in A."""
    # os.path, because pathlib raises for what is too long to be a name, as several names joined may be.
    if os.path.isfile(os.path.join(name, "config.json")):
        return Path(name), None
    match = re.fullmatch(r"(.+):(\d+)", name)
    if match and not os.path.exists(name) and os.path.isfile(os.path.join(match[1], "config.json")):
        return Path(match[1]), int(match[2])
    return None


def read(path: Path, member: int | None) -> Entry:
    stored, results = record.read_record(path), files.read_json(path / "results.json")
    if results is None:
        raise UserError(f"{path} has not been evaluated; train it to its end, or --mode=evaluate --workdir={path}")
    number, chosen = choose_member(path, results, member)
    notes, swept, numbers = [], chosen.get("swept", {}), chosen.get("test") or {}
    if len(results["members"]) > 1 or swept:
        which = f"the best of {len(results['members'])} by validation" if member is None else "as named"
        notes.append(f"member {number}, {which}: {', '.join(f'{k}={show(v)}' for k, v in swept.items())}")
    notes += [] if results.get("complete") else [f"INCOMPLETE: numbers of step {results['step']:,}, before the end"]
    notes += [] if chosen.get("diverged_at") is None else [f"DIVERGED at step {chosen['diverged_at']:,}"]
    config = effective_config(stored["config"], swept, results["eval"])
    examples = read_examples(path / "examples.npz", number, numbers)
    return Entry(path, notes, config, results["dataset"], numbers, examples)


def choose_member(path: Path, results: dict, member: int | None) -> tuple[int, dict]:
    """(its number, its results) of the member named, or else of the best."""
    members = {part.get("member", i): part for i, part in enumerate(results["members"])}
    if member is None:
        member = next(iter(members)) if len(members) == 1 else results.get("best_member")
    if member not in members:
        missing = "no best member" if member is None else f"no member {member}"
        raise UserError(f"{path} has {missing}; name one of {min(members)} to {max(members)}, as {path}:N")
    return member, members[member]


def effective_config(config: dict, swept: dict, evaluation: dict) -> dict:
    """{"section.field": value} as the member had it; the results say what they were evaluated with."""
    flat = {f"{s}.{f}": v for s, fields in config.items() if s != "sweep" for f, v in fields.items()} | swept
    if not flat.get("train.schedule_epochs", True):
        flat["train.schedule_epochs"] = flat["train.num_epochs"]
    flat["sweep.shared_data"] = config.get("sweep", {}).get("shared_data", True)
    return flat | {f"eval.{name}": value for name, value in evaluation.items()}


def read_examples(path: Path, member: int, numbers: dict) -> dict | None:
    """The test examples' numbers, or None where there are none of which `numbers` are the means."""
    means = {"log_p": -(numbers.get("nll") or math.nan), "elbo": numbers.get("elbo") or math.nan}
    try:
        with np.load(path) as file:
            examples = {k: file[f"{k}/{member}"].astype(np.float64) for k in means if f"{k}/{member}" in file}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}); --mode=evaluate writes it again") from error
    fits = [examples[k].mean() for k in examples if examples[k].shape == (numbers.get("num_examples"),)]
    return examples if len(fits) == 2 and np.allclose(fits, [*means.values()], rtol=1e-4, atol=1e-3) else None


def differences(configs: list[dict]) -> dict[str, list]:
    """{"section.field": its value in each config} of the fields that are not the same in all; None: not there."""
    rows = {name: [config.get(name) for config in configs] for name in sorted(set().union(*configs))}
    return {name: values for name, values in rows.items() if any(v != values[0] for v in values)}


def paired_difference(ours: np.ndarray, first: np.ndarray) -> tuple[float, float]:
    """(mean, its standard error) of ours - first over examples: models share the hard ones, so it is a small error."""
    n, difference = len(ours), ours - first
    return float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(n)) if n > 1 else math.inf


def verdict(difference: float, error: float, lower_is_better: bool) -> str:
    sides = ("better", "worse") if lower_is_better else ("worse", "better")
    return sides[difference > 0] if abs(difference) > 2 * error else "no difference beyond 2 standard errors"


def obstacles(first: Entry, other: Entry) -> tuple[list[str], bool]:
    """Why the two cannot be paired (none: they can), and whether even their numbers must not be compared."""
    a, b = (e.dataset | {k: e.config.get(k) for k in ("eval.seed", "model.likelihood")} for e in (first, other))
    both = lambda *keys: "; ".join(f"{k} {show(a[k])} and {show(b[k])}" for k in keys if a[k] != b[k])  # noqa: E731
    shape, cut = both("name", "num_test", "example_shape"), both("num_train", "num_valid")
    lesser, grave = [], []
    if both("fingerprint", "num_test"):
        # The fingerprint is of all splits: with another cut between train and valid the test set may be the same.
        (lesser if cut and not shape else grave).append(f"other data ({shape or cut or both('source', 'fingerprint')})")
    if both("binarization"):
        grave.append(f"other binarization ({both('binarization')})")
    elif a["binarization"] == "dynamic" and both("eval.seed"):
        lesser.append(f"other noise in the binarization of the test images ({both('eval.seed')})")
    if both("model.likelihood") and None in (first.numbers.get("bits_per_dim"), other.numbers.get("bits_per_dim")):
        grave.append(f"densities are not probabilities ({both('model.likelihood')})")
    missing = "has no examples.npz that fits its results.json (--mode=evaluate writes it)"
    for entry in (first, other):
        if entry.examples is None:
            plain = entry.config.get("model.name") == "ae"
            lesser.append(f"{entry.path} {'is of a plain autoencoder, without NLL or ELBO' if plain else missing}")
    return grave + lesser, bool(grave)


def show(value) -> str:
    return "unset" if value is None else str(value) or "''"


def wrapped(lines: list[str], indent: str) -> list[str]:
    wrap = textwrap.TextWrapper(WIDTH, indent, f"{indent}  ", break_long_words=False, break_on_hyphens=False)
    return [part for line in lines for part in wrap.wrap(line)]


def table(rows: list[list[str]], align: str):
    """The lines of cells in columns. Where they would be wider than the page, long cells go on in the next lines."""
    first, *widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if first + sum(widths) + 2 * len(widths) > WIDTH:
        widths = [min(width, max((WIDTH - first) // len(widths) - 2, 8)) for width in widths]
    for name, *cells in rows:
        for i in range(max(math.ceil(len(cell) / width) for cell, width in zip(cells, widths, strict=True))):
            parts = [f"{c[i * w : (i + 1) * w]:{align}{w}}" for c, w in zip(cells, widths, strict=True)]
            yield "  ".join([f"{'' if i else name:<{first}}", *parts]).rstrip()


def metrics_table(entries: dict[str, Entry]) -> list[str]:
    """The numbers under their names in results.json, and what they are of."""
    rows, data = [["test (nats per example)", *entries]], {}
    for key in METRICS:
        values = [entry.numbers.get(key) for entry in entries.values()]
        form = {"bits_per_dim": ".4f", "mse": ".4f", "active_units": ",d", "nll_samples": ",d"}.get(key, ".2f")
        rows.append([key, *("-" if v is None else f"{v:{form}}" for v in values)])
    for name, entry in entries.items():
        # A subset is never called by the name of the whole.
        subset = "a SUBSET, " if (entry.dataset["name"], entry.dataset["source"]) == ("mnist", "embedded") else ""
        data.setdefault(subset + DATA.format_map(entry.dataset), []).append(name)
    notes = [f"{', '.join(names)}: {text}" for text, names in data.items()]
    if len({entry.numbers.get("nll_samples") for entry in entries.values()} - {None}) > 1:
        notes.append("note: nll_samples differ; a bound with more samples is tighter, its nll lower (not so the elbo)")
    return [*table(rows, ">"), *wrapped(notes, "")]


def paired_table(entries: dict[str, Entry]) -> list[str]:
    """The differences to the first, or why there are none."""
    (a, first), *others = entries.items()
    rows, problems = [[f"paired differences to {a}", "", "+- stderr", "over examples; better: nll < 0, elbo > 0"]], []
    for b, other in others:
        reasons, incomparable = obstacles(first, other)
        problems += [f"{b} - {a} not paired: {'; '.join(reasons)}"] if reasons else []
        problems += [f"WARNING: the numbers of {a} and {b} must not be compared at all"] if incomparable else []
        for label, key, sign in (("nll", "log_p", -1), ("elbo", "elbo", 1)) if not reasons else ():
            mean, error = paired_difference(sign * other.examples[key], sign * first.examples[key])
            rows.append([f"  {b} - {a}  {label}", f"{mean:+.3f}", f"+- {error:.3f}", verdict(mean, error, sign < 0)])
    return [*(table(rows, "<") if rows[1:] else []), *wrapped(problems, "")]
