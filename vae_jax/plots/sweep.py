"""What the plots of a sweep share: swept values on an axis, the best member."""

import numpy as np

from vae_jax.plots import base
from vae_jax.workdir import ranking

WHITE = {"facecolor": "w", "edgecolor": "none", "pad": 0.6}  # behind text
RING = {"facecolors": "none", "edgecolors": base.HIGHLIGHT, "linewidths": 2.2, "zorder": 5}


def ordered(values: list, field: str | None) -> bool:
    """Whether a line may join neighbours: not between words or seeds."""
    return field != ranking.SEED and ranking.numeric(values)


def places(values: list, field: str | None) -> np.ndarray:
    """Where values lie on an axis or a colour scale.

    At their logarithms where they span more than a decade, else at themselves; evenly spaced where
    neither can be (words, seeds, a zero below several decades).
    """
    even = np.arange(len(values), dtype=float)
    if not ordered(values, field):
        return even
    numbers = np.array(values, float)
    positive = numbers[numbers > 0]
    if positive.size == 0 or positive.max() <= 10 * positive.min():
        return numbers
    return np.log10(numbers) if positive.size == numbers.size else even


def ticks(places: np.ndarray, gap: float) -> list[int]:
    """The indices of values that lie at least `gap` of the whole range apart."""
    shown = [0]
    for i in range(1, len(places)):
        if places[i] - places[shown[-1]] >= gap * np.ptp(places):
            shown.append(i)
    return shown


def best_in_words(members: list[dict]) -> str:
    """Which member is the best, and by which metric."""
    metric, ranked = ranking.ranking(members)
    if not ranked:
        return "no best member"
    return f"best by validation {ranking.NAMES[metric]}: {ranking.named(ranked[0])}"
