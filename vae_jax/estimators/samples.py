"""How close samples are to examples of the training set, in a feature space of the project's own, with test examples
measured in the same way as the reference."""

import jax
import numpy as np

from vae_jax import rng as streams
from vae_jax.estimators.features import make_features
from vae_jax.estimators.task import Study, Task
from vae_jax.metrics.sample_quality import frechet, neighbourhood

NEIGHBOURS = 5
BLOCK = 500  # examples and samples that are made at a time
UNIT = 4  # times as few examples are timed to foretell the whole: distances grow with the square


def task(study: Study) -> Task:
    run, dataset, settings = study.run, study.dataset, study.run.config.eval
    num = min(settings.feature_examples, dataset.train.num, dataset.test.num)
    draw_key, choose_key = jax.random.split(streams.of_estimate(settings.seed, "samples"))

    def examples(features, split: str, num: int) -> np.ndarray:
        chosen = np.asarray(jax.random.permutation(choose_key, getattr(dataset, split).num)[:num])
        blocks = (chosen[i : i + BLOCK] for i in range(0, num, BLOCK))
        return np.concatenate([features.apply(run.as_evaluated(dataset, split, block)) for block in blocks])

    def sampled(features, num: int, noise: bool) -> np.ndarray:
        found = []
        for i in range(-(-num // BLOCK)):
            x = run.sample(jax.random.fold_in(draw_key, i), BLOCK, noise)
            found.append(features.apply(np.asarray(x).reshape(BLOCK, -1)))
            study.check()
        return np.concatenate(found)[:num]

    def compare(num: int) -> dict:
        features = make_features(dataset, run.config.data.binarize)
        real = examples(features, "train", num)
        sets = {
            "test": examples(features, "test", num),
            "draws": sampled(features, num, noise=True),
            "means": sampled(features, num, noise=False),
        }
        found = {"accuracy": features.accuracy, "digest": features.digest}
        for name, points in sets.items():
            found |= {f"{name}/{k}": v for k, v in neighbourhood(real, points, NEIGHBOURS)._asdict().items()}
            found[f"{name}/frechet"] = frechet(real, points)
        return {name: np.array([value]) for name, value in found.items()}

    def summarize(arrays: dict, _others: dict) -> dict:
        found = {"num_examples": num, "neighbours": NEIGHBOURS, "feature_space": str(arrays["digest"][0])}
        found["feature_accuracy"] = float(arrays["accuracy"][0])
        for kind in ("test", "draws", "means"):
            found[kind] = {name.split("/")[1]: float(v[0]) for name, v in arrays.items() if name.startswith(f"{kind}/")}
        return found

    return Task(
        name="samples",
        about=f"{num:,} samples against as many examples of train and test",
        settings={"feature_examples": num, "neighbours": NEIGHBOURS},
        num=1,
        size=1,
        block=lambda _i: compare(num),
        units=UNIT**2,
        unit=lambda: compare(max(num // UNIT, 2 * NEIGHBOURS))["accuracy"],
        summarize=summarize,
    )
