"""One latent unit at a time, decoded over its range (traversal.png)."""

from pathlib import Path

import numpy as np

from vae_jax.plots import examples
from vae_jax.plots.examples import Layout
from vae_jax.plots.scene import TAIL, Scene

NUM_UNITS, NUM_VALUES = 12, 11  # fewer of large examples
REACH = 3.0  # standard deviations of the prior


def draw(path: Path, scene: Scene) -> None:
    """Draws a row per unit, whose value runs over the row.

    The other units stay at the code of the first test example. The unit with the largest KL comes
    first or, where the prior is not N(0, I), the one with the largest variance.
    """
    mean = scene.means
    rate = scene.rate if scene.standard_normal else None
    score = scene.activity if rate is None else rate
    # At most one inactive unit is shown.
    most = min(examples.rows_that_fit(scene.style, NUM_UNITS), scene.num_active + 1)
    units = np.argsort(-score, kind="stable")[:most]
    values, labels, span = _values(scene, units)
    num = values.shape[1]
    z = np.tile(mean[0], (len(units), num, 1))
    z[np.arange(len(units)), :, units] = values
    own = np.abs(values - mean[0, units][:, None]).argmin(axis=1)
    if rate is None:
        order = "by variance"
        rows = [f"{scene.symbol}[{unit}]  variance {score[unit]:.3g}" for unit in units]
    else:
        order = "by KL"
        rows = [f"{scene.symbol}[{unit}]  KL {score[unit]:.2f} nats" for unit in units]
    all_units = len(units) == mean.shape[1]
    of = f"all {len(units)} units" if all_units else f"{len(units)} of {mean.shape[1]} units"
    title = (
        f"Traversal of {of}, {order}: each {span}, the others at the code of one test example\n"
        f"outlined: nearest to that example's own value; {scene.about}"
    )
    decoded = scene.decode(scene.with_layer(z), np.zeros(len(z), int))
    layout = Layout(rows, labels, outlined=list(enumerate(own)))
    examples.draw(path, decoded, title, scene.style, layout)


def _values(scene: Scene, units: np.ndarray) -> tuple[np.ndarray, list[str], str]:
    """(the values of each unit [R, C], the labels of the columns, what they span in words)."""
    num = examples.columns_that_fit(scene.style, NUM_VALUES)
    # Odd, so that one is in the middle.
    num = max(3, num // 2 * 2 - 1) if num < NUM_VALUES - 1 else NUM_VALUES
    if scene.standard_normal:
        values = np.tile(np.linspace(-REACH, REACH, num), (len(units), 1))
        labels = [f"{value:+.2g}" if value else "0" for value in values[0].round(6)]
        return values, labels, f"from {-REACH:g} to {REACH:g} standard deviations of the prior"
    low, high = scene.span[:, units]
    labels = [f"{TAIL:.0%}", *[""] * (num - 2), f"{1 - TAIL:.0%}"]
    span = f"from its {labels[0]} to its {labels[-1]} quantile over test examples"
    return np.linspace(low, high, num, axis=1), labels, span
