"""Passes of annealed chains over blocks of examples: what ais, bdmc and rate_distortion share."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import rng as streams
from vae_jax.estimators import iwae
from vae_jax.estimators.estimator import Estimator
from vae_jax.estimators.task import Study, Task, even, of_block
from vae_jax.metrics import annealing
from vae_jax.metrics import importance_weights as weights
from vae_jax.metrics.annealing import Chain, Rungs, Trace
from vae_jax.models.draws import batch_size
from vae_jax.types import Example, Field, Latent

RUNGS = 50  # distributions in one compiled call
START = 0.1  # the step size that tuning starts from
TUNE, FORWARD, BACKWARD = range(3)  # passes, each with its own randomness
ACCEPTED = (0.4, 0.9)  # a mean acceptance outside of it: the step sizes did not suit
MOST_DIVERGED = 0.01  # of transitions
LADDER_FIELDS = {
    "ais_chains": Field(16, "chains per example", above=0),
    "ais_distributions": Field(1000, "from the initial one to the posterior", above=0),
    "ais_leapfrog": Field(10, "steps of each Hamiltonian trajectory", above=0),
    "ais_schedule": Field(
        "sigmoid", "how the distributions are spaced", choices=tuple(annealing.SCHEDULES)
    ),
}
FIELDS = LADDER_FIELDS | {
    "ais_initial": Field("encoder", "where the chains start", choices=tuple(annealing.INITIAL))
}


def initial_needs(section) -> tuple[str, ...]:
    """What the initial distribution needs to be annealed from."""
    if section.ais_initial == "prior":
        return ("a prior density log p(z)", "a prior to sample from")
    return ("a density log q(z|x)",)


@partial(jax.jit, static_argnums=(0, 8, 9, 10))
def _visit(
    model,
    params,
    hypers,
    x: Example,
    chain: Chain,
    rungs: Rungs,
    keys,
    step_sizes,
    initial: str,
    num_leapfrog: int,
    backward: bool,
) -> tuple[Chain, Trace]:
    """Chains [B, C] of examples [B, ...] through consecutive rungs [R].

    step_sizes: [B, C, R] or None.
    """

    def one(x, chain, key, step_sizes):
        path = annealing.INITIAL[initial](model, params, x, hypers)
        return annealing.anneal(path, chain, rungs, key, num_leapfrog, step_sizes, backward)

    axes = None if step_sizes is None else 0
    of_examples = jax.vmap(jax.vmap(one, (None, 0, 0, axes)), (0, 0, 0, axes))
    return of_examples(x, chain, keys, step_sizes)


@partial(jax.jit, static_argnums=(0, 5))
def _draws(model, params, hypers, x: Example, keys, initial: str) -> Latent:
    """Exact draws of the initial distribution  [B, C, ...]."""

    def one(x, key):
        return annealing.INITIAL[initial](model, params, x, hypers).draw(key)

    return jax.vmap(jax.vmap(one, (None, 0)))(x, keys)


class Annealer:
    """Passes of C chains for each example of a block, with the settings of config.eval.

    `settings` are those that its numbers depend on.
    """

    def __init__(
        self,
        study: Study,
        estimator: Estimator,
        initial: str | None = None,
        beyond: float = 1.0,
    ):
        """
        Args:
          estimator: whose randomness it has.
          initial: where the chains start; None: eval.ais_initial.
          beyond: the largest beta.
        """
        settings = study.run.config.eval
        self.study, self.run = study, study.run
        self.initial = initial or settings.ais_initial
        self.num_chains, self.num_leapfrog = settings.ais_chains, settings.ais_leapfrog
        ladder = annealing.ladder(settings.ais_schedule, settings.ais_distributions, beyond)
        self.rungs = jax.tree.map(np.asarray, ladder)
        self.key = estimator.rng(settings.seed)
        self.settings = {name: settings[name] for name in LADDER_FIELDS}
        self.settings["ais_initial"] = self.initial

    def num_calls(self) -> int:
        """Compiled calls of one pass."""
        return -(-len(self.rungs.t) // RUNGS)

    def keys(self, number: int, positions) -> tuple[jax.Array, jax.Array]:
        """Of the draws and of the transitions of pass `number`, [B, C] each."""
        of_pass = jax.random.fold_in(self.key, number)
        of_examples = streams.fold(of_pass, jnp.asarray(positions))
        of_chains = jax.vmap(streams.fold, (0, None))(of_examples, jnp.arange(self.num_chains))
        draw, transitions = jnp.moveaxis(jax.vmap(jax.vmap(jax.random.split))(of_chains), -1, 0)
        return draw, transitions

    def call(
        self, x: Example, chain: Chain, part: slice, keys, step_sizes, backward: bool
    ) -> tuple[Chain, Trace]:
        """The chains through a part of the ladder, in one compiled call."""
        rungs = jax.tree.map(lambda leaf: leaf[part], self.rungs)
        sizes = None if step_sizes is None else step_sizes[:, :, part]
        run, static = self.run, (self.initial, self.num_leapfrog, backward)
        return _visit(run.model, run.params, run.hypers, x, chain, rungs, keys, sizes, *static)

    def start(self, x: Example, keys, z: Latent | None = None) -> Chain:
        """Chains at draws of the initial distribution, or all at the given z [B, ...]."""
        if z is None:
            run = self.run
            z = _draws(run.model, run.params, run.hypers, x, keys, self.initial)
        else:
            z = jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], self.num_chains, axis=1), z)
        return jax.vmap(jax.vmap(annealing.starting, (0, None)), (0, None))(z, START)

    def anneal(
        self, x: Example, positions, number: int, step_sizes=None, z: Latent | None = None
    ) -> tuple[np.ndarray, Trace]:
        """(log_w [B, C], trace [B, C, T]) of one pass.

        Args:
          x: leaves [B, ...].
          positions: which randomness each example has  [B].
          number: TUNE, FORWARD or BACKWARD.
          step_sizes: of an earlier pass  [B, C, T]. None: they are tuned.
          z: draws of the posterior  [B, ...], from which the pass goes backward.
        """
        draw_keys, keys = self.keys(number, positions)
        chain, backward, traces = self.start(x, draw_keys, z), z is not None, []
        parts = [slice(begin, begin + RUNGS) for begin in range(0, len(self.rungs.t), RUNGS)]
        for part in parts[::-1] if backward else parts:
            chain, trace = self.call(x, chain, part, keys, step_sizes, backward)
            traces.append(jax.tree.map(np.asarray, trace))
            self.study.check()
        return np.asarray(chain.log_w), joined(traces[::-1] if backward else traces, axis=-1)

    def forward(self, x: Example, positions) -> tuple[np.ndarray, Trace]:
        """A tuning pass, and then the pass that is returned, with its step sizes."""
        _, tuned = self.anneal(x, positions, TUNE)
        return self.anneal(x, positions, FORWARD, tuned.step_size)

    def unit(self, x: Example, positions):
        """One compiled call of a tuned pass."""
        draw_keys, keys = self.keys(TUNE, positions)
        sizes = np.full((*keys.shape, len(self.rungs.t)), START, np.float32)
        return self.call(x, self.start(x, draw_keys), slice(0, RUNGS), keys, sizes, False)


def joined(traces: Sequence[Trace], axis: int) -> Trace:
    """Traces one after another along an axis."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=axis), *traces)


def behaviour(trace: Trace) -> dict[str, np.ndarray]:
    """Of each example [B]: the mean acceptance, and the share of transitions that diverged."""
    diverged = np.isnan(trace.acceptance)
    kept = np.maximum((~diverged).sum((1, 2)), 1)
    acceptance = np.nansum(trace.acceptance, (1, 2)) / kept
    return {"acceptance": acceptance, "diverged": diverged.mean((1, 2))}


def judge(arrays: dict) -> dict:
    """The behaviour of all chains, with a warning where it casts doubt on the estimate."""
    acceptance, diverged = arrays["acceptance"], float(arrays["diverged"].mean())
    found = {"acceptance": float(acceptance.mean()), "diverged": diverged, "warning": None}
    found["acceptance_range"] = [float(acceptance.min()), float(acceptance.max())]
    if diverged > MOST_DIVERGED:
        found["warning"] = (
            f"{diverged:.1%} of the transitions diverged: "
            "more eval.ais_leapfrog or ais_distributions"
        )
    elif not ACCEPTED[0] <= found["acceptance"] <= ACCEPTED[1]:
        found["warning"] = (
            f"the mean acceptance is {found['acceptance']:.2f}, not about {annealing.ACCEPTANCE}: "
            "the step sizes were not tuned to the end, try more eval.ais_distributions"
        )
    return found


def annealed(
    annealer: Annealer,
    x: Example,
    numbers: np.ndarray,
    block: Callable[..., dict],
    summarize: Callable[[dict, dict], dict],
    passes: int,
    about: str = "examples",
    **settings,
) -> Task:
    """A task of several passes over blocks of examples.

    Args:
      x: leaves [n, ...].
      numbers: which randomness each example has  [n].
      block: (examples of a block, their numbers) -> arrays.
      summarize: (arrays of all examples, those of other estimators) -> the estimate.
      passes: how many passes `block` makes.
      about: which examples, in words.
      settings: what the arrays depend on besides the annealer's own.
    """
    n, eval_settings = batch_size(x), annealer.run.config.eval
    # So many chains side by side as the evaluation has samples at a time.
    side_by_side = eval_settings.batch_size * eval_settings.samples_per_step
    size = even(n, max(1, side_by_side // annealer.num_chains))
    num_chains, num_rungs = annealer.num_chains, len(annealer.rungs.t)
    ladder = f"{num_chains} chains x {num_rungs:,} distributions from the {annealer.initial}"

    def examples(i: int):
        return of_block(x, i, size), of_block(numbers, i, size)

    return Task(
        about=f"{n:,} {about} x {ladder}",
        settings=annealer.settings | settings,
        num=n,
        size=size,
        block=lambda i: block(*examples(i)),
        units=passes * -(-n // size) * annealer.num_calls(),
        unit=lambda: annealer.unit(*examples(0)),
        summarize=lambda arrays, others: (
            summarize(arrays, others) | judge(arrays) | annealer.settings
        ),
    )


def log_means(log_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(log of the mean weight, effective number of chains) of each example [n], from [n, C]."""
    sums = weights.add(weights.none(log_w.shape[:1]), jnp.asarray(log_w))
    log_p = weights.log_mean(sums, log_w.shape[1])
    return np.asarray(log_p), np.asarray(weights.effective(sums))


def of_chains(log_w: np.ndarray, sign: int = 1) -> dict:
    """The bound from C chains of each of n examples  [n, C].

    A lower bound; from backward weights, with sign -1, an upper one.
    """
    found = iwae.of_log_means(*log_means(sign * log_w), log_w.shape[1])
    found["effective_chains"] = found.pop("effective_samples")
    return found | {"log_p": sign * found["log_p"]}
