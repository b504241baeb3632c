"""Distance of samples from training examples, in a feature space learned from the dataset's labels.

Test examples are measured in the same way, as the reference.
"""

import jax
import numpy as np

from vae_jax.data import Dataset
from vae_jax.estimators.estimator import Estimator
from vae_jax.estimators.features import Features, make_features
from vae_jax.estimators.task import Study, Task, of_block
from vae_jax.metrics.sample_quality import frechet, neighbourhood
from vae_jax.types import Example, Field

NEIGHBOURS = 5
BLOCK = 500  # examples and samples that are made at a time
UNIT = 4  # so many times fewer examples predict the run time, which grows with the square
METRICS = ("precision", "recall", "density", "coverage")


def num_compared(section, dataset: Dataset) -> int:
    return min(section.feature_examples, dataset.train.num, dataset.test.num)


def task(study: Study) -> Task:
    run, dataset, settings = study.run, study.dataset, study.run.config.eval
    num = num_compared(settings, dataset)
    draw_key, choose_key = jax.random.split(ESTIMATOR.rng(settings.seed))

    def chosen(split: str, num: int) -> np.ndarray:
        order = jax.random.permutation(choose_key, getattr(dataset, split).num)
        return np.asarray(order[:num])

    def real(features: Features, split: str, num: int) -> np.ndarray:
        positions, found = chosen(split, num), []
        for i in range(0, num, BLOCK):
            found.append(features.apply(run.as_evaluated(dataset, split, positions[i : i + BLOCK])))
        return np.concatenate(found)

    def sampled(features: Features, num: int, noise: bool) -> np.ndarray:
        """Features of samples, with the conditions and the missing values of test examples."""
        positions, found = chosen("test", num), []
        for i in range(-(-num // BLOCK)):
            given = dataset.test.examples(of_block(positions, i, BLOCK))
            key = jax.random.fold_in(draw_key, i)
            x = run.sample(key, BLOCK, noise, given.condition).reshape(BLOCK, -1)
            found.append(features.apply(Example(x, given.condition, given.observed)))
            study.check()
        return np.concatenate(found)[:num]

    def compare(num: int) -> dict:
        features = make_features(dataset, run.config.data.binarize, settings.label)
        training = real(features, "train", num)
        sets = {
            "test": real(features, "test", num),
            "draws": sampled(features, num, noise=True),
            "means": sampled(features, num, noise=False),
        }
        found = {"accuracy": features.accuracy, "digest": features.digest}
        for kind, points in sets.items():
            near = neighbourhood(training, points, NEIGHBOURS)._asdict()
            found |= {f"{kind}/{metric}": value for metric, value in near.items()}
            found[f"{kind}/frechet"] = frechet(training, points)
        return {name: np.array([value]) for name, value in found.items()}

    def summarize(arrays: dict, _others: dict) -> dict:
        found: dict = {"num_examples": num, "neighbours": NEIGHBOURS}
        found["feature_space"] = str(arrays["digest"][0])
        found["feature_accuracy"] = float(arrays["accuracy"][0])
        for kind in ("test", "draws", "means"):
            metrics = (*METRICS, "frechet")
            found[kind] = {metric: float(arrays[f"{kind}/{metric}"][0]) for metric in metrics}
        return found

    return Task(
        about=f"{num:,} samples against as many examples of train and test",
        settings={
            "feature_examples": num,
            "neighbours": NEIGHBOURS,
            "label": settings.label,
        },
        num=1,
        size=1,
        block=lambda _i: compare(num),
        units=UNIT**2,
        unit=lambda: compare(max(num // UNIT, 2 * NEIGHBOURS))["accuracy"],
        summarize=summarize,
    )


def line(found: dict) -> str:
    def of(name: str, kind: str) -> str:
        shares = "/".join(f"{found[kind][metric]:.2f}" for metric in METRICS)
        return f"{name} {shares}, Frechet {found[kind]['frechet']:.4g}"

    draws, means = of("x ~ p(x|z)", "draws"), of("E[x|z]", "means")
    reference = of("test examples, the reference,", "test")
    numbers = f"{draws}; {means}; {reference}; {found['num_examples']:,} of each"
    return f"{'/'.join(METRICS)}: {numbers}"


def needs(_section) -> tuple[str, ...]:
    return ("a prior to sample from", "labels of several classes")


def enough(section, dataset: Dataset) -> str:
    num = num_compared(section, dataset)
    if num > NEIGHBOURS:
        return ""
    return (
        f"'samples' looks at {NEIGHBOURS} nearest neighbours, so it needs more than the {num} "
        "examples that eval.feature_examples, train and test allow"
    )


ESTIMATOR = Estimator(
    name="samples",
    task=task,
    line=line,
    meaning="samples against training examples, in a feature space trained on the labels (not "
    "FID's)",
    pictures=(),
    needs=needs,
    fields={
        "feature_examples": Field(
            5_000, "test, train and sampled examples that are compared by their features", above=0
        )
    },
    enough=enough,
    key=8,
)
