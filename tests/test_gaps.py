"""The gaps of a linear-Gaussian model are known: that of the family and that of the encoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import Chain, LinearGaussian

from vae_jax.distributions import Gaussian
from vae_jax.metrics.inference_gaps import best_offset, elbo


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


@pytest.mark.parametrize("downwards", [False, True])
def test_of_two_layers_each_conditional_is_mended(downwards):
    """Both conditionals of the posterior are Gaussian, and q is off by constants; so q* is the
    posterior, and the amortization gap the sum of the KLs."""
    error, chain = 0.3, Chain(downwards, error=0.3)
    x = chain.sample(1)
    args = chain.model, chain.params, jnp.asarray(x, jnp.float32)

    @jax.jit
    def run(key):
        best = best_offset(*args, key, chain.hypers, 1000, 10)
        return best, [elbo(*args, of, key, chain.hypers, 20_000, 1000) for of in (best, None)]

    best, (found, amortized) = run(jax.random.key(0))
    (log_p,) = chain.log_p(x)
    assert found == pytest.approx(log_p, abs=1e-3)
    for layer, logvar in chain.logvars.items():
        for offset in best[layer]:
            np.testing.assert_allclose(offset, -error, atol=0.02)
        off = Gaussian(np.array([error]), logvar + np.array([error]))
        log_p -= kl(off, 0.0, logvar)
    assert amortized == pytest.approx(log_p, abs=0.02)
