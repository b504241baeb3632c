from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from vae_jax.distributions import Gaussian
from vae_jax.estimators.latents import log_prior
from vae_jax.metrics.aggregate_posterior import Terms, summarize, terms

pytestmark = pytest.mark.quick

QUANTITIES = (
    "rate_sampled",
    "mutual_information",
    "aggregate_kl",
    "total_correlation",
    "dimension_wise_kl",
)


@partial(jax.jit, static_argnames="block_size")
def all_terms(mean, logvar, eps, block_size=100) -> Terms:
    """One draw of every posterior [N, Z]."""
    return terms(Gaussian(mean, logvar), jnp.arange(len(mean)), eps, log_prior, block_size)


def measure(mean, sd, seed=0) -> dict:
    mean, sd = np.broadcast_arrays(np.float32(mean), np.float32(sd))
    return summarize(
        all_terms(mean, 2 * np.log(sd), np.random.default_rng(seed).normal(size=mean.shape))
    )


def random_posteriors(num, width, seed=0):
    mean, logvar, eps = np.random.default_rng(seed).normal(size=(3, num, width)).astype(np.float32)
    return 2 * mean, logvar - 1, eps


def reference(mean, logvar, eps) -> Terms:
    """The N x N definition, in float64."""
    mean, sd, eps = np.float64(mean), np.exp(np.float64(logvar) / 2), np.float64(eps)
    z, n = mean + sd * eps, len(mean)
    log_q = scipy.stats.norm.logpdf(z[:, None], mean, sd)  # [draw, example, unit]

    def log_mean(logs):
        return np.logaddexp.reduce(logs, axis=1) - np.log(logs.shape[1])

    others = np.stack([np.delete(log_q[i], i, axis=0) for i in range(n)])
    own = log_q[np.arange(n), np.arange(n)]
    return Terms(
        rate=own - scipy.stats.norm.logpdf(z),
        units=own - log_mean(log_q),
        units_others=own - log_mean(others),
        joint=own.sum(1) - log_mean(log_q.sum(2)),
        joint_others=own.sum(1) - log_mean(others.sum(2)),
    )


@pytest.mark.parametrize("block_size", [1, 7, 30, 64])
def test_equals_the_definition_whatever_the_block(block_size):
    posteriors = random_posteriors(30, 3)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
        all_terms(*posteriors, block_size=block_size),
        reference(*posteriors),
    )


def test_draws_of_some_examples_are_the_same_draws():
    mean, logvar, eps = random_posteriors(30, 3)
    whole, some = all_terms(mean, logvar, eps), jnp.array([28, 3, 11])
    of = jax.jit(
        lambda some, eps: terms(
            Gaussian(jnp.asarray(mean), jnp.asarray(logvar)), some, eps, log_prior, 8
        )
    )
    part = of(some, eps[some])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b[some], rtol=1e-5, atol=1e-5), part, whole
    )


def test_no_draw_tells_more_than_which_example_and_the_parts_are_the_rate():
    mean, logvar, eps = random_posteriors(300, 20)
    found = all_terms(mean, logvar - 3, eps)
    assert np.max(found.joint) < np.log(300) + 1e-5 and np.max(found.units) < np.log(300) + 1e-5
    assert np.sum(found.units, axis=1).mean() > 3 * np.log(300)  # as the sum of the units does
    s = summarize(found)
    parts = s["mutual_information"] + s["total_correlation"] + s["dimension_wise_kl"]
    np.testing.assert_allclose(parts, s["rate_sampled"], rtol=1e-12)
    np.testing.assert_allclose(
        s["mutual_information"] + s["aggregate_kl"], s["rate_sampled"], rtol=1e-12
    )


def entropy(mean, sd) -> float:
    """Of the equal mixture of Gaussians [K, Z], Z <= 2: a sum over a fine grid, exact."""
    axis = np.linspace(-12, 12, 801)
    grid = np.stack(np.meshgrid(*[axis] * mean.shape[1], indexing="ij"), -1)[..., None, :]
    q = scipy.stats.norm.pdf(grid, mean, sd).prod(-1).mean(-1)
    return float(scipy.special.entr(q).sum() * (axis[1] - axis[0]) ** mean.shape[1])


def exact(mean, sd) -> dict:
    """What the equal mixture of the K posteriors [K, 2] holds, from entropies."""
    conditional = (0.5 * np.log(2 * np.pi * np.e) + np.log(sd)).sum(1).mean()
    joint, units = (
        entropy(mean, sd),
        np.array([entropy(mean[:, [d]], sd[:, [d]]) for d in range(2)]),
    )
    cross = np.log(2 * np.pi) + 0.5 * (mean**2 + sd**2).sum(1).mean()  # -E[log p(z)]
    return {
        "rate_sampled": cross - conditional,
        "mutual_information": joint - conditional,
        "aggregate_kl": cross - joint,
        "total_correlation": units.sum() - joint,
        "dimension_wise_kl": cross - units.sum(),
    }


MIXTURES = {
    "dependent": (
        [[-2, -1.5], [0, 0.5], [1, 0.5], [2.5, 2]],
        [[0.5, 1], [0.8, 0.4], [1, 0.7], [0.3, 0.6]],
    ),
    "product": (
        [[-1, 0], [-1, 2], [1.5, 0], [1.5, 2]],
        [[0.8, 0.5], [0.8, 1], [0.6, 0.5], [0.6, 1]],
    ),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_of_a_mixture_equals_numerical_integration(name):
    mean, sd = (np.array(values, float) for values in MIXTURES[name])
    # 500 examples of each posterior: the aggregate is the mixture of four, and so is what z tells
    # of the example.
    found, true = measure(np.tile(mean, (500, 1)), np.tile(sd, (500, 1))), exact(mean, sd)
    assert (
        (true["total_correlation"] > 0.2)
        if name == "dependent"
        else (abs(true["total_correlation"]) < 1e-9)
    )
    for quantity in QUANTITIES:
        error = found[f"{quantity}_stderr"]
        assert error < (
            0.03 if quantity in ("mutual_information", "total_correlation") else 0.06
        ), quantity
        assert abs(found[quantity] - true[quantity]) < 4 * error + 1e-5, quantity
    assert not found["saturated"]


def test_information_of_separate_examples_is_log_n_and_says_so():
    found = measure(100.0 * np.arange(50)[:, None], 1.0)
    assert found["saturated"]
    np.testing.assert_allclose(found["mutual_information"], np.log(50), rtol=1e-6)
    np.testing.assert_allclose(found["mutual_information"], found["log_num_examples"], rtol=1e-6)
    assert (
        1000 < found["mutual_information_upper"] < 10_000
    )  # 100^2 / 2 to the nearest: far, and finite


def test_nothing_is_in_what_equals_the_prior():
    for eps in (np.zeros((23, 4)), np.random.default_rng(0).normal(size=(23, 4))):
        found = summarize(all_terms(*np.zeros((2, 23, 4), np.float32), eps, block_size=5))
        for name in found.keys() - {"log_num_examples", "saturated"}:
            assert not np.any(found[name]), name
        assert not found["saturated"]


def test_an_inactive_unit_adds_nothing():
    mean, logvar, eps = random_posteriors(40, 3)
    wide = all_terms(*(np.pad(leaf, ((0, 0), (0, 2))) for leaf in (mean, logvar, eps)))
    narrow = all_terms(mean, logvar, eps)
    for units in wide[:3]:
        assert not np.any(units[:, 3:])
    np.testing.assert_allclose(wide.joint, narrow.joint, atol=1e-5)
    np.testing.assert_allclose(wide.joint_others, narrow.joint_others, atol=1e-5)


def test_bounds_hold_in_expectation_for_a_linear_gaussian_channel():
    slope, noise, num = np.array([1.0, 0.5]), 0.5, 12
    units = 0.5 * np.log1p(
        slope**2 / noise**2
    )  # I(x_d; z_d) for x ~ N(0, I), z|x ~ N(slope x, noise^2)
    variance = slope**2 + noise**2
    kl = 0.5 * np.sum(variance - 1 - np.log(variance))
    x, eps = np.random.default_rng(3).normal(size=(2, 400, num, 2)).astype(np.float32)
    found = jax.vmap(all_terms)(slope * x, np.full_like(x, 2 * np.log(noise)), eps)
    found = [summarize(jax.tree.map(lambda leaf, i=i: leaf[i], found)) for i in range(400)]

    def interval(name):
        values = np.array([one[name] for one in found])
        return values.mean(0) + np.array([-1, 1]) * 4 * values.std() / np.sqrt(len(values))

    def is_below(name, true):  # beyond doubt: at so few examples the bias is large
        assert interval(name)[1] < true, name

    def is_above(name, true):
        assert interval(name)[0] > true, name

    is_below("mutual_information", units.sum())
    is_above("mutual_information_upper", units.sum())
    is_below("aggregate_kl_lower", kl)
    is_above("aggregate_kl", kl)
    is_below("dimension_wise_kl_lower", kl)  # the units are independent
    is_above("dimension_wise_kl", kl)
    is_below("total_correlation_lower", 0.0)
    is_above("total_correlation", 0.0)
    is_above("total_correlation_upper", 0.0)
    low, high = interval("rate_sampled")
    assert low < units.sum() + kl < high  # unbiased
    for i in range(2):
        means = {
            name: np.mean([one[name][i] for one in found])
            for name in found[0]
            if name.startswith("unit_m")
        }
        assert means["unit_mutual_information"] < units[i] < means["unit_mutual_information_upper"]


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_many_examples_tell_the_population(correlation):
    num, noise = 3000, 0.6
    covariance = np.array([[1.0, correlation], [correlation, 1.0]])
    mean = np.random.default_rng(5).multivariate_normal([0, 0], covariance, num)
    found = measure(mean, noise)
    total = covariance + noise**2 * np.eye(2)
    r = correlation / total[0, 0]
    information = 0.5 * np.linalg.slogdet(total)[1] - 2 * np.log(noise)
    for name, true in {
        "total_correlation": -0.5 * np.log(1 - r**2),  # -1/2 log det R
        "mutual_information": information,
        "mutual_information_upper": information,
        "aggregate_kl": 0.5 * (np.trace(total) - 2 - np.linalg.slogdet(total)[1]),
    }.items():
        assert found[f"{name}_stderr"] < 0.03
        assert abs(found[name] - true) < 4 * found[f"{name}_stderr"] + 0.01, name
    marginal = 0.5 * (total[0, 0] - 1 - np.log(total[0, 0]))
    assert np.all(
        np.abs(found["unit_marginal_kl"] - marginal) < 4 * found["unit_marginal_kl_stderr"]
    )
