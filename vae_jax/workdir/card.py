"""What a run and its results look like in a notebook: HTML without scripts or style sheets."""

import base64
import io
from pathlib import Path

from vae_jax.workdir import ranking, record
from vae_jax.workdir.markup import render, tag

# Of results.json: title, format.
METRICS = {
    "nll": ("NLL", ".2f"),
    "elbo": ("ELBO", ".2f"),
    "distortion": ("distortion", ".2f"),
    "rate": ("rate", ".2f"),
    "mse": ("squared error", ".4f"),
    "active_units": ("active units", "d"),
}
SPLITS = ("valid", "test")
MOST_ROWS = 20  # of a sweep's members
PICTURES = ("samples.png", "reconstructions.png")  # the first that is there
LEFT = "text-align: left"
WIDTH = 420  # pixels of the picture


def of_results(results: dict) -> str:
    """results.json as HTML: the data, the numbers of a run, or of the members of a sweep."""
    members = results.get("members", [])
    if len(members) > 1:
        table = _table_of_members(members)
    else:
        table = _table_of_splits(members[0]) if members else None
    return render(tag("div", tag("p", *_about(results)), table))


def of_run(title: str, settings: dict[str, str], entry: dict | None, folder: Path) -> str:
    """A trained model as HTML: what it is, its numbers, a picture of it.

    Args:
      settings: {what: its values in words}, a line each.
      entry: the member's in results.json, None before the first evaluation.
      folder: of its pictures.
    """
    lines = [
        tag("tr", tag("th", what, style=LEFT), tag("td", words, style=LEFT))
        for what, words in settings.items()
    ]
    numbers = tag("p", "not evaluated yet") if entry is None else _table_of_splits(entry)
    about = tag("table", tag("tbody", *lines))
    return render(tag("div", tag("p", tag("b", title)), about, numbers, _picture(folder)))


def table(titles: list[str], rows: list[list], best: int | None = None) -> tuple:
    """An element with a row for each list of cells, each text or an element; row `best` is bold."""
    head = tag("thead", tag("tr", *(tag("th", title) for title in titles)))
    body = []
    for i, row in enumerate(rows):
        cells = [tag("td", tag("b", cell) if i == best else cell) for cell in row]
        body.append(tag("tr", *cells))
    return tag("table", head, tag("tbody", *body))


def _about(results: dict) -> list:
    data = results.get("dataset")
    if not data:
        return []
    counts = ", ".join(f"{data[f'num_{split}']:,} {split}" for split in ("train", *SPLITS))
    state = "" if results.get("complete", True) else "; training is not complete"
    return [tag("b", record.dataset_name(data)), f": {counts} examples{state}"]


def _table_of_splits(entry: dict) -> tuple:
    """A row for each split, a column for each number that there is."""
    known = [name for name in METRICS if any(_has(entry, split, name) for split in SPLITS)]
    rows = [[split, *(_number(entry, split, name) for name in known)] for split in SPLITS]
    rows = [row for row in rows if entry.get(row[0])]
    return table(["", *(METRICS[name][0] for name in known)], rows)


def _table_of_members(members: list[dict]) -> tuple:
    """A row for each member of a sweep on test, the best by validation first."""
    ranked = ranking.ranking(members)[1]
    ordered = ranked + [member for member in members if member not in ranked]
    swept = list(dict.fromkeys(field for member in members for field in member["swept"]))
    known = [name for name in METRICS if any(_has(member, "test", name) for member in members)]
    titles = ["member", *map(ranking.short, swept), *(METRICS[name][0] for name in known)]
    rows = []
    for member in ordered[:MOST_ROWS]:
        values = [ranking.show(ranking.value(member, field)) for field in swept]
        numbers = [_number(member, "test", name) for name in known]
        rows.append([member["member"], *values, *numbers])
    left = len(ordered) - len(rows)
    note = "test; bold: the best by validation" if ranked else "test"
    note += f"; {left} more in sweep.csv" if left else ""
    return tag("div", table(titles, rows, 0 if ranked else None), tag("p", note))


def _has(entry: dict, split: str, name: str) -> bool:
    return (entry.get(split) or {}).get(name) is not None


def _number(entry: dict, split: str, name: str) -> str:
    if entry.get("diverged_at") is not None and not _has(entry, split, name):
        return "diverged"
    if not _has(entry, split, name):
        return "-"
    numbers = entry[split]
    text = f"{numbers[name]:{METRICS[name][1]}}"
    if name == "nll" and numbers.get("nll_stderr") is not None:
        text += f" ± {numbers['nll_stderr']:.2f}"
    return text


def _picture(folder: Path) -> tuple | None:
    """The first of PICTURES in the folder, shrunk, so that a notebook stays small."""
    for name in PICTURES:
        path = folder / name
        if path.is_file():
            return _shrunk(path)
    return None


def _shrunk(path: Path) -> tuple | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
    except OSError:  # no picture, or half of one
        return None
    height = round(small.height * WIDTH / small.width)
    small = small.resize((WIDTH, height), Image.Resampling.LANCZOS).quantize(16)
    png = io.BytesIO()
    small.save(png, "PNG", optimize=True)
    content = base64.b64encode(png.getvalue()).decode()
    return tag("img", src=f"data:image/png;base64,{content}", alt=path.stem, width=WIDTH)
