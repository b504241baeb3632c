"""The gaps of a linear-Gaussian model are known: that of the family and that of the encoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from oracles import LinearGaussian

from vae_jax import distributions
from vae_jax.distributions import Gaussian
from vae_jax.metrics.inference_gaps import best_offset, elbo
from vae_jax.models.draws import shifted
from vae_jax.types import Draw, Model


def gaps(oracle, num=5, steps=600):
    """(log p(x) - ELBO[q*], ELBO[q*] - ELBO[q], q*) for `num` examples."""
    x = jnp.asarray(oracle.sample(num), jnp.float32)
    model, params, hypers = oracle.model, oracle.params, oracle.hypers

    @jax.jit
    @jax.vmap
    def run(x, key):
        optimize, noise = jax.random.split(key)
        best = best_offset(model, params, x, optimize, hypers, steps, 10)

        def of(offset):
            return elbo(model, params, x, offset, noise, hypers, 4000, 500)

        q = model.draw(params, x, noise, hypers, offset=best).posterior
        return of(best), of(None), q

    best, amortized, q = run(x, jax.random.split(jax.random.key(0), num))
    return oracle.log_p(x) - best, np.asarray(best - amortized), q


def kl(q, p_mean, p_logvar):
    variance = np.exp(q.logvar)
    return 0.5 * np.sum(
        p_logvar - q.logvar + (variance + (q.mean - p_mean) ** 2) / np.exp(p_logvar) - 1, -1
    )


def test_a_wrong_encoder_has_an_amortization_gap_of_its_divergence_and_no_other():
    oracle = LinearGaussian(dim=8, latent_dim=3, sigma=0.7, encoder_error=0.3)
    approximation, amortization, _ = gaps(oracle)
    encode = jax.jit(jax.vmap(lambda x: oracle.model.encode(oracle.params, x, oracle.hypers)))
    wrong = encode(jnp.asarray(oracle.sample(5), jnp.float32))
    expected = kl(wrong, wrong.mean - 0.3, -np.log(np.diag(oracle.precision)))
    np.testing.assert_allclose(approximation, 0.0, atol=0.003)
    np.testing.assert_allclose(amortization, expected, rtol=0.1)


@pytest.mark.parametrize("error", [0.0, 0.4])
def test_a_correlated_posterior_has_the_approximation_gap_of_its_correlations(error):
    oracle = LinearGaussian(dim=8, latent_dim=3, sigma=0.15, encoder_error=error, correlated=True)
    approximation, amortization, q = gaps(oracle)
    # KL of the mean-field optimum, which has the precision's diagonal, to the posterior.
    family = 0.5 * (
        np.log(np.diag(oracle.precision)).sum() - np.linalg.slogdet(oracle.precision)[1]
    )
    assert family > 0.1
    np.testing.assert_allclose(approximation, family, atol=0.03)
    np.testing.assert_allclose(
        np.exp(-q.logvar), np.tile(np.diag(oracle.precision), (5, 1)), rtol=0.1
    )
    if error == 0.0:
        np.testing.assert_allclose(amortization, 0.0, atol=0.01)
    else:
        assert (amortization > 0.1).all()


@pytest.mark.quick
def test_elbo_is_an_expectation_over_any_gaussian():
    oracle = LinearGaussian(dim=6, latent_dim=2, sigma=0.8)
    x = jnp.asarray(oracle.sample(1), jnp.float32)[0]
    q = oracle.model.encode(oracle.params, x, oracle.hypers)
    zero = jax.tree.map(jnp.zeros_like, q)

    @jax.jit
    def of(key, offset):
        return elbo(oracle.model, oracle.params, x, offset, key, oracle.hypers, 20_000, 1000)

    assert float(of(jax.random.key(0), zero)) == pytest.approx(float(oracle.log_p(x)[0]), abs=0.001)
    off = zero._replace(mean=zero.mean + 0.5)
    wrong = q._replace(mean=q.mean + 0.5)
    assert float(of(jax.random.key(1), off)) == pytest.approx(
        float(oracle.log_p(x)[0] - kl(wrong, q.mean, q.logvar)), abs=0.05
    )


def test_of_two_layers_each_conditional_is_mended():
    """z2 ~ N(0, 1), z1 ~ N(z2, 1), x ~ N(z1, s^2): both conditionals of the posterior are Gaussian,
    and off by constants; so q* is the posterior, and the amortization gap the sum of the KLs."""
    s2, errors = 0.3, {"z1": Gaussian(0.2, -0.5), "z2": Gaussian(-0.3, 0.4)}

    def conditionals(x, z1, offset):
        true = {"z1": Gaussian(2 * x / (2 + s2), jnp.log(2 * s2 / (2 + s2)))}
        true["z2"] = Gaussian(z1 / 2, jnp.log(0.5))
        return shifted(jax.tree.map(jnp.add, true, errors), offset)

    def draw(params, x, rng, hypers, path_weight=None, score=None, offset=None):
        first, second = jax.random.normal(rng, (2,))
        z1 = distributions.sample(conditionals(x, 0.0, offset)["z1"], first)
        posterior = conditionals(x, z1, offset)
        z = {"z1": z1, "z2": distributions.sample(posterior["z2"], second)}
        q = posterior if score is None else conditionals(x, z1, jax.lax.stop_gradient(offset))
        p = Gaussian(z["z2"], 0.0), Gaussian(0.0, 0.0), Gaussian(z1, jnp.log(s2))
        log_p = sum(map(distributions.log_prob, p, (z1, z["z2"], x)))
        log_q = sum(distributions.log_prob(q[name], z[name]) for name in z)
        return Draw(0.0, None, log_p - log_q, z, posterior)

    model = Model(None, None, None, None, draw, None, None)

    @jax.jit
    def run(key):
        args = model, {}, jnp.float32(1.3)
        best = best_offset(*args, key, {}, 1000, 10)
        return best, [elbo(*args, of, key, {}, 20_000, 1000) for of in (best, None)]

    best, (found, amortized) = run(jax.random.key(0))
    log_p = scipy.stats.norm.logpdf(1.3, 0, np.sqrt(2 + s2))
    assert found == pytest.approx(log_p, abs=1e-3)
    variances = {"z1": 2 * s2 / (2 + s2), "z2": 0.5}
    for layer, error in errors.items():
        np.testing.assert_allclose(best[layer], np.negative(error), atol=0.02)
        off = Gaussian(np.array([error.mean]), np.log(variances[layer]) + np.array([error.logvar]))
        log_p -= kl(off, 0.0, np.log(variances[layer]))
    assert amortized == pytest.approx(log_p, abs=0.02)
