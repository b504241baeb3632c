"""Distances between a set of samples and a set of real examples, both as features [n, d].

All depend on the number of points: compare only values of sets of the same sizes.
"""

from typing import NamedTuple

import numpy as np

from vae_jax.errors import UserError

# Times |a|^2 + |b|^2: more than the error of |a|^2 + |b|^2 - 2ab by cancellation in float64.
_ROUNDING = 1e-13


class Neighbourhood(NamedTuple):
    """Shares of points in balls.

    The radius of the ball of a point is its distance to the k-th nearest other point of its own
    set; the surface is included.
    """

    precision: float  # share of samples in the ball of some real example
    recall: float  # share of real examples in the ball of some sample
    density: float  # mean number of real balls that a sample is in, over k; perfect: about 1
    coverage: float  # share of real examples whose ball has a sample in it


def neighbourhood(
    real: np.ndarray, fake: np.ndarray, k: int = 5, block: int = 1000
) -> Neighbourhood:
    """Precision, recall, density and coverage of samples.

    Precision and recall are those of Kynkäänniemi et al. 2019 (arXiv:1904.06991, equations 1 and
    2), density and coverage those of Naeem et al. 2020 (arXiv:2002.09797, section 3). The surface
    of a ball is part of it, as in the former's equation 1, so that duplicates count; identical sets
    therefore have density (k + 1) / k.

    Args:
      real: features of real examples  [n, d].
      fake: features of samples  [m, d].
      k: which neighbour is on the surface.
      block: memory is that of the distances of so many points to all others.

    Raises:
      UserError: a set has no more than k points.
    """
    if min(len(real), len(fake)) <= k:
        raise UserError(
            f"the {k} nearest neighbours need more than {k} examples: there are {len(real)} real "
            f"ones and {len(fake)} samples"
        )
    # Far from the origin, distances would be lost to rounding.
    centre = np.mean(real, axis=0, dtype=np.float64)
    real = real - centre
    fake = fake - centre
    in_ball, balls_of_fake = _count(real, fake, k, block)
    _, balls_of_real = _count(fake, real, k, block)
    return Neighbourhood(
        precision=float(np.mean(balls_of_fake > 0)),
        recall=float(np.mean(balls_of_real > 0)),
        density=float(np.mean(balls_of_fake) / k),
        coverage=float(np.mean(in_ball > 0)),
    )


def _count(
    centres: np.ndarray, points: np.ndarray, k: int, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """The number of points in each centre's ball [n], and of balls that each point is in [m]."""
    in_ball = np.zeros(len(centres), np.int64)
    balls = np.zeros(len(points), np.int64)
    for start in range(0, len(centres), block):
        some = centres[start : start + block]
        to_own, _ = _squared_distances(some, centres)
        own = np.arange(len(some))
        to_own[own, start + own] = np.inf  # a point is not its own neighbour
        radius = np.partition(to_own, k - 1, axis=1)[:, k - 1 : k]
        squared, rounding = _squared_distances(some, points)
        inside = squared - rounding <= radius
        in_ball[start + own] = inside.sum(1)
        balls += inside.sum(0)
    return in_ball, balls


def _squared_distances(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The squared distances of all pairs, and bounds on their errors, both [len(a), len(b)]."""
    norms = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)
    return norms - 2 * a @ b.T, _ROUNDING * norms


def frechet(real: np.ndarray, fake: np.ndarray) -> float:
    """The squared Fréchet distance of two fitted Gaussians; NaN where a feature is not finite.

        |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^1/2)          (Dowson & Landau 1982)

    With any factors S_i = R_i^T R_i the trace of the root is the sum of the singular values of
    R_1 R_2^T. Such a factor is the triangular one of the centred data: no covariance is computed,
    so singular ones lose no digits.

    Args:
      real: features of real examples  [n, d].
      fake: features of samples  [m, d].

    Raises:
      UserError: a set has fewer than two points.
    """
    if min(len(real), len(fake)) < 2:
        raise UserError(
            f"a covariance needs two examples: there are {len(real)} real ones and {len(fake)} "
            "samples"
        )
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        return float("nan")
    mean_1, root_1 = _moments(real)
    mean_2, root_2 = _moments(fake)
    between = np.linalg.svd(root_1 @ root_2.T, compute_uv=False).sum()
    apart = np.sum((mean_1 - mean_2) ** 2) + np.sum(root_1**2) + np.sum(root_2**2) - 2 * between
    return float(max(apart, 0.0))


def _moments(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean [d] and a factor R [min(n, d), d] of the covariance R^T R."""
    mean = points.mean(axis=0, dtype=np.float64)
    return mean, np.linalg.qr(points - mean, mode="r") / np.sqrt(len(points) - 1)
