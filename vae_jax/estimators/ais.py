"""Annealed importance sampling of test examples, and of simulated ones from both sides."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import rng as streams
from vae_jax.estimators import iwae
from vae_jax.estimators.task import Study, Task, even, of_block
from vae_jax.metrics import annealing
from vae_jax.metrics import importance_weights as weights
from vae_jax.metrics.annealing import Chain, Rungs, Trace

RUNGS = 50  # distributions in one compiled call
START = 0.1  # the step size that tuning starts from
TUNE, FORWARD, BACKWARD = range(3)  # passes, each with randomness of its own
ACCEPTED = (0.4, 0.9)  # mean acceptances outside of it mean that the step sizes did not suit
MOST_DIVERGED = 0.01  # of transitions
TOLERANCE = 4.0  # standard errors, by which a lower bound may exceed an upper one on average
ROUNDING = 0.01  # nats, likewise: sums of thousands of float32 terms


@partial(jax.jit, static_argnums=(0, 8, 9, 10))
def _visit(model, params, hypers, x, chain: Chain, rungs: Rungs, keys, step_sizes, initial, num_leapfrog, backward):
    """Chains [B, C] of examples x [B, D] through consecutive rungs [R]; step_sizes [B, C, R] or None."""

    def one(x, chain, key, step_sizes):
        path = annealing.INITIAL[initial](model, params, x, hypers)
        return annealing.anneal(path, chain, rungs, key, num_leapfrog, step_sizes, backward)

    axes = None if step_sizes is None else 0
    return jax.vmap(jax.vmap(one, (None, 0, 0, axes)), (0, 0, 0, axes))(x, chain, keys, step_sizes)


@partial(jax.jit, static_argnums=(0, 5))
def _draws(model, params, hypers, x, keys, initial) -> jax.Array:
    """Exact draws of the initial distribution, [B, C, Z]."""
    one = lambda x, key: annealing.INITIAL[initial](model, params, x, hypers).draw(key)  # noqa: E731
    return jax.vmap(jax.vmap(one, (None, 0)))(x, keys)


class Annealer:
    """Passes of C chains for each of a block's examples, in the config's settings."""

    def __init__(self, study: Study, name: str, initial: str | None = None, beyond: float = 1.0):
        self.study, self.name, settings = study, name, study.run.config.eval
        self.run, self.check = study.run, study.check
        self.initial, self.num_chains = initial or settings.ais_initial, settings.ais_chains
        self.num_leapfrog = settings.ais_leapfrog
        self.rungs = jax.tree.map(
            np.asarray, annealing.ladder(settings.ais_schedule, settings.ais_distributions, beyond)
        )
        self.key = streams.of_estimate(settings.seed, name)
        self.settings = {k: settings[k] for k in settings if k.startswith("ais_")} | {"ais_initial": self.initial}

    def num_calls(self) -> int:
        return -(-len(self.rungs.t) // RUNGS)

    def keys(self, number: int, positions) -> tuple[jax.Array, jax.Array]:
        """Of the draws and of the transitions of pass `number`, [B, C] each."""
        of_examples = streams.fold(jax.random.fold_in(self.key, number), jnp.asarray(positions))
        of_chains = jax.vmap(streams.fold, (0, None))(of_examples, jnp.arange(self.num_chains))
        draw, transitions = jnp.moveaxis(jax.vmap(jax.vmap(jax.random.split))(of_chains), -1, 0)
        return draw, transitions

    def call(self, x, chain: Chain, part: slice, keys, step_sizes, backward: bool) -> tuple[Chain, Trace]:
        rungs = jax.tree.map(lambda a: a[part], self.rungs)
        sizes = None if step_sizes is None else step_sizes[:, :, part]
        fixed = self.initial, self.num_leapfrog, backward
        return _visit(self.run.model, self.run.params, self.run.hypers, x, chain, rungs, keys, sizes, *fixed)

    def start(self, x, keys, z=None) -> Chain:
        """Chains at draws of the initial distribution, or all at the given z [B, Z]."""
        if z is None:
            z = _draws(self.run.model, self.run.params, self.run.hypers, x, keys, self.initial)
        else:
            z = jnp.repeat(z[:, None], self.num_chains, axis=1)
        return jax.vmap(jax.vmap(annealing.starting, (0, None)), (0, None))(z, START)

    def anneal(self, x, positions, number: int, step_sizes=None, z=None) -> tuple[np.ndarray, Trace]:
        """(log_w [B, C], trace [B, C, T]) of one pass; backward from the posterior draws z [B, Z] where given."""
        draw_keys, keys = self.keys(number, positions)
        chain, backward, traces = self.start(x, draw_keys, z), z is not None, []
        parts = [slice(begin, begin + RUNGS) for begin in range(0, len(self.rungs.t), RUNGS)]
        for part in parts[::-1] if backward else parts:
            chain, trace = self.call(x, chain, part, keys, step_sizes, backward)
            traces.append(jax.tree.map(np.asarray, trace))
            self.check()
        traces = traces[::-1] if backward else traces
        return np.asarray(chain.log_w), Trace(*(np.concatenate(c, axis=-1) for c in zip(*traces, strict=True)))

    def forward(self, x, positions) -> tuple[np.ndarray, Trace]:
        """A tuning pass, and then one with its step sizes and new randomness, which is what is returned."""
        _, tuned = self.anneal(x, positions, TUNE)
        return self.anneal(x, positions, FORWARD, tuned.step_size)

    def unit(self, x, positions):
        """One compiled call of a tuned pass."""
        draw_keys, keys = self.keys(TUNE, positions)
        sizes = np.full((*keys.shape, len(self.rungs.t)), START, np.float32)
        return self.call(x, self.start(x, draw_keys), slice(0, RUNGS), keys, sizes, False)


def behaviour(trace: Trace) -> dict[str, np.ndarray]:
    """How the chains of each example behaved: the mean acceptance, and the share of transitions that diverged [B]."""
    lost = np.isnan(trace.acceptance)
    kept = np.maximum((~lost).sum((1, 2)), 1)
    return {"acceptance": np.nansum(trace.acceptance, (1, 2)) / kept, "diverged": lost.mean((1, 2))}


def judge(arrays: dict) -> dict:
    """What results.json says of the behaviour of all chains, with a warning where it casts doubt on the estimate."""
    acceptance, diverged = arrays["acceptance"], float(arrays["diverged"].mean())
    found = {"acceptance": float(acceptance.mean()), "diverged": diverged, "warning": None}
    found["acceptance_range"] = [float(acceptance.min()), float(acceptance.max())]
    if diverged > MOST_DIVERGED:
        found["warning"] = f"{diverged:.1%} of the transitions diverged: more eval.ais_leapfrog or ais_distributions"
    elif not ACCEPTED[0] <= found["acceptance"] <= ACCEPTED[1]:
        found["warning"] = (
            f"the mean acceptance is {found['acceptance']:.2f}, not about {annealing.ACCEPTANCE}: the step sizes were "
            "not tuned to the end, try more eval.ais_distributions"
        )
    return found


def examples_per_block(study: Study) -> int:
    """So many chains go side by side as the evaluation has samples at a time."""
    settings = study.run.config.eval
    return max(1, settings.batch_size * settings.samples_per_step // settings.ais_chains)


def annealed(
    annealer: Annealer,
    x,
    numbers,
    block: Callable,
    summarize: Callable,
    passes: int,
    about: str = "examples",
    **settings,
) -> Task:
    """A task of `passes` passes over blocks of examples x [n, D], whose noise belongs to `numbers` [n].

    `block` is (x of a block, its numbers) -> arrays; `settings` are what these depend on besides the annealer's own.
    """
    study, n = annealer.study, len(x)
    size = even(n, examples_per_block(study))
    of = lambda i: (of_block(x, i, size), of_block(numbers, i, size))  # noqa: E731
    ladder = f"{annealer.num_chains} chains x {len(annealer.rungs.t):,} distributions from the {annealer.initial}"
    return Task(
        name=annealer.name,
        about=f"{n:,} {about} x {ladder}",
        settings=annealer.settings | settings,
        num=n,
        size=size,
        block=lambda i: block(*of(i)),
        units=passes * -(-n // size) * annealer.num_calls(),
        unit=lambda: annealer.unit(*of(0)),
        summarize=lambda arrays, _others: summarize(arrays) | judge(arrays) | annealer.settings,
    )


def task(study: Study) -> Task:
    annealer = Annealer(study, "ais")

    def block(x, positions) -> dict:
        log_w, trace = annealer.forward(x, positions)
        return behaviour(trace) | {"log_w": log_w}

    summarize = lambda arrays: of_chains(arrays["log_w"])  # noqa: E731
    return annealed(annealer, study.test_examples(), study.positions, block, summarize, passes=2)


def log_means(log_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the logarithm of the mean weight, the effective number of chains) of each example, [n] each, from [n, C]."""
    sums = weights.add(weights.none(log_w.shape[:1]), log_w)
    return np.asarray(weights.log_mean(sums, log_w.shape[1])), np.asarray(weights.effective(sums))


def of_chains(log_w: np.ndarray, sign: int = 1) -> dict:
    """The bound from C chains for each of n examples: a lower one, and from backward weights (sign -1) an upper one."""
    found = iwae.of_log_means(*log_means(sign * log_w), log_w.shape[1])
    found["effective_chains"] = found.pop("effective_samples")
    return found | {"log_p": sign * found["log_p"]}


@partial(jax.jit, static_argnums=0)
def simulate(model, params, hypers, keys) -> tuple[jax.Array, jax.Array]:
    """(z [n, Z], x [n, D]) ~ p(x, z): then z is an exact draw of p(z|x)."""

    def one(key):
        prior_key, x_key = jax.random.split(key)
        z = model.sample_prior(params, prior_key, hypers)
        return z, model.decode(params, z, x_key).ravel()

    return jax.vmap(one)(keys)


def bidirectional(study: Study) -> Task:
    """Bidirectional Monte Carlo: on as many simulated examples, a lower and an upper bound, whose gap says how far the
    estimates of real examples may be from the truth."""
    annealer, run, num_samples = Annealer(study, "bdmc"), study.run, min(study.run.config.eval.iwae_samples)
    simulation, epsilon = jax.random.split(jax.random.fold_in(annealer.key, len((TUNE, FORWARD, BACKWARD))))
    numbers = np.arange(len(study.positions))
    z, x = simulate(run.model, run.params, run.hypers, streams.fold(simulation, numbers))

    def block(x, which) -> dict:
        _, tuned = annealer.anneal(x, which, TUNE)
        log_w, trace = annealer.anneal(x, which, FORWARD, tuned.step_size)
        backward, back = annealer.anneal(x, which, BACKWARD, tuned.step_size, z[which])
        both = Trace(*(np.concatenate(leaves, axis=1) for leaves in zip(trace, back, strict=True)))
        weighted = iwae.bounds(study, x, epsilon, which, (num_samples,))
        found = behaviour(both) | {"log_w": log_w, "backward": backward}
        return found | {"iwae": weighted["log_p"][:, 0], "effective": weighted["effective"][:, 0]}

    summarize = lambda arrays: sandwich(arrays, num_samples)  # noqa: E731
    about = "simulated examples, there and back,"
    return annealed(annealer, x, numbers, block, summarize, passes=3, about=about, iwae_samples=num_samples)


def sandwich(arrays: dict, num_samples: int) -> dict:
    """Both bounds on log p of simulated examples, the importance-weighted one beside them, and what lies between."""
    upper = -log_means(-arrays["backward"])[0]
    found = {
        "lower": of_chains(arrays["log_w"]),
        "upper": of_chains(arrays["backward"], sign=-1),
        "iwae": {"samples": num_samples} | iwae.of_log_means(arrays["iwae"], arrays["effective"], num_samples),
    }
    for name, lower, of_lower in (
        ("width", log_means(arrays["log_w"])[0], found["lower"]),
        ("iwae_width", arrays["iwae"], found["iwae"]),
    ):
        between = (upper - lower).astype(np.float64)
        # Of few examples, or all alike, the spread says less than the noise that is known of each.
        noise = np.hypot(found["upper"]["noise_stderr"] or 0.0, of_lower["noise_stderr"] or 0.0)
        stderr = max(between.std(ddof=1) / np.sqrt(len(between)), noise)
        found |= {name: float(between.mean()), f"{name}_stderr": float(stderr)}
    return found


def violation(found: dict) -> str | None:
    """What is wrong where a lower bound exceeds the upper one by more than chance and rounding explain."""
    for name, bound in (("width", "AIS"), ("iwae_width", f"IWAE-{found['iwae']['samples']:,}")):
        width, stderr = found[name], found[f"{name}_stderr"]
        if not width >= -(TOLERANCE * stderr + ROUNDING):  # also where one of them is not a number
            return (
                f"on simulated examples the lower bound of {bound} exceeds the upper bound of BDMC by {-width:.3f} +- "
                f"{stderr:.3f} nats, which no valid pair of bounds does"
            )
    return None
