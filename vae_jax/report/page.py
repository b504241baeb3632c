"""report.html: one page that needs nothing else, made of what the workdir holds and of nothing besides, so that it can
be made anew from a copy of these files: config.json, results.json and the pictures."""

import base64
import struct
from pathlib import Path

from vae_jax import config as settings
from vae_jax.errors import UserError
from vae_jax.estimators import words
from vae_jax.report import captions, sweep_table
from vae_jax.report.markup import SORT, document, tag
from vae_jax.workdir import files, ranking, record

MODELS = {"vae": "Variational autoencoder", "ae": "Autoencoder"}
# A metric's name, its digits, and what it means.
NUMBERS = {
    "nll": ("NLL", ".2f", "bound on −log p(x), nats; ± standard error over examples. Lower is better"),
    "bits_per_dim": ("bits per dimension", ".4f", "the same in bits, per value of an example. Lower is better"),
    "effective_samples": (
        "effective samples",
        ".3g",
        "of the NLL's importance samples, median over examples: few mean a loose bound",
    ),
    "elbo": ("ELBO", ".2f", "the looser bound on log p(x), nats: −(distortion + rate). Higher is better"),
    "distortion": ("distortion", ".2f", "−log p(x|z) at z ~ q(z|x), or at the code, nats: what reconstruction costs"),
    "rate": ("rate", ".2f", "KL(q(z|x) ‖ p(z)), nats: what the code costs"),
    "mse": ("squared error", ".5f", "of E[x|z] where z is the mean of q(z|x), or the code; mean over values"),
    "active_units": ("active units", "d", "latent units whose posterior mean varies (variance > 0.01)"),
    "num_examples": ("examples", ",d", "in the mean"),
}
KEY = ("nll", "bits_per_dim", "distortion", "rate", "mse", "active_units")
RANKED = ("elbo", "distortion", "rate", "mse", "active_units")  # of a sweep's members, beside the NLL


def write(workdir: Path) -> Path:
    """Writes report.html and returns its path; the same files give the same page.

    Raises:
      UserError: `workdir` holds no results yet.
    """
    stored, results = record.read_record(workdir), files.read_json(workdir / "results.json")
    if stored is None or results is None:
        raise UserError(f"{workdir} has no results to report on yet; train first, or correct --workdir")
    members = results["members"]
    best = next((m for m in members if m["member"] == results["best_member"]), members[0])
    folder = workdir if len(members) == 1 else workdir / "members" / str(best["member"])
    title, head = _head(stored, results, best)
    body = [head]
    if len(members) > 1:
        body += [*_ranking(members), *_figures(workdir, captions.SWEEP)]
        body.append(tag("h2", f"The best: {ranking.named(best)}"))
    body += _numbers(best, results["eval"], heading=len(members) == 1)
    body += _estimates(results.get("evaluation", []), members)
    body += _figures(folder, captions.AUTOENCODER if best["test"]["rate"] is None else captions.MEMBER)
    body += _reproduce(stored, results)
    path = workdir / "report.html"
    files.write_text(path, document(title, tag("main", *body), script=SORT if len(members) > 1 else ""))
    return path


def _head(stored: dict, results: dict, best: dict) -> tuple[str, tuple]:
    """(the page's title, its first lines): what ran on which data, and the numbers of the best member's test."""
    data, members, config = results["dataset"], results["members"], stored["config"]
    kind = "Model of one's own" if "model" in stored["own"] else MODELS.get(config["model"]["name"], "Model")
    kind = kind if len(members) == 1 else f"Sweep of {len(members)} models"
    name, subset = record.dataset_name(data), record.is_subset(data)
    counts = ", ".join(f"{data[f'num_{split}']:,} {split}" for split in ("train", "valid", "test"))
    shape = " × ".join(map(str, data["example_shape"]))
    prepared = f", {data['preparation']}" if data.get("preparation") else ""
    about = f"{counts} examples of {shape} values{prepared}; binarization {data['binarization']}. {_state(results)}"
    lines = [tag("p", about)]
    if subset:
        warning = "A SUBSET: the test examples are digits of MNIST's training set, so no number here is MNIST's."
        lines.append(tag("p", warning, class_="alarm"))
    if not results["complete"]:
        lines.append(tag("p", f"Training is not complete: {config['train']['num_epochs']:g} epochs.", class_="alarm"))
    keys = [tag("li", tag("b", *_number(best, "test", key)), tag("span", _label(key, best))) for key in KEY]
    missing = lambda key: best["test"].get(key) is None or (key == "mse" and best["test"]["nll"] is not None)  # noqa: E731
    shown = [item for key, item in zip(KEY, keys, strict=True) if not missing(key)]
    if len(members) > 1:
        lines.append(tag("p", f"The best by validation, {ranking.named(best)}:", class_="dim"))
    headline = tag("h1", f"{kind} on ", tag("span", name, class_="alarm" if subset else None))
    return f"{kind} on {name}", tag("header", headline, *lines, tag("ul", *shown, class_="key"))


def _state(results: dict) -> str:
    state = f"Epoch {results['epoch']:.4g}, {results['step']:,} steps"
    if results["wall_time_s"]:
        minutes, seconds = divmod(round(results["wall_time_s"]), 60)
        state += f" in {minutes} min {seconds} s" if minutes else f" in {seconds} s"
        state += f" ({results['examples_per_s']:,.0f} examples/s)"
    return state + "."


def _label(metric: str, member: dict) -> str:
    """What stands below a number of the headline."""
    if metric == "active_units":
        return f"active of {member['hypers'].get('latent_dim', '?')} units"
    return f"test {NUMBERS[metric][0]}" + (", nats" if metric in ("nll", "distortion", "rate") else "")


def _number(member: dict, split: str, metric: str) -> tuple:
    """The parts of a number: with its error where that is known, a dash where it is not known itself."""
    numbers = member.get(split) or {}
    value = numbers.get(metric)
    if value is None:
        return ("–",)
    text = f"{value:{NUMBERS[metric][1]}}"
    if metric == "nll" and numbers.get("nll_stderr") is not None:
        return text, tag("small", f" ± {numbers['nll_stderr']:.2f}")
    return (text,)


def _numbers(member: dict, evaluation: dict, heading: bool) -> list[tuple]:
    """The table of every metric on valid and test, and what each means."""
    known = [key for key in NUMBERS if any((member.get(s) or {}).get(key) is not None for s in ("valid", "test"))]
    rows = [
        tag(
            "tr",
            tag("th", NUMBERS[key][0], scope="row"),
            *(tag("td", *_number(member, split, key)) for split in ("valid", "test")),
            tag("td", NUMBERS[key][2], class_="means"),
        )
        for key in known
    ]
    names = tag("tr", tag("th"), tag("th", "valid"), tag("th", "test"), tag("th", "", class_="means"))
    note = f"Parameters: {member.get('params', evaluation['params'])}; "
    note += f"{evaluation['nll_samples']:,} importance samples for each NLL; " if "nll" in known else ""
    note += f"noise of seed {evaluation['seed']}. Test data was used for nothing but this."
    table = tag("table", tag("thead", names), tag("tbody", *rows), class_="numbers")
    title = [tag("h2", "Numbers")] if heading else []
    return [*title, tag("div", table, class_="scroll"), tag("p", note, class_="dim")]


def _estimates(evaluation: list[dict], members: list[dict]) -> list[tuple]:
    """What the estimators found, a table for each member they were for."""
    parts = []
    for entry in evaluation:
        rows = [
            tag(
                "tr",
                tag("th", name, scope="row"),
                tag("td", numbers, class_="words"),
                tag("td", meaning, class_="means"),
            )
            for name, numbers, meaning in words.rows(entry)
        ]
        member = next(m for m in members if m["member"] == entry["member"])
        who = f", {ranking.named(member)}" if len(members) > 1 else ""
        parts.append(tag("h2", f"Estimates{who}"))
        parts += [tag("p", warning, class_="alarm") for warning in words.warnings(entry)]
        parts.append(tag("div", tag("table", tag("tbody", *rows), class_="numbers"), class_="scroll"))
        note = f"Test examples of bounds: {len(entry['examples'])}, chosen by eval.seed {entry['seed']}; nats; "
        parts.append(tag("p", f"{note}± is the standard error over examples.", class_="dim"))
    return parts


def _ranking(members: list[dict]) -> list[tuple]:
    """Every member in a row, the best by validation first, those without a number last, diverged ones named."""
    metric, ranked = ranking.ranking(members)
    fields = list(dict.fromkeys(field for member in members for field in member["swept"]))
    shown = [key for key in RANKED if key != metric and any(m["test"].get(key) is not None for m in members)]
    columns = [("valid", metric), ("test", metric), *(("test", key) for key in shown)]
    titles = ["member", *map(ranking.short, fields), *(f"{split} {NUMBERS[key][0]}" for split, key in columns)]
    head = tag("tr", *(tag("th", tag("button", name, type="button"), scope="col") for name in titles))
    left = [member for member in members if member not in ranked]
    rows = []
    for member in [*ranked, *left]:
        values = [ranking.value(member, field) for field in fields]
        cells = [_cell(member["member"], member["member"])]
        cells += [_cell(value if ranking.numeric([value]) else None, ranking.show(value)) for value in values]
        if member["diverged_at"] is not None:
            text = f"diverged at step {member['diverged_at']:,}"
            cells += [_cell(None, text, class_="alarm"), *(_cell(None, "") for _ in columns[1:])]
        else:
            cells += [_cell((member[s] or {}).get(key), *_number(member, s, key)) for s, key in columns]
        rows.append(tag("tr", *cells, class_="best" if ranked and member is ranked[0] else None))
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="sortable")
    lines = [tag("p", line.lstrip("* ")) for line in (sweep_table.standing(metric, ranked) if ranked else ())]
    lost = [m for m in members if m["diverged_at"] is not None]
    names = [f"{ranking.named(m)} at step {m['diverged_at']:,}" for m in lost]
    names = "; ".join(names) if len(lost) <= 4 else f"{len(lost)} members: {', '.join(str(m['member']) for m in lost)}"
    warning = [tag("p", f"Diverged: {names}.", class_="alarm")] if lost else []
    about = f"Chosen and ordered by validation {NUMBERS[metric][0]}; a click on a name sorts by it."
    about = tag("p", about, class_="dim")
    return [tag("h2", "Members"), *lines, *warning, about, tag("div", table, class_="scroll")]


def _cell(value, *text, class_: str | None = None) -> tuple:
    return tag("td", *text, data_value="" if value is None else value, class_=class_)


def _figures(folder: Path, captions: dict[str, str]) -> list[tuple]:
    """The pictures that are there, each with its caption."""
    found = []
    for name, caption in captions.items():
        if (folder / name).exists():
            _, bold, rest = caption.split("**")
            png = (folder / name).read_bytes()
            source, (width, height) = f"data:image/png;base64,{base64.b64encode(png).decode()}", _size(png)
            image = tag("img", src=source, width=width, height=height, alt=f"{bold.rstrip('.')} ({name})")
            found.append(tag("figure", image, tag("figcaption", tag("b", bold), rest)))
    return found


def _size(png: bytes) -> tuple[int, int]:
    """The width and height to show a picture at: 100 of its dots per inch to a pixel of the page."""
    width, height = struct.unpack(">II", png[16:24])
    where = png.find(b"pHYs")  # pixels per metre
    scale = 1.0 if where < 0 else max(1.0, struct.unpack(">I", png[where + 4 : where + 8])[0] * 0.0254 / 100)
    return round(width / scale), round(height / scale)


def _reproduce(stored: dict, results: dict) -> list[tuple]:
    """The command, what it ran on, and everything that was set and found."""
    parts = [tag("h2", "To reproduce it")]
    if stored["own"]:
        text = f"The {' and the '.join(stored['own'])} came as Python objects, so no command repeats this run."
        parts.append(tag("p", text))
    else:
        parts.append(tag("pre", settings.as_command(record.read_config(stored))))
        if len(results["members"]) > 1 and results["best_command"]:
            parts += [tag("p", "The best member alone:"), tag("pre", results["best_command"])]
    if stored["init_from"]:
        parts.append(tag("p", f"It started from the parameters of {stored['init_from']['workdir']}."))
    versions = ", ".join(f"{name} {version}" for name, version in stored["versions"].items())
    devices = stored["devices"]
    where = f"{devices['count']} × {devices['kind']}, {devices['cpu_threads']} CPU threads"
    parts.append(tag("p", f"{versions}; {where}; data fingerprint {results['dataset']['fingerprint']}.", class_="dim"))
    many = len(results["members"]) > 1  # whose units are in results.json
    numbers = results | {"members": [_without_units(m) if many else m for m in results["members"]]}
    for name, value in (("config.json", stored["config"]), ("results.json", numbers)):
        parts.append(tag("details", tag("summary", name), tag("pre", files.pretty(value))))
    return parts


def _without_units(member: dict) -> dict:
    splits = {split: member.get(split) or {} for split in ("valid", "test")}
    short = {split: {k: v for k, v in numbers.items() if "unit_" not in k} for split, numbers in splits.items()}
    return member | short
