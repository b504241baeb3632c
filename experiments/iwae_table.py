"""Does the library reproduce the field's table? MNIST of Burda et al. 2016, Table 1: VAE and IWAE
with k = 1, 5 and 50 samples, one and two stochastic layers.

    python experiments/iwae_table.py
    python experiments/iwae_table.py --rows=1/vae/1,1/iwae/5 --minutes=60

A row is layers/objective/k, and 1/iwae/5/dreg is one with another estimator of the gradient. Each
is one program that trains its seeds side by side, by configs/iwae_fast.py, in runs/iwae_table/ and
the name of the row. The same command again goes on where the last one ended. What a row has come to
is kept beside the table, which is made of all that are there; so rows and seeds may come from
several machines, and further seeds later. A row that has not been trained to its end is marked so,
with the time that its training would take at the pace that was measured.

    NLL      -log p(x) by 5,000 importance samples, all 10,000 test images, binarized once
    AIS      -log p(x) by annealed importance sampling, of the seed that is best on validation data
             of those that were trained together: its NLL, less what AIS adds to it on 1,000 test
             images. Published: Zhang et al. 2021, Table 2
    units    active ones, of each layer

"sd" is the standard deviation over seeds, "+-" a standard error over test images. The two rows of a
difference have the same seeds, images and binarization.
"""

import argparse
import os
import runpy
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from drawing import table, write

import vae_jax
from vae_jax.errors import UserError
from vae_jax.training.signals import Interrupted
from vae_jax.workdir.files import read_arrays, read_json, write_arrays, write_json
from vae_jax.workdir.rows import read_rows

FOLDER = Path(__file__).with_suffix("")
CONFIG = Path(__file__).parent.parent / "configs" / "iwae_fast.py"


class Published(NamedTuple):
    nll: float | None  # Burda et al. 2016, Table 1, dynamically binarized MNIST
    units: str = ""
    ais: str = ""  # Zhang et al. 2021, Table 2: the same networks


ROWS = {
    "1/vae/1": Published(86.76, "19", "86.93"),
    "1/vae/5": Published(86.47, "20", "86.89 to 86.95"),
    "1/iwae/5": Published(85.54, "22", "85.43"),
    "1/iwae/5/dreg": Published(None),
    "2/vae/1": Published(85.33, "16+5"),
    "2/vae/5": Published(85.01, "17+5"),
    "2/iwae/5": Published(83.89, "21+5"),
    "1/vae/50": Published(86.35, "20", "86.89 to 86.95"),
    "1/iwae/50": Published(84.78, "25", "84.46"),
    "2/vae/50": Published(84.78, "17+5"),
    "2/iwae/50": Published(82.90, "26+7"),
}
PAIRS = [
    ("1/vae/5", "1/vae/1"),
    ("1/iwae/5", "1/vae/1"),
    ("1/iwae/5", "1/vae/5"),
    ("1/iwae/5/dreg", "1/iwae/5"),
    ("1/iwae/50", "1/vae/50"),
    ("2/vae/1", "1/vae/1"),
    ("2/iwae/5", "2/vae/5"),
    ("2/iwae/50", "2/vae/50"),
]


def make_config(name: str, seeds: tuple[int, ...], args):
    """The configuration of a row."""
    layers, objective, num_samples, *gradient = name.split("/")
    config = runpy.run_path(str(CONFIG))["get_config"]()
    config.data.name, config.data.data_dir = args.data, args.data_dir
    config.model.name = {"1": "vae", "2": "hierarchical"}[layers]
    config.objective.name = {"vae": "elbo", "iwae": "iwae"}[objective]
    config.objective.num_samples = int(num_samples)
    config.objective.gradient = gradient[0] if gradient else "reparameterized"
    config.sweep.seed = seeds
    config.eval.estimators = ("iwae", "ais")
    config.eval.nll_samples, config.eval.iwae_samples = args.samples, (args.samples,)
    config.eval.bounds_examples = args.examples
    config.eval.ais_chains = args.chains
    config.eval.ais_distributions = args.distributions
    if args.epochs:
        config.train.num_epochs = args.epochs
    return config


def workdir_of(name: str, seeds: tuple[int, ...], args) -> Path:
    return Path(args.workdir) / f"{name.replace('/', '-')},{'-'.join(map(str, seeds))}"


ADDED = ("seeds", "test", "ais", "hours")  # of the seeds that a row has


class Row(NamedTuple):
    """What a row has come to."""

    about: dict  # numbers of every seed, what was trained, where and how long
    log_p: np.ndarray  # the bound of each test image, nats  [seeds, images]
    elbo: np.ndarray  # likewise

    def joined(self, other: "Row") -> "Row":
        """The seeds of both, which have been trained one after another."""
        added = {name: self.about[name] + other.about[name] for name in ADDED}
        arrays = (np.concatenate(pair) for pair in zip(self[1:], other[1:], strict=True))
        return Row(self.about | added, *arrays)

    def keep(self, path: Path) -> None:
        """Writes path.json and path.npz. Of each image there are hundredths of nats."""
        write_json(path.with_suffix(".json"), self.about)
        hundredths = {name: np.rint(100 * getattr(self, name)) for name in ("log_p", "elbo")}
        write_arrays(
            path.with_suffix(".npz"), {k: v.astype(np.int16) for k, v in hundredths.items()}
        )


def kept(path: Path) -> Row | None:
    """The row that is kept at `path`, if there is one."""
    about, arrays = read_json(path.with_suffix(".json")), read_arrays(path.with_suffix(".npz"))
    if about is None or not arrays:
        return None
    return Row(about, arrays["log_p"] / 100, arrays["elbo"] / 100)


def row_of(workdir: Path) -> Row:
    """The row of a finished run."""
    results, stored = read_json(workdir / "results.json"), read_json(workdir / "config.json")
    examples, members = read_arrays(workdir / "examples.npz"), results["members"]
    (entry,) = results["evaluation"]
    numbers = ("nll", "nll_stderr", "nll_samples", "elbo", "active_units", "layers")
    devices = stored["devices"]
    about = {
        "seeds": [member["hypers"]["seed"] for member in members],
        "test": [{name: member["test"][name] for name in numbers} for member in members],
        "ais": [{"seed": members[entry["member"]]["hypers"]["seed"], **entry["ais"]}],
        "images": len(entry["examples"]),
        "epochs": results["epoch"],
        "steps": results["step"],
        "batch_size": stored["config"]["train"]["batch_size"],
        "hours": results["wall_time_s"] / 3600,
        "where": f"{devices['count']} x {devices['kind']}, {os.cpu_count()} cores",
    }
    arrays = (
        np.stack([examples[f"{name}/{member['member']}"] for member in members])
        for name in ("log_p", "elbo")
    )
    return Row(about, *arrays)


def file_of(name: str, args) -> Path:
    """Where a row is kept, without the ending."""
    return args.output / name.replace("/", "-")


def trained_within(name: str, seeds: tuple[int, ...], args, seconds: float) -> Row | None:
    """These seeds of a row; None where the time was over before the end, and all is saved."""
    workdir = workdir_of(name, seeds, args)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        vae_jax.train(make_config(name, seeds, args), workdir)
    except Interrupted as interrupted:
        if interrupted.signum != signal.SIGTERM or timer.is_alive():
            raise
        return None
    finally:
        timer.cancel()
    return row_of(workdir)


def hours(name: str, seeds: tuple[int, ...], args) -> tuple[float, float]:
    """(hours of training that are done, hours that all of it takes) of these seeds, at the pace of
    what has been trained, or of a short trial."""
    config, workdir = make_config(name, seeds, args), workdir_of(name, seeds, args)
    epochs, rows, done = config.train.num_epochs, read_rows(workdir / "timing.jsonl"), 0.0
    if rows:
        num_train = read_json(workdir / "config.json")["dataset"]["num_train"]
        done = rows[-1]["wall_time_s"] / 3600
    else:
        config.train.num_epochs = config.train.schedule_epochs = 0.5
        config.eval.nll_samples, config.eval.estimators, config.eval.explorer = 1, (), False
        with tempfile.TemporaryDirectory() as folder:
            num_train = vae_jax.train(config, folder).results["dataset"]["num_train"]
            rows = read_rows(Path(folder) / "timing.jsonl")
    pace = statistics.median(row["examples_per_s"] for row in rows[1:] or rows)
    return done, epochs * num_train * len(seeds) / pace / 3600


def mean_and_sd(values: list[float], digits: int = 2) -> str:
    """ "86.76 (sd 0.05)"; without the sd of a single value."""
    sd = f" (sd {np.std(values, ddof=1):.{digits}f})" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{sd}"


def units(tests: list[dict]) -> str:
    """The mean number of active units over seeds, of each layer."""
    layers = [test["layers"] or {"z": {"active_units": test["active_units"]}} for test in tests]
    return "+".join(
        f"{np.mean([of_one[name]['active_units'] for of_one in layers]):.1f}" for name in layers[0]
    )


def by_ais(about: dict) -> str:
    """-log p(x) by AIS, the mean over the seeds that were estimated, and what it is made of."""
    tests = [about["test"][about["seeds"].index(found["seed"])] for found in about["ais"]]
    nll = np.mean([test["nll"] for test in tests])
    more = [found["above_iwae"] for found in about["ais"]]
    above = np.mean([one["difference"] for one in more])
    error, above_error = tests[0]["nll_stderr"], more[0]["stderr"]  # the same images for all seeds
    return f"{nll - above:.2f} = {nll:.2f} +- {error:.2f} - ({above:.2f} +- {above_error:.2f})"


def cells_of(name: str, about: dict) -> list:
    """The cells of a finished row."""
    published, tests = ROWS[name], about["test"]
    nll, known = [test["nll"] for test in tests], published.nll
    return [
        name,
        known or "",
        mean_and_sd(nll),
        f"{np.mean(nll) - known:+.2f}" if known else "",
        mean_and_sd([test["elbo"] for test in tests]),
        published.ais,
        by_ais(about),
        published.units,
        units(tests),
        len(tests),
        f"{about['epochs']:g}",
        f"{about['steps']:,}",
        f"{about['hours']:.2f}",
        about["where"],
    ]


def missing_cells(name: str, seeds: tuple[int, ...], args) -> list:
    """The cells of a row none of whose seeds has been trained to its end."""
    published, (done, whole) = ROWS[name], hours(name, seeds, args)
    state = f"not run: {whole:.1f} h" if not done else f"{done:.1f} h of {whole:.1f} h"
    cells = [name, published.nll or "", state, "", "", published.ais, "", published.units]
    return [*cells, "", len(seeds), "", "", "", ""]


def paired(first: np.ndarray, second: np.ndarray) -> tuple[float, float, list[float]]:
    """The difference of NLLs of log p [seeds, images] of two rows: its mean, the standard error
    over images, and the mean of each seed."""
    difference = second.astype(np.float64) - first
    of_images = difference.mean(0)
    error = of_images.std(ddof=1) / np.sqrt(len(of_images))
    return float(of_images.mean()), float(error), difference.mean(1).tolist()


def pair_cells(pair: tuple[str, str], rows: dict[str, Row]) -> list:
    """The cells of a difference, of the seeds that both rows have."""
    known = [ROWS[name].nll for name in pair]
    cells = [" less ".join(pair), "" if None in known else f"{known[0] - known[1]:+.2f}"]
    first, second = (rows[name] for name in pair)
    seeds = [seed for seed in first.about["seeds"] if seed in second.about["seeds"]]
    for what in ("log_p", "elbo"):
        arrays = [
            getattr(row, what)[[row.about["seeds"].index(seed) for seed in seeds]]
            for row in (first, second)
        ]
        mean, error, of_seeds = paired(*arrays)
        sd = f", sd {np.std(of_seeds, ddof=1):.2f}" if len(of_seeds) > 1 else ""
        cells.append(f"{mean:+.3f} +- {error:.3f}{sd}")
    return [*cells, len(seeds)]


def lines_of(rows: dict[str, Row], missing: dict[str, list]) -> list[str]:
    """The tables, of the rows that are finished and those that are not."""
    titles = ["row", "NLL, published", "NLL", "difference", "ELBO", "AIS, published", "AIS"]
    titles += [
        "units, published",
        "units",
        "seeds",
        "epochs",
        "steps",
        "hours of training",
        "where",
    ]
    cells = [
        cells_of(name, rows[name].about) if name in rows else missing[name]
        for name in ROWS
        if name in rows or name in missing
    ]
    lines = ["Nats per test image.", "", *table(titles, cells), ""]
    pairs = [pair for pair in PAIRS if all(name in rows for name in pair)]
    if pairs:
        titles = ["difference", "NLL, published", "NLL", "negative ELBO", "seeds"]
        lines += [*table(titles, [pair_cells(pair, rows) for pair in pairs]), ""]
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", default=",".join(ROWS), help="which, one after another")
    parser.add_argument("--seeds", default="0,1,2", help="trained side by side")
    parser.add_argument("--minutes", type=float, default=1e6, help="no row begins or goes on after")
    parser.add_argument("--epochs", type=float, default=0, help="0: those of the configuration")
    parser.add_argument("--samples", type=int, default=5000, help="of importance, of the NLL")
    parser.add_argument("--examples", type=int, default=1000, help="test images of AIS")
    parser.add_argument("--chains", type=int, default=8, help="of AIS for each image")
    parser.add_argument("--distributions", type=int, default=300, help="of AIS")
    parser.add_argument("--workdir", default="runs/iwae_table")
    parser.add_argument("--data", default="mnist", help="a dataset: published are MNIST's numbers")
    parser.add_argument("--data_dir", default="", help="of TFDS")
    parser.add_argument("--output", type=Path, default=FOLDER)
    args = parser.parse_args(argv)
    wanted = args.rows.split(",")
    if unknown := [name for name in wanted if name not in ROWS]:
        parser.error(f"there is no row {unknown[0]!r}: --rows are among {','.join(ROWS)}")
    try:
        args.seeds = tuple(int(seed) for seed in args.seeds.split(","))
    except ValueError:
        parser.error(f"--seeds is {args.seeds!r}, expected numbers such as 0,1,2")

    began = time.monotonic()
    args.output.mkdir(parents=True, exist_ok=True)
    try:
        for name in wanted:
            path, before = file_of(name, args), kept(file_of(name, args))
            left = 60 * args.minutes - (time.monotonic() - began)
            known = before.about["seeds"] if before else []
            seeds = tuple(seed for seed in args.seeds if seed not in known)
            if seeds and left > 0 and (row := trained_within(name, seeds, args, left)):
                (before.joined(row) if before else row).keep(path)
        rows = {name: row for name in ROWS if (row := kept(file_of(name, args)))}
        missing = {n: missing_cells(n, args.seeds, args) for n in wanted if n not in rows}
    except UserError as error:
        sys.exit(str(error))
    write(args.output / "table.md", began, lines_of(rows, missing))


if __name__ == "__main__":
    main()
