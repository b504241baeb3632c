"""The one evaluation: during training with one sample, at the end with many; whole splits, every example once."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import population, sharding
from vae_jax.data import Split
from vae_jax.evaluation import latents
from vae_jax.evaluation.likelihood import Bound
from vae_jax.program import Program


def make_evaluate(program: Program) -> Callable:
    """`evaluate(params, split, name, num_samples, check) -> Bound` of arrays [N, n, ...] on the host.

    `check()` is called between blocks, and may raise to end the evaluation.
    """
    evaluation = program.config.eval
    mesh = sharding.make_mesh(population.size(program.hypers), evaluation.batch_size)
    hypers = sharding.place(mesh, program.hypers, "member")

    @partial(jax.jit, static_argnames=("name", "num_samples", "samples_per_step"))
    def block(params, hypers, x, positions, name, num_samples, samples_per_step) -> Bound:
        one = lambda params, hypers: program.steps.evaluate(  # noqa: E731
            params, hypers, x, positions, name, num_samples, samples_per_step
        )
        return population.lift(one)(params, hypers)

    def evaluate(params, split: Split, name: str, num_samples: int, check: Callable = lambda: None) -> Bound:
        blocks, size, samples = [], evaluation.batch_size, min(num_samples, evaluation.samples_per_step)
        params = sharding.place(mesh, params, "member")
        for start in range(0, split.num, size):
            # The last block is filled up with the last example, whose copies are cut off again below.
            positions = np.minimum(np.arange(start, start + size), split.num - 1)
            x = sharding.place(mesh, split.take(positions).reshape(size, -1), "data")
            where = sharding.place(mesh, positions.astype(np.int32), "data")
            blocks.append(block(params, hypers, x, where, name, num_samples, samples))
            jax.block_until_ready(blocks[-2:-1])  # one block ahead and no more, so that check() comes in time
            check()
        join = lambda *parts: np.concatenate([np.asarray(p) for p in parts], axis=1)[:, : split.num]  # noqa: E731
        return jax.tree.map(join, *blocks)

    return evaluate


def summarize(program: Program, bound: Bound, num_samples: int) -> list[dict]:
    """The numbers of a split for every member, in nats per example; `nll_stderr` is over examples."""
    return [_summarize_member(program, population.member(bound, i), num_samples) for i in range(len(bound.log_p))]


def _summarize_member(program: Program, bound: Bound, num_samples: int) -> dict:
    n = len(bound.log_p)
    distortion = bound.distortion.mean(dtype=np.float64)
    rate = bound.rate.sum(-1, dtype=np.float64).mean()
    nll = -bound.log_p.mean(dtype=np.float64)
    means = getattr(bound.posterior, "mean", None)
    num_values = np.prod(program.example_shape)
    return {
        "num_examples": n,
        "elbo": float(-(distortion + rate)),
        "distortion": float(distortion),
        "rate": float(rate),
        "nll": float(nll),
        "nll_stderr": float(bound.log_p.std(ddof=1, dtype=np.float64) / np.sqrt(n)) if n > 1 else None,
        "nll_samples": num_samples,
        "active_units": None if means is None else latents.active_units(jnp.asarray(means)),
        "bits_per_dim": float(nll / (num_values * np.log(2))) if program.is_mass else None,
    }
