"""The approximation gap and the amortization gap, on the test examples that AIS estimates."""

from functools import partial
from pathlib import Path

import jax
import numpy as np

from vae_jax import rng as streams
from vae_jax.estimators.annealer import log_means
from vae_jax.estimators.estimator import Estimator, Picture, Row
from vae_jax.estimators.task import Study, Task, even, of_block
from vae_jax.metrics.inference_gaps import best_offset, elbo
from vae_jax.models.draws import batch_size
from vae_jax.plots import base
from vae_jax.types import Example, Field

UNIT = 20  # steps that are timed to predict the run time
SAMPLES = 1000  # of the noise of both ELBOs, which is not that of the optimization
COLOURS = {"approximation": "#8fb8de", "amortization": "#e8b07a"}


@partial(jax.jit, static_argnums=(0, 5, 6))
def _optimize(model, params, hypers, x: Example, keys, num_steps: int, num_samples: int):
    """The best q(z|x) of each example less the encoder's, leaves [B, ...]."""

    def one(x, key):
        return best_offset(model, params, x, key, hypers, num_steps, num_samples)

    return jax.vmap(one)(x, keys)


@partial(jax.jit, static_argnums=(0, 6))
def _elbos(model, params, hypers, x: Example, offset, keys, per_step: int):
    """The ELBOs (of the encoder's q, of it plus `offset`) on the same noise, [B] each."""

    def one(x, offset, key):
        def of(offset):
            return elbo(model, params, x, offset, key, hypers, SAMPLES, per_step)

        return of(None), of(offset)

    return jax.vmap(one)(x, offset, keys)


def task(study: Study) -> Task:
    run, settings, x = study.run, study.run.config.eval, study.test_examples()
    n, per_step = batch_size(x), settings.samples_per_step
    size = even(n, settings.batch_size)
    optimize_key, noise_key = jax.random.split(ESTIMATOR.rng(settings.seed))
    steps, samples = settings.gap_steps, settings.gap_samples

    def optimize(i: int, num_steps: int):
        keys = streams.fold(optimize_key, of_block(study.positions, i, size))
        examples = of_block(x, i, size)
        return _optimize(run.model, run.params, run.hypers, examples, keys, num_steps, samples)

    def block(i: int) -> dict:
        keys = streams.fold(noise_key, of_block(study.positions, i, size))
        args = of_block(x, i, size), optimize(i, steps), keys, per_step
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
        about=f"{n:,} examples, {steps:,} steps of {samples} samples for the best q(z|x) of each",
        settings={"gap_steps": steps, "gap_samples": samples, "samples_per_step": per_step},
        num=n,
        size=size,
        block=block,
        units=-(-n // size) * -(-steps // UNIT),
        unit=lambda: optimize(0, UNIT),
        summarize=summarize,
    )


def line(found: dict) -> str:
    def gap(name: str) -> str:
        return f"{name} gap {found[name]:.2f} +- {found[f'{name}_stderr']:.2f}"

    whole = f"log p(x) - ELBO = {found['log_p']:.2f} - ({found['elbo']:.2f})"
    return f"{whole} = {gap('approximation')} + {gap('amortization')}"


def rows(found: dict) -> list[Row]:
    def bound(name: str) -> dict:
        return {"log_p": found[name], "stderr": found[f"{name}_stderr"]}

    labels = {"elbo": "ELBO", "best_elbo": "ELBO, best q of each x"}
    return [Row("test examples", label, bound(name)) for name, label in labels.items()]


def draw(path: Path, found: dict, _member: dict, title: str) -> None:
    draw_members(path, [("", found)], title)


def draw_members(path: Path, named: list[tuple[str, dict]], title: str) -> None:
    """Both gaps, one after the other, from -log p(x) up to -ELBO: a bar for each member."""
    figure, ((axis,),) = base.figure(7.5, 1.5 + 0.45 * len(named))
    for y, (_, found) in enumerate(named):
        left, texts = 0.0, []
        for name, colour in COLOURS.items():
            label = f"{name} gap" if y == 0 else None
            axis.barh(y, found[name], left=left, color=colour, height=0.55, label=label)
            left += found[name]
            texts.append(f"{found[name]:.2f} ± {found[f'{name}_stderr']:.2f}")
        at = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axis.annotate(" + ".join(texts), (left, y), **at)
    longest = max(found["approximation"] + found["amortization"] for _, found in named)
    axis.set_xlim(0, 1.6 * longest)
    labels = [f"{name}\n-log p(x) = {-found['log_p']:.2f}".strip() for name, found in named]
    axis.set_yticks(range(len(named)), labels, fontsize=8)
    axis.set_ylim(len(named) - 0.4, -0.6)
    axis.set_xlabel("nats above -log p(x), by AIS; where the bar ends is -ELBO")
    axis.legend(fontsize=8, frameon=False, ncol=2, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    axis.spines[["top", "right", "left"]].set_visible(False)
    base.head(figure, f"Where the bound is lost\n{title}")
    base.save(figure, path)


def needs(_section) -> tuple[str, ...]:
    return ("a density log p(x, z)", "a diagonal Gaussian q(z|x)")


def fits(config: dict, _data) -> str:
    if "ais" in config["eval.estimators"]:
        return ""
    return "eval.estimators: 'gaps' are measured from the estimate of 'ais', so name that, too"


PICTURE = Picture(
    "gaps.png",
    "**Where the bound is lost.** From the estimate of -log p(x), left, to -ELBO, right. A large "
    "approximation gap asks for a richer family of q(z|x), a large amortization gap for a better "
    "encoder.",
    draw,
)
OF_MEMBERS = Picture(
    "gaps.png",
    "**Where the bound is lost.** From the estimate of -log p(x), left, to -ELBO, right: what "
    "Gaussians with a diagonal covariance cost, and what it costs that one encoder serves all "
    "examples.",
    draw_members,
    of_members=True,
)
ESTIMATOR = Estimator(
    name="gaps",
    task=task,
    line=line,
    meaning="what the family of q(z|x) costs, and what it costs that one encoder serves all x",
    pictures=(PICTURE, OF_MEMBERS),
    needs=needs,
    fields={
        "gap_steps": Field(1000, "of Adam, for the best q(z|x) of each example", above=0),
        "gap_samples": Field(10, "of z in each of these steps", above=0),
    },
    rows=rows,
    after=("ais",),
    fits=fits,
    key=5,
)
