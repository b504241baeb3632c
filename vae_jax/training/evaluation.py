"""The one evaluation: during training with one sample, at the end with many; whole splits, every example once."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import numpy as np

from vae_jax.data import Split
from vae_jax.metrics import active_units
from vae_jax.metrics import importance_weights as weights
from vae_jax.metrics.importance_bound import Bound
from vae_jax.parallel import devices, population
from vae_jax.training.program import Program


class Evaluation(NamedTuple):
    """What a split of n examples gives, for N members, on the host. What a model has not is None."""

    log_p: np.ndarray | None  # the importance-weighted bound  [N, n]
    effective: np.ndarray | None  # effective number of its samples  [N, n]
    distortion: np.ndarray  # [N, n]
    rate: np.ndarray | None  # summed over units  [N, n]
    squared_error: np.ndarray | None  # mean over values, at the posterior's mean  [N, n]
    unit_rate: np.ndarray | None  # mean over examples, per unit  [N, Z]
    activity: np.ndarray | None  # variance of the posterior means, per unit  [N, Z]; None without such means


def make_evaluate(program: Program) -> Callable:
    """`evaluate(params, split, name, num_samples, check, decode) -> Evaluation`: every example once.

    `check()` is called between blocks, and may raise to end the evaluation; with `decode` the squared error of
    reconstructions is measured too (the means of some likelihoods are costly). Memory grows with N n, not N n Z.
    """
    evaluation = program.config.eval
    mesh = devices.make_mesh(population.size(program.hypers), evaluation.batch_size)
    hypers = devices.place(mesh, program.hypers, "member")
    block = _block(program.steps.evaluate)

    def evaluate(
        params, split: Split, name: str, num_samples: int, check: Callable = lambda: None, decode: bool = False
    ) -> Evaluation:
        size, samples = evaluation.batch_size, min(num_samples, evaluation.samples_per_step)
        params, total, pending = devices.place(mesh, params, "member"), _Total(), None
        for start in range(0, split.num, size):
            # The last block is filled up with the last example, whose copies are not counted.
            positions = np.minimum(np.arange(start, start + size), split.num - 1)
            x = devices.place(mesh, split.take(positions).reshape(size, -1), "data")
            where = devices.place(mesh, positions.astype(np.int32), "data")
            bound = block(params, hypers, x, where, name, num_samples, samples, decode)
            running = bound, min(size, split.num - start)
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
        self.per_example, self.sums = [], {}

    def add(self, bound: Bound, num: int) -> None:
        bound = jax.tree.map(lambda leaf: leaf[:, :num], devices.fetch(bound))
        rate = None if bound.rate is None else bound.rate.sum(-1)
        self.per_example.append((bound.log_p, bound.effective, bound.distortion, rate, bound.squared_error))
        values = {"rate": bound.rate, "mean": getattr(bound.posterior, "mean", None)}
        if values["mean"] is not None:
            values["square"] = np.square(values["mean"], dtype=np.float64)
        sums = {name: v.sum(1, dtype=np.float64) for name, v in values.items() if v is not None}
        self.sums = {name: total + self.sums.get(name, 0.0) for name, total in sums.items()}

    def result(self, num: int) -> Evaluation:
        columns = zip(*self.per_example, strict=True)
        joined = (None if parts[0] is None else np.concatenate(parts, axis=1) for parts in columns)
        unit_rate = self.sums["rate"] / num if "rate" in self.sums else None
        has_means = "mean" in self.sums
        activity = active_units.unit_activity(self.sums["mean"], self.sums["square"], num) if has_means else None
        return Evaluation(*joined, unit_rate, activity)


@lru_cache(maxsize=2)  # the parts of a sweep that share their steps share what is compiled
def _block(evaluate_step: Callable) -> Callable:
    @partial(jax.jit, static_argnames=("name", "num_samples", "samples_per_step", "decode"))
    def block(params, hypers, x, positions, name, num_samples, samples_per_step, decode) -> Bound:
        one = lambda params, hypers: evaluate_step(params, hypers, x, positions, name, num_samples, samples_per_step)  # noqa: E731
        bound = population.lift(one)(params, hypers)
        return bound if decode else bound._replace(squared_error=None)  # then it is not computed either

    return block


def fit_prior(program: Program, params, split: Split, check: Callable = lambda: None):
    """`params` [N, ...] with the prior fitted to the codes of a whole split, the binarization of train drawn once."""
    evaluation = program.config.eval
    mesh = devices.make_mesh(population.size(program.hypers), evaluation.batch_size)
    params, hypers = (devices.place(mesh, tree, "member") for tree in (params, program.hypers))
    total = outer = 0.0
    for start in range(0, split.num, evaluation.batch_size):
        positions = np.minimum(np.arange(start, start + evaluation.batch_size), split.num - 1)
        x = devices.place(mesh, split.take(positions).reshape(len(positions), -1), "data")
        where = devices.place(mesh, positions.astype(np.int32), "data")
        codes = devices.fetch(_codes(program.steps.evaluate)(params, hypers, x, where))
        codes = codes[:, : split.num - start].astype(np.float64)
        total, outer = total + codes.sum(1), outer + np.einsum("nbi,nbj->nij", codes, codes)
        check()
    mean = total / split.num
    covariance = outer / split.num - np.einsum("ni,nj->nij", mean, mean)
    moments = devices.place(mesh, (mean.astype(np.float32), covariance.astype(np.float32)), "member")
    return _fit(program.model.fit_prior)(params, *moments)


@lru_cache(maxsize=2)
def _codes(evaluate_step: Callable) -> Callable:
    def codes(params, hypers, x, positions):
        one = lambda params, hypers: evaluate_step(params, hypers, x, positions, "train", 1, 1).posterior.mean  # noqa: E731
        return population.lift(one)(params, hypers)

    return jax.jit(codes)


@lru_cache(maxsize=2)
def _fit(fit: Callable) -> Callable:
    return jax.jit(population.lift(fit))


def sample(program: Program, params, seed: int, num: int) -> np.ndarray:
    """Decoded draws from the prior, [N, num, ...]: the same noise for every member."""
    mesh = devices.make_mesh(population.size(program.hypers), program.config.eval.batch_size)
    params, hypers = (devices.place(mesh, tree, "member") for tree in (params, program.hypers))
    return devices.fetch(_sample(program.steps.sample)(params, hypers, seed, num))


@lru_cache(maxsize=2)
def _sample(sample_step: Callable) -> Callable:
    @partial(jax.jit, static_argnums=(2, 3))
    def many(params, hypers, seed, num):
        one = lambda params, hypers: sample_step(params, hypers, jax.random.key(seed), num)  # noqa: E731
        return population.lift(one)(params, hypers)

    return many


def summarize(program: Program, evaluation: Evaluation, num_samples: int) -> list[dict]:
    """The numbers of a split for every member, in nats per example.

    `nll_stderr` is over examples; `nll_noise_stderr` over the importance samples, the examples being what they are.
    """
    dims = [int(dim) for dim in program.hypers["latent_dim"]]
    return [
        _summarize_member(program, population.member(evaluation, i), dim, num_samples) for i, dim in enumerate(dims)
    ]


def _noise_stderr(effective: np.ndarray, num_samples: int) -> float:
    variance = weights.log_mean_variance(effective.astype(np.float64), num_samples)
    return float(np.sqrt(np.maximum(variance, 0.0).sum()) / len(effective))


def _summarize_member(program: Program, one: Evaluation, latent_dim: int, num_samples: int) -> dict:
    n, width = len(one.distortion), population.width(program.hypers)

    def per_unit(values: np.ndarray | None) -> list[float] | None:
        """To six digits, there may be many; and without what the member's arrays have beyond its own units."""
        values = values if values is None or len(values) != width else values[:latent_dim]
        return None if values is None else [float(f"{value:.6g}") for value in values]

    mean = lambda values: None if values is None else float(values.mean(dtype=np.float64))  # noqa: E731
    distortion, rate, log_p = mean(one.distortion), mean(one.rate), mean(one.log_p)
    known = log_p is not None
    return {
        "num_examples": n,
        "elbo": -(distortion + rate) if known else None,
        "distortion": distortion,
        "rate": rate,
        "nll": -log_p if known else None,
        "nll_stderr": float(one.log_p.std(ddof=1, dtype=np.float64) / np.sqrt(n)) if known and n > 1 else None,
        "nll_noise_stderr": _noise_stderr(one.effective, num_samples) if known and num_samples > 1 else None,
        "nll_samples": num_samples if known else None,
        "effective_samples": float(np.median(one.effective)) if known else None,
        "mse": mean(one.squared_error),
        "active_units": active_units.active_units(one.activity) if known and one.activity is not None else None,
        "bits_per_dim": -log_p / (np.prod(program.example_shape) * np.log(2)) if known and program.is_mass else None,
        "unit_rate": per_unit(one.unit_rate),
        "unit_activity": per_unit(one.activity),
    }
