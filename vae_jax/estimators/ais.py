"""Annealed importance sampling of test examples: a lower bound on log p(x)."""

import numpy as np

from vae_jax.estimators.annealer import (
    FIELDS,
    Annealer,
    annealed,
    behaviour,
    initial_needs,
    log_means,
    of_chains,
)
from vae_jax.estimators.estimator import Estimator, Row
from vae_jax.estimators.iwae import in_words
from vae_jax.estimators.task import Study, Task
from vae_jax.types import Example


def task(study: Study) -> Task:
    annealer = Annealer(study, ESTIMATOR)

    def block(x: Example, positions) -> dict:
        log_w, trace = annealer.forward(x, positions)
        return behaviour(trace) | {"log_w": log_w}

    def summarize(arrays: dict, others: dict) -> dict:
        found = of_chains(arrays["log_w"])
        if "iwae" not in others:
            return found
        log_p, _ = log_means(arrays["log_w"])
        samples = max(study.run.config.eval.iwae_samples)
        return found | {"above_iwae": above(log_p, others["iwae"]["log_p"][:, -1], samples)}

    return annealed(annealer, study.test_examples(), study.positions, block, summarize, passes=2)


def above(log_p: np.ndarray, bound: np.ndarray, samples: int) -> dict:
    """How far `log_p` [n] lies above the importance-weighted bound [n] of the same examples.

    The difference varies less from example to example than either does: added to the bound of a
    whole test set, it estimates what these would come to for all of it.
    """
    difference = np.asarray(log_p, np.float64) - bound
    return {
        "samples": samples,
        "difference": float(difference.mean()),
        "stderr": float(difference.std(ddof=1) / np.sqrt(len(difference))),
    }


def line(found: dict) -> str:
    ladder = f"{found['ais_chains']} chains x {found['ais_distributions']:,} distributions"
    text = (
        f"{in_words(found)}, {ladder} from the {found['ais_initial']}; "
        f"acceptance {found['acceptance']:.2f}"
    )
    if more := found.get("above_iwae"):
        text += f"; {more['difference']:.3f} +- {more['stderr']:.3f} above the bound of "
        text += f"{more['samples']:,} importance samples"
    return text


def rows(found: dict) -> list[Row]:
    label = f"AIS, {found['ais_distributions']:,} distributions"
    return [Row("test examples", label, found)]


def needs(section) -> tuple[str, ...]:
    return ("a density log p(x, z)", *initial_needs(section))


ESTIMATOR = Estimator(
    name="ais",
    task=task,
    line=line,
    meaning="annealed importance sampling of the same examples: a lower bound on log p(x)",
    pictures=(),
    needs=needs,
    fields=FIELDS,
    rows=rows,
    beside=("iwae",),
    key=2,
)
