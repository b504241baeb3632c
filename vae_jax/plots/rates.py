"""The rate of every latent unit (rates.png)."""

from pathlib import Path

import numpy as np

from vae_jax.metrics.active_units import ACTIVE
from vae_jax.plots import base

MOST_BARS, MOST_NAMED = 100, 60


def draw(path: Path, unit_rate: np.ndarray, activity: np.ndarray | None, title: str) -> None:
    """Draws KL(q(z|x) || p(z)) of every unit in nats [Z] as a bar, the largest first.

    `activity` [Z]: the variance of each unit's posterior mean, which tells active units apart.
    """
    order = np.argsort(-unit_rate, kind="stable")
    shown = order[:MOST_BARS]
    figure, axes = base.figure(float(np.clip(0.16 * len(shown) + 2.4, 5.5, 11)), 3.4)
    axis = axes[0, 0]
    if activity is None:
        axis.bar(range(len(shown)), unit_rate[shown], width=0.8, color=base.TRAIN)
    else:
        _active_and_inactive(axis, unit_rate[shown], activity[shown] > ACTIVE, activity > ACTIVE)
    named = shown if len(shown) <= MOST_NAMED else []
    axis.set_xticks(range(len(named)), [str(unit) for unit in named], fontsize=7)
    if len(shown) > 24:
        axis.tick_params(axis="x", rotation=90)
    rest = order[MOST_BARS:]
    left = f"; {len(rest)} more, {unit_rate[rest].sum():.3g} nats together" if len(rest) else ""
    axis.set_xlabel(f"latent unit, by KL{left}", fontsize=8)
    axis.set_ylabel("KL, nats per example", fontsize=8)
    axis.set_xlim(-0.7, len(shown) - 0.3)
    axis.set_ylim(0, 1.3 * max(unit_rate.max(), 1e-6))  # room for the legend
    axis.tick_params(axis="y", labelsize=8)
    axis.grid(axis="y", alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    base.open_frame(axis)
    base.head(figure, title)
    base.save(figure, path)


def _active_and_inactive(axis, rate: np.ndarray, active: np.ndarray, all_active) -> None:
    """Bars of the rates in two colours. `all_active`: which of all units are, drawn or not."""
    for kind, colour, name in ((True, base.TRAIN, "active"), (False, base.INACTIVE, "inactive")):
        where = np.flatnonzero(active == kind)
        if len(where):
            label = f"{name}: {np.sum(all_active == kind)} units"
            axis.bar(where, rate[where], width=0.8, color=colour, label=label)
    title = f"variance of the posterior mean > {ACTIVE}"
    axis.legend(title=title, fontsize=8, frameon=False, title_fontsize=8)
