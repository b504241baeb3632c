"""Bidirectional Monte Carlo: a lower and an upper bound on log p(x) of simulated examples.

Their gap says how far estimates of test examples may be from the truth (Grosse et al. 2015,
arXiv:1511.02543).
"""

from functools import partial

import jax
import numpy as np

from vae_jax import rng as streams
from vae_jax.estimators import iwae
from vae_jax.estimators.annealer import (
    BACKWARD,
    FIELDS,
    FORWARD,
    TUNE,
    Annealer,
    annealed,
    behaviour,
    initial_needs,
    joined,
    log_means,
    of_chains,
)
from vae_jax.estimators.estimator import Estimator, Row
from vae_jax.estimators.task import Study, Task
from vae_jax.types import Example, Latent

SIMULATE = 3  # after the numbers of the passes: folds into the key of the simulation
TOLERANCE = 4.0  # standard errors by which a lower bound may exceed an upper one on average
ROUNDING = 0.01  # nats, likewise: sums of thousands of float32 terms


@partial(jax.jit, static_argnums=0)
def simulate(model, params, hypers, keys, condition=None, observed=None) -> tuple[Latent, Example]:
    """(z, examples) ~ p(x, z), leaves [n, ...]: each z is an exact draw of p(z|x).

    Args:
      condition, observed: what each example is given, and which of its values are observed.
    """

    def one(key, condition, observed):
        prior_key, x_key = jax.random.split(key)
        z = model.sample_prior(params, prior_key, hypers, condition)
        x = model.decode(params, z, condition, x_key).ravel()
        return z, Example(x, condition, observed)

    return jax.vmap(one)(keys, condition, observed)


def task(study: Study) -> Task:
    """As many simulated examples as test examples, with their conditions and missing values."""
    annealer, run = Annealer(study, ESTIMATOR), study.run
    num_samples = min(run.config.eval.iwae_samples)
    simulation, epsilon = jax.random.split(jax.random.fold_in(annealer.key, SIMULATE))
    numbers, like = np.arange(len(study.positions)), study.test_examples()
    keys = streams.fold(simulation, numbers)
    given = like.condition, like.observed
    z, x = simulate(run.model, run.params, run.hypers, keys, *given)

    def block(x: Example, which) -> dict:
        _, tuned = annealer.anneal(x, which, TUNE)
        log_w, trace = annealer.anneal(x, which, FORWARD, tuned.step_size)
        exact = jax.tree.map(lambda leaf: leaf[which], z)
        backward, back = annealer.anneal(x, which, BACKWARD, tuned.step_size, exact)
        weighted = iwae.bounds(study, x, epsilon, which, (num_samples,))
        found = behaviour(joined((trace, back), axis=1))
        found |= {"log_w": log_w, "backward": backward}
        return found | {
            "iwae": weighted["log_p"][:, 0],
            "effective": weighted["effective"][:, 0],
        }

    def summarize(arrays: dict, _others: dict) -> dict:
        return sandwich(arrays, num_samples)

    about = "simulated examples, there and back,"
    depends = {"iwae_samples": num_samples}
    return annealed(annealer, x, numbers, block, summarize, passes=3, about=about, **depends)


def sandwich(arrays: dict, num_samples: int) -> dict:
    """Both bounds, the importance-weighted one with `num_samples`, and the gaps between them."""
    upper = -log_means(-arrays["backward"])[0]
    weighted = iwae.of_log_means(arrays["iwae"], arrays["effective"], num_samples)
    found = {
        "lower": of_chains(arrays["log_w"]),
        "upper": of_chains(arrays["backward"], sign=-1),
        "iwae": {"samples": num_samples} | weighted,
    }
    for name, lower, of_lower in (
        ("width", log_means(arrays["log_w"])[0], found["lower"]),
        ("iwae_width", arrays["iwae"], found["iwae"]),
    ):
        between = (upper - lower).astype(np.float64)
        # Of few or similar examples the spread says less than the noise that is known of each.
        noise = np.hypot(found["upper"]["noise_stderr"] or 0.0, of_lower["noise_stderr"] or 0.0)
        stderr = max(between.std(ddof=1) / np.sqrt(len(between)), noise)
        found |= {name: float(between.mean()), f"{name}_stderr": float(stderr)}
    return found


def violation(found: dict) -> str | None:
    """What is wrong where a lower bound exceeds the upper one by more than chance and rounding."""
    for name, bound in (("width", "AIS"), ("iwae_width", f"IWAE-{found['iwae']['samples']:,}")):
        width, stderr = found[name], found[f"{name}_stderr"]
        if not width >= -(TOLERANCE * stderr + ROUNDING):  # also where one is not a number
            return (
                f"on simulated examples the lower bound of {bound} exceeds the upper bound of BDMC "
                f"by {-width:.3f} +- {stderr:.3f} nats, which no valid pair of bounds does: try "
                "more eval.ais_distributions and eval.bounds_examples, and report it as a bug if "
                "it stays"
            )
    return None


def line(found: dict) -> str:
    width = f"{found['width']:.3f} +- {found['width_stderr']:.3f}"
    return (
        f"{iwae.in_words(found['lower'])} to {iwae.in_words(found['upper'])}: {width} apart; the "
        f"bound of {found['iwae']['samples']:,} importance samples {found['iwae_width']:.3f} below "
        "the upper"
    )


def rows(found: dict) -> list[Row]:
    group = "simulated examples"
    return [
        Row(group, f"IWAE-{found['iwae']['samples']:,}", found["iwae"]),
        Row(group, "AIS, a lower bound", found["lower"]),
        Row(group, "AIS backward, an upper bound", found["upper"], upper=True),
    ]


def needs(section) -> tuple[str, ...]:
    return ("a density log p(x, z)", "a prior to sample from", *initial_needs(section))


ESTIMATOR = Estimator(
    name="bdmc",
    task=task,
    line=line,
    meaning="on examples simulated from the model the truth lies between the two bounds",
    pictures=(),
    needs=needs,
    fields=iwae.FIELDS | FIELDS,
    rows=rows,
    violation=violation,
    fits=iwae.fits,
    key=3,
)
