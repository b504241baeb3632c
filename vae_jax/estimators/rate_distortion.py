"""The rate-distortion curve of the decoder on test examples, and where the encoder lies beside it."""

from functools import partial

import jax
import numpy as np

from vae_jax import rng as streams
from vae_jax.estimators import ais
from vae_jax.estimators.task import Study, Task, even, of_block
from vae_jax.evaluation.likelihood import bound
from vae_jax.evaluation.rate_distortion import curve

POINTS = 60  # of the curve, at most
SAMPLES = 100  # of z, for the encoder's point beside it


@partial(jax.jit, static_argnums=(0, 6))
def _encoder(model, params, hypers, x, key, positions, per_step: int):
    """(distortion, rate) of the encoder [B]: where its ELBO lies."""
    found = bound(model, params, x, key, positions, hypers, SAMPLES, per_step)
    return found.distortion, found.rate.sum(-1)


def task(study: Study) -> Task:
    settings, x = study.run.config.eval, study.test_examples()
    beyond = settings.rate_distortion_max_beta
    annealer = ais.Annealer(study, "rate_distortion", "prior", beyond)
    size = even(len(x), ais.examples_per_block(study))
    epsilon = streams.of_split(settings.seed, "test").epsilon
    betas = annealer.rungs.beta.astype(np.float64)
    shown = np.unique(np.r_[np.linspace(0, len(betas) - 1, POINTS - 1).round(), settings.ais_distributions - 1]).astype(
        int
    )

    def block(i: int) -> dict:
        _, trace = annealer.forward(of_block(x, i, size), of_block(study.positions, i, size))
        distortion, rate = curve(betas[shown], trace.log_w[..., shown], trace.log_ratio[..., shown])
        found = ais.behaviour(trace) | {"distortion": distortion, "rate": rate}
        args = of_block(x, i, size), epsilon, of_block(study.positions, i, size), settings.samples_per_step
        point = _encoder(study.run.model, study.run.params, study.run.hypers, *args)
        return found | dict(zip(("elbo_distortion", "elbo_rate"), point, strict=True))

    def summarize(arrays: dict, _others: dict) -> dict:
        points = {"beta": [float(beta) for beta in betas[shown]]}
        for name in ("distortion", "rate"):
            points[f"elbo_{name}"] = float(arrays[f"elbo_{name}"].mean())
            points[name] = [float(value) for value in arrays[name].mean(0)]
            points[f"{name}_stderr"] = [float(v) for v in arrays[name].std(0, ddof=1) / np.sqrt(len(x))]
        return points | ais.judge(arrays) | annealer.settings | {"max_beta": beyond}

    return Task(
        name="rate_distortion",
        about=f"{len(x):,} examples x {ais.describe(annealer)}",
        settings=annealer.settings | {"max_beta": beyond, "samples_per_step": settings.samples_per_step},
        num=len(x),
        size=size,
        block=block,
        units=2 * -(-len(x) // size) * annealer.num_calls(),
        unit=lambda: annealer.unit(of_block(x, 0, size), of_block(study.positions, 0, size)),
        summarize=summarize,
    )
