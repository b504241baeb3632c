"""What the codes of a run mean, in pictures: paths between codes, one unit at a time, the plane of a 2-D code."""

from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from vae_jax.metrics.active_units import ACTIVE
from vae_jax.plots import base
from vae_jax.run import Codes, Run

NUM_PAIRS, NUM_STEPS, NUM_VALUES, NUM_UNITS, NUM_QUANTILES = 8, 9, 11, 12, 20  # where the examples are small
REACH = 3.0  # standard deviations of the prior
TAIL = 0.01  # of the observed codes, left out at either end where there is no prior


class Scene(NamedTuple):
    """What is known of a run when its codes are drawn."""

    run: Run
    x: np.ndarray  # the test examples that stand for all, as evaluated  [n, *example_shape]
    codes: Codes  # of these, then of more test examples
    prior: bool  # whether z has the prior N(0, I)
    unit_rate: np.ndarray | None  # KL per unit over the test split, nats  [Z]; None where it is not known
    style: base.Look
    about: str  # the data and the state of the training

    @property
    def activity(self) -> np.ndarray:
        """The variance of the codes' means, per unit  [Z]."""
        return self.codes.mean.var(axis=0, dtype=np.float64)


def on_the_line(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Codes from a to b [n, Z] at shares t [T] of the way: [n, T, Z]."""
    return a[:, None] + t[:, None] * (b - a)[:, None]


def on_the_sphere(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Likewise, but the direction turns along the great circle and the norm changes linearly: slerp (Shoemake 1985)
    where the norms are equal. Codes at or opposite each other, or at the origin, have no such circle: the line."""
    norms = np.linalg.norm(a, axis=1, keepdims=True), np.linalg.norm(b, axis=1, keepdims=True)
    u, v = (x / np.maximum(norm, 1e-12) for x, norm in zip((a, b), norms, strict=True))
    cosine = np.sum(u * v, axis=1, keepdims=True)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = [np.sin(x * angle) / np.sin(angle) for x in (1 - t, t)]  # [n, T] each
    turned = shares[0][..., None] * u[:, None] + shares[1][..., None] * v[:, None]
    turned *= (norms[0] + t * (norms[1] - norms[0]))[..., None]
    circle = (np.sin(angle) > 1e-4) & (norms[0] > 1e-6) & (norms[1] > 1e-6)
    return np.where(circle[..., None], turned, on_the_line(a, b, t))


def interpolation(path: Path, scene: Scene) -> None:
    """A row per pair of test examples: the decoded path between their codes, the examples themselves at the ends."""
    shape = scene.x.shape[1:]
    pairs = min(base.that_fit(shape, NUM_PAIRS, axis=0), len(scene.x) // 2)
    if pairs == 0:
        return
    steps = base.that_fit(shape, NUM_STEPS + 2, least=5) - 2
    first, second = np.arange(pairs), len(scene.x) // 2 + np.arange(pairs)
    # The means of a VAE lie in its active units, and where these are many, in a shell around the origin, though a
    # smaller one than the prior's. The line leaves that shell; the great circle with interpolated norms stays in it,
    # and inactive units stay near zero on both. (configs/mnist.py, 25 active of 50 units: norms 4.3 +- 0.6; half-way
    # E[x|z] has an entropy of 88 nats on the line, 70 on the circle, 67 at the ends.) One or two active units fill
    # their plane, and a code without a prior has no centre: there the path is the line.
    sphere = scene.prior and int(np.sum(scene.activity > ACTIVE)) > 2
    t = np.linspace(0, 1, steps)
    z = (on_the_sphere if sphere else on_the_line)(scene.codes.mean[first], scene.codes.mean[second], t)
    decoded = _decode(scene.run, z)
    x = np.concatenate([scene.x[first][:, None], decoded, scene.x[second][:, None]], axis=1)
    way = "on the sphere (great circles, norms interpolated)" if sphere else "on the line"
    base.tiles(
        path,
        x,
        f"Interpolation {way} between the codes of pairs of test examples, which stand at the ends\n{scene.about}",
        scene.style,
        columns=["x", *(f"{share:.3g}" for share in t), "x'"],
        breaks=((), (1, steps + 1)),
    )


def traversal(path: Path, scene: Scene) -> None:
    """A row per unit, the one with the largest KL (without a prior: variance) first: its value runs over the row, all
    others stay at the code of one test example."""
    score = scene.unit_rate if scene.prior and scene.unit_rate is not None else scene.activity
    num_active = int(np.sum(scene.activity > ACTIVE))
    most = min(NUM_UNITS, base.that_fit(scene.x.shape[1:], NUM_UNITS, axis=0), num_active + 1)
    units = np.argsort(-score, kind="stable")[:most]  # at most one that is inactive
    num = base.that_fit(scene.x.shape[1:], NUM_VALUES) // 2 * 2 - 1
    num = NUM_VALUES if num + 2 >= NUM_VALUES else num
    mean = scene.codes.mean
    if scene.prior:
        values = np.tile(np.linspace(-REACH, REACH, num), (len(units), 1))
        span = f"from {-REACH:g} to {REACH:g} standard deviations of the prior"
        columns = [f"{value:+.2g}" if value else "0" for value in values[0].round(6)]
    else:
        low, high = np.quantile(mean[:, units], (TAIL, 1 - TAIL), axis=0)
        values = np.linspace(low, high, num, axis=1)
        span = f"from its {TAIL:.0%} to its {1 - TAIL:.0%} quantile over test examples"
        columns = [f"{TAIL:.0%}", *[""] * (num - 2), f"{1 - TAIL:.0%}"]
    z = np.tile(mean[0], (len(units), num, 1))
    z[np.arange(len(units)), :, units] = values
    own = np.abs(values - mean[0, units][:, None]).argmin(axis=1)
    known = scene.prior and scene.unit_rate is not None
    labels = [f"z[{u}]  KL {score[u]:.2f} nats" if known else f"z[{u}]  variance {score[u]:.3g}" for u in units]
    order = "by KL" if known else "by variance"
    of = f"{len(units)} of {mean.shape[1]} units" if len(units) < mean.shape[1] else f"all {len(units)} units"
    base.tiles(
        path,
        _decode(scene.run, z),
        f"Traversal of {of}, {order}: each {span}, the others at the code of one test example\n"
        f"outlined: nearest to that example's own value; {scene.about}",
        scene.style,
        rows=labels,
        columns=columns,
        marked=list(enumerate(own)),
    )


def manifold(path: Path, scene: Scene) -> None:
    """Decoded points of a grid in the plane of a 2-D code, evenly spaced in the prior's probability, as in figure 4
    of Kingma & Welling 2014; without a prior evenly spaced over the observed codes."""
    num = int(np.clip(base.WIDEST // base.tile_size(scene.x.shape[1:], NUM_QUANTILES)[1], 5, NUM_QUANTILES))
    if scene.prior:
        quantiles = [NormalDist().inv_cdf((i + 0.5) / num) for i in range(num)]
        values, where = np.array([quantiles, quantiles]), "at quantiles of the prior N(0, I)"
    else:
        limits = np.quantile(scene.codes.mean, (TAIL, 1 - TAIL), axis=0)
        values, where = np.linspace(*limits, num, axis=1), "over the range of the test examples' codes"
    right, up = values[0], values[1][::-1]
    z = np.stack(np.broadcast_arrays(right[None, :], up[:, None]), axis=-1)
    labels = [[f"{value:.2f}" for value in axis] for axis in (up, right)]
    title = f"The plane of the code: E[x|z] {where}\n{scene.about}"
    base.tiles(path, _decode(scene.run, z), title, scene.style, *labels, names=("z[1]", "z[0]"))


def _decode(run: Run, z: np.ndarray) -> np.ndarray:
    """E[x|z] of codes [R, C, Z], a row at a time: [R, C, *example_shape]."""
    return np.stack([np.asarray(run.decode(row)) for row in z])
