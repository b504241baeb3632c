"""Annealed importance sampling (Neal 2001, arXiv:physics/9803008) with Hamiltonian transitions, in
both directions.

    log f_t(z) = (1 - beta_t) log f_0(z) + beta_t log p(x, z),    0 = beta_0 < ... < beta_T = 1

From the prior f_t is p(z) p(x|z)^beta_t: the intermediate distributions trace the decoder's
rate-distortion curve.

Forward, a chain starts with an exact draw of the normalized f_0 and moves through f_1, ..., f_T.
The mean of its weight w is p(x), so the logarithm of the mean of several weights is, in
expectation, a lower bound on log p(x). Backward, a chain starts with an exact draw of p(z|x), which
is known where x was simulated together with its z. The mean of 1/w is 1/p(x): an upper bound
(bidirectional Monte Carlo, Grosse et al. 2015, arXiv:1511.02543).

Both hold for fixed transitions only. So step sizes are tuned in a pass of its own, whose weights
are not used, and a second pass takes them with new randomness (Huang et al. 2020,
arXiv:2008.06653).

z is an array [Z], or a tree of them, one leaf for each stochastic layer.
"""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.models.ingredients import as_example
from vae_jax.types import Example, Hypers, Latent, Model, Params

# The mean acceptance that tuning aims at: optimal for Hamiltonian transitions (Beskos et al. 2013).
ACCEPTANCE = 0.65
DIVERGED = 1000.0  # a larger energy error, in nats, or nan, is a divergent trajectory
GAIN = 0.1  # of the tuning: change of the log step size, per unit of acceptance


class Path(NamedTuple):
    """What is annealed, for one example."""

    log_initial: Callable[[Latent], jax.Array]  # z -> log f_0(z) [], normalized
    log_target: Callable[[Latent], jax.Array]  # z -> log p(x, z) []
    draw: Callable[[jax.Array], Latent]  # rng -> z ~ f_0


class Chain(NamedTuple):
    """The state of one chain."""

    z: Latent
    log_w: jax.Array  # []
    lost: jax.Array  # Kahan compensation of log_w (Kahan 1965): a sum of ten thousand terms  []
    step_size: jax.Array  # as tuned so far  []


def starting(z: Latent, step_size: float) -> Chain:
    """A chain at z, before its first distribution; a pass that tunes starts from `step_size`."""
    return Chain(z, jnp.float32(0.0), jnp.float32(0.0), jnp.float32(step_size))


class Rungs(NamedTuple):
    """Consecutive distributions of a ladder, T of them, in the order of t in both directions."""

    t: jax.Array  # their numbers, from 1  [T]
    before: jax.Array  # beta_{t-1}  [T]
    beta: jax.Array  # beta_t  [T]


class Trace(NamedTuple):
    """What happened at each of T distributions; (z_t, w_t) is a properly weighted draw of f_t."""

    step_size: jax.Array  # of the transition  [T]
    acceptance: jax.Array  # its probability; nan where it diverged and was rejected  [T]
    log_w: jax.Array  # w_t, whose mean is the integral of f_t; meaningless backward  [T]
    log_ratio: jax.Array  # log p(x, z_t) - log f_0(z_t)  [T]


def linear(num: int) -> jax.Array:
    """beta_0, ..., beta_num, equally spaced."""
    return jnp.linspace(0.0, 1.0, num + 1)


def sigmoid(num: int) -> jax.Array:
    """beta_0, ..., beta_num, denser at both ends (Wu et al. 2017, arXiv:1611.04273)."""
    raw = jax.nn.sigmoid(jnp.linspace(-4.0, 4.0, num + 1))
    return (raw - raw[0]) / (raw[-1] - raw[0])


SCHEDULES = {"linear": linear, "sigmoid": sigmoid}


def ladder(schedule: str, num: int, beyond: float = 1.0) -> Rungs:
    """`num` distributions up to beta = 1; half as many again, geometrically, up to `beyond` > 1."""
    betas = SCHEDULES[schedule](num)
    if beyond > 1.0:
        more = jnp.geomspace(1.0, beyond, max(num // 2, 1) + 1)[1:]
        betas = jnp.concatenate([betas, more])
    return Rungs(jnp.arange(1, len(betas)), betas[:-1], betas[1:])


def from_prior(model: Model, params: Params, x: Example | jax.Array, hypers: Hypers) -> Path:
    """f_0 = p(z): then f_beta = p(z) p(x|z)^beta (Huang et al. 2020, equation 8)."""
    return Path(
        lambda z: model.log_prior(params, z, hypers),
        lambda z: model.log_joint(params, x, z, hypers),
        lambda rng: model.sample_prior(params, rng, hypers, as_example(x).condition),
    )


def from_encoder(model: Model, params: Params, x: Example | jax.Array, hypers: Hypers) -> Path:
    """f_0 = q(z|x)."""
    return Path(
        lambda z: model.log_q(params, x, z, hypers),
        lambda z: model.log_joint(params, x, z, hypers),
        lambda rng: model.draw(params, x, rng, hypers).z,
    )


INITIAL = {"prior": from_prior, "encoder": from_encoder}


class _Point(NamedTuple):
    """A value of z and both densities there."""

    z: Latent
    log_f: tuple[jax.Array, jax.Array]  # of (initial, target)
    grad: tuple[Latent, Latent]  # likewise


def anneal(
    path: Path,
    chain: Chain,
    rungs: Rungs,
    rng: jax.Array,
    num_leapfrog: int,
    step_sizes: jax.Array | None = None,
    backward: bool = False,
) -> tuple[Chain, Trace]:
    """One chain through consecutive distributions; the next call continues from the returned Chain.

    The randomness of transition t is fold_in(rng, t), so it does not matter how the ladder is
    divided into calls.

    Args:
      path: what is annealed.
      chain: where the chain is.
      rungs: the distributions that it visits, in the order of t.
      rng: of the whole pass.
      num_leapfrog: steps of each Hamiltonian trajectory.
      step_sizes: of an earlier pass  [T]. None: they are tuned, and the weight is not valid.
      backward: visit the distributions in reverse, from a draw of the last one.
    """

    def at(z: Latent) -> _Point:
        densities = path.log_initial, path.log_target
        both = [jax.value_and_grad(log_f)(z) for log_f in densities]
        return _Point(z, *zip(*both, strict=True))

    def transition(point: _Point, beta, step_size, rng) -> tuple[_Point, jax.Array]:
        """A Hamiltonian transition that leaves f_beta invariant, and its acceptance probability."""

        def mixed(pair):
            """log f_beta, or its gradient, from those of the initial density and the target."""
            return jax.tree.map(lambda a, b: (1 - beta) * a + beta * b, *pair)

        def leapfrog(state, _):
            z, momentum = state
            z = _plus(z, step_size, momentum)
            return (z, _plus(momentum, step_size, gradient(z))), None

        # On the way only the gradient is needed; the densities, half of the cost, at the end alone.
        gradient = jax.grad(lambda z: mixed((path.log_initial(z), path.log_target(z))))
        momentum_rng, accept_rng = jax.random.split(rng)
        momentum = _normal(momentum_rng, point.z)
        half = _plus(momentum, 0.5 * step_size, mixed(point.grad))
        (z, half), _ = jax.lax.scan(leapfrog, (point.z, half), length=num_leapfrog - 1)
        proposal = at(_plus(z, step_size, half))
        last = _plus(half, 0.5 * step_size, mixed(proposal.grad))
        kinetic = 0.5 * (_squared_norm(momentum) - _squared_norm(last))
        log_ratio = mixed(proposal.log_f) - mixed(point.log_f) + kinetic
        accepted = jnp.log(jax.random.uniform(accept_rng)) < log_ratio  # never where it is nan
        point = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), proposal, point)
        acceptance = jnp.exp(jnp.minimum(log_ratio, 0.0))
        return point, jnp.where(log_ratio > -DIVERGED, acceptance, jnp.nan)

    def visit(state, rung):
        (start, log_w, lost, tuned), ((t, before, beta), step_size) = state, rung
        step_size = tuned if step_size is None else step_size
        point, acceptance = transition(start, beta, step_size, jax.random.fold_in(rng, t))
        weighed = point if backward else start  # z between transitions t - 1 and t
        term = (beta - before) * (weighed.log_f[1] - weighed.log_f[0]) - lost
        log_w, lost = log_w + term, (log_w + term - log_w) - term
        tuned = step_size * jnp.exp(GAIN * (jnp.nan_to_num(acceptance) - ACCEPTANCE))
        trace = Trace(step_size, acceptance, log_w, point.log_f[1] - point.log_f[0])
        return (point, log_w, lost, tuned), trace

    start = at(chain.z), chain.log_w, chain.lost, chain.step_size
    end, trace = jax.lax.scan(visit, start, (rungs, step_sizes), reverse=backward)
    point, log_w, lost, tuned = end
    return Chain(point.z, log_w, lost, tuned), trace


def _plus(tree: Latent, scale: jax.Array, direction: Latent) -> Latent:
    return jax.tree.map(lambda a, b: a + scale * b, tree, direction)


def _squared_norm(tree: Latent) -> jax.Array:
    return functools.reduce(operator.add, [leaf @ leaf for leaf in jax.tree.leaves(tree)])


def _normal(rng: jax.Array, like: Latent) -> Latent:
    """Standard normal noise in the shape of `like`; several layers have a key each."""
    leaves, structure = jax.tree.flatten(like)
    keys = [rng] if len(leaves) == 1 else jax.random.split(rng, len(leaves))
    noise = [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, noise)
