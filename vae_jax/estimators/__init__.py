"""Estimates beyond the evaluation's own bound: what `config.eval.estimators` names, for one member of a run.

To add one: a function `Study -> Task` and an entry in ESTIMATORS; its name goes to the end of `rng.ESTIMATES`.
"""

from collections.abc import Callable

import jax
import numpy as np

from vae_jax import rng as streams
from vae_jax.data import Dataset
from vae_jax.distributions import Gaussian
from vae_jax.errors import UserError
from vae_jax.estimators import ais, gaps, iwae, latents, probes, rate_distortion, samples
from vae_jax.estimators.task import Study, perform
from vae_jax.parallel import population
from vae_jax.run import Run
from vae_jax.training.program import Program

ESTIMATORS = {
    "iwae": iwae.task,
    "ais": ais.task,
    "bdmc": ais.bidirectional,
    "rate_distortion": rate_distortion.task,
    "gaps": gaps.task,
    "latents": latents.task,
    "probes": probes.task,
    "samples": samples.task,
}


def check(program: Program, dataset: Dataset) -> None:
    """Whether the estimators of the config fit the model and the data.

    Raises:
      UserError: one does not; it names those that fit.
    """
    asked = program.config.eval.estimators
    if not asked:
        return
    given = properties(program, dataset)
    num = min(program.config.eval.bounds_examples, dataset.test.num)
    if num < 2:
        raise UserError(
            f"eval.estimators need two test examples or more, or their errors are not known: eval.bounds_examples is "
            f"{program.config.eval.bounds_examples:,}, and {dataset.name} has {dataset.test.num:,}"
        )
    num = min(program.config.eval.feature_examples, dataset.train.num, dataset.test.num)
    if "samples" in asked and num <= samples.NEIGHBOURS:
        raise UserError(
            f"eval.estimators: 'samples' looks at {samples.NEIGHBOURS} nearest neighbours, so it needs more than the "
            f"{num} examples that eval.feature_examples, train and test allow"
        )
    annealed = ("ais", "bdmc") if program.config.eval.ais_initial == "prior" else ()  # from there
    needs = {
        "a density log p(x, z)": ("iwae", "ais", "bdmc", "rate_distortion", "gaps"),
        "a prior density log p(z)": ("rate_distortion", *annealed),
        "the prior N(0, I)": ("latents",),
        "a prior to sample from": ("bdmc", "rate_distortion", "samples", *annealed),
        "a density log q(z|x)": () if annealed else ("ais", "bdmc"),
        "a diagonal Gaussian q(z|x)": ("gaps", "latents"),
        "a code, the mean of q(z|x)": ("probes",),
        "labels": ("probes", "samples"),
    }
    fit = [name for name in ESTIMATORS if all(given[need] for need, names in needs.items() if name in names)]
    for name in asked:
        for need, names in needs.items():
            if name in names and not given[need]:
                who = dataset.name if need == "labels" else "this model"
                there = f"what fits is {', '.join(fit)}" if fit else "no estimator fits"
                raise UserError(f"eval.estimators: {name!r} needs {need}, which {who} does not have; {there}")


def properties(program: Program, dataset: Dataset) -> dict[str, bool]:
    """What an estimator may need, and whether it is there."""
    alone = program.alone(program.changes[0])  # as wide as its own latent dimension
    model, hypers = alone.model, population.member(alone.hypers, 0)
    params, x = model.init(jax.random.key(0), hypers), np.zeros(np.prod(program.example_shape), np.float32)
    posterior = jax.eval_shape(model.encode, params, x, hypers)
    return {
        "a density log p(x, z)": model.log_joint is not None,
        "a prior density log p(z)": model.log_prior is not None,
        "the prior N(0, I)": latents.is_standard_normal(model, params, hypers),
        "a prior to sample from": model.sample_prior is not None,
        "a density log q(z|x)": model.log_q is not None,
        "a diagonal Gaussian q(z|x)": isinstance(posterior, Gaussian),
        "a code, the mean of q(z|x)": getattr(getattr(posterior, "mean", None), "ndim", 0) == 1,
        "labels": all(split.label is not None for split in (dataset.train, dataset.valid, dataset.test)),
    }


def estimate(run: Run, dataset: Dataset, stop: Callable = lambda: None) -> dict:
    """What results.json says under `evaluation` of the member that `run` is: {"examples": ..., name: numbers}.

    Args:
      stop: called between pieces of work; may raise, and what was done before is kept.
    """
    settings, num = run.config.eval, dataset.test.num
    chosen = jax.random.permutation(streams.of_examples(settings.seed), num)[: settings.bounds_examples]
    study = Study(run, dataset, np.sort(np.asarray(chosen)), stop)
    tasks = [ESTIMATORS[name](study) for name in ESTIMATORS if name in settings.estimators]  # "ais" before "gaps"
    found = perform(study, tasks)
    numbers = {task.name: _finite(task.summarize(found[task.name], found)) for task in tasks}
    return {"seed": settings.seed, "examples": study.positions.tolist()} | numbers


def _finite(numbers: dict) -> dict:
    """`numbers`, or a warning in their place: one that is not finite makes the others worthless."""
    values = [np.asarray(leaf) for leaf in jax.tree.leaves(numbers) if not isinstance(leaf, str)]
    bad = not all(np.isfinite(value).all() for value in values)
    return {"warning": "its numbers are not finite: look at the model's log p(x, z), or its codes"} if bad else numbers
