"""Test examples beside their reconstructions (reconstructions.png)."""

from pathlib import Path

import jax
import numpy as np

from vae_jax.plots import examples
from vae_jax.plots.examples import Layout, Style
from vae_jax.run import Run
from vae_jax.types import Example

NUM_COLUMNS = 10  # fewer of large examples
TWO_BLOCKS = 130  # pixels: up to this height of a tile there are two blocks


def draw(
    path: Path,
    run: Run,
    rng: jax.Array,
    shown: Example,
    style: Style,
    code: str,
    about: str,
    level: str | None = None,
) -> None:
    """Draws blocks of three rows: x as the encoder sees it, E[x|z], and their difference.

    Args:
      code: what z is, in words.
      level: the stochastic layer that they are made from, see `Run.reconstruct`.
    """
    num = len(shown.x)
    columns = min(examples.columns_that_fit(style, NUM_COLUMNS), num)
    blocks = 2 if style.tile_size()[0] <= TWO_BLOCKS and num >= 2 * columns else 1
    shown = jax.tree.map(lambda leaf: leaf[: blocks * columns], shown)
    x = shown.x.reshape(-1, *style.shape)
    decoded = np.asarray(run.reconstruct(rng, *shown, level=level))
    difference = x - decoded
    if shown.observed is not None:  # a missing value has no error
        difference = np.where(shown.observed.reshape(x.shape), difference, 0.0)
    error = np.sqrt(np.mean(np.square(difference, dtype=np.float64)))
    zero = style.kind.zero(style.shape)
    title = (
        f"Test examples x as the encoder sees them, and E[x|z] {code}\n"
        f"differences: root mean square {error:.3g} per value{zero and f'; {zero}'}\n{about}"
    )
    parts = [a.reshape(blocks, 1, columns, *style.shape) for a in (x, decoded, difference)]
    table = np.concatenate(parts, axis=1).reshape(3 * blocks, columns, *style.shape)
    layout = Layout(
        rows=["x", "E[x|z]", "x − E[x|z]"] * blocks,
        row_breaks=range(3, 3 * blocks, 3),
        signed=range(2, 3 * blocks, 3),
    )
    examples.draw(path, table, title, style, layout)
