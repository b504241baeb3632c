"""Information in the codes of the whole test set: mutual information, total correlation, the KL of
the aggregate posterior to the prior."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import distributions
from vae_jax import rng as streams
from vae_jax.distributions import Gaussian
from vae_jax.estimators.estimator import Estimator, Picture
from vae_jax.estimators.task import Study, Task, even, of_block
from vae_jax.metrics import aggregate_posterior
from vae_jax.metrics.aggregate_posterior import Terms
from vae_jax.plots import base

DRAWS, OTHERS = 100, 100  # whose pairs are compared at once: so many fit into a core's own cache
CALLS = 10  # of DRAWS draws, in one block
UNITS = 60  # at most so many latent units are drawn
INFORMATION, MARGINAL = "#8fb8de", "#e8b07a"


@partial(jax.jit, static_argnums=3)
def _terms(posterior: Gaussian, positions, keys, log_prior) -> Terms:
    eps = jax.vmap(lambda key: jax.random.normal(key, posterior.mean.shape[1:]))(keys)
    return aggregate_posterior.terms(posterior, positions, eps, log_prior, OTHERS)


def log_prior(z: jax.Array) -> jax.Array:
    """log N(z; 0, 1) per unit [Z]."""
    return distributions.log_prob(Gaussian(jnp.zeros_like(z), jnp.zeros_like(z)), z)


def task(study: Study) -> Task:
    run, num = study.run, study.dataset.test.num
    size = even(num, DRAWS * CALLS)
    key, numbers = ESTIMATOR.rng(run.config.eval.seed), np.arange(num)
    posterior = None

    def compare(positions) -> Terms:
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
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:size], *found)
        return joined._asdict()

    def summarize(arrays: dict, _others: dict) -> dict:
        found = aggregate_posterior.summarize(Terms(**arrays))
        found = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}
        return {"num_examples": num} | found

    return Task(
        about=f"each of {num:,} codes against all others",
        settings={},
        num=num,
        size=size,
        block=block,
        units=-(-num // size) * -(-size // DRAWS),
        unit=lambda: compare(of_block(numbers, 0, DRAWS)),
        summarize=summarize,
    )


def line(found: dict) -> str:
    def of(name: str) -> str:
        return f"{found[name]:.2f} +- {found[f'{name}_stderr']:.2f}"

    limit = f"{found['log_num_examples']:.2f} = log {found['num_examples']:,}"
    note = ", SATURATED: it tells the number of examples" if found["saturated"] else ""
    return (
        f"rate {of('rate_sampled')} = mutual information {of('mutual_information')} (at most "
        f"{limit}{note}) + total correlation {of('total_correlation')} + dimension-wise KL "
        f"{of('dimension_wise_kl')}; KL(q(z) || p(z)) {of('aggregate_kl')}"
    )


def draw(path: Path, found: dict, member: dict, title: str) -> None:
    """Each unit's rate = its information about x + the KL of its marginal to the prior.

    The units with the largest rates, in descending order.
    """
    information = np.array(found["unit_mutual_information"])
    marginal = np.array(found["unit_marginal_kl"])
    unit_rate = member["test"].get("unit_rate")
    total = information + marginal if unit_rate is None else np.array(unit_rate)
    order = np.argsort(-total)[:UNITS]
    information, marginal, total = information[order], marginal[order], total[order]
    figure, ((axis,),) = base.figure(max(6.0, 1.5 + 0.16 * len(order)), 3.6)
    places = np.arange(len(order))
    axis.bar(places, information, color=INFORMATION, label="I(x; z_d)")
    label = "KL(q(z_d) || p(z_d))"
    axis.bar(places, marginal, bottom=information, color=MARGINAL, label=label)
    axis.plot(places, total, ".", color="0.2", ms=4, label="the unit's rate")
    axis.set_xticks(places, order, fontsize=6, rotation=90)
    axis.set(xlabel="latent unit", ylabel="nats", xlim=(-0.7, len(order) - 0.3))
    axis.legend(fontsize=8, frameon=False)
    base.open_frame(axis)
    base.head(figure, f"What each unit's rate is spent on\n{title}")
    base.save(figure, path)


def needs(_section) -> tuple[str, ...]:
    return ("the prior N(0, I)", "a diagonal Gaussian q(z|x)")


PICTURE = Picture(
    "kl_spectrum.png",
    "**What each unit's rate is spent on.** Information about x, or a marginal that is not the "
    "prior's: samples from the prior then meet codes that no data has.",
    draw,
)
ESTIMATOR = Estimator(
    name="latents",
    task=task,
    line=line,
    meaning="KL to the prior = information about x + dependence of the units + misfit of their "
    "marginals",
    pictures=(PICTURE,),
    needs=needs,
    key=6,
)
