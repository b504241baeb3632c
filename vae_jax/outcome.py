"""What a finished training leaves to look at: results.json, the pictures, and a few lines on the terminal."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from vae_jax import plots, population, writers
from vae_jax.data import Dataset
from vae_jax.evaluate import make_evaluate, summarize
from vae_jax.evaluation.likelihood import Bound
from vae_jax.program import Program, chosen_params
from vae_jax.run import Run
from vae_jax.types import TrainState


def write_outcome(
    program: Program,
    dataset: Dataset,
    workdir: Path,
    description: dict,
    state: TrainState,
    check: Callable,
) -> None:
    """Evaluates valid and test, whole; writes results.json and the pictures; prints the numbers."""
    config, step = program.config, int(state.step[0])
    params = chosen_params(state, config.eval.params)
    evaluate, num_samples = make_evaluate(program), config.eval.nll_samples
    numbers, bounds = {}, {}
    for name in ("valid", "test"):
        split = getattr(dataset, name)
        print(f"evaluating {name}: {split.num:,} examples x {num_samples:,} importance samples", flush=True)
        bounds[name] = evaluate(params, split, name, num_samples, check)
        numbers[name] = summarize(program, bounds[name], num_samples)
    timing = writers.read_rows(workdir / "timing.jsonl")
    results = {
        "dataset": description,
        "step": step,
        "epoch": step / program.steps_per_epoch,
        "wall_time_s": timing[-1]["wall_time_s"] if timing else None,
        "examples_per_s": float(np.median([row["examples_per_s"] for row in timing])) if timing else None,
        "complete": False,
        "eval": {"params": config.eval.params, "seed": config.eval.seed},
        "members": [_member(program, state, numbers, i) for i in range(population.size(program.hypers))],
    }
    run = Run(workdir, program, population.member(params, 0), population.member(program.hypers, 0), step, results)
    writers.write_json(workdir / "results.json", results)
    print("drawing", flush=True)
    draw_pictures(run, dataset, bounds, results)
    writers.write_json(workdir / "results.json", results | {"complete": step >= program.total_steps})
    print_summary(results, workdir)


def _member(program: Program, state: TrainState, numbers: dict, i: int) -> dict:
    stopped, best = int(state.diverged_at[i]), int(state.best.step[i])
    return {
        "hypers": {name: values[i].item() for name, values in program.hypers.items()},
        "diverged_at": None if stopped < 0 else stopped,
        "best_step": None if best < 0 else best,
    } | {name: rows[i] for name, rows in numbers.items()}


def draw_pictures(run: Run, dataset: Dataset, bounds: dict[str, Bound], results: dict) -> None:
    """samples, reconstructions, latents and curves, as PNG files in the workdir."""
    workdir, data = run.workdir, results["dataset"]
    rows = [row for row in writers.read_rows(workdir / "metrics.jsonl") if row["member"] == 0]
    beta = next(row["beta"] for row in reversed(rows) if row["split"] == "train")
    about = f"{_name(data)}, epoch {results['epoch']:.4g}, beta {beta:.3g}"
    rng = jax.random.key(run.config.eval.seed)
    sample_rng, reconstruct_rng = jax.random.split(rng)
    plots.samples(workdir / "samples.png", np.asarray(run.sample(sample_rng, 64)), f"E[x|z], z ~ p(z)\n{about}")
    shown = np.unique(np.linspace(0, dataset.test.num - 1, 20).astype(int))  # the split may be sorted by label
    originals = dataset.test.take(shown)
    decoded = np.asarray(run.reconstruct(reconstruct_rng, originals))
    scale = 255.0 if originals.dtype == np.uint8 else 1.0
    title = f"test examples, and E[x|z] at one z ~ q(z|x)\n{about}"
    plots.reconstructions(workdir / "reconstructions.png", originals / scale, decoded, title)
    plots.curves(workdir / "curves.png", rows, about)
    means = getattr(bounds["test"].posterior, "mean", None)
    if means is not None:
        means = np.asarray(means[0][:, : run.latent_dim])
        title = f"posterior means of {len(means):,} test examples\n{about}"
        plots.latents(workdir / "latents.png", means, dataset.test.labels(np.arange(len(means))), title)


def _name(data: dict) -> str:
    """The dataset as it may be called: a subset never by the name of the whole."""
    subset = data["name"] == "mnist" and data["source"] == "embedded"
    return "5,000 training digits of MNIST, a SUBSET (embedded)" if subset else f"{data['name']} ({data['source']})"


def print_summary(results: dict, workdir: Path) -> None:
    data = results["dataset"]
    print(
        f"{_name(data)}: {data['num_train']:,} train, {data['num_valid']:,} valid, "
        f"{data['num_test']:,} test examples; binarization {data['binarization']}"
    )
    for i, member in enumerate(results["members"]):
        for split in ("valid", "test"):
            if split in member:
                print(f"member {i}, {split}: {_line(member[split])}")
    print(f"wrote {workdir}: results.json, metrics.jsonl and the pictures")


def _line(n: dict) -> str:
    error = "" if n["nll_stderr"] is None else f" +- {n['nll_stderr']:.2f}"
    text = f"NLL {n['nll']:.2f}{error} nats ({n['nll_samples']} samples), ELBO {n['elbo']:.2f}"
    text += f", distortion {n['distortion']:.2f}, rate {n['rate']:.2f}"
    text += "" if n["active_units"] is None else f", {n['active_units']} active units"
    return text + ("" if n["bits_per_dim"] is None else f", {n['bits_per_dim']:.4f} bits per dimension")
