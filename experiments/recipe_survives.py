"""Does the default recipe survive? Every seed, width, activation and learning rate, after a few
epochs.

A VAE may collapse at once: the decoder learns the mean image, the posterior ignores x, and the ELBO
of MNIST stays near -206 nats for good. One population per architecture (seeds x learning rates in
one program) shows where the recipe of configs/mnist.py stands; --start and --beta_warmup_epochs
take away what it does against that.

    python experiments/recipe_survives.py --output=experiments/recipe_survives.md
    python experiments/recipe_survives.py --beta_warmup_epochs=0 --epochs=2
    python experiments/recipe_survives.py --start=zero --beta_warmup_epochs=0 --epochs=2
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from vae_jax import data, default
from vae_jax.config import check, sweep
from vae_jax.parts import catalogue
from vae_jax.training.evaluation import Evaluator, summarize
from vae_jax.training.loop import fit
from vae_jax.training.program import facts_of, make_program
from vae_jax.training.signals import catch_signals

ACTIVATIONS = ("tanh", "relu")
HIDDEN = ((200, 200), (500, 500))
LEARNING_RATES = (3e-4, 3e-3)
SEEDS = (0, 1)


def population(config, dataset, start: str):
    """The program of `config`'s sweep."""
    facts = facts_of(dataset)
    if start != "mean":
        facts = facts._replace(x_mean=np.full_like(facts.x_mean, 0.5))
    return make_program(config, facts, catalogue(), sweep.members(config))


def train_and_measure(hidden, activation: str, args, dataset) -> list[dict]:
    config = default()
    config.network.hidden, config.network.activation = hidden, activation
    config.train.num_epochs, config.train.schedule_epochs = args.epochs, 100.0
    config.checkpoint.every_epochs = args.epochs
    config.hypers.beta_warmup_epochs = args.beta_warmup_epochs
    config.sweep.seed, config.sweep.learning_rate = SEEDS, LEARNING_RATES
    program = population(check(config, catalogue()), dataset, args.start)
    with tempfile.TemporaryDirectory() as workdir, catch_signals() as stop:
        state = fit(program, dataset, Path(workdir), stop)
    numbers = summarize(
        program, Evaluator(program).evaluate(state.params, dataset.valid, "valid", 1), 1
    )
    where = {"hidden": "-".join(map(str, hidden)), "activation": activation}
    return [
        where
        | {"lr": changes["hypers.learning_rate"], "elbo": n["elbo"], "active": n["active_units"]}
        for changes, n in zip(program.changes, numbers, strict=True)
    ]


def table(rows: list[dict]) -> str:
    """A row per architecture, a column per learning rate: worst and best validation ELBO over
    the seeds."""
    lines = [
        "| network | activation | " + " | ".join(f"lr {rate:g}" for rate in LEARNING_RATES) + " |"
    ]
    lines += ["|---|---|" + "---|" * len(LEARNING_RATES)]
    for key in dict.fromkeys((r["hidden"], r["activation"]) for r in rows):
        cells = []
        for rate in LEARNING_RATES:
            some = [r for r in rows if (r["hidden"], r["activation"], r["lr"]) == (*key, rate)]
            elbos, active = [r["elbo"] for r in some], [r["active"] for r in some]
            cells.append(
                f"{min(elbos):.1f} to {max(elbos):.1f} ({min(active)} to {max(active)} active)"
            )
        lines.append(f"| {key[0]} | {key[1]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(rows: list[dict], dataset, args, seconds: float) -> str:
    collapsed = [r for r in rows if r["elbo"] < -180 or r["active"] == 0]
    return (
        f"Validation ELBO (nats) and active units of 50 after {args.epochs:g} epochs (beta warms "
        f"up over {args.beta_warmup_epochs:g}) of {dataset.name} ({dataset.source}), worst to best "
        f"of seeds {SEEDS}; decoder bias started at: {args.start}. {len(rows)} members, "
        f"{len(collapsed)} collapsed; {seconds:.0f} s on "
        f"{jax.devices()[0].device_kind}.\n\n{table(rows)}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=float, default=6.0)
    parser.add_argument(
        "--beta_warmup_epochs", type=float, default=default().hypers.beta_warmup_epochs
    )
    parser.add_argument("--data_dir", default="", help="where prepared TFDS data lies")
    parser.add_argument("--start", choices=("mean", "zero"), default="mean")
    parser.add_argument("--output", default="")
    args = parser.parse_args()
    dataset = data.load("mnist", data_dir=args.data_dir, num_valid=5000)
    began, rows = time.monotonic(), []
    for hidden, activation in itertools.product(HIDDEN, ACTIVATIONS):
        rows += train_and_measure(hidden, activation, args, dataset)
        text = report(rows, dataset, args, time.monotonic() - began)
        print(text, flush=True)
        if args.output:
            Path(args.output).write_text(text)


if __name__ == "__main__":
    main()
