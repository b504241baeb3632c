"""How close a set of samples is to a set of real examples, both given as features [n, d].

All of these depend on how many points there are: compare only numbers from sets of the same sizes.
"""

from typing import NamedTuple

import numpy as np

from vae_jax.errors import UserError

_ROUNDING = 1e-13  # of |a|^2 + |b|^2 is more than |a|^2 + |b|^2 - 2ab loses to cancellation in float64


class Neighbourhood(NamedTuple):
    """The ball of a point reaches to the k-th nearest of the other points of its own set, and includes its surface."""

    precision: float  # the share of samples that lie in the ball of some real example
    recall: float  # the share of real examples that lie in the ball of some sample
    density: float  # in how many real balls a sample lies, over k: 1 is to be expected of a perfect model
    coverage: float  # the share of real examples whose ball holds a sample


def neighbourhood(real: np.ndarray, fake: np.ndarray, k: int = 5, block: int = 1000) -> Neighbourhood:
    """Whether samples `fake` [m, d] look real, and whether they show all that is `real` [n, d].

    Precision and recall are those of Kynkäänniemi et al. 2019 (arXiv:1904.06991, equations 1 and 2), density and
    coverage those of Naeem et al. 2020 (arXiv:2002.09797, section 3). Points on the surface of a ball lie in it, as in
    the former's equation 1, so that duplicates count; identical sets therefore have density (k + 1) / k. Memory is
    that of distances from `block` points to all others.

    Raises:
      UserError: a set has no more than k points.
    """
    if min(len(real), len(fake)) <= k:
        raise UserError(
            f"the {k} nearest neighbours need more than {k} examples: there are {len(real)} real ones and "
            f"{len(fake)} samples"
        )
    centre = np.mean(real, axis=0, dtype=np.float64)  # far from the origin, differences would be lost to rounding
    real, fake = real - centre, fake - centre
    in_ball, balls_of_fake = _count(real, fake, k, block)
    _, balls_of_real = _count(fake, real, k, block)
    return Neighbourhood(
        precision=float(np.mean(balls_of_fake > 0)),
        recall=float(np.mean(balls_of_real > 0)),
        density=float(np.mean(balls_of_fake) / k),
        coverage=float(np.mean(in_ball > 0)),
    )


def _count(centres: np.ndarray, points: np.ndarray, k: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """How many points lie in the ball of every centre [n], and in how many balls every point lies [m]."""
    in_ball, balls = np.zeros(len(centres), np.int64), np.zeros(len(points), np.int64)
    for start in range(0, len(centres), block):
        some = centres[start : start + block]
        to_own, _ = _squared_distances(some, centres)
        own = np.arange(len(some))
        to_own[own, start + own] = np.inf  # a point is no neighbour of its own
        radius = np.partition(to_own, k - 1, axis=1)[:, k - 1 : k]
        squared, rounding = _squared_distances(some, points)
        inside = squared - rounding <= radius
        in_ball[start + own] = inside.sum(1)
        balls += inside.sum(0)
    return in_ball, balls


def _squared_distances(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every pair, and what rounding may have added to them: both [len(a), len(b)]."""
    norms = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)
    return norms - 2 * a @ b.T, _ROUNDING * norms


def frechet(real: np.ndarray, fake: np.ndarray) -> float:
    """The squared Fréchet distance of the Gaussians fitted to `real` [n, d] and `fake` [m, d]; NaN if a feature is.

        |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^1/2)          (Dowson & Landau 1982)

    With any factors S_i = R_i^T R_i the trace of the root is the sum of the singular values of R_1 R_2^T, and the
    triangular factor of the centred data is one: no covariance is formed, so singular ones lose no digits.

    Raises:
      UserError: a set has fewer than two points.
    """
    if min(len(real), len(fake)) < 2:
        raise UserError(f"a covariance needs two examples: there are {len(real)} real ones and {len(fake)} samples")
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        return float("nan")
    (mean_1, root_1), (mean_2, root_2) = _moments(real), _moments(fake)
    between = np.linalg.svd(root_1 @ root_2.T, compute_uv=False).sum()
    apart = np.sum((mean_1 - mean_2) ** 2) + np.sum(root_1**2) + np.sum(root_2**2) - 2 * between
    return float(max(apart, 0.0))


def _moments(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean [d] and a factor R [min(n, d), d] of the covariance R^T R."""
    mean = np.mean(points, axis=0, dtype=np.float64)
    return mean, np.linalg.qr(points - mean, mode="r") / np.sqrt(len(points) - 1)
