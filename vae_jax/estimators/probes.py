"""Label accuracy of simple classifiers of codes, fitted on the training set, on the test set."""

import numpy as np

from vae_jax.estimators.estimator import Estimator
from vae_jax.estimators.task import Study, Task
from vae_jax.metrics.label_probes import linear_probe, nearest_neighbours

NEIGHBOURS = 10
UNIT = 2_000  # training examples of the fit that is timed to predict the run time


def task(study: Study) -> Task:
    """The code of an example is the mean of its posterior."""
    run, dataset = study.run, study.dataset
    num, num_test = dataset.train.num, dataset.test.num
    neighbours = min(NEIGHBOURS, num)

    def codes(split: str, n: int):
        """Of n examples evenly over the split, which may be sorted by label."""
        positions = np.arange(n) * getattr(dataset, split).num // n
        return run.codes(dataset, split, positions)

    def score(num_train: int, num_test: int) -> dict:
        train, test = codes("train", num_train), codes("test", num_test)
        study.check()
        sets = train.mean, train.label, test.mean, test.label
        found = {
            "linear_probe": linear_probe(*sets),
            "nearest_neighbours": nearest_neighbours(*sets, k=neighbours),
        }
        return {name: np.array([value]) for name, value in found.items()}

    def summarize(arrays: dict, _others: dict) -> dict:
        found = {name: float(values[0]) for name, values in arrays.items()}
        return {"num_train": num, "num_examples": num_test, "neighbours": neighbours} | found

    return Task(
        about=f"classifiers of {num:,} codes",
        settings={"neighbours": neighbours, "label": run.config.eval.label},
        num=1,
        size=1,
        block=lambda _i: score(num, num_test),
        units=max(1, num // UNIT),
        unit=lambda: score(min(UNIT, num), min(UNIT, num_test))["linear_probe"],
        summarize=summarize,
    )


def line(found: dict) -> str:
    return (
        f"accuracy {found['linear_probe']:.2%} of a linear probe, "
        f"{found['nearest_neighbours']:.2%} of {found['neighbours']} nearest neighbours"
    )


def needs(_section) -> tuple[str, ...]:
    return ("a code, the mean of q(z|x)", "labels of several classes")


ESTIMATOR = Estimator(
    name="probes",
    task=task,
    line=line,
    meaning="how much of the labels simple classifiers read from the codes",
    pictures=(),
    needs=needs,
    key=7,
)
