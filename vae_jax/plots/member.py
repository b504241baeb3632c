"""The pictures of one member: what it draws, what it makes of test examples, what its codes mean, how it got there."""

from pathlib import Path

import jax
import numpy as np

from vae_jax.data import Dataset
from vae_jax.errors import UserError
from vae_jax.plots import base, latent_space, latent_units
from vae_jax.plots.latent_space import Scene
from vae_jax.run import Codes, Run
from vae_jax.workdir.rows import read_rows

NUM_SAMPLES, NUM_PAIRS, NUM_SHOWN, NUM_CODES = 8, 10, 40, 10_000  # a side; a row; examples looked at; codes drawn


def draw_pictures(run: Run, dataset: Dataset, folder: Path, name: str, entry: dict, own: list[str]) -> None:
    """The PNG files of a member in `folder`; those that its kind of model does not have are left out.

    Args:
      name: of the dataset, as it may be called.
      entry: the member's in results.json.
      own: the parts that came as Python objects: of a model of one's own the prior is not known.
    """
    rows = [row for row in read_rows(run.workdir / "metrics.jsonl") if row["member"] == run.member]
    about = f"{name}, epoch {entry['epoch']:.4g}"
    has_rate = entry["test"]["rate"] is not None
    if has_rate:
        about += f", beta {next(row['beta'] for row in reversed(rows) if row['split'] == 'train'):.3g}"
    # Spread over the split, which may be sorted by label.
    shown = np.unique(np.linspace(0, dataset.test.num - 1, NUM_SHOWN).astype(int))
    shown = shown[np.argsort(np.arange(len(shown)) * 0.618034 % 1, kind="stable")]  # so that neighbours differ
    x = np.asarray(run.as_evaluated(dataset, "test", shown)).reshape(-1, *run.example_shape)
    style = base.look(x)
    sample_rng, reconstruct_rng = jax.random.split(jax.random.key(run.config.eval.seed))
    if run.model.sample_prior is not None:
        _samples(folder / "samples.png", run, sample_rng, style, about, fitted=not has_rate)
    at = "at one z ~ q(z|x)" if has_rate else "at their codes z"
    _reconstructions(folder / "reconstructions.png", run, reconstruct_rng, x, style, f"E[x|z] {at}", about)
    base.curves(folder / "curves.png", rows, f"Training curves, nats per example\n{about}")
    unit_rate, activity = (
        None if values is None else np.array(values, float)
        for values in (entry["test"].get("unit_rate"), entry["test"].get("unit_activity"))
    )
    if unit_rate is not None:
        title = f"Rate = {unit_rate.sum():.2f} nats per test example, unit by unit: KL(q(z|x) || p(z))\n{about}"
        latent_units.rates(folder / "rates.png", unit_rate, activity, title)
    try:
        codes = _codes(run, dataset, shown)
    except UserError:  # a posterior without a mean, of a model of one's own
        return
    scene = Scene(run, x, codes, has_rate and "model" not in own, unit_rate, style, about)
    _latents(folder, scene, dataset.label_names)


def _codes(run: Run, dataset: Dataset, shown: np.ndarray) -> Codes:
    """Of the test examples `shown`, then of more that are spread over the split."""
    more = np.unique(np.linspace(0, dataset.test.num - 1, NUM_CODES).astype(int))
    return run.codes(dataset, "test", np.concatenate([shown, np.setdiff1d(more, shown)]))


def _samples(path: Path, run: Run, rng: jax.Array, style: base.Look, about: str, fitted: bool) -> None:
    rows, columns = (base.that_fit(run.example_shape, NUM_SAMPLES, axis=axis) for axis in (0, 1))
    images = np.asarray(run.sample(rng, rows * columns))
    what = "Decoded draws from the prior: E[x|z], z ~ p(z)"
    if fitted:
        what = "Decoded draws from a Gaussian fitted to the training codes"
    base.tiles(path, images.reshape(rows, columns, *run.example_shape), f"{what}\n{about}", style)


def _reconstructions(path: Path, run: Run, rng, x: np.ndarray, style: base.Look, what: str, about: str) -> None:
    """Blocks of three rows: what the encoder saw, the mean of p(x|z), the difference."""
    columns = min(base.that_fit(run.example_shape, NUM_PAIRS), len(x))
    blocks = max(1, min(2 if base.tile_size(run.example_shape)[0] <= 130 else 1, len(x) // columns))
    x = x[: blocks * columns]
    decoded = np.asarray(run.reconstruct(rng, x))
    error = np.sqrt(np.mean(np.square(x - decoded, dtype=np.float64)))
    parts = [a.reshape(blocks, 1, columns, *run.example_shape) for a in (x, decoded, x - decoded)]
    table = np.concatenate(parts, axis=1).reshape(3 * blocks, columns, *run.example_shape)
    title = f"Test examples x as the encoder sees them, and {what}\n"
    zero = "" if x.ndim == 2 else "; " + ("middle grey is zero" if x.shape[-1] == 3 else "blue above, red below zero")
    title += f"differences: root mean square {error:.3g} per value{zero}\n{about}"
    labels = ["x", "E[x|z]", "x − E[x|z]"] * blocks
    signed = range(2, 3 * blocks, 3)
    base.tiles(path, table, title, style, labels, breaks=(range(3, 3 * blocks, 3), ()), signed=signed)


def _latents(folder: Path, scene: Scene, label_names: tuple[str, ...]) -> None:
    what = "Posterior means" if scene.prior else "Codes"
    title = f"{what} of {len(scene.codes.mean):,} test examples\n{scene.about}"
    codes = scene.codes.mean, scene.codes.label
    latent_units.latents(folder / "latents.png", *codes, title, scene.prior, label_names)
    latent_space.interpolation(folder / "interpolation.png", scene)
    latent_space.traversal(folder / "traversal.png", scene)
    if scene.run.latent_dim == 2:
        latent_space.manifold(folder / "manifold.png", scene)
