"""All plots of one member: samples, reconstructions, training, rates, codes."""

import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vae_jax.data import Dataset
from vae_jax.data.kinds import KINDS
from vae_jax.data.kinds.kind import look_at
from vae_jax.errors import Attempt, UserError, must
from vae_jax.plots import (
    codes,
    interpolation,
    manifold,
    rates,
    reconstructions,
    samples,
    training_curves,
    traversal,
)
from vae_jax.plots.examples import Style
from vae_jax.plots.scene import Scene, layers
from vae_jax.run import Codes, Run
from vae_jax.types import Example
from vae_jax.workdir.rows import read_rows

NUM_SHOWN, NUM_CODES = 40, 10_000  # examples that are drawn; codes that are
GOLDEN = 0.618034


def draw_pictures(
    run: Run, dataset: Dataset, folder: Path, name: str, entry: dict, attempt: Attempt = must
) -> None:
    """Draws the PNG files of a member in `folder`, but for those its kind of model does not have.

    Args:
      name: of the dataset, for titles.
      entry: the member's in results.json.
      attempt: of each file.
    """
    rows = [row for row in read_rows(run.workdir / "metrics.jsonl") if row["member"] == run.member]
    test = entry["test"]
    has_rate = test["rate"] is not None
    about = f"{name}, epoch {entry['epoch']:.4g}"
    beta = next((row["beta"] for row in reversed(rows) if row["split"] == "train"), None)
    if has_rate and beta is not None:
        about += f", beta {beta:.3g}"
    positions = positions_of(dataset)
    shown = _examples(run, dataset, positions)
    style = _style(run, dataset, shown)
    settings: Any = run.config.eval
    sample_rng, reconstruct_rng = jax.random.split(jax.random.key(settings.seed))
    if run.model.sample_prior is not None:
        with attempt("samples.png"):
            path = folder / "samples.png"
            samples.draw(path, run, sample_rng, shown, style, fitted=not has_rate, about=about)
    with attempt("reconstructions.png"):
        path = folder / "reconstructions.png"
        code = "at one z ~ q(z|x)" if has_rate else "at their codes z"
        reconstructions.draw(path, run, reconstruct_rng, shown, style, code, about)
    if run.model.from_layer is not None:
        _of_levels(folder, run, (sample_rng, reconstruct_rng), shown, style, about, attempt)
    with attempt("curves.png"):
        title = f"Training curves, nats per example\n{about}"
        training_curves.draw(folder / "curves.png", rows, title)
    unit_rate = test.get("unit_rate")
    with attempt("rates.png"):
        _rates(folder, unit_rate, test.get("unit_activity"), about)
    with attempt("pictures of codes"):
        try:
            found = _codes(run, dataset, positions)
        except UserError:  # a posterior without a mean
            return
        scene = Scene(run, shown, found, unit_rate, style, about, run.model.standard_normal)
        label = settings.label or next(iter(dataset.test.columns), "")
        _of_codes(folder, scene, dataset.class_names.get(label, ()), attempt)


def _of_levels(folder: Path, run: Run, rngs, shown: Example, style: Style, about: str, attempt):
    """Samples and reconstructions from each stochastic layer above z1: samples_z2.png, ..."""
    sample_rng, reconstruct_rng = rngs
    names = list(layers(run.z_like()))
    for below, level in itertools.pairwise(names):
        path = _of_layer(folder / "samples.png", level)
        with attempt(path.name):
            samples.draw_level(path, run, sample_rng, shown, style, level, about)
        path = _of_layer(folder / "reconstructions.png", level)
        code = f"at {below} ~ p({below}|{level}), one {level} ~ q({level}|x)"
        with attempt(path.name):
            reconstructions.draw(path, run, reconstruct_rng, shown, style, code, about, level=level)


def style_of(run: Run, dataset: Dataset) -> Style:
    """How examples of the run's data are drawn."""
    return _style(run, dataset, _examples(run, dataset, positions_of(dataset)))


def _style(run: Run, dataset: Dataset, shown: Example) -> Style:
    return Style(KINDS[dataset.kind], run.example_shape, look_at(np.asarray(shown.x)))


def positions_of(dataset: Dataset, num: int = NUM_SHOWN) -> np.ndarray:
    """Which test examples are drawn: spread over the split, which may be sorted by label."""
    spread = np.unique(np.linspace(0, dataset.test.num - 1, num).astype(int))
    mixed = np.argsort(np.arange(len(spread)) * GOLDEN % 1, kind="stable")
    return spread[mixed]  # so that neighbours differ


def _examples(run: Run, dataset: Dataset, positions: np.ndarray) -> Example:
    """The test examples at `positions` as they are evaluated, x [n, D]."""
    return jax.tree.map(np.asarray, run.as_evaluated(dataset, "test", positions))


def _codes(run: Run, dataset: Dataset, positions: np.ndarray) -> Codes:
    """The codes of the test examples at `positions`, then of more, spread over the split."""
    more = np.unique(np.linspace(0, dataset.test.num - 1, NUM_CODES).astype(int))
    return run.codes(dataset, "test", np.concatenate([positions, np.setdiff1d(more, positions)]))


def _rates(folder: Path, unit_rate, unit_activity, about: str) -> None:
    """A plot for each layer whose rate is known per unit."""
    activities = layers(unit_activity)
    for layer, rate in layers(unit_rate).items():
        if rate is None:
            continue
        rate, activity = np.array(rate, float), activities.get(layer)
        of = f" of {layer}" if layer else ""
        title = (
            f"Rate{of} = {rate.sum():.2f} nats per test example, unit by unit: "
            f"KL(q(z|x) || p(z))\n{about}"
        )
        activity = None if activity is None else np.array(activity, float)
        rates.draw(_of_layer(folder / "rates.png", layer), rate, activity, title)


def _of_codes(folder: Path, scene: Scene, label_names: tuple[str, ...], attempt: Attempt) -> None:
    what = "Posterior means" if scene.run.model.log_joint else "Codes"
    for layer, means in layers(scene.codes.mean).items():
        whose = f" of {layer}," if layer else " of"
        title = f"{what}{whose} {len(means):,} test examples\n{scene.about}"
        path = _of_layer(folder / "latents.png", layer)
        with attempt(path.name):
            codes.draw(path, means, scene.codes.label, title, scene.standard_normal, label_names)
    drawn = {"interpolation.png": interpolation.draw, "traversal.png": traversal.draw}
    if scene.means.shape[1] == 2:
        drawn["manifold.png"] = manifold.draw
    for name, draw in drawn.items():
        with attempt(name):
            draw(folder / name, scene)


def _of_layer(path: Path, layer: str) -> Path:
    """rates.png of a single layer, rates_z2.png of one of several."""
    return path.with_name(f"{path.stem}_{layer}{path.suffix}") if layer else path
