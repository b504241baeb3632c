import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from jax.test_util import check_grads
from oracles import float64

from vae_jax import distributions
from vae_jax.distributions import Gaussian

pytestmark = pytest.mark.quick

MEANS, LOGVARS = np.array([-1.5, 0.0, 0.3, 4.0]), np.array([-6.0, 0.0, 1.2, -0.4])


def gaussian():
    return Gaussian(jnp.asarray(MEANS, jnp.float32), jnp.asarray(LOGVARS, jnp.float32))


def test_log_prob_is_scipys():
    z = np.array([-1.4, 2.0, 0.3, 3.0])
    expected = scipy.stats.norm.logpdf(z, MEANS, np.exp(LOGVARS / 2))
    np.testing.assert_allclose(
        distributions.log_prob(gaussian(), jnp.asarray(z)), expected, rtol=1e-5, atol=5e-6
    )


def test_kl_is_the_integral():
    def integral(mean, logvar):
        q, p = scipy.stats.norm(mean, np.exp(logvar / 2)), scipy.stats.norm()

        def ratio(z):
            return q.pdf(z) * (q.logpdf(z) - p.logpdf(z))

        width = 12 * np.exp(logvar / 2)
        return scipy.integrate.quad(ratio, mean - width, mean + width, limit=200)[0]

    expected = [integral(m, v) for m, v in zip(MEANS, LOGVARS, strict=True)]
    np.testing.assert_allclose(
        distributions.kl_to_standard_normal(gaussian()), expected, rtol=1e-5, atol=1e-6
    )


def test_kl_keeps_its_precision_near_the_prior():
    # 0.5 * (exp(v) - 1 - v) = v^2 / 4: all of it is lost when 1 is added first in float32.
    kl = distributions.kl_to_standard_normal(Gaussian(jnp.zeros(1), jnp.full(1, 2e-3)))
    np.testing.assert_allclose(kl, 1e-6, rtol=2e-3)


def test_sample_is_mean_plus_sigma_eps_with_its_gradient():
    eps = jnp.array([0.5, -2.0, 0.0, 1.0])
    z = distributions.sample(gaussian(), eps)
    np.testing.assert_allclose(z, MEANS + np.exp(LOGVARS / 2) * eps, rtol=1e-6)
    gradient = jax.grad(lambda q: jnp.sum(distributions.sample(q, eps)))(gaussian())
    np.testing.assert_allclose(gradient.mean, 1.0)
    np.testing.assert_allclose(gradient.logvar, 0.5 * np.exp(LOGVARS / 2) * eps, rtol=1e-6)


def test_gradients_match_finite_differences():
    with float64():
        q = Gaussian(jnp.asarray(MEANS), jnp.asarray(LOGVARS))
        z = jnp.asarray([-1.4, 2.0, 0.3, 3.0])
        check_grads(
            lambda q, z: distributions.log_prob(q, z), (q, z), order=2, modes="rev", rtol=1e-5
        )
        check_grads(distributions.kl_to_standard_normal, (q,), order=2, modes="rev", rtol=1e-5)


def test_any_logvar_has_finite_densities_and_gradients_that_lead_back():
    def kl(logvar):
        q = Gaussian(jnp.float32(1.0), distributions.bounded(logvar))
        return distributions.kl_to_standard_normal(q)

    for logvar in (-1e30, -100.0, 90.0, 1e30):
        q = Gaussian(jnp.float32(0.0), distributions.bounded(jnp.float32(logvar)))
        z = distributions.sample(q, jnp.float32(2.0))
        gradient = jax.grad(kl)(jnp.float32(logvar))
        assert np.isfinite([kl(logvar), z, distributions.log_prob(q, z), gradient**2 * 1e12]).all()
        assert np.sign(gradient) == np.sign(logvar)
    usual = jnp.linspace(-30.0, 15.0, 1001)
    np.testing.assert_array_equal(distributions.bounded(usual), usual)
    np.testing.assert_array_equal(jax.vmap(jax.grad(distributions.bounded))(usual), 1.0)
