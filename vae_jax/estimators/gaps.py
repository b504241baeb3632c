"""How much of log p(x) the family of q costs, and how much the encoder: on the test examples that AIS estimates."""

from functools import partial

import jax
import numpy as np

from vae_jax import rng as streams
from vae_jax.estimators.ais import log_means
from vae_jax.estimators.task import Study, Task, even, of_block
from vae_jax.metrics.inference_gaps import best_posterior, elbo

UNIT = 20  # steps that are timed to foretell the rest
SAMPLES = 1000  # of the noise on which both ELBOs are evaluated, which is not that of the optimization


@partial(jax.jit, static_argnums=(0, 5, 6))
def _optimize(model, params, hypers, x, keys, num_steps, num_samples):
    one = lambda x, key: best_posterior(model, params, x, key, hypers, num_steps, num_samples)  # noqa: E731
    return jax.vmap(one)(x, keys)


@partial(jax.jit, static_argnums=(0, 6))
def _elbos(model, params, hypers, x, q, keys, per_step):
    """(of the encoder's q, of the given one), on the same noise."""

    def one(x, q, key):
        of = lambda q: elbo(model, params, x, q, key, hypers, SAMPLES, per_step)  # noqa: E731
        return of(model.encode(params, x, hypers)), of(q)

    return jax.vmap(one)(x, q, keys)


def task(study: Study) -> Task:
    run, settings, x = study.run, study.run.config.eval, study.test_examples()
    size = even(len(x), settings.batch_size)
    optimize_key, noise_key = jax.random.split(streams.of_estimate(settings.seed, "gaps"))
    steps, samples = settings.gap_steps, settings.gap_samples

    def optimize(i: int, num_steps: int):
        keys = streams.fold(optimize_key, of_block(study.positions, i, size))
        return _optimize(run.model, run.params, run.hypers, of_block(x, i, size), keys, num_steps, samples)

    def block(i: int) -> dict:
        keys = streams.fold(noise_key, of_block(study.positions, i, size))
        args = of_block(x, i, size), optimize(i, steps), keys, settings.samples_per_step
        amortized, best = _elbos(run.model, run.params, run.hypers, *args)
        return {"elbo": amortized, "best_elbo": best}

    def summarize(arrays: dict, others: dict) -> dict:
        log_p = log_means(others["ais"]["log_w"])[0]
        parts = {
            "log_p": log_p,
            "best_elbo": arrays["best_elbo"],
            "elbo": arrays["elbo"],
            "approximation": log_p - arrays["best_elbo"],
            "amortization": arrays["best_elbo"] - arrays["elbo"],
        }
        found = {"gap_steps": steps, "gap_samples": samples}
        for name, values in parts.items():
            values = values.astype(np.float64)
            stderr = values.std(ddof=1) / np.sqrt(len(values))
            found |= {name: float(values.mean()), f"{name}_stderr": float(stderr)}
        return found

    return Task(
        name="gaps",
        about=f"{len(x):,} examples, {steps:,} steps of {samples} samples for the best q(z|x) of each",
        settings={"gap_steps": steps, "gap_samples": samples, "samples_per_step": settings.samples_per_step},
        num=len(x),
        size=size,
        block=block,
        units=-(-len(x) // size) * -(-steps // UNIT),
        unit=lambda: optimize(0, UNIT),
        summarize=summarize,
    )
