"""Estimates beyond the evaluation's own bound: what `config.eval.estimators` names, of one member.

To add one: a file that defines ESTIMATOR, and a line in ESTIMATORS. A user's own come in `parts=`.
"""

from collections.abc import Callable

import jax
import numpy as np

from vae_jax import rng as streams
from vae_jax.data import Dataset
from vae_jax.distributions import Gaussian
from vae_jax.errors import Attempt, UserError, must
from vae_jax.estimators import ais, bdmc, gaps, iwae, latents, probes, rate_distortion, samples
from vae_jax.estimators.estimator import Estimator, Picture, Row
from vae_jax.estimators.task import Study, Task, perform
from vae_jax.run import Run
from vae_jax.training.program import Program

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "Picture",
    "Row",
    "Study",
    "Task",
    "check",
    "estimate",
    "properties",
]

ESTIMATORS: dict[str, Estimator] = {
    "iwae": iwae.ESTIMATOR,
    "ais": ais.ESTIMATOR,
    "bdmc": bdmc.ESTIMATOR,
    "rate_distortion": rate_distortion.ESTIMATOR,
    "gaps": gaps.ESTIMATOR,
    "latents": latents.ESTIMATOR,
    "probes": probes.ESTIMATOR,
    "samples": samples.ESTIMATOR,
}
OF_DATA = ("labels of several classes",)  # of CAPABILITIES; the others are of the model


def _alone(asked: dict[str, Estimator]) -> str:
    """Which estimator is asked for without one that it is made from, or ""."""
    for name, estimator in asked.items():
        for other in estimator.after:
            if other not in asked:
                return f"eval.estimators: {name!r} is made from {other!r}, so name that, too"
    return ""


def _not_enough(section, dataset: Dataset, asked: dict[str, Estimator]) -> str:
    """What is wrong with the number of examples, or ""."""
    if min(section.bounds_examples, dataset.test.num) < 2:
        return (
            "eval.estimators need two test examples or more, or their errors are not known: "
            f"eval.bounds_examples is {section.bounds_examples:,}, and {dataset.name} has "
            f"{dataset.test.num:,}"
        )
    for estimator in asked.values():
        wrong = estimator.enough(section, dataset) if estimator.enough else ""
        if wrong:
            return f"eval.estimators: {wrong}"
    return ""


def check(program: Program, dataset: Dataset) -> None:
    """Whether the estimators of the config fit the model and the data.

    Raises:
      UserError: one does not; it names those that fit.
    """
    section, known = program.config.eval, program.catalogue.parts["estimator"]
    asked = {name: known[name] for name in section.estimators}
    if not asked:
        return
    wrong = _alone(asked) or _not_enough(section, dataset, asked)
    if wrong:
        raise UserError(wrong)
    given = properties(program, dataset)
    missing = {
        name: [need for need in estimator.needs(section) if not given.get(need)]
        for name, estimator in known.items()
    }
    fit = [name for name in known if not missing[name]]
    for name in asked:
        if missing[name]:
            need = missing[name][0]
            label = f"{section.label!r} of " if section.label else ""
            who = f"{label}{dataset.name}" if need in OF_DATA else "this model"
            there = f"what fits is {', '.join(fit)}" if fit else "no estimator fits"
            raise UserError(
                f"eval.estimators: {name!r} needs {need}, which {who} does not have; {there}"
            )


def properties(program: Program, dataset: Dataset) -> dict[str, bool]:
    """Which of the CAPABILITIES the model and the data have."""
    model, posterior = program.model, program.draw_like.posterior
    return {
        "a density log p(x, z)": model.log_joint is not None,
        "a prior density log p(z)": model.log_prior is not None,
        "the prior N(0, I)": model.standard_normal,
        "a prior to sample from": model.sample_prior is not None,
        "a density log q(z|x)": model.log_q is not None,
        "a diagonal Gaussian q(z|x)": _is_gaussian(posterior),
        "a code, the mean of q(z|x)": getattr(getattr(posterior, "mean", None), "ndim", 0) == 1,
        "labels of several classes": _has_classes(dataset, program.config.eval.label),
    }


def _is_gaussian(posterior) -> bool:
    """Of several layers, whether each conditional is."""
    layers = posterior.values() if isinstance(posterior, dict) else [posterior]
    return all(isinstance(layer, Gaussian) for layer in layers)


def _has_classes(dataset: Dataset, name: str) -> bool:
    """Whether the labels `name`, by default the first ones, are whole numbers, of training examples
    not all the same."""
    splits = (dataset.train, dataset.valid, dataset.test)
    columns = [split.columns.get(name) if name else split.label for split in splits]
    if any(column is None or not np.issubdtype(column.dtype, np.integer) for column in columns):
        return False
    found = dataset.train.labels(slice(None), name)
    return found is not None and bool((found != found[0]).any())


def estimate(
    run: Run,
    dataset: Dataset,
    stop: Callable[[], None] = lambda: None,
    attempt: Attempt = must,
) -> dict:
    """The numbers of the run's member in `evaluation` of results.json: {name: numbers}, beside the
    seed and the test examples that were chosen.

    Args:
      stop: called between pieces of work; may raise, and what was done before is kept.
      attempt: of each estimator. One that fails has no numbers, nor has one made from it.
    """
    section, known = run.config.eval, run.catalogue.parts["estimator"]
    order = jax.random.permutation(streams.of_examples(section.seed), dataset.test.num)
    positions = np.sort(np.asarray(order[: section.bounds_examples]))
    study = Study(run, dataset, positions, stop)
    asked = {name: known[name] for name in known if name in section.estimators}
    tasks, numbers = {}, {}
    for name, estimator in asked.items():
        with attempt(name):
            tasks[name] = estimator.task(study)
    arrays = perform(study, tasks, attempt)
    for name in arrays:
        with attempt(name):
            if lost := [other for other in asked[name].after if other not in arrays]:
                raise UserError(f"it is made from {lost[0]}, which failed")
            numbers[name] = _finite(tasks[name].summarize(arrays[name], arrays))
    return {"seed": section.seed, "examples": positions.tolist()} | numbers


def _finite(numbers: dict) -> dict:
    """`numbers`; a warning alone where one of them is not finite, which makes all worthless."""
    for leaf in jax.tree.leaves(numbers):
        if not isinstance(leaf, str) and not np.isfinite(leaf).all():
            warning = "its numbers are not finite: look at the model's log p(x, z), or its codes"
            return {"warning": warning}
    return numbers
