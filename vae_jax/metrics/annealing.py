"""Annealed importance sampling (Neal 2001, arXiv:physics/9803008) with Hamiltonian transitions, from both sides.

    log f_t(z) = (1 - beta_t) log f_0(z) + beta_t log p(x, z),    0 = beta_0 < ... < beta_T = 1

From the prior f_t is p(z) p(x|z)^beta_t: the distributions on the way trace the decoder's rate-distortion curve.

Forward, a chain starts with an exact draw of the normalized f_0 and moves through f_1, ..., f_T; the mean of its
weights w is p(x), so the logarithm of the mean of several is, in expectation, a lower bound on log p(x). Backward, a
chain starts with an exact draw of p(z|x), which is at hand where x was simulated together with its z, and the mean of
1/w is 1/p(x): an upper bound (bidirectional Monte Carlo, Grosse et al. 2015, arXiv:1511.02543).

Both hold for fixed transitions only. So step sizes are tuned in a pass of its own, whose weights count for nothing,
and replayed with new randomness (Huang et al. 2020, arXiv:2008.06653).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.types import Hypers, Model, Params

ACCEPTANCE = 0.65  # what the tuning aims at: the best rate of Hamiltonian transitions (Beskos et al. 2013)
DIVERGED = 1000.0  # nats of energy, by which a trajectory has left what its step size can follow, or nan
GAIN = 0.1  # of the tuning: change of the logarithm of the step size, per unit of acceptance


class Path(NamedTuple):
    """What is annealed, for one example."""

    log_initial: Callable  # z [Z] -> log f_0(z) [], normalized
    log_target: Callable  # z [Z] -> log p(x, z) []
    draw: Callable  # rng -> z ~ f_0 [Z]


class Chain(NamedTuple):
    """Where a chain is."""

    z: jax.Array  # [Z]
    log_w: jax.Array  # []
    lost: jax.Array  # what rounding has taken from log_w: ten thousand terms are summed (Kahan 1965)  []
    step_size: jax.Array  # that the tuning has come to  []


def starting(z: jax.Array, step_size: float) -> Chain:
    """A chain at z, before its first distribution; a pass that tunes begins with this step size."""
    return Chain(z, jnp.float32(0.0), jnp.float32(0.0), jnp.float32(step_size))


class Rungs(NamedTuple):
    """Consecutive distributions of a ladder, T of them, in the order of t also for a chain that goes backward."""

    t: jax.Array  # their numbers, from 1  [T]
    before: jax.Array  # beta_{t-1}  [T]
    beta: jax.Array  # beta_t  [T]


class Trace(NamedTuple):
    """What happened at each of T distributions; (z_t, w_t) is a properly weighted draw of f_t."""

    step_size: jax.Array  # of the transition  [T]
    acceptance: jax.Array  # its probability; nan where it diverged, and the proposal was refused  [T]
    log_w: jax.Array  # w_t, whose mean is the integral of f_t; meaningless backward  [T]
    log_ratio: jax.Array  # log p(x, z_t) - log f_0(z_t)  [T]


def linear(num: int) -> jax.Array:
    return jnp.linspace(0.0, 1.0, num + 1)


def sigmoid(num: int) -> jax.Array:
    """Closer to each other at both ends (Wu et al. 2017, arXiv:1611.04273)."""
    raw = jax.nn.sigmoid(jnp.linspace(-4.0, 4.0, num + 1))
    return (raw - raw[0]) / (raw[-1] - raw[0])


SCHEDULES = {"linear": linear, "sigmoid": sigmoid}  # from T to beta_0, ..., beta_T


def ladder(schedule: str, num: int, beyond: float = 1.0) -> Rungs:
    """`num` distributions up to beta = 1 and, where `beyond` is more, half as many again, geometrically, up to it."""
    betas = SCHEDULES[schedule](num)
    if beyond > 1.0:
        betas = jnp.concatenate([betas, jnp.geomspace(1.0, beyond, max(num // 2, 1) + 1)[1:]])
    return Rungs(jnp.arange(1, len(betas)), betas[:-1], betas[1:])


def from_prior(model: Model, params: Params, x: jax.Array, hypers: Hypers) -> Path:
    """f_0 = p(z): then f_beta = p(z) p(x|z)^beta (Huang et al. 2020, equation 8)."""
    return Path(
        lambda z: model.log_prior(params, z, hypers),
        lambda z: model.log_joint(params, x, z, hypers),
        lambda rng: model.sample_prior(params, rng, hypers),
    )


def from_encoder(model: Model, params: Params, x: jax.Array, hypers: Hypers) -> Path:
    """f_0 = q(z|x)."""
    return Path(
        lambda z: model.log_q(params, x, z, hypers),
        lambda z: model.log_joint(params, x, z, hypers),
        lambda rng: model.draw(params, x, rng, hypers).z,
    )


INITIAL = {"prior": from_prior, "encoder": from_encoder}


class _Point(NamedTuple):
    """A place, and what both densities are there."""

    z: jax.Array  # [Z]
    log_f: tuple[jax.Array, jax.Array]  # of (initial, target)
    grad: tuple[jax.Array, jax.Array]  # likewise, [Z] each


def anneal(
    path: Path,
    chain: Chain,
    rungs: Rungs,
    rng: jax.Array,
    num_leapfrog: int,
    step_sizes: jax.Array | None = None,
    backward: bool = False,
) -> tuple[Chain, Trace]:
    """One chain through consecutive distributions; the next call goes on from the Chain that it returns.

    With the step_sizes [T] of an earlier pass the weight is valid; without, they are tuned on the way. The randomness
    of transition t is fold_in(rng, t), so it does not matter how the ladder is divided.
    """

    def at(z: jax.Array) -> _Point:
        both = [jax.value_and_grad(log_f)(z) for log_f in (path.log_initial, path.log_target)]
        return _Point(z, *zip(*both, strict=True))

    def transition(point: _Point, beta, step_size, rng) -> tuple[_Point, jax.Array]:
        """A Hamiltonian transition that leaves f_beta as it is, and its acceptance probability."""

        def mixed(pair):
            return (1 - beta) * pair[0] + beta * pair[1]  # log f_beta, or its gradient

        def leapfrog(state, _):
            z, momentum = state
            z = z + step_size * momentum
            return (z, momentum + step_size * gradient(z)), None

        # On the way only the gradient is needed; the densities, half of the cost, only where it ends.
        gradient = jax.grad(lambda z: mixed((path.log_initial(z), path.log_target(z))))
        momentum_rng, accept_rng = jax.random.split(rng)
        momentum = jax.random.normal(momentum_rng, point.z.shape)
        half = momentum + 0.5 * step_size * mixed(point.grad)
        (z, half), _ = jax.lax.scan(leapfrog, (point.z, half), length=num_leapfrog - 1)
        proposal = at(z + step_size * half)
        last = half + 0.5 * step_size * mixed(proposal.grad)
        log_ratio = mixed(proposal.log_f) - mixed(point.log_f) + 0.5 * (momentum @ momentum - last @ last)
        accepted = jnp.log(jax.random.uniform(accept_rng)) < log_ratio  # never where it is nan
        point = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), proposal, point)
        return point, jnp.where(log_ratio > -DIVERGED, jnp.exp(jnp.minimum(log_ratio, 0.0)), jnp.nan)

    def visit(state, rung):
        (point, log_w, lost, tuned), (t, before, beta), step_size = state, *rung
        step_size = tuned if step_size is None else step_size
        start, (point, acceptance) = point, transition(point, beta, step_size, jax.random.fold_in(rng, t))
        weighed = point if backward else start  # the weight is of the place between transitions t - 1 and t
        term = (beta - before) * (weighed.log_f[1] - weighed.log_f[0]) - lost
        log_w, lost = log_w + term, (log_w + term - log_w) - term
        tuned = step_size * jnp.exp(GAIN * (jnp.nan_to_num(acceptance) - ACCEPTANCE))
        return (point, log_w, lost, tuned), Trace(step_size, acceptance, log_w, point.log_f[1] - point.log_f[0])

    start = at(chain.z), chain.log_w, chain.lost, chain.step_size
    (point, log_w, lost, tuned), trace = jax.lax.scan(visit, start, (rungs, step_sizes), reverse=backward)
    return Chain(point.z, log_w, lost, tuned), trace
