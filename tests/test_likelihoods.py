import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from jax.test_util import check_grads

from vae_jax.likelihoods import bernoulli, gaussian


def test_bernoulli_is_scipys_and_sums_to_one():
    logits = np.array([-8.0, -0.3, 0.0, 2.0, 9.0])
    p = 1 / (1 + np.exp(-logits))
    log_p = [bernoulli().log_prob({}, jnp.asarray(logits)[:, None], jnp.full(5, x)) for x in (0.0, 1.0)]
    for x in (0, 1):
        np.testing.assert_allclose(log_p[x], scipy.stats.bernoulli.logpmf(x, p), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.exp(log_p[0]) + np.exp(log_p[1]), 1.0, rtol=1e-6)


@pytest.mark.parametrize("logit", [1e4, -1e4, 104.0, 88.0, 0.0])
@pytest.mark.parametrize("x", [0.0, 1.0])
def test_bernoulli_is_finite_with_its_gradient_at_any_logit(logit, x):
    log_prob = lambda l: jnp.sum(bernoulli().log_prob({}, jnp.full((1, 1), l), jnp.full(1, x)))  # noqa: E731, E741
    value, gradient = jax.value_and_grad(log_prob)(logit)
    np.testing.assert_allclose(value, x * logit - np.logaddexp(0, logit), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gradient, x - scipy.special.expit(logit), atol=1e-6)


@pytest.mark.parametrize("learn_sigma", [False, True])
def test_gaussian_is_scipys_and_integrates_to_one(learn_sigma):
    likelihood = gaussian(0.3, learn_sigma)
    theta, out = likelihood.init(), jnp.array([[-1.0], [0.2]])
    x = np.array([0.1, 0.3])
    expected = scipy.stats.norm.logpdf(x, np.asarray(out)[:, 0], 0.3)
    np.testing.assert_allclose(likelihood.log_prob(theta, out, jnp.asarray(x)), expected, rtol=1e-5)
    density = lambda x: float(np.exp(likelihood.log_prob(theta, out, jnp.full(2, x)))[1])  # noqa: E731
    assert abs(scipy.integrate.quad(density, -4, 4, points=[0.2], limit=50, epsabs=1e-4)[0] - 1) < 1e-3


def test_a_learned_sigma_is_optimal_at_the_root_mean_square_error():
    likelihood, out = gaussian(1.0, True), jnp.zeros((4, 1))
    x = jnp.array([0.1, -0.2, 0.3, 0.4])
    optimum = {"log_sigma": 0.5 * jnp.log(jnp.mean(x**2))}
    gradient = jax.grad(lambda t: jnp.sum(likelihood.log_prob(t, out, x)))(optimum)
    np.testing.assert_allclose(gradient["log_sigma"], 0.0, atol=1e-5)


@pytest.mark.parametrize("likelihood", [bernoulli(), gaussian(0.1, False)])
def test_mean_and_sample_agree_and_start_has_the_mean(likelihood):
    x_mean = jnp.array([0.05, 0.5, 0.8])
    out, theta = likelihood.start(x_mean), likelihood.init()
    np.testing.assert_allclose(likelihood.mean(theta, out), x_mean, rtol=1e-5)
    keys = jax.random.split(jax.random.key(0), 4000)
    samples = jax.vmap(lambda k: likelihood.sample(theta, k, out))(keys)
    np.testing.assert_allclose(samples.mean(0), x_mean, atol=4 * 0.5 / np.sqrt(4000))


def test_gradients_match_finite_differences():
    with jax.enable_x64(True):
        out, x = jnp.array([[-3.0], [0.5], [6.0]]), jnp.array([1.0, 0.0, 1.0])
        check_grads(lambda out: bernoulli().log_prob({}, out, x), (out,), order=2, modes="rev", rtol=1e-5)
        normal, theta = gaussian(0.5, True), {"log_sigma": jnp.asarray(-0.7)}
        check_grads(lambda t, out: normal.log_prob(t, out, x), (theta, out), order=2, modes="rev", rtol=1e-5)


def test_a_learned_sigma_is_the_spread_of_the_samples():
    likelihood, out = gaussian(1.0, True), jnp.zeros((3, 1))
    keys = jax.random.split(jax.random.key(0), 4000)
    samples = jax.vmap(lambda k: likelihood.sample({"log_sigma": jnp.log(0.1)}, k, out))(keys)
    np.testing.assert_allclose(samples.std(0), 0.1, rtol=0.05)
