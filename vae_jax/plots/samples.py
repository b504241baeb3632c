"""Decoded draws from the prior (samples.png)."""

from pathlib import Path

import jax
import numpy as np

from vae_jax.plots import examples
from vae_jax.plots.examples import Style
from vae_jax.run import Run
from vae_jax.types import Example

NUM_A_SIDE = 8  # fewer of large examples


def draw(
    path: Path, run: Run, rng: jax.Array, shown: Example, style: Style, fitted: bool, about: str
) -> None:
    """Draws E[x|z], z ~ p(z), under the conditions of the test examples `shown`.

    `fitted`: whether p(z) was fitted to the codes of an autoencoder.
    """
    rows = examples.rows_that_fit(style, NUM_A_SIDE)
    columns = examples.columns_that_fit(style, NUM_A_SIDE)
    some = np.arange(rows * columns) % len(shown.x)
    condition = jax.tree.map(lambda leaf: leaf[some], shown.condition)
    x = np.asarray(run.sample(rng, rows * columns, condition=condition))
    what = "the prior: E[x|z], z ~ p(z)"
    if fitted:
        what = "a Gaussian fitted to the training codes"
    title = f"Decoded draws from {what}\n{about}"
    examples.draw(path, x.reshape(rows, columns, *style.shape), title, style)


def draw_level(
    path: Path, run: Run, rng: jax.Array, shown: Example, style: Style, level: str, about: str
) -> None:
    """Draws a row for each of some draws of the layer `level` and those above it, whose columns
    differ in the layers below."""
    rows = examples.rows_that_fit(style, NUM_A_SIDE)
    columns = examples.columns_that_fit(style, NUM_A_SIDE)
    some = np.repeat(np.arange(rows) % len(shown.x), columns)
    condition = jax.tree.map(lambda leaf: leaf[some], shown.condition)
    num = rows * columns
    x = np.asarray(run.sample(rng, num, condition=condition, level=level, each=columns))
    title = f"Each row: one {level} ~ p({level}), and in its columns what lies below it\n{about}"
    examples.draw(path, x.reshape(rows, columns, *style.shape), title, style)
