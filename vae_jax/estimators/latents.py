"""What the codes of the whole test set hold: mutual information, the aggregate posterior's KL, total correlation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import rng as streams
from vae_jax.distributions import Gaussian
from vae_jax.estimators.task import Study, Task, even, of_block
from vae_jax.metrics import aggregate_posterior
from vae_jax.priors import standard_normal
from vae_jax.types import Hypers, Model, Params

DRAWS, OTHERS = 100, 100  # whose pairs are compared at once: so many that they stay in a core's own memory
CALLS = 10  # of DRAWS draws, in one block


@partial(jax.jit, static_argnums=3)
def _terms(posterior: Gaussian, positions, keys, log_prior):
    eps = jax.vmap(lambda key: jax.random.normal(key, posterior.mean.shape[1:]))(keys)
    return aggregate_posterior.terms(posterior, positions, eps, log_prior, OTHERS)


def log_prior(z: jax.Array) -> jax.Array:
    """log N(z; 0, 1) per unit [Z]."""
    return standard_normal(len(z)).log_prob({}, z)


def is_standard_normal(model: Model, params: Params, hypers: Hypers) -> bool:
    """Whether the model's prior is the N(0, I) that the KLs of single units are to."""
    if model.log_prior is None or model.sample_prior is None:
        return False
    z = model.sample_prior(params, jax.random.key(0), hypers)
    return bool(np.isclose(model.log_prior(params, z, hypers), log_prior(z).sum(), rtol=1e-4))


def task(study: Study) -> Task:
    run, num = study.run, study.dataset.test.num
    size = even(num, DRAWS * CALLS)
    key, numbers = streams.of_estimate(run.config.eval.seed, "latents"), np.arange(num)
    posterior = None

    def compare(positions) -> aggregate_posterior.Terms:
        nonlocal posterior
        if posterior is None:
            codes = run.codes(study.dataset, "test")
            posterior = Gaussian(jnp.asarray(codes.mean), jnp.asarray(codes.logvar))
        return _terms(posterior, positions, streams.fold(key, positions), log_prior)

    def block(i: int) -> dict:
        positions, found = of_block(numbers, i, size), []
        for start in range(0, size, DRAWS):
            found.append(compare(of_block(positions, start // DRAWS, DRAWS)))
            study.check()
        return aggregate_posterior.Terms(
            *(np.concatenate(leaves)[:size] for leaves in zip(*found, strict=True))
        )._asdict()

    def summarize(arrays: dict, _others: dict) -> dict:
        found = aggregate_posterior.summarize(aggregate_posterior.Terms(**arrays))
        return {"num_examples": num} | {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}

    return Task(
        name="latents",
        about=f"each of {num:,} codes against all others",
        settings={},
        num=num,
        size=size,
        block=block,
        units=-(-num // size) * -(-size // DRAWS),
        unit=lambda: compare(of_block(numbers, 0, DRAWS)),
        summarize=summarize,
    )
