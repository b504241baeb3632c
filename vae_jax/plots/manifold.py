"""The plane of a two-dimensional code, decoded (manifold.png)."""

from pathlib import Path
from statistics import NormalDist

import numpy as np

from vae_jax.plots import examples
from vae_jax.plots.examples import Layout
from vae_jax.plots.scene import Scene

LEAST, MOST = 5, 20  # values on either axis


def draw(path: Path, scene: Scene) -> None:
    """Draws E[x|z] on a grid in the plane of z.

    The values are evenly spaced in the probability of the prior N(0, I), as in figure 4 of Kingma &
    Welling 2014, and without that prior over the codes of test examples.
    """
    width = scene.style.tile_size(MOST)[1]
    num = int(np.clip(examples.WIDEST // width, LEAST, MOST))
    if scene.standard_normal:
        quantiles = [NormalDist().inv_cdf((i + 0.5) / num) for i in range(num)]
        values = np.array([quantiles, quantiles])
        where = "at quantiles of the prior N(0, I)"
    else:
        low, high = scene.span
        values = np.linspace(low, high, num, axis=1)
        where = "over the range of the test examples' codes"
    right, up = values[0], values[1][::-1]
    z = np.stack(np.broadcast_arrays(right[None, :], up[:, None]), axis=-1)
    rows, columns = ([f"{value:.2f}" for value in axis] for axis in (up, right))
    title = f"The plane of the code: E[x|z] {where}\n{scene.about}"
    decoded = scene.decode(scene.with_layer(z), np.zeros(len(z), int))
    layout = Layout(rows, columns, axes=(f"{scene.symbol}[1]", f"{scene.symbol}[0]"))
    examples.draw(path, decoded, title, scene.style, layout)
