"""The importance-weighted bound with very many samples, at several numbers of them in one stream."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import rng as streams
from vae_jax.estimators.task import Study, Task, even, of_block
from vae_jax.metrics import importance_weights as weights
from vae_jax.metrics.importance_weights import Weights
from vae_jax.models import draw_batch

STEPS = 20  # of eval.samples_per_step samples each, in one compiled call


@partial(jax.jit, static_argnums=(0, 7))
def more(model, params, hypers, x, key, positions, running: Weights, per_step: int, first, limit) -> Weights:
    """`running` with the weights of samples first, ..., first + STEPS per_step - 1 that are below `limit`.

    Sample k of an example has its own noise, so the bound with fewer samples is that of the first of them.
    """

    def add(running, step):
        samples = first + step * per_step + jnp.arange(per_step)
        draw = draw_batch(model, params, x, key, positions, samples, hypers)
        return weights.add(running, jnp.where(samples < limit, draw.log_w, -jnp.inf)), None

    return jax.lax.scan(add, running, jnp.arange(STEPS))[0]


def bounds(study: Study, x, key, positions, numbers: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The bound with each of `numbers` samples, and the effective number of these: {"log_p", "effective"} [B, numbers].

    x [B, D]; the noise of example b belongs to positions[b].
    """
    run, per_step = study.run, study.run.config.eval.samples_per_step
    running, first, found = weights.none((len(x),)), 0, []
    for limit in sorted(numbers):
        while first < limit:
            running = more(run.model, run.params, run.hypers, x, key, positions, running, per_step, first, limit)
            first = min(limit, first + STEPS * per_step)
            study.check()
        found.append((weights.log_mean(running, limit), weights.effective(running)))
    log_p, effective = (np.stack(columns, axis=1) for columns in zip(*found, strict=True))
    return {"log_p": log_p, "effective": effective}


def task(study: Study) -> Task:
    settings = study.run.config.eval
    numbers, n = tuple(sorted(settings.iwae_samples)), len(study.positions)
    size = even(n, settings.batch_size)
    key, x = streams.of_split(settings.seed, "test").epsilon, study.test_examples()

    def unit():
        args = study.run.params, study.run.hypers, of_block(x, 0, size), key, of_block(study.positions, 0, size)
        return more(study.run.model, *args, weights.none((size,)), settings.samples_per_step, 0, numbers[-1])

    def block(i: int) -> dict:
        return bounds(study, of_block(x, i, size), key, of_block(study.positions, i, size), numbers)

    return Task(
        name="iwae",
        about=f"{n:,} examples x {numbers[-1]:,} importance samples",
        settings={"iwae_samples": numbers},
        num=n,
        size=size,
        block=block,
        units=-(-n // size) * -(-numbers[-1] // (STEPS * settings.samples_per_step)),
        unit=unit,
        summarize=lambda arrays, _others: {"bounds": summarize(arrays, numbers)},
    )


def summarize(arrays: dict, numbers: tuple[int, ...]) -> list[dict]:
    return [
        {"samples": num} | of_log_means(arrays["log_p"][:, j], arrays["effective"][:, j], num)
        for j, num in enumerate(numbers)
    ]


def of_log_means(log_p: np.ndarray, effective: np.ndarray, num: int) -> dict:
    """Of the logarithms of means of `num` weights, one for each of n examples: their mean and both of its errors.

    `stderr` is over the choice of the examples, `noise_stderr` over the weights' noise with the examples as they are:
    to first order, so too small where few weights are effective, and unknown (None) of a single one.
    """
    log_p, n = np.asarray(log_p, np.float64), len(log_p)
    noise = np.maximum(weights.log_mean_variance(np.asarray(effective, np.float64), num), 0.0)
    return {
        "log_p": float(log_p.mean()),
        "stderr": float(log_p.std(ddof=1) / np.sqrt(n)),
        "noise_stderr": float(np.sqrt(noise.sum()) / n) if num > 1 else None,
        "effective_samples": float(np.median(effective)),
    }
