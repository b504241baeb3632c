"""AIS and BDMC against log p(x) known exactly: both bounds hold, and meet; the curve is the
analytic one."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import Chain, LinearGaussian

from vae_jax.metrics import annealing
from vae_jax.metrics.rate_distortion_curve import curve


def log_mean_exp(a):
    a = np.asarray(a, np.float64)
    return np.logaddexp.reduce(a, axis=1) - np.log(a.shape[1])


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def annealed_chains(model, initial, leapfrog, backward, params, hypers, data, rungs, step_sizes):
    """The chains of points x [points, ...] with codes z and keys [points, chains]."""

    def chain(x, z, rng, step_sizes):
        path = annealing.INITIAL[initial](model, params, x, hypers)
        draw_rng, rng = jax.random.split(rng)
        start = annealing.starting(z if backward else path.draw(draw_rng), 0.1)
        return annealing.anneal(path, start, rungs, rng, leapfrog, step_sizes, backward)

    axes = None if step_sizes is None else 0
    of_points = jax.vmap(jax.vmap(chain, (None, None, 0, axes)), (0, 0, 0, axes))
    return of_points(*data, step_sizes)


class Annealed:
    """Chains [points, chains] for points simulated from a model whose log p(x) is known."""

    def __init__(
        self, oracle, initial, num=100, points=20, chains=16, beyond=1.0, leapfrog=10, seed=5
    ):
        self.oracle, self.initial, self.leapfrog = oracle, initial, leapfrog
        self.rungs = annealing.ladder("sigmoid", num, beyond)
        z, x = oracle.simulate(points, np.random.default_rng(seed))
        self.x, self.z = jax.tree.map(jnp.float32, (x, z))
        self.shape = (points, chains)
        self.truth = oracle.log_p(self.x)

    def path(self, x):
        about = self.oracle.model, self.oracle.params, x, self.oracle.hypers
        return annealing.INITIAL[self.initial](*about)

    def __call__(self, seed, step_sizes=None, backward=False):
        keys = jax.random.split(jax.random.key(seed), self.shape)
        how = self.oracle.model, self.initial, self.leapfrog, backward
        numbers = self.oracle.params, self.oracle.hypers, (self.x, self.z, keys), self.rungs
        return annealed_chains(*how, *numbers, step_sizes)


@cache
def model(dim, latent_dim, encoder_error):
    """The same object for every sigma, which is one of its parameters: it is compiled once."""
    return LinearGaussian(dim, latent_dim, 1.0, encoder_error, learn_sigma=True).model


def oracle(sigma, initial, latent_dim=3, dim=20):
    error = 0.3 if initial == "encoder" else 0.0
    made = LinearGaussian(dim, latent_dim, sigma, error, learn_sigma=True)
    made.model = model(dim, latent_dim, error)
    return made


@pytest.mark.quick
@pytest.mark.parametrize("initial", ["prior", "encoder"])
def test_one_distribution_is_simple_importance_sampling(initial):
    annealed = Annealed(oracle(0.5, initial), initial, num=1, points=3, chains=4)
    chains, _ = annealed(0)

    def weight(x, rng):
        path = annealed.path(x)
        z = path.draw(jax.random.split(rng)[0])
        return path.log_target(z) - path.log_initial(z)

    keys = jax.random.split(jax.random.key(0), annealed.shape)
    expected = jax.jit(jax.vmap(jax.vmap(weight, (None, 0))))(annealed.x, keys)
    np.testing.assert_allclose(chains.log_w, expected, rtol=1e-5)


@pytest.mark.parametrize("initial", ["prior", "encoder"])
@pytest.mark.parametrize("made", [1.0, 0.3, "upwards", "downwards"])
def test_bounds_from_both_sides_meet_at_the_truth(made, initial):
    """Of one layer with this sigma, and of two, which are annealed together."""
    layered = isinstance(made, str)
    annealed = Annealed(
        Chain(made == "downwards", error=0.3) if layered else oracle(made, initial), initial
    )
    _, tuned = annealed(0)
    forward, trace = annealed(1, tuned.step_size)
    backward, _ = annealed(2, tuned.step_size, True)
    lower, upper = (
        log_mean_exp(forward.log_w) - annealed.truth,
        -log_mean_exp(-backward.log_w) - annealed.truth,
    )

    def error(d):
        return 4 * d.std(ddof=1) / np.sqrt(len(d)) + 0.01

    assert -0.2 < lower.mean() < error(lower) and -error(upper) < upper.mean() < 0.2
    assert upper.mean() - lower.mean() > -error(upper - lower)
    np.testing.assert_array_equal(
        trace.step_size, tuned.step_size
    )  # frozen: replayed, not tuned again
    assert 0.5 < np.nanmean(trace.acceptance[..., 50:]) < 0.8


def test_the_pass_that_tunes_is_biased_upward_and_the_frozen_one_is_not():
    """Over the truth by more than any chance: the step size knows where its own chain is."""
    errors = {"tuning": [], "frozen": []}
    for annealed in (Annealed(oracle(0.3, "prior"), "prior", seed=seed) for seed in (5, 6)):
        log_w = {"tuning": [], "frozen": []}
        for seed in range(0, 12, 2):  # 96 chains, by what is compiled for 16
            tuning, tuned = annealed(seed)
            frozen, _ = annealed(seed + 1, tuned.step_size)
            log_w["tuning"].append(tuning.log_w)
            log_w["frozen"].append(frozen.log_w)
        for which, parts in log_w.items():
            errors[which] += list(log_mean_exp(np.concatenate(parts, axis=1)) - annealed.truth)
    assert t_statistic(errors["tuning"]) > 4 >= t_statistic(errors["frozen"])


def t_statistic(errors):
    return np.mean(errors) / (np.std(errors, ddof=1) / np.sqrt(len(errors)))


@pytest.mark.quick
def test_an_exact_initial_distribution_gives_the_truth_with_every_chain():
    exact = LinearGaussian(6, 3, 0.5)
    annealed = Annealed(exact, "encoder", num=20, points=4, chains=3)
    chains, _ = annealed(0)
    np.testing.assert_allclose(chains.log_w, np.tile(annealed.truth[:, None], 3), rtol=1e-4)


def test_a_transition_leaves_the_posterior_as_it_is():
    posterior = LinearGaussian(6, 2, 0.5, correlated=True)
    x = jnp.asarray(posterior.sample(1)[0], jnp.float32)
    path = annealing.from_prior(posterior.model, posterior.params, x, posterior.hypers)
    covariance = np.linalg.inv(posterior.precision)
    mean = covariance @ posterior.w.T @ (np.asarray(x) - posterior.b) / posterior.sigma**2
    start = np.random.default_rng(0).multivariate_normal(mean, covariance, 20_000)
    ones = jnp.ones(3)
    rungs = annealing.Rungs(jnp.arange(1, 4), ones, ones)

    def run(z, rng):
        return annealing.anneal(path, annealing.starting(z, 0.0), rungs, rng, 4, 0.45 * ones)

    chains, trace = jax.jit(jax.vmap(run))(
        jnp.float32(start), jax.random.split(jax.random.key(0), len(start))
    )
    assert 0.5 < np.mean(trace.acceptance) < 0.97  # large enough steps that accepting matters
    assert np.abs(chains.z - start).mean() > 0.1 and not np.any(chains.log_w)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(
        np.mean(chains.z, 0), mean, atol=5 * scale.max() / np.sqrt(len(start))
    )
    np.testing.assert_allclose(np.cov(chains.z.T), covariance, atol=0.04 * covariance.max())


@pytest.mark.parametrize("backward", [False, True])
def test_a_ladder_may_be_climbed_in_parts(backward):
    annealed = Annealed(oracle(0.5, "prior"), "prior", num=30)
    x, path = annealed.x[0], annealed.path(annealed.x[0])
    start = annealing.starting(annealed.z[0], 0.1)
    sizes = jnp.linspace(0.05, 0.3, 30)
    run = jax.jit(
        lambda chain, rungs, sizes: annealing.anneal(
            path, chain, rungs, jax.random.key(3), 5, sizes, backward
        )
    )
    whole, trace = run(start, annealed.rungs, sizes)
    parts = [slice(0, 15), slice(15, 30)]
    chain, traces = start, []
    for part in parts[::-1] if backward else parts:
        chain, some = run(
            chain, jax.tree.map(lambda a, part=part: a[part], annealed.rungs), sizes[part]
        )
        traces.append(some)
    joined = [
        np.concatenate(leaves)
        for leaves in zip(*(traces[::-1] if backward else traces), strict=True)
    ]
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
        (chain.z, chain.log_w),
        (whole.z, whole.log_w),
    )
    np.testing.assert_allclose(joined[1], trace.acceptance, rtol=1e-3, atol=1e-3)
    assert x.shape == (20,)


def test_chains_that_diverge_are_refused_and_reported():
    annealed = Annealed(oracle(0.3, "prior"), "prior")
    chains, trace = annealed(0, jnp.full((20, 16, 100), jnp.float32(1e4)))
    assert np.isnan(trace.acceptance).all() and np.isfinite(chains.log_w).all()


@pytest.mark.quick
@pytest.mark.parametrize("schedule", annealing.SCHEDULES)
@pytest.mark.parametrize("num", [1, 2, 50])
def test_ladders_go_from_zero_to_one(schedule, num):
    t, before, beta = annealing.ladder(schedule, num)
    assert list(t) == list(range(1, num + 1)) and before[0] == 0.0 and beta[-1] == 1.0
    np.testing.assert_array_equal(before[1:], beta[:-1])
    assert (np.diff(np.r_[0.0, beta]) > 0).all()
    further = annealing.ladder(schedule, num, beyond=4.0)
    np.testing.assert_array_equal(further.beta[:num], beta)
    assert len(further.t) == num + max(num // 2, 1) and float(further.beta[-1]) == pytest.approx(
        4.0
    )


def test_the_rate_distortion_curve_is_the_analytic_one():
    exact = oracle(0.5, "prior", latent_dim=2, dim=6)
    annealed = Annealed(exact, "prior", num=100, points=10, chains=800, beyond=4.0, leapfrog=3)
    _, tuned = annealed(0)
    _, trace = annealed(1, tuned.step_size)
    betas = np.asarray(annealed.rungs.beta, np.float64)
    distortion, rate = (values.mean(0) for values in curve(betas, trace.log_w, trace.log_ratio))
    for i in (50, 75, 99, 125, 149):
        d, r = analytic(exact, np.asarray(annealed.x, np.float64), betas[i])
        assert distortion[i] == pytest.approx(d, rel=0.01) and rate[i] == pytest.approx(
            r, rel=0.01, abs=0.03
        )
    at_one = distortion[99] + rate[99]
    assert at_one == pytest.approx(-annealed.truth.mean(), abs=0.1)


def analytic(oracle, x, beta):
    """(D, R) of q_beta(z|x) ~ p(z) p(x|z)^beta, which is a Gaussian; means over x."""
    k, s2, away = oracle.latent_dim, oracle.sigma**2, x - oracle.b
    covariance = np.linalg.inv(np.eye(k) + beta * oracle.w.T @ oracle.w / s2)
    mean = beta * away @ oracle.w @ covariance / s2
    squares = np.sum((away - mean @ oracle.w.T) ** 2, 1) + np.trace(
        oracle.w @ covariance @ oracle.w.T
    )
    distortion = 0.5 * (squares / s2 + x.shape[1] * np.log(2 * np.pi * s2))
    rate = 0.5 * (np.trace(covariance) + np.sum(mean**2, 1) - k - np.linalg.slogdet(covariance)[1])
    return distortion.mean(), rate.mean()
