"""Active units: those whose posterior mean depends on x (Burda et al. 2016, section 4)."""

import numpy as np

ACTIVE = 0.01  # a unit is active when its activity exceeds this


def unit_activity(total: np.ndarray, squares: np.ndarray, num: int) -> np.ndarray:
    """Var_x(E_q[z]) per unit, [..., Z].

    Args:
      total: sum of the posterior means over examples, float64 [..., Z].
      squares: sum of their squares, float64 [..., Z].
      num: the number of examples.
    """
    with np.errstate(invalid="ignore"):  # a member that diverged may have infinite means
        return np.maximum(squares / num - (total / num) ** 2, 0.0)


def active_units(activity: np.ndarray, threshold: float = ACTIVE) -> int:
    """The number of units whose activity [Z] exceeds `threshold`."""
    return int(np.sum(activity > threshold))
