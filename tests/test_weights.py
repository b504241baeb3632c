"""Running sums of importance weights against float64 sums of all of them at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.metrics import importance_weights

pytestmark = pytest.mark.quick


def stream(log_w, step):
    running = importance_weights.none(log_w.shape[:-1])
    for start in range(0, log_w.shape[-1], step):
        running = importance_weights.add(
            running, jnp.asarray(log_w[..., start : start + step], jnp.float32)
        )
    return running


@pytest.mark.parametrize("step", [1, 7, 300])
@pytest.mark.parametrize("offset", [-900.0, 0.0, 500.0])  # far beyond what exp can hold
def test_sums_are_those_of_all_weights_at_once(step, offset):
    log_w = np.random.default_rng(0).normal(scale=3.0, size=(4, 300))
    w = np.exp(log_w)
    found = stream(log_w + offset, step)
    np.testing.assert_allclose(
        importance_weights.log_mean(found, 300), np.log(w.mean(1)) + offset, rtol=2e-6, atol=2e-5
    )
    np.testing.assert_allclose(
        importance_weights.effective(found), w.sum(1) ** 2 / (w**2).sum(1), rtol=1e-4
    )


def test_a_hundred_thousand_weights_lose_no_precision():
    log_w = np.random.default_rng(1).normal(scale=2.0, size=100_000).astype(np.float32) - 90

    def add(running, part):
        return (importance_weights.add(running, part), None)

    found, _ = jax.lax.scan(
        add, importance_weights.none(()), jnp.asarray(log_w).reshape(10_000, 10)
    )
    exact = np.logaddexp.reduce(log_w.astype(np.float64)) - np.log(100_000)
    assert (
        abs(float(importance_weights.log_mean(found, 100_000)) - exact) < 2e-5
    )  # three units in the last place of -88


def test_minus_infinity_counts_for_nothing():
    found = importance_weights.add(importance_weights.none(()), jnp.full(3, -jnp.inf))
    found = importance_weights.add(found, jnp.array([-jnp.inf, 1.0, 1.0]))
    assert (
        float(importance_weights.log_mean(found, 2)) == 1.0
        and float(importance_weights.effective(found)) == 2.0
    )


def test_effective_number_is_one_for_one_weight_and_all_for_equal_ones():
    assert float(importance_weights.effective(stream(np.full(50, -700.0), 8))) == pytest.approx(50)
    assert float(
        importance_weights.effective(stream(np.r_[0.0, np.full(49, -700.0)], 8))
    ) == pytest.approx(1)


def test_the_variance_of_the_logarithm_is_what_repetitions_show():
    log_w = np.random.default_rng(2).normal(scale=0.7, size=(4000, 64))
    found = stream(log_w, 64)
    stated = importance_weights.log_mean_variance(
        np.asarray(importance_weights.effective(found), np.float64), 64
    )
    shown = np.var(importance_weights.log_mean(found, 64), ddof=1)
    assert stated.mean() == pytest.approx(float(shown), rel=0.1)
    assert importance_weights.log_mean_variance(64.0, 64) == 0.0
