"""The rate-distortion curve of the decoder on test examples, and where the encoder lies beside it."""

from functools import partial

import jax
import numpy as np

from vae_jax import rng as streams
from vae_jax.estimators import ais
from vae_jax.estimators.task import Study, Task
from vae_jax.metrics.importance_bound import bound
from vae_jax.metrics.rate_distortion_curve import curve

POINTS = 60  # of the curve, at most
SAMPLES = 100  # of z, for the encoder's point beside it


@partial(jax.jit, static_argnums=(0, 6))
def _encoder(model, params, hypers, x, key, positions, per_step: int):
    """(distortion, rate) of the encoder [B]: where its ELBO lies."""
    found = bound(model, params, x, key, positions, hypers, SAMPLES, per_step)
    return found.distortion, found.rate.sum(-1)


def task(study: Study) -> Task:
    run, settings = study.run, study.run.config.eval
    beyond, per_step = settings.rate_distortion_max_beta, settings.samples_per_step
    annealer = ais.Annealer(study, "rate_distortion", "prior", beyond)
    epsilon = streams.of_split(settings.seed, "test").epsilon
    betas = annealer.rungs.beta.astype(np.float64)
    one = settings.ais_distributions - 1  # where beta is 1
    shown = np.unique([*np.linspace(0, len(betas) - 1, POINTS - 1).round().astype(int), one])

    def block(x, positions) -> dict:
        _, trace = annealer.forward(x, positions)
        distortion, rate = curve(betas[shown], trace.log_w[..., shown], trace.log_ratio[..., shown])
        point = _encoder(run.model, run.params, run.hypers, x, epsilon, positions, per_step)
        found = {"distortion": distortion, "rate": rate, "elbo_distortion": point[0], "elbo_rate": point[1]}
        return ais.behaviour(trace) | found

    def summarize(arrays: dict) -> dict:
        points = {"beta": betas[shown].tolist(), "max_beta": beyond}
        for name in ("distortion", "rate"):
            points[f"elbo_{name}"] = float(arrays[f"elbo_{name}"].mean())
            points[name] = arrays[name].mean(0).tolist()
            points[f"{name}_stderr"] = (arrays[name].std(0, ddof=1) / np.sqrt(len(arrays[name]))).tolist()
        return points

    depends = {"max_beta": beyond, "samples_per_step": per_step}
    return ais.annealed(annealer, study.test_examples(), study.positions, block, summarize, passes=2, **depends)
