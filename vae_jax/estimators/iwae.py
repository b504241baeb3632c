"""The importance-weighted bound with very many samples, for several numbers of them at once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import rng as streams
from vae_jax.estimators.estimator import Estimator, Row
from vae_jax.estimators.task import Study, Task, even, of_block
from vae_jax.metrics import importance_weights as weights
from vae_jax.metrics.importance_weights import Weights
from vae_jax.models.draws import batch_size, draw_batch
from vae_jax.types import Example, Field

STEPS = 20  # of eval.samples_per_step samples each, in one compiled call


@partial(jax.jit, static_argnums=(0, 7))
def more(
    model,
    params,
    hypers,
    x: Example,
    key,
    positions,
    running: Weights,
    per_step: int,
    first,
    limit,
) -> Weights:
    """`running` with the weights of STEPS * per_step samples from `first` on, those below `limit`.

    Each sample of an example has its own noise: the bound with fewer samples is that of the first
    ones.
    """

    def add(running, step):
        samples = first + step * per_step + jnp.arange(per_step)
        draw = draw_batch(model, params, x, key, positions, samples, hypers)
        return weights.add(running, jnp.where(samples < limit, draw.log_w, -jnp.inf)), None

    return jax.lax.scan(add, running, jnp.arange(STEPS))[0]


def bounds(study: Study, x: Example, key, positions, numbers: tuple[int, ...]) -> dict:
    """{"log_p", "effective"}: the bound with each of `numbers` samples, and the effective number of
    these  [B, len(numbers)].

    Args:
      x: leaves [B, ...].
      positions: which noise each example has  [B].
    """
    run, per_step = study.run, study.run.config.eval.samples_per_step
    running, first, found = weights.none((batch_size(x),)), 0, []
    for limit in sorted(numbers):
        while first < limit:
            args = run.params, run.hypers, x, key, positions, running, per_step, first, limit
            running = more(run.model, *args)
            first = min(limit, first + STEPS * per_step)
            study.check()
        found.append((weights.log_mean(running, limit), weights.effective(running)))
    log_p, effective = (np.stack(columns, axis=1) for columns in zip(*found, strict=True))
    return {"log_p": log_p, "effective": effective}


def task(study: Study) -> Task:
    run, settings = study.run, study.run.config.eval
    numbers, n = tuple(sorted(settings.iwae_samples)), len(study.positions)
    size, per_step = even(n, settings.batch_size), settings.samples_per_step
    key, x = streams.of_split(settings.seed, "test").epsilon, study.test_examples()

    def unit():
        first_block = of_block(x, 0, size), key, of_block(study.positions, 0, size)
        rest = weights.none((size,)), per_step, 0, numbers[-1]
        return more(run.model, run.params, run.hypers, *first_block, *rest)

    def block(i: int) -> dict:
        return bounds(study, of_block(x, i, size), key, of_block(study.positions, i, size), numbers)

    return Task(
        about=f"{n:,} examples x {numbers[-1]:,} importance samples",
        settings={"iwae_samples": numbers},
        num=n,
        size=size,
        block=block,
        units=-(-n // size) * -(-numbers[-1] // (STEPS * per_step)),
        unit=unit,
        summarize=lambda arrays, _others: {"bounds": summarize(arrays, numbers)},
    )


def summarize(arrays: dict, numbers: tuple[int, ...]) -> list[dict]:
    return [
        {"samples": num} | of_log_means(arrays["log_p"][:, j], arrays["effective"][:, j], num)
        for j, num in enumerate(numbers)
    ]


def of_log_means(log_p: np.ndarray, effective: np.ndarray, num: int) -> dict:
    """The mean over n examples of the logarithm of a mean of `num` weights, and both of its errors.

    `stderr` is over the choice of the examples. `noise_stderr` is over the noise of the weights
    with the examples fixed: to first order, so too small where few weights are effective, and None
    of a single one.

    Args:
      log_p, effective: of each example  [n].
    """
    log_p, n = np.asarray(log_p, np.float64), len(log_p)
    noise = np.maximum(weights.log_mean_variance(np.asarray(effective, np.float64), num), 0.0)
    return {
        "log_p": float(log_p.mean()),
        "stderr": float(log_p.std(ddof=1) / np.sqrt(n)),
        "noise_stderr": float(np.sqrt(noise.sum()) / n) if num > 1 else None,
        "effective_samples": float(np.median(effective)),
    }


def in_words(bound: dict) -> str:
    """A bound with both of its errors."""
    noise = "unknown" if bound["noise_stderr"] is None else f"{bound['noise_stderr']:.2f}"
    return f"{bound['log_p']:.2f} +- {bound['stderr']:.2f} (noise {noise})"


def line(found: dict) -> str:
    parts = [
        f"{in_words(bound)} with {bound['samples']:,} samples, "
        f"{bound['effective_samples']:.3g} effective"
        for bound in found["bounds"]
    ]
    return "; ".join(parts)


def rows(found: dict) -> list[Row]:
    return [Row("test examples", f"IWAE-{bound['samples']:,}", bound) for bound in found["bounds"]]


def needs(_section) -> tuple[str, ...]:
    return ("a density log p(x, z)",)


def fits(config: dict, _data) -> str:
    if not config["eval.iwae_samples"]:
        return "eval.iwae_samples is empty, expected at least one number of samples"
    return ""


FIELDS = {
    "iwae_samples": Field((5_000, 100_000), "numbers of importance samples per example", above=0)
}
ESTIMATOR = Estimator(
    name="iwae",
    task=task,
    line=line,
    meaning="importance-weighted bound on log p(x): lower, tighter with more samples",
    pictures=(),
    needs=needs,
    fields=FIELDS,
    rows=rows,
    fits=fits,
    key=1,
)
