"""What the latent units hold."""

import numpy as np

ACTIVE = 0.01  # a unit is active when its activity exceeds this (Burda et al. 2016, section 4)


def unit_activity(total: np.ndarray, squares: np.ndarray, num: int) -> np.ndarray:
    """Var_x(E_q[z]) per unit (Burda et al. 2016, section 4), from sums over `num` examples.

    `total` and `squares` [..., Z], float64: sums of the posterior means and of their squares.
    """
    with np.errstate(invalid="ignore"):  # a member that diverged may have infinite means
        return np.maximum(squares / num - (total / num) ** 2, 0.0)


def active_units(activity: np.ndarray, threshold: float = ACTIVE) -> int:
    """The number of units whose activity [Z] exceeds `threshold`."""
    return int(np.sum(activity > threshold))
