"""The one evaluation: during training with one sample, at the end with many; whole splits, every example once."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import numpy as np

from vae_jax import population, sharding
from vae_jax.data import Split
from vae_jax.evaluation import latents
from vae_jax.evaluation.likelihood import Bound
from vae_jax.program import Program


class Evaluation(NamedTuple):
    """What a split of n examples gives, for N members, on the host."""

    log_p: np.ndarray  # the importance-weighted bound  [N, n]
    distortion: np.ndarray  # [N, n]
    rate: np.ndarray  # summed over units  [N, n]
    unit_rate: np.ndarray  # mean over examples, per unit  [N, Z]
    activity: np.ndarray | None  # variance of the posterior means, per unit  [N, Z]; None without such means


def make_evaluate(program: Program) -> Callable:
    """`evaluate(params, split, name, num_samples, check) -> Evaluation`: every example once.

    `check()` is called between blocks, and may raise to end the evaluation. Memory grows with N n, not N n Z.
    """
    evaluation = program.config.eval
    mesh = sharding.make_mesh(population.size(program.hypers), evaluation.batch_size)
    hypers = sharding.place(mesh, program.hypers, "member")
    block = _block(program.steps.evaluate)

    def evaluate(params, split: Split, name: str, num_samples: int, check: Callable = lambda: None) -> Evaluation:
        size, samples = evaluation.batch_size, min(num_samples, evaluation.samples_per_step)
        params, total, pending = sharding.place(mesh, params, "member"), _Total(), None
        for start in range(0, split.num, size):
            # The last block is filled up with the last example, whose copies are not counted.
            positions = np.minimum(np.arange(start, start + size), split.num - 1)
            x = sharding.place(mesh, split.take(positions).reshape(size, -1), "data")
            where = sharding.place(mesh, positions.astype(np.int32), "data")
            running = block(params, hypers, x, where, name, num_samples, samples), min(size, split.num - start)
            if pending:
                total.add(*pending)  # one block late, which keeps the device busy
            pending = running
            check()
        total.add(*pending)
        return total.result(split.num)

    return evaluate


class _Total:
    """Evaluations of blocks, put together."""

    def __init__(self):
        self.per_example, self.sums = [], None

    def add(self, bound: Bound, num: int) -> None:
        bound = jax.tree.map(lambda leaf: leaf[:, :num], sharding.fetch(bound))
        self.per_example.append((bound.log_p, bound.distortion, bound.rate.sum(-1)))
        means = getattr(bound.posterior, "mean", None)
        values = [bound.rate] if means is None else [bound.rate, means, np.square(means, dtype=np.float64)]
        sums = [v.sum(1, dtype=np.float64) for v in values]
        self.sums = sums if self.sums is None else [a + b for a, b in zip(self.sums, sums, strict=True)]

    def result(self, num: int) -> Evaluation:
        joined = (np.concatenate(parts, axis=1) for parts in zip(*self.per_example, strict=True))
        unit_rate, *moments = self.sums
        return Evaluation(*joined, unit_rate / num, latents.unit_activity(*moments, num) if moments else None)


@lru_cache(maxsize=2)  # the parts of a sweep that share their steps share what is compiled
def _block(evaluate_step: Callable) -> Callable:
    @partial(jax.jit, static_argnames=("name", "num_samples", "samples_per_step"))
    def block(params, hypers, x, positions, name, num_samples, samples_per_step) -> Bound:
        one = lambda params, hypers: evaluate_step(params, hypers, x, positions, name, num_samples, samples_per_step)  # noqa: E731
        return population.lift(one)(params, hypers)

    return block


def sample(program: Program, params, seed: int, num: int) -> np.ndarray:
    """Decoded draws from the prior, [N, num, ...]: the same noise for every member."""
    mesh = sharding.make_mesh(population.size(program.hypers), program.config.eval.batch_size)
    params, hypers = (sharding.place(mesh, tree, "member") for tree in (params, program.hypers))
    return sharding.fetch(_sample(program.steps.sample)(params, hypers, seed, num))


@lru_cache(maxsize=2)
def _sample(sample_step: Callable) -> Callable:
    @partial(jax.jit, static_argnums=(2, 3))
    def many(params, hypers, seed, num):
        one = lambda params, hypers: sample_step(params, hypers, jax.random.key(seed), num)  # noqa: E731
        return population.lift(one)(params, hypers)

    return many


def summarize(program: Program, evaluation: Evaluation, num_samples: int) -> list[dict]:
    """The numbers of a split for every member, in nats per example; `nll_stderr` is over examples."""
    size = len(evaluation.log_p)
    return [_summarize_member(program, population.member(evaluation, i), num_samples) for i in range(size)]


def _summarize_member(program: Program, one: Evaluation, num_samples: int) -> dict:
    n = len(one.log_p)
    distortion, rate = (values.mean(dtype=np.float64) for values in (one.distortion, one.rate))
    nll = -one.log_p.mean(dtype=np.float64)
    return {
        "num_examples": n,
        "elbo": float(-(distortion + rate)),
        "distortion": float(distortion),
        "rate": float(rate),
        "nll": float(nll),
        "nll_stderr": float(one.log_p.std(ddof=1, dtype=np.float64) / np.sqrt(n)) if n > 1 else None,
        "nll_samples": num_samples,
        "active_units": None if one.activity is None else latents.active_units(one.activity),
        "bits_per_dim": float(nll / (np.prod(program.example_shape) * np.log(2))) if program.is_mass else None,
        "unit_rate": _rounded(one.unit_rate),
        "unit_activity": _rounded(one.activity),
    }


def _rounded(values: np.ndarray | None) -> list[float] | None:
    """Per latent unit, to six digits: there may be many."""
    return None if values is None else [float(f"{value:.6g}") for value in values]
