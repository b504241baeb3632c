"""How much of the labels the codes tell: classifiers fitted to codes of the training set, scored on the test set."""

import numpy as np

from vae_jax.estimators.task import Study, Task
from vae_jax.metrics.label_probes import linear_probe, nearest_neighbours

NEIGHBOURS = 10
UNIT = 2_000  # training examples of the fit that is timed to foretell the whole


def task(study: Study) -> Task:
    """The code of an example is its posterior's mean."""
    num, num_test = (getattr(study.dataset, split).num for split in ("train", "test"))
    neighbours = min(NEIGHBOURS, num)

    def score(num_train: int, num_test: int) -> dict:
        # So many, evenly over the split, which may be sorted by label.
        spread = lambda split, n: np.arange(n) * getattr(study.dataset, split).num // n  # noqa: E731
        train, test = (
            study.run.codes(study.dataset, split, spread(split, n))
            for split, n in (("train", num_train), ("test", num_test))
        )
        study.check()
        sets = train.mean, train.label, test.mean, test.label
        found = {"linear_probe": linear_probe(*sets), "nearest_neighbours": nearest_neighbours(*sets, k=neighbours)}
        return {name: np.array([value]) for name, value in found.items()}

    def summarize(arrays: dict, _others: dict) -> dict:
        found = {name: float(values[0]) for name, values in arrays.items()}
        return {"num_train": num, "num_examples": num_test, "neighbours": neighbours} | found

    return Task(
        name="probes",
        about=f"classifiers of {num:,} codes",
        settings={"neighbours": neighbours},
        num=1,
        size=1,
        block=lambda _i: score(num, num_test),
        units=max(1, num // UNIT),
        unit=lambda: score(min(UNIT, num), min(UNIT, num_test))["linear_probe"],
        summarize=summarize,
    )
