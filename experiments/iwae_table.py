"""Does the library reproduce the field's table? MNIST of Burda et al. 2016, Table 1: VAE and IWAE
with k = 1, 5 and 50 samples, one and two stochastic layers.

    python experiments/iwae_table.py
    python experiments/iwae_table.py --rows=1/vae/1,1/iwae/5 --minutes=60

A row is layers/objective/k, and 1/iwae/5/dreg is one with another estimator of the gradient. Each
is one program that trains all seeds side by side, by configs/iwae_fast.py, in runs/iwae_table/ and
the name of the row. The same command again goes on where the last one ended. A row that has not
been trained to its end is marked so, with the time that its training would take at the pace that
was measured.

    NLL      -log p(x) by 5,000 importance samples, all 10,000 test images, binarized once
    AIS      -log p(x) by annealed importance sampling, of the seed that is best on validation data:
             its NLL, less what AIS adds to it on 1,000 test images. Published: Zhang et al. 2021,
             Table 2
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
from vae_jax.workdir.files import read_arrays, read_json
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


def make_config(name: str, args):
    """The configuration of a row."""
    layers, objective, num_samples, *gradient = name.split("/")
    config = runpy.run_path(str(CONFIG))["get_config"]()
    config.data.name, config.data.data_dir = args.data, args.data_dir
    config.model.name = {"1": "vae", "2": "hierarchical"}[layers]
    config.objective.name = {"vae": "elbo", "iwae": "iwae"}[objective]
    config.objective.num_samples = int(num_samples)
    config.objective.gradient = gradient[0] if gradient else "reparameterized"
    config.sweep.seed = args.seeds
    config.eval.estimators = ("iwae", "ais")
    config.eval.nll_samples, config.eval.iwae_samples = args.samples, (args.samples,)
    config.eval.bounds_examples = args.examples
    config.eval.ais_chains = args.chains
    config.eval.ais_distributions = args.distributions
    if args.epochs:
        config.train.num_epochs = args.epochs
    return config


def workdir_of(name: str, args) -> Path:
    return Path(args.workdir) / name.replace("/", "-")


def finished(name: str, args) -> dict | None:
    """results.json of a row that has been trained and evaluated to its end."""
    results = read_json(workdir_of(name, args) / "results.json")
    return results if results and results["complete"] else None


def trained_within(name: str, args, seconds: float) -> dict | None:
    """results.json of a row; None where the time was over before its end, and all is saved."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        return vae_jax.train(make_config(name, args), workdir_of(name, args)).results
    except Interrupted as interrupted:
        if interrupted.signum != signal.SIGTERM or timer.is_alive():
            raise
        return None
    finally:
        timer.cancel()


def hours(name: str, args) -> tuple[float, float]:
    """(hours of training that are done, hours that all of it takes) of a row, at the pace of its
    last steps, or of a short trial."""
    config, workdir = make_config(name, args), workdir_of(name, args)
    rows = read_rows(workdir / "timing.jsonl")
    if not rows:
        config.train.num_epochs = config.train.schedule_epochs = 0.5
        config.eval.nll_samples, config.eval.estimators, config.eval.explorer = 1, (), False
        with tempfile.TemporaryDirectory() as folder:
            num_train = vae_jax.train(config, folder).results["dataset"]["num_train"]
            rows = read_rows(Path(folder) / "timing.jsonl")
        done = 0.0
    else:
        num_train = read_json(workdir / "config.json")["dataset"]["num_train"]
        done = rows[-1]["wall_time_s"] / 3600
    pace = statistics.median(row["examples_per_s"] for row in rows[1:] or rows)
    epochs = make_config(name, args).train.num_epochs
    return done, epochs * num_train * len(args.seeds) / pace / 3600


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


def by_ais(results: dict) -> str:
    """-log p(x) by AIS of the member that was estimated, and what it is made of."""
    (entry,) = results["evaluation"]
    test = next(m["test"] for m in results["members"] if m["member"] == entry["member"])
    more = entry["ais"]["above_iwae"]
    text = f"{test['nll'] - more['difference']:.2f} = {test['nll']:.2f} +- {test['nll_stderr']:.2f}"
    return f"{text} - ({more['difference']:.2f} +- {more['stderr']:.2f})"


def row_of(name: str, results: dict) -> list:
    """The cells of a finished row."""
    published, tests = ROWS[name], [member["test"] for member in results["members"]]
    nll = [test["nll"] for test in tests]
    known = published.nll
    return [
        name,
        known or "",
        mean_and_sd(nll),
        f"{np.mean(nll) - known:+.2f}" if known else "",
        mean_and_sd([test["elbo"] for test in tests]),
        published.ais,
        by_ais(results),
        published.units,
        units(tests),
        f"{results['epoch']:g}",
        f"{results['step']:,}",
        f"{results['wall_time_s'] / 3600:.2f}",
    ]


def missing_row(name: str, args) -> list:
    """The cells of a row that has not been trained to its end."""
    published, (done, whole) = ROWS[name], hours(name, args)
    state = f"not run: {whole:.1f} h" if not done else f"{done:.1f} h of {whole:.1f} h"
    cells = [name, published.nll or "", state, "", "", published.ais, "", published.units]
    return [*cells, "", "", "", ""]


def paired(first: np.ndarray, second: np.ndarray) -> tuple[float, float, list[float]]:
    """The difference of NLLs of log p [seeds, images] of two rows: its mean, the standard error
    over images, and the mean of each seed."""
    difference = second.astype(np.float64) - first
    of_images = difference.mean(0)
    error = of_images.std(ddof=1) / np.sqrt(len(of_images))
    return float(of_images.mean()), float(error), difference.mean(1).tolist()


def per_image(name: str, args, what: str) -> np.ndarray:
    """log_p or elbo of all seeds and test images  [seeds, images]."""
    arrays = read_arrays(workdir_of(name, args) / "examples.npz")
    return np.stack([arrays[f"{what}/{i}"] for i in range(len(args.seeds))])


def pair_row(pair: tuple[str, str], args) -> list:
    """The cells of a difference."""
    first, second = pair
    published = [ROWS[name].nll for name in pair]
    known = "" if None in published else f"{published[0] - published[1]:+.2f}"
    cells = [f"{first} less {second}", known]
    for what in ("log_p", "elbo"):
        arrays = [per_image(name, args, what) for name in pair]
        mean, error, of_seeds = paired(*arrays)
        sd = f", sd {np.std(of_seeds, ddof=1):.2f}" if len(of_seeds) > 1 else ""
        cells.append(f"{mean:+.3f} +- {error:.3f}{sd}")
    return cells


def lines_of(known: dict[str, dict], wanted: list[str], args) -> list[str]:
    """The tables, of the rows that are finished and those that are not."""
    titles = ["row", "NLL, published", "NLL", "difference", "ELBO", "AIS, published", "AIS"]
    titles += ["units, published", "units", "epochs", "steps", "hours of training"]
    rows = [
        row_of(name, known[name]) if name in known else missing_row(name, args) for name in wanted
    ]
    seeds, config = ", ".join(map(str, args.seeds)), make_config(wanted[0], args)
    lines = [f"Nats per test image; seeds {seeds}; batches of {config.train.batch_size}.", ""]
    lines += [*table(titles, rows), ""]
    pairs = [pair for pair in PAIRS if all(name in known for name in pair)]
    if pairs:
        titles = ["difference", "NLL, published", "NLL", "negative ELBO"]
        lines += [*table(titles, [pair_row(pair, args) for pair in pairs]), ""]
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

    began, known = time.monotonic(), {}
    try:
        for name in wanted:
            left = 60 * args.minutes - (time.monotonic() - began)
            results = finished(name, args)
            if results is None and left > 0:
                results = trained_within(name, args, left)
            if results is not None:
                known[name] = results
        lines = lines_of(known, wanted, args)
    except UserError as error:
        sys.exit(str(error))
    args.output.mkdir(parents=True, exist_ok=True)
    write(args.output / "table.md", began, lines, list(known.values()))


if __name__ == "__main__":
    main()
