"""Paths between the codes of pairs of test examples (interpolation.png)."""

from pathlib import Path

import jax
import numpy as np

from vae_jax.plots import examples
from vae_jax.plots.examples import Layout
from vae_jax.plots.scene import Scene

NUM_PAIRS, NUM_STEPS = 8, 9  # fewer of large examples


def on_the_line(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Codes from a to b [n, Z] at shares t [T] of the way: [n, T, Z]."""
    return a[:, None] + t[:, None] * (b - a)[:, None]


def on_the_sphere(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Codes from a to b [n, Z] along great circles, the norm changing linearly: [n, T, Z].

    This is slerp (Shoemake 1985) where the norms are equal. Codes in the same or in opposite
    directions, or at the origin, have no such circle: their path is the line.
    """
    norm_a = np.linalg.norm(a, axis=1, keepdims=True)
    norm_b = np.linalg.norm(b, axis=1, keepdims=True)
    u = a / np.maximum(norm_a, 1e-12)
    v = b / np.maximum(norm_b, 1e-12)
    angle = np.arccos(np.clip(np.sum(u * v, axis=1, keepdims=True), -1.0, 1.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        share_a = np.sin((1 - t) * angle) / np.sin(angle)  # [n, T]
        share_b = np.sin(t * angle) / np.sin(angle)
    turned = share_a[..., None] * u[:, None] + share_b[..., None] * v[:, None]
    turned *= (norm_a + t * (norm_b - norm_a))[..., None]
    circle = (np.sin(angle) > 1e-4) & (norm_a > 1e-6) & (norm_b > 1e-6)
    return np.where(circle[..., None], turned, on_the_line(a, b, t))


def draw(path: Path, scene: Scene) -> None:
    """Draws a row per pair: the decoded path between the codes, the examples at the ends."""
    x, style = scene.x, scene.style
    pairs = min(examples.rows_that_fit(style, NUM_PAIRS), len(x) // 2)
    if pairs == 0:
        return
    steps = examples.columns_that_fit(style, NUM_STEPS + 2, least=5) - 2
    first = np.arange(pairs)
    second = len(x) // 2 + first
    t = np.linspace(0, 1, steps)
    # The means of a VAE lie in its active units, and where these are many, in a shell around the
    # origin, though a smaller one than the prior's. The line leaves that shell; the great circle
    # with interpolated norms stays in it, and inactive units stay near zero on both.
    # (configs/mnist.py, 25 active of 50 units: norms 4.3 +- 0.6; half-way E[x|z] has an entropy of
    # 88 nats on the line, 70 on the circle, 67 at the ends.) One or two active units fill their
    # plane, and a code without a prior has no centre: there the path is the line.
    sphere = scene.standard_normal and scene.num_active > 2
    way = on_the_sphere if sphere else on_the_line
    z = jax.tree.map(lambda mean: way(mean[first], mean[second], t), scene.codes.mean)
    decoded = scene.decode(z, first)
    table = np.concatenate([x[first][:, None], decoded, x[second][:, None]], axis=1)
    words = "on the sphere (great circles, norms interpolated)" if sphere else "on the line"
    title = (
        f"Interpolation {words} between the codes of pairs of test examples, which stand at the "
        f"ends\n{scene.about}"
    )
    labels = ["x", *(f"{share:.3g}" for share in t), "x'"]
    layout = Layout(columns=labels, column_breaks=(1, steps + 1))
    examples.draw(path, table, title, style, layout)
