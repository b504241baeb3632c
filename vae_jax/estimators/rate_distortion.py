"""The rate-distortion curve of the decoder on test examples, and the encoder's point beside it."""

from functools import partial
from pathlib import Path

import jax
import numpy as np

from vae_jax import rng as streams
from vae_jax.estimators.annealer import LADDER_FIELDS, Annealer, annealed, behaviour
from vae_jax.estimators.estimator import Estimator, Picture
from vae_jax.estimators.task import Study, Task
from vae_jax.metrics.importance_bound import bound
from vae_jax.metrics.rate_distortion_curve import curve
from vae_jax.models.draws import total
from vae_jax.plots import base
from vae_jax.types import Example, Field

POINTS = 60  # of the curve, at most
SAMPLES = 100  # of z, for the encoder's point
DECODER, ENCODER = "#1f77b4", "#e8710a"


@partial(jax.jit, static_argnums=(0, 6))
def _encoder_point(model, params, hypers, x: Example, key, positions, per_step: int):
    """(distortion [B], rate [B]) of the encoder, whose negative sum is its ELBO."""
    found = bound(model, params, x, key, positions, hypers, SAMPLES, per_step)
    return found.distortion, total(found.rate, batch_axes=1)


def task(study: Study) -> Task:
    run, settings = study.run, study.run.config.eval
    beyond, per_step = settings.rate_distortion_max_beta, settings.samples_per_step
    annealer = Annealer(study, ESTIMATOR, "prior", beyond)
    epsilon = streams.of_split(settings.seed, "test").epsilon
    betas = annealer.rungs.beta.astype(np.float64)
    one = settings.ais_distributions - 1  # where beta is 1
    shown = np.unique([*np.linspace(0, len(betas) - 1, POINTS - 1).round().astype(int), one])

    def block(x: Example, positions) -> dict:
        _, trace = annealer.forward(x, positions)
        log_w, log_ratio = (np.asarray(a)[..., shown] for a in (trace.log_w, trace.log_ratio))
        distortion, rate = curve(betas[shown], log_w, log_ratio)
        point = _encoder_point(run.model, run.params, run.hypers, x, epsilon, positions, per_step)
        found = {"distortion": distortion, "rate": rate}
        found |= {"elbo_distortion": point[0], "elbo_rate": point[1]}
        return behaviour(trace) | found

    def summarize(arrays: dict, _others: dict) -> dict:
        points = {"beta": betas[shown].tolist(), "max_beta": beyond}
        for name in ("distortion", "rate"):
            stderr = arrays[name].std(0, ddof=1) / np.sqrt(len(arrays[name]))
            points[f"elbo_{name}"] = float(arrays[f"elbo_{name}"].mean())
            points[name] = arrays[name].mean(0).tolist()
            points[f"{name}_stderr"] = stderr.tolist()
        return points

    depends = {"max_beta": beyond, "samples_per_step": per_step}
    x = study.test_examples()
    return annealed(annealer, x, study.positions, block, summarize, passes=2, **depends)


def line(found: dict) -> str:
    i = int(np.abs(np.array(found["beta"]) - 1.0).argmin())
    best = f"rate {found['rate'][i]:.2f}, distortion {found['distortion'][i]:.2f}"
    encoder = f"{found['elbo_rate']:.2f}, {found['elbo_distortion']:.2f}"
    return f"at beta 1 the curve is at {best}; the encoder at {encoder}"


def draw(path: Path, found: dict, _member: dict, title: str) -> None:
    """The decoder's curve, and the encoder beside it."""
    figure, ((whole, close),) = base.figure(9.6, 4.6, 1, 2)
    rate, distortion, beta = (np.array(found[name]) for name in ("rate", "distortion", "beta"))
    one = int(np.abs(beta - 1).argmin())
    for axis in (whole, close):
        _draw_curve_and_point(axis, found, rate, distortion, one)
    whole.set(xlim=(0, None), ylim=(0, None))
    whole.legend(fontsize=8, frameon=False)
    encoder = found["elbo_rate"], found["elbo_distortion"]
    points = np.array([[rate[one], distortion[one]], encoder])
    reach = max(3 * np.ptp(points, axis=0).max(), 0.1 * points.sum(1).max())
    (x, y), around = points.mean(0), np.array([-reach, reach])
    close.set(xlim=x + around, ylim=y + around)
    close.set_title("around beta = 1", fontsize=9)
    base.head(figure, f"Rate against distortion; dashed: equal D + R\n{title}")
    base.save(figure, path)


def _draw_curve_and_point(axis, found: dict, rate, distortion, one: int) -> None:
    error = np.array(found["distortion_stderr"])
    axis.fill_between(rate, distortion - error, distortion + error, color=DECODER, alpha=0.15, lw=0)
    axis.plot(rate, distortion, color=DECODER, lw=1.6, label="the best code of every rate")
    label = "beta = 1, where D + R = -log p(x)"
    axis.plot(rate[one], distortion[one], "o", color=DECODER, label=label)
    encoder = found["elbo_rate"], found["elbo_distortion"]
    axis.plot(*encoder, "D", color=ENCODER, label="the encoder: its ELBO")
    for sum_of_both in (rate[one] + distortion[one], sum(encoder)):
        ends = [0, sum_of_both], [sum_of_both, 0]
        axis.plot(*ends, color="0.75", lw=0.8, ls=(0, (4, 3)), zorder=0)
    axis.set(xlabel="rate, nats", ylabel="distortion, nats")
    base.open_frame(axis)


def draw_members(path: Path, named: list[tuple[str, dict]], title: str) -> None:
    """The curves of several decoders, each with its encoder's point."""
    from matplotlib import colormaps

    figure, ((axis,),) = base.figure(7.5, 5.2)
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(named)))
    for (name, found), colour in zip(named, colours, strict=True):
        axis.plot(found["rate"], found["distortion"], color=colour, lw=1.4, label=name)
        axis.plot(found["elbo_rate"], found["elbo_distortion"], "D", color=colour, ms=5)
    axis.set(xlabel="rate, nats", ylabel="distortion, nats")
    axis.set_xlim(0, 1.1 * max(max(found["elbo_rate"], found["rate"][-1]) for _, found in named))
    axis.set_ylim(0)
    if len(named) <= 16:
        axis.legend(fontsize=7, frameon=False)
    base.open_frame(axis)
    base.head(figure, f"Lines: the best code of every rate; diamonds: the encoder\n{title}")
    base.save(figure, path)


def needs(_section) -> tuple[str, ...]:
    return ("a density log p(x, z)", "a prior density log p(z)", "a prior to sample from")


CURVE = Picture(
    "rate_distortion_curve.png",
    "**The decoder's rate-distortion curve.** What it could do with the best code of every rate; "
    "at beta = 1 that is log p(x). The encoder lies above it by its gap to log p(x).",
    draw,
)
CURVES = Picture(
    "rate_distortion_curves.png",
    "**What each decoder could do.** A line is the best that the decoder can with any code of that "
    "rate, a diamond what its encoder reaches. A diamond far above its line is the encoder's loss; "
    "lines that cross say that no decoder is best at every rate.",
    draw_members,
    of_members=True,
)
ESTIMATOR = Estimator(
    name="rate_distortion",
    task=task,
    line=line,
    meaning="what the decoder could do with the best code of every rate",
    pictures=(CURVE, CURVES),
    needs=needs,
    fields=LADDER_FIELDS
    | {
        "rate_distortion_max_beta": Field(
            8.0, "where the curve ends; beyond 1 it has half as many distributions again", least=1
        )
    },
    key=4,
)
