"""The evaluation of whole splits, every example once: with one sample during training, with many at
the end."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np

from vae_jax.data import Split
from vae_jax.data.blocks import filled_blocks
from vae_jax.metrics import active_units
from vae_jax.metrics import importance_weights as weights
from vae_jax.metrics.importance_bound import Bound
from vae_jax.parallel import devices, population
from vae_jax.rng import SPLITS
from vae_jax.training.program import Program
from vae_jax.types import Latent


class Evaluation(NamedTuple):
    """What a split of n examples gives, for N members; None of what a model does not have."""

    log_p: Any  # the importance-weighted bound  [N, n]
    effective: Any  # effective number of its samples  [N, n]
    distortion: Any  # [N, n]
    rate: Any  # summed over units and layers  [N, n]
    squared_error: Any  # mean over values, at the posterior's means  [N, n]
    unit_rate: Latent | None  # mean over examples, per unit, a tree like z  [N, Z]
    activity: Latent | None  # variance of the posterior means, per unit  [N, Z]


class _Total:
    """Evaluations of blocks, put together."""

    def __init__(self):
        self.per_example: list[tuple] = []
        self.sums: dict[str, Any] = {}

    def add(self, bound: Bound, num: int) -> None:
        bound = jax.tree.map(lambda leaf: leaf[:, :num], devices.fetch(bound))
        columns = (bound.log_p, bound.effective, bound.distortion, _summed(bound.rate))
        self.per_example.append((*columns, bound.squared_error))
        squares = jax.tree.map(lambda mean: np.square(mean, dtype=np.float64), bound.means)
        values = {"rate": bound.rate, "mean": bound.means, "square": squares}
        for name, tree in values.items():
            if tree is not None:
                sums = jax.tree.map(lambda leaf: leaf.sum(1, dtype=np.float64), tree)
                before = self.sums.get(name, jax.tree.map(lambda _: 0.0, sums))
                self.sums[name] = jax.tree.map(lambda a, b: a + b, sums, before)

    def result(self, num: int) -> Evaluation:
        columns = zip(*self.per_example, strict=True)
        log_p, effective, distortion, rate, squared_error = (
            None if parts[0] is None else np.concatenate(parts, axis=1) for parts in columns
        )
        unit_rate = activity = None
        if "rate" in self.sums:
            unit_rate = jax.tree.map(lambda leaf: leaf / num, self.sums["rate"])
        if "mean" in self.sums:
            of = partial(active_units.unit_activity, num=num)
            activity = jax.tree.map(of, self.sums["mean"], self.sums["square"])
        return Evaluation(log_p, effective, distortion, rate, squared_error, unit_rate, activity)


def _summed(rate: Latent | None):
    """The rate of every example [N, B], summed over units and layers."""
    if rate is None:
        return None
    layers = [leaf if leaf.ndim == 2 else leaf.sum(-1) for leaf in jax.tree.leaves(rate)]
    return sum(layers[1:], layers[0])


def never_stops() -> None:
    """A check that lets everything go on."""


class Evaluator:
    """Evaluates parameters [N, ...] of a program's members; holds its mesh."""

    def __init__(self, program: Program):
        batch_size = program.config.eval.batch_size
        self.program, self.batch_size = program, batch_size
        self.mesh = devices.make_mesh(population.size(program.hypers), batch_size)
        self.hypers = devices.place(self.mesh, program.hypers, "member")

    def evaluate(
        self,
        params,
        split: Split,
        name: str,
        num_samples: int,
        check: Callable[[], None] = never_stops,
        decode: bool = False,
    ) -> Evaluation:
        """The evaluation of every example of a split. Memory grows with N n, not with N n Z.

        Args:
          name: "train", "valid" or "test", which decides the noise.
          check: called between blocks; may raise to end the evaluation.
          decode: whether the squared error of reconstructions is measured, too.
        """
        samples = min(num_samples, self.program.config.eval.samples_per_step)
        params = devices.place(self.mesh, params, "member")
        block, total = _block(self.program.steps.evaluate), _Total()
        index = np.int32(SPLITS.index(name))
        pending: list[tuple[Bound, int]] = []
        for rows, positions, num in self._blocks(split):
            args = (params, self.hypers, rows, positions, index, num_samples, samples, decode)
            pending.append((block(*args), num))
            if len(pending) > 1:
                total.add(*pending.pop(0))  # one block late, which keeps the device busy
            check()
        total.add(*pending.pop())
        return total.result(split.num)

    def fit_prior(self, params, split: Split, check: Callable[[], None] = never_stops):
        """`params` with the prior fitted to the codes of a whole split, binarized once."""
        params = devices.place(self.mesh, params, "member")
        total: Any = 0.0
        outer: Any = 0.0
        codes_of = _codes(self.program.steps.evaluate)
        for rows, positions, num in self._blocks(split):
            codes = devices.fetch(codes_of(params, self.hypers, rows, positions))
            codes = codes[:, :num].astype(np.float64)
            total, outer = total + codes.sum(1), outer + np.einsum("nbi,nbj->nij", codes, codes)
            check()
        mean = total / split.num
        covariance = outer / split.num - np.einsum("ni,nj->nij", mean, mean)
        moments = (mean.astype(np.float32), covariance.astype(np.float32))
        moments = devices.place(self.mesh, moments, "member")
        return _fit(self.program.model.fit_prior)(params, *moments)

    def sample(self, params, seed: int, num: int, condition=None) -> np.ndarray:
        """Decoded draws from the prior, [N, num, ...]: the same noise for every member."""
        params = devices.place(self.mesh, params, "member")
        draw = _sample(self.program.steps.sample)
        return devices.fetch(draw(params, self.hypers, seed, num, condition))

    def _blocks(self, split: Split):
        """(rows, positions, how many of them count) of every block, placed on the devices.

        The last block is filled up with the last example, whose copies are not counted.
        """
        for positions, num in filled_blocks(split.num, self.batch_size):
            rows = devices.place(self.mesh, split.examples(positions), "data")
            where = devices.place(self.mesh, positions.astype(np.int32), "data")
            yield rows, where, num


@lru_cache(maxsize=2)  # the parts of a sweep that share their steps share what is compiled
def _block(evaluate_step: Callable) -> Callable:
    @partial(jax.jit, static_argnames=("num_samples", "samples_per_step", "decode"))
    def block(
        params, hypers, rows, positions, split, num_samples, samples_per_step, decode
    ) -> Bound:
        def one(params, hypers) -> Bound:
            args = (rows, positions, split, num_samples, samples_per_step)
            return evaluate_step(params, hypers, *args)

        bound = population.lift(one)(params, hypers)
        # What is not asked for is not computed either.
        return bound if decode else bound._replace(squared_error=None)

    return block


@lru_cache(maxsize=2)
def _codes(evaluate_step: Callable) -> Callable:
    train = SPLITS.index("train")

    def codes(params, hypers, rows, positions):
        def one(params, hypers):
            return evaluate_step(params, hypers, rows, positions, train, 1, 1).posterior.mean

        return population.lift(one)(params, hypers)

    return jax.jit(codes)


@lru_cache(maxsize=2)
def _fit(fit: Callable) -> Callable:
    return jax.jit(population.lift(fit))


@lru_cache(maxsize=2)
def _sample(sample_step: Callable) -> Callable:
    @partial(jax.jit, static_argnums=(2, 3))
    def many(params, hypers, seed, num, condition):
        def one(params, hypers):
            return sample_step(params, hypers, jax.random.key(seed), num, condition)

        return population.lift(one)(params, hypers)

    return many


def summarize(program: Program, evaluation: Evaluation, num_samples: int) -> list[dict]:
    """The numbers of a split for every member, in nats per example.

    `nll_stderr` is over examples; `nll_noise_stderr` over the importance samples, the examples
    being what they are.
    """
    members = range(population.size(program.hypers))
    each = ((population.member(evaluation, i), _widths(program, i)) for i in members)
    return [_summarize_member(program, one, widths, num_samples) for one, widths in each]


def _widths(program: Program, i: int) -> Any:
    """How many units the i-th member has, in arrays that may be wider; of several layers, each."""
    width = program.latent_dim()
    if not isinstance(width, dict):
        follows = width == population.width(program.hypers)
        return int(program.hypers["latent_dim"][i]) if follows else width
    changes = program.changes[min(i, len(program.changes) - 1)]  # the last one fills up a part
    return program.alone(changes).latent_dim()


def _noise_stderr(effective: np.ndarray, num_samples: int) -> float:
    variance = weights.log_mean_variance(effective.astype(np.float64), num_samples)
    return float(np.sqrt(np.maximum(variance, 0.0).sum()) / len(effective))


def _summarize_member(program: Program, one: Evaluation, widths: Any, num_samples: int) -> dict:
    n = len(one.distortion)

    def mean(values: np.ndarray | None) -> float | None:
        return None if values is None else float(values.mean(dtype=np.float64))

    def per_unit(values: np.ndarray, width: int) -> list[float] | None:
        """To six digits, there may be many; without the units beyond the member's own."""
        if np.ndim(values) == 0:  # known for the whole layer only
            return None
        return [float(f"{value:.6g}") for value in values[:width]]

    def units(tree: Latent | None) -> Any:
        return None if tree is None else jax.tree.map(per_unit, tree, widths)

    distortion: Any = mean(one.distortion)
    rate, log_p = mean(one.rate), mean(one.log_p)
    known = log_p is not None
    stderr = noise = active = bits = None
    if known and n > 1:
        stderr = float(one.log_p.std(ddof=1, dtype=np.float64) / np.sqrt(n))
    if known and num_samples > 1:
        noise = _noise_stderr(one.effective, num_samples)
    if one.rate is not None and one.activity is not None and n > 1:
        active = jax.tree.map(active_units.active_units, one.activity)
    layers = None if not isinstance(one.unit_rate, dict) else _layers(one.unit_rate, active)
    if known and program.is_mass:
        bits = -log_p / (np.prod(program.example_shape) * np.log(2))
    return {
        "num_examples": n,
        "elbo": None if rate is None else -(distortion + rate),
        "distortion": distortion,
        "rate": rate,
        "nll": -log_p if known else None,
        "nll_stderr": stderr,
        "nll_noise_stderr": noise,
        "nll_samples": num_samples if known else None,
        "effective_samples": float(np.median(one.effective)) if known else None,
        "mse": mean(one.squared_error),
        "active_units": active if not isinstance(active, dict) else sum(active.values()),
        "bits_per_dim": bits,
        "layers": layers,
        "unit_rate": units(one.unit_rate),
        "unit_activity": units(one.activity),
    }


def _layers(rates: dict, active: dict | None) -> dict[str, dict]:
    """{layer: its rate and its active units}, z1 first."""
    return {
        name: {
            "rate": float(np.sum(rate)),
            "active_units": None if active is None else active[name],
        }
        for name, rate in sorted(rates.items())
    }
