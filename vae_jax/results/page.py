"""report.html: one self-contained page on a run.

It is made only of files in the workdir (config.json, results.json, the pictures and explorer.npz),
so it can be made again from a copy of them.
"""

import base64
import struct
from pathlib import Path
from typing import NamedTuple

from vae_jax import config as settings
from vae_jax.config import Catalogue
from vae_jax.errors import UserError
from vae_jax.estimators import words
from vae_jax.results import captions, explorer, sweep_table
from vae_jax.workdir import files, ranking, record
from vae_jax.workdir.markup import SORT, document, tag


class Metric(NamedTuple):
    """A number of results.json as the page shows it."""

    name: str
    form: str  # format specification
    meaning: str


METRICS = {
    "nll": Metric(
        "NLL",
        ".2f",
        "bound on −log p(x), nats; ± standard error over examples. Lower is better",
    ),
    "bits_per_dim": Metric(
        "bits per dimension",
        ".4f",
        "the same in bits, per value of an example. Lower is better",
    ),
    "effective_samples": Metric(
        "effective samples",
        ".3g",
        "of the NLL's importance samples, median over examples: few mean a loose bound",
    ),
    "elbo": Metric(
        "ELBO",
        ".2f",
        "the looser bound on log p(x), nats: −(distortion + rate). Higher is better",
    ),
    "distortion": Metric(
        "distortion",
        ".2f",
        "−log p(x|z) at z ~ q(z|x), or at the code, nats: what reconstruction costs",
    ),
    "rate": Metric("rate", ".2f", "KL(q(z|x) ‖ p(z)), nats: what the code costs"),
    "mse": Metric(
        "squared error",
        ".5f",
        "of E[x|z] where z is the mean of q(z|x), or the code; mean over values",
    ),
    "active_units": Metric(
        "active units",
        "d",
        "latent units whose posterior mean varies (variance > 0.01)",
    ),
    "num_examples": Metric("examples", ",d", "in the mean"),
}
# In the headline.
KEY = ("nll", "bits_per_dim", "distortion", "rate", "mse", "active_units")
# Of a sweep's members, beside the metric that ranks them.
RANKED = ("elbo", "distortion", "rate", "mse", "active_units")
NATS = ("nll", "distortion", "rate")  # of KEY


def write(workdir: Path, catalogue: Catalogue, results: dict | None = None) -> Path:
    """Writes report.html and returns its path; the same files give the same page.

    Args:
      catalogue: with the parts of one's own that the run was trained with.
      results: what results.json is about to hold; by default what it holds.

    Raises:
      UserError: `workdir` holds no results yet.
    """
    stored = record.read_record(workdir)
    results = results or files.read_json(workdir / "results.json")
    if stored is None or results is None:
        raise UserError(
            f"{workdir} has no results to report on yet; train first, or correct --workdir"
        )
    members = results["members"]
    best = next((m for m in members if m["member"] == results["best_member"]), members[0])
    is_sweep = len(members) > 1
    folder = workdir / "members" / str(best["member"]) if is_sweep else workdir
    estimators = catalogue.parts["estimator"]
    kind = _kind(stored, results, catalogue)
    body = [_header(kind, stored, results, best)]
    if is_sweep:
        compared = captions.SWEEP | words.captions(estimators, of_members=True)
        body += [*_ranking(members), *_figures(workdir, compared)]
        body.append(tag("h2", f"The best: {ranking.named(best)}"))
    body += _numbers(best, results["eval"], heading=not is_sweep)
    body += _estimates(results.get("evaluation", []), members, estimators)
    of_model = captions.AUTOENCODER if best["test"]["rate"] is None else captions.MEMBER
    moved, script = _explorer(folder, stored, best, catalogue)
    figures = _figures(folder, of_model | words.captions(estimators, of_members=False))
    body += [*moved, *([tag("h2", "Pictures")] if script and figures else ()), *figures]
    body += _reproduce(stored, results, catalogue)
    path = workdir / "report.html"
    title = f"{kind} on {record.dataset_name(results['dataset'])}"
    style = explorer.CSS if script else ""
    script = (SORT if is_sweep else "") + script
    files.write_text(path, document(title, tag("main", *body), style=style, script=script))
    return path


# --- the headline


def _kind(stored: dict, results: dict, catalogue: Catalogue) -> str:
    """What was trained, in words."""
    num = len(results["members"])
    if num > 1:
        return f"Sweep of {num} models"
    model = catalogue.parts["model"][stored["config"]["model"]["name"]]
    return model.words or f"Model {model.name!r}"


def _header(kind: str, stored: dict, results: dict, best: dict) -> tuple:
    """What ran on which data, and the key numbers of the best member on test."""
    data = results["dataset"]
    is_subset = record.is_subset(data)
    lines = [tag("p", f"{_data(data)}. {_state(results)}")]
    if is_subset:
        warning = (
            "A SUBSET: the test examples are digits of MNIST's training set, so no number here "
            "is MNIST's."
        )
        lines.append(tag("p", warning, class_="alarm"))
    if not results["complete"]:
        epochs = f"{stored['config']['train']['num_epochs']:g}"
        lines.append(tag("p", f"Training is not complete: {epochs} epochs.", class_="alarm"))
    for name, reason in results["failed"].items():
        lines.append(tag("p", f"Not made: {name} ({reason}).", class_="alarm"))
    if len(results["members"]) > 1:
        chosen = f"The best by validation, {ranking.named(best)}:"
        lines.append(tag("p", chosen, class_="dim"))
    shown = [key for key in KEY if _is_key(key, best)]
    keys = [
        tag("li", tag("b", *_number(best, "test", key)), tag("span", _label(key, best)))
        for key in shown
    ]
    name = tag("span", record.dataset_name(data), class_="alarm" if is_subset else None)
    return tag("header", tag("h1", f"{kind} on ", name), *lines, tag("ul", *keys, class_="key"))


def _data(data: dict) -> str:
    counts = ", ".join(f"{data[f'num_{split}']:,} {split}" for split in ("train", "valid", "test"))
    shape = " × ".join(map(str, data["example_shape"]))
    prepared = f", {data['preparation']}" if data.get("preparation") else ""
    if data.get("stored_range") not in (None, [0, 255]):
        prepared += ", {:g} to {:g} as 0 to 1".format(*data["stored_range"])
    return f"{counts} examples of {shape} values{prepared}; binarization {data['binarization']}"


def _state(results: dict) -> str:
    """How long the training was."""
    state = f"Epoch {results['epoch']:.4g}, {results['step']:,} steps"
    if results["wall_time_s"]:
        minutes, seconds = divmod(round(results["wall_time_s"]), 60)
        state += f" in {minutes} min {seconds} s" if minutes else f" in {seconds} s"
        state += f" ({results['examples_per_s']:,.0f} examples/s)"
    return state + "."


def _is_key(metric: str, member: dict) -> bool:
    """Whether the headline shows a metric: the squared error only where there is no NLL."""
    numbers = member["test"]
    if metric == "mse" and numbers["nll"] is not None:
        return False
    return numbers.get(metric) is not None


def _label(metric: str, member: dict) -> str:
    """The words below a number of the headline."""
    if metric == "active_units" and member["test"].get("layers"):
        layers = member["test"]["layers"].values()
        return f"active units, {' + '.join(str(layer[metric]) for layer in layers)}"
    if metric == "active_units":
        return f"active of {member['hypers'].get('latent_dim', '?')} units"
    return f"test {METRICS[metric].name}" + (", nats" if metric in NATS else "")


def _number(member: dict, split: str, metric: str) -> tuple:
    """The content of a cell: the number with its error where that is known, a dash for None."""
    numbers = member.get(split) or {}
    value = numbers.get(metric)
    if value is None:
        return ("–",)
    text = f"{value:{METRICS[metric].form}}"
    if metric == "nll" and numbers.get("nll_stderr") is not None:
        return text, tag("small", f" ± {numbers['nll_stderr']:.2f}")
    return (text,)


# --- the tables


def _numbers(member: dict, evaluation: dict, heading: bool) -> list[tuple]:
    """The table of all metrics on valid and test, and what each means."""
    splits = ("valid", "test")
    known = [
        key
        for key in METRICS
        if any((member.get(split) or {}).get(key) is not None for split in splits)
    ]
    rows = []
    for key in known:
        name = tag("th", METRICS[key].name, scope="row")
        cells = [tag("td", *_number(member, split, key)) for split in splits]
        rows.append(tag("tr", name, *cells, tag("td", METRICS[key].meaning, class_="means")))
    rows += _of_layers(member, splits)
    titles = tag("tr", tag("th"), *(tag("th", s) for s in splits), tag("th", "", class_="means"))
    table = tag("table", tag("thead", titles), tag("tbody", *rows), class_="numbers")
    note = f"Parameters: {member.get('params', evaluation['params'])}; "
    if "nll" in known:
        note += f"{evaluation['nll_samples']:,} importance samples for each NLL; "
    note += f"noise of seed {evaluation['seed']}. Test data was used for nothing but this."
    return [
        *([tag("h2", "Numbers")] if heading else ()),
        tag("div", table, class_="scroll"),
        tag("p", note, class_="dim"),
    ]


def _of_layers(member: dict, splits: tuple[str, ...]) -> list[tuple]:
    """Rows of the rate and the active units of every stochastic layer, if there are several."""
    found = [(member.get(split) or {}).get("layers") or {} for split in splits]
    rows = []
    for layer in found[-1]:
        for key in ("rate", "active_units"):
            cells = [_number({"": layers.get(layer, {})}, "", key) for layers in found]
            name = tag("th", f"{METRICS[key].name} of {layer}", scope="row")
            means = f"of the stochastic layer {layer}; z1 is nearest to x"
            cells = [tag("td", *cell) for cell in cells]
            rows.append(tag("tr", name, *cells, tag("td", means, class_="means")))
    return rows


def _estimates(evaluation: list[dict], members: list[dict], estimators: dict) -> list[tuple]:
    """What the estimators found: a table for each member that they were run for."""
    parts = []
    for entry in evaluation:
        title = "Estimates"
        if len(members) > 1:
            member = next(m for m in members if m["member"] == entry["member"])
            title += f", {ranking.named(member)}"
        parts.append(tag("h2", title))
        for warning in words.warnings(entry, estimators):
            parts.append(tag("p", warning, class_="alarm"))
        rows = [_estimate_row(*row) for row in words.rows(entry, estimators)]
        table = tag("table", tag("tbody", *rows), class_="numbers")
        parts.append(tag("div", table, class_="scroll"))
        note = (
            f"Test examples of bounds: {len(entry['examples'])}, chosen by eval.seed "
            f"{entry['seed']}; nats; ± is the standard error over examples."
        )
        parts.append(tag("p", note, class_="dim"))
    return parts


def _estimate_row(name: str, numbers: str, meaning: str) -> tuple:
    return tag(
        "tr",
        tag("th", name, scope="row"),
        tag("td", numbers, class_="words"),
        tag("td", meaning, class_="means"),
    )


def _ranking(members: list[dict]) -> list[tuple]:
    """A row for each member: the best first, then those without a number or diverged."""
    metric, ranked = ranking.ranking(members)
    fields = list(dict.fromkeys(field for member in members for field in member["swept"]))
    shown = [
        key
        for key in RANKED
        if key != metric and any(member["test"].get(key) is not None for member in members)
    ]
    columns = [("valid", metric), ("test", metric), *(("test", key) for key in shown)]
    metrics = [f"{split} {METRICS[key].name}" for split, key in columns]
    head = tag("tr", *map(_sort_button, ["member", *map(ranking.short, fields), *metrics]))
    rows = []
    for member in [*ranked, *(member for member in members if member not in ranked)]:
        is_best = bool(ranked) and member is ranked[0]
        cells = _member_cells(member, fields, columns)
        rows.append(tag("tr", *cells, class_="best" if is_best else None))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="sortable")
    lines = sweep_table.standing(metric, ranked) if ranked else []
    about = (
        f"Chosen and ordered by validation {METRICS[metric].name}; a click on a name sorts by it."
    )
    return [
        tag("h2", "Members"),
        *(tag("p", line.lstrip("* ")) for line in lines),
        *_diverged(members),
        tag("p", about, class_="dim"),
        tag("div", table, class_="scroll"),
    ]


def _sort_button(name: str) -> tuple:
    return tag("th", tag("button", name, type="button"), scope="col")


def _member_cells(member: dict, fields: list[str], columns: list[tuple[str, str]]) -> list[tuple]:
    """The number of a member, its swept values, and its metrics or where it diverged.

    Args:
      columns: (split, metric).
    """
    cells = [_cell(member["member"], member["member"])]
    for field in fields:
        value = ranking.value(member, field)
        cells.append(_cell(value if ranking.numeric([value]) else None, ranking.show(value)))
    if member["diverged_at"] is not None:
        text = f"diverged at step {member['diverged_at']:,}"
        return [*cells, _cell(None, text, class_="alarm"), *[_cell(None, "")] * len(columns[1:])]
    for split, metric in columns:
        value = (member[split] or {}).get(metric)
        cells.append(_cell(value, *_number(member, split, metric)))
    return cells


def _cell(value, *content, class_: str | None = None) -> tuple:
    """A cell that sorts by `value`; None: last."""
    return tag("td", *content, data_value="" if value is None else value, class_=class_)


def _diverged(members: list[dict]) -> list[tuple]:
    """A warning that names the members that diverged; [] if none did."""
    diverged = [member for member in members if member["diverged_at"] is not None]
    if not diverged:
        return []
    if len(diverged) <= 4:
        names = "; ".join(f"{ranking.named(m)} at step {m['diverged_at']:,}" for m in diverged)
    else:
        numbers = ", ".join(str(member["member"]) for member in diverged)
        names = f"{len(diverged)} members: {numbers}"
    return [tag("p", f"Diverged: {names}.", class_="alarm")]


# --- the pictures


def _explorer(
    folder: Path, stored: dict, member: dict, catalogue: Catalogue
) -> tuple[list[tuple], str]:
    """(the elements of the latent explorer of a member, their script); [] and "" without one."""
    if not (folder / explorer.FILE).exists():
        return [], ""
    config = record.read_config(stored, catalogue)
    return explorer.elements(folder, settings.single(config, catalogue, member["swept"]), catalogue)


def _figures(folder: Path, captions_of: dict[str, str]) -> list[tuple]:
    """The pictures {file: caption} that are in `folder`."""
    figures = []
    for name, caption in captions_of.items():
        # Of a model with several layers there is one picture of each: latents_z1.png, ...
        layers = sorted(folder.glob(f"{Path(name).stem}_z[0-9]*.png"))
        there = [folder / name] if (folder / name).exists() else []
        figures += [_figure(path, caption) for path in [*there, *layers]]
    return figures


def _figure(path: Path, caption: str) -> tuple:
    _, bold, rest = caption.split("**")
    png = path.read_bytes()
    if not (png.startswith(b"\x89PNG") and b"IEND" in png[-12:]):
        raise UserError(f"{path} is damaged: --mode=evaluate draws it anew")
    width, height = _shown_size(png)
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    alt = f"{bold.rstrip('.')} ({path.name})"
    image = tag("img", src=source, width=width, height=height, alt=alt)
    return tag("figure", image, tag("figcaption", tag("b", bold), rest))


def _shown_size(png: bytes) -> tuple[int, int]:
    """The (width, height) of a PNG file in pixels of the page, 100 to an inch."""
    width, height = struct.unpack(">II", png[16:24])
    start = png.find(b"pHYs")
    if start < 0:
        return width, height
    per_metre = struct.unpack(">I", png[start + 4 : start + 8])[0]
    scale = max(1.0, per_metre * 0.0254 / 100)
    return round(width / scale), round(height / scale)


# --- how to run it again


def _reproduce(stored: dict, results: dict, catalogue: Catalogue) -> list[tuple]:
    """The command, what it ran on, and the contents of config.json and results.json."""
    parts = [tag("h2", "To reproduce it"), *_commands(stored, results, catalogue)]
    if stored["init_from"]:
        source = stored["init_from"]["workdir"]
        parts.append(tag("p", f"It started from the parameters of {source}."))
    versions = ", ".join(f"{name} {version}" for name, version in stored["versions"].items())
    devices = stored["devices"]
    where = f"{devices['count']} × {devices['kind']}, {devices['cpu_threads']} CPU threads"
    data = f"data fingerprint {results['dataset']['fingerprint']}"
    parts.append(tag("p", f"{versions}; {where}; {data}.", class_="dim"))
    if len(results["members"]) > 1:
        results = results | {"members": list(map(_without_units, results["members"]))}
    results = {name: value for name, value in results.items() if name != "files"}
    for name, value in (("config.json", stored["config"]), ("results.json", results)):
        content = tag("pre", files.pretty(value))
        parts.append(tag("details", tag("summary", name), content))
    return parts


def _commands(stored: dict, results: dict, catalogue: Catalogue) -> list[tuple]:
    """The command of the run, and that of a sweep's best member alone."""
    if stored["own"]:
        own = " and the ".join(name.replace(":", " ") for name in stored["own"])
        return [tag("p", f"The {own} came as Python objects, so no command repeats this run.")]
    command = settings.as_command(record.read_config(stored, catalogue), catalogue)
    parts = [tag("pre", command)]
    if len(results["members"]) > 1 and results["best_command"]:
        parts.append(tag("p", "The best member alone:"))
        parts.append(tag("pre", results["best_command"]))
    return parts


def _without_units(member: dict) -> dict:
    """A member's entry without the lists over latent units, which results.json holds."""
    short = {}
    for split in ("valid", "test"):
        numbers = member.get(split) or {}
        short[split] = {name: value for name, value in numbers.items() if "unit_" not in name}
    return member | short
