"""Annealed importance sampling of test examples: a lower bound on log p(x)."""

from vae_jax.estimators.annealer import (
    FIELDS,
    Annealer,
    annealed,
    behaviour,
    initial_needs,
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

    def summarize(arrays: dict) -> dict:
        return of_chains(arrays["log_w"])

    return annealed(annealer, study.test_examples(), study.positions, block, summarize, passes=2)


def line(found: dict) -> str:
    ladder = f"{found['ais_chains']} chains x {found['ais_distributions']:,} distributions"
    return (
        f"{in_words(found)}, {ladder} from the {found['ais_initial']}; "
        f"acceptance {found['acceptance']:.2f}"
    )


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
    key=2,
)
