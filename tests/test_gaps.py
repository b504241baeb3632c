"""The gaps of a linear-Gaussian model are known: that of the family and that of the encoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import LinearGaussian

from vae_jax.metrics.inference_gaps import best_posterior, elbo


def gaps(oracle, num=5, steps=600):
    """(log p(x) - ELBO[q*], ELBO[q*] - ELBO[q], q*) for `num` examples."""
    x = jnp.asarray(oracle.sample(num), jnp.float32)
    model, params, hypers = oracle.model, oracle.params, oracle.hypers

    @jax.jit
    @jax.vmap
    def run(x, key):
        optimize, noise = jax.random.split(key)
        best = best_posterior(model, params, x, optimize, hypers, steps, 10)

        def of(q):
            return elbo(model, params, x, q, noise, hypers, 4000, 500)

        return of(best), of(model.encode(params, x, hypers)), best

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
    of = jax.jit(
        lambda key, q: elbo(oracle.model, oracle.params, x, q, key, oracle.hypers, 20_000, 1000)
    )
    assert float(of(jax.random.key(0), q)) == pytest.approx(float(oracle.log_p(x)[0]), abs=0.001)
    off = q._replace(mean=q.mean + 0.5)
    assert float(of(jax.random.key(1), off)) == pytest.approx(
        float(oracle.log_p(x)[0] - kl(off, q.mean, q.logvar)), abs=0.05
    )
