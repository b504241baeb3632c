import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import LinearGaussian

from vae_jax.metrics.active_units import active_units, unit_activity
from vae_jax.metrics.importance_bound import bound
from vae_jax.models.draws import draw_batch

KEY = jax.random.key(7)


def estimate(oracle, x, num_samples, samples_per_step, positions=None):
    positions = jnp.arange(len(x)) if positions is None else positions
    args = oracle.model, oracle.params, jnp.asarray(x), KEY, positions, oracle.hypers
    return jax.jit(bound, static_argnums=(0, 6, 7))(*args, num_samples, samples_per_step)


def draws(oracle, x, num_samples):
    args = (
        oracle.params,
        jnp.asarray(x),
        KEY,
        jnp.arange(len(x)),
        jnp.arange(num_samples),
        oracle.hypers,
    )
    return jax.jit(draw_batch, static_argnums=0)(oracle.model, *args)


@pytest.fixture(scope="module")
def wrong():
    return LinearGaussian(dim=6, latent_dim=2, sigma=0.8, encoder_error=0.4)


@pytest.mark.quick
def test_is_the_log_of_the_mean_of_the_weights(wrong):
    x = wrong.sample(4)
    draw = draws(wrong, x, 30)
    expected = np.log(np.mean(np.exp(np.asarray(draw.log_w, np.float64)), axis=1))
    found = estimate(wrong, x, 30, 7)
    np.testing.assert_allclose(found.log_p, expected, rtol=1e-5)
    np.testing.assert_allclose(found.distortion, draw.distortion.mean(1), rtol=1e-5)
    np.testing.assert_allclose(found.rate, draw.rate.mean(1), rtol=1e-5)
    assert (found.log_p > draw.log_w.mean(1)).all()  # not the mean of the logarithms


@pytest.mark.parametrize("samples_per_step", [1, 4, 12, 50])
def test_depends_on_no_step_size(wrong, samples_per_step):
    x = wrong.sample(3)
    np.testing.assert_allclose(
        estimate(wrong, x, 50, samples_per_step).log_p, estimate(wrong, x, 50, 25).log_p, rtol=1e-5
    )


def test_depends_on_no_block(wrong):
    x = wrong.sample(6)
    whole = estimate(wrong, x, 10, 5).log_p
    parts = [estimate(wrong, x[i : i + 2], 10, 5, jnp.arange(i, i + 2)).log_p for i in (0, 2, 4)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5)


@pytest.mark.parametrize("m", [1, 2, 5, 20])
def test_blocks_of_fewer_samples_never_exceed_the_whole(wrong, m):
    x = wrong.sample(20)
    draw = draws(wrong, x, 100)
    log_w = np.asarray(draw.log_w, np.float64)

    def of(w):
        return np.logaddexp.reduce(w, axis=-1) - np.log(w.shape[-1])

    np.testing.assert_array_less(of(log_w.reshape(20, -1, m)).mean(-1), of(log_w))
    np.testing.assert_allclose(estimate(wrong, x, 100, 9).log_p, of(log_w), rtol=1e-5)


@pytest.mark.quick
def test_reaches_the_truth_with_a_wrong_encoder(wrong):
    x = wrong.sample(10)
    found = estimate(wrong, x, 200_000, 1000).log_p
    np.testing.assert_allclose(found, wrong.log_p(x), atol=0.03)
    assert np.mean(estimate(wrong, x, 1, 1).log_p) < np.mean(wrong.log_p(x)) - 0.1


def test_active_units_counts_the_variance_of_the_means():
    means = np.zeros((1000, 4))
    means[:, 1] = np.random.default_rng(0).normal(scale=0.2, size=1000)
    means[:, 2] = np.random.default_rng(1).normal(scale=0.05, size=1000)
    means[:, 3] = 5.0  # far from the prior, but the same for every x
    activity = unit_activity(means.sum(0), np.square(means).sum(0), 1000)
    np.testing.assert_allclose(activity, means.var(0), atol=1e-12)
    assert active_units(activity) == 1
    assert active_units(activity, threshold=0.001) == 2
