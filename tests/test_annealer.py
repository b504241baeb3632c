"""The estimators' passes on a model whose log p(x) is known: which randomness, which step sizes,
which numbers."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import LinearGaussian

from vae_jax import default
from vae_jax.estimators import ais, annealer, bdmc, gaps, rate_distortion
from vae_jax.estimators.task import Study
from vae_jax.metrics.annealing import anneal, from_prior, ladder, starting
from vae_jax.types import Example

NUM, DIM, LATENT, SIGMA = 6, 8, 2, 0.5


@pytest.fixture
def study():
    """Six points of a linear-Gaussian model, in two blocks; its ladder takes several compiled
    calls."""
    oracle = LinearGaussian(DIM, LATENT, SIGMA, encoder_error=0.2)
    settings = default()
    settings.eval.update(
        ais_chains=8, ais_distributions=100, batch_size=8, samples_per_step=4, gap_steps=30
    )
    settings.eval.update(iwae_samples=(50,), gap_samples=4, rate_distortion_max_beta=2.0)
    x = jnp.asarray(oracle.sample(NUM), jnp.float32)
    run = SimpleNamespace(
        model=oracle.model, params=oracle.params, hypers=oracle.hypers, config=settings
    )
    run.as_evaluated = lambda _dataset, _split, positions: Example(x[np.asarray(positions)])
    run.oracle, run.x, run.latent_dim = oracle, x, LATENT
    return Study(run, None, np.arange(NUM), lambda: None)


def all_blocks(task):
    parts = [task.block(i) for i in range(task.num_blocks)]
    return {
        name: np.concatenate([np.asarray(part[name]) for part in parts])[: task.num]
        for name in parts[0]
    }


@pytest.fixture
def passes(monkeypatch):
    """What `Annealer.anneal` is asked for, and what it gives."""
    calls, real = [], annealer.Annealer.anneal

    def spy(self, x, positions, number, step_sizes=None, z=None):
        log_w, trace = real(self, x, positions, number, step_sizes, z)
        calls.append((number, step_sizes, z, log_w, trace.step_size, np.asarray(positions)))
        return log_w, trace

    monkeypatch.setattr(annealer.Annealer, "anneal", spy)
    return calls


def test_weights_that_count_are_of_frozen_step_sizes_and_new_randomness(study, passes):
    task = ais.task(study)
    found = all_blocks(task)
    assert task.num_blocks == 2
    assert [call[0] for call in passes] == [annealer.TUNE, annealer.FORWARD] * 2
    for tune, forward in (passes[:2], passes[2:]):
        assert tune[1] is None and forward[1] is tune[4]
        assert not np.isclose(tune[3], forward[3]).any()
    np.testing.assert_array_equal(found["log_w"], np.concatenate([passes[1][3], passes[3][3]]))
    assert np.unique(found["log_w"]).size == NUM * 8  # each chain has noise of its own
    assert found["log_w"].mean() == pytest.approx(
        float(study.run.oracle.log_p(study.run.x).mean()), abs=0.2
    )


def test_bidirectional_passes_meet_at_the_truth(study, passes, monkeypatch):
    drawn, real = [], bdmc.simulate
    monkeypatch.setattr(bdmc, "simulate", lambda *args: drawn.append(real(*args)) or drawn[-1])
    task = bdmc.task(study)
    found, (z, x) = all_blocks(task), drawn[0]
    assert [call[0] for call in passes] == [annealer.TUNE, annealer.FORWARD, annealer.BACKWARD] * 2
    for i, (tune, forward, backward) in enumerate((passes[:3], passes[3:])):
        assert tune[1] is None and forward[1] is tune[4] and backward[1] is tune[4]
        assert tune[2] is None and forward[2] is None
        np.testing.assert_array_equal(backward[2], z[i * task.size : (i + 1) * task.size])
        assert (
            not np.isclose(forward[3], tune[3]).any()
            and not np.isclose(forward[3], backward[3]).any()
        )
    truth = study.run.oracle.log_p(x.x)
    assert annealer.log_means(found["log_w"])[0] == pytest.approx(truth, abs=0.25)
    assert -annealer.log_means(-found["backward"])[0] == pytest.approx(truth, abs=0.25)
    assert found["iwae"] == pytest.approx(truth, abs=0.5)


@pytest.mark.parametrize("number", [annealer.FORWARD, annealer.BACKWARD])
def test_a_pass_in_several_calls_is_one_pass(study, monkeypatch, number):
    of_bdmc, which = annealer.Annealer(study, bdmc.ESTIMATOR), np.arange(3)
    x = Example(study.run.x[:3])
    sizes = np.full((3, 8, 100), 0.2, np.float32)
    z = jnp.zeros((3, LATENT)) if number == annealer.BACKWARD else None
    log_w, trace = of_bdmc.anneal(x, which, number, sizes, z)
    monkeypatch.setattr(annealer, "RUNGS", 100)
    whole, of_whole = of_bdmc.anneal(x, which, number, sizes, z)
    np.testing.assert_allclose(log_w, whole, atol=1e-3)
    np.testing.assert_allclose(trace.acceptance, of_whole.acceptance, atol=1e-3)


@pytest.mark.quick
def test_simulated_examples_come_with_their_own_code():
    oracle = LinearGaussian(DIM, LATENT, SIGMA)
    keys = jax.random.split(jax.random.key(0), 4000)
    z, x = bdmc.simulate(oracle.model, oracle.params, oracle.hypers, keys)
    noise = np.asarray(x.x) - np.asarray(z) @ oracle.w.T - oracle.b
    assert np.std(noise) == pytest.approx(SIGMA, rel=0.03)
    np.testing.assert_allclose(np.cov(z.T), np.eye(LATENT), atol=0.1)


def test_both_elbos_are_of_one_noise_which_the_optimization_has_not_seen(study, monkeypatch):
    keys, optimize, elbos = {}, gaps._optimize, gaps._elbos

    def no_step(model, params, hypers, x, key, *rest):
        keys["optimize"] = jax.random.key_data(key)
        return jax.tree.map(jnp.zeros_like, optimize(model, params, hypers, x, key, *rest))

    def spy(model, params, hypers, x, offset, key, per_step):
        keys["elbo"] = jax.random.key_data(key)
        return elbos(model, params, hypers, x, offset, key, per_step)

    monkeypatch.setattr(gaps, "_optimize", no_step)
    monkeypatch.setattr(gaps, "_elbos", spy)
    found = all_blocks(gaps.task(study))
    np.testing.assert_array_equal(found["elbo"], found["best_elbo"])  # of the same q
    assert not (keys["optimize"][:, None] == keys["elbo"][None]).all(-1).any()


def test_the_curve_of_the_task_passes_through_log_p(study):
    task = rate_distortion.task(study)
    found = task.summarize(all_blocks(task), {})
    one = found["beta"].index(1.0)
    truth = float(study.run.oracle.log_p(study.run.x).mean())
    assert -(found["rate"][one] + found["distortion"][one]) == pytest.approx(truth, abs=0.25)
    assert abs(found["rate"][0]) < 0.2 and found["rate"][0] < found["rate"][one] < found["rate"][-1]
    assert found["elbo_rate"] + found["elbo_distortion"] > -truth
    assert found["beta"][0] > 0 and found["beta"][-1] == pytest.approx(2.0)


@pytest.mark.quick
def test_ten_thousand_terms_are_summed_without_drift():
    """Of a target that is the initial distribution times a constant, each chain's weight is that
    constant."""
    oracle = LinearGaussian(DIM, LATENT, SIGMA)
    path = from_prior(oracle.model, oracle.params, jnp.zeros(DIM), oracle.hypers)
    path = path._replace(log_target=lambda z: path.log_initial(z) - 377.7)
    rungs = ladder("linear", 10_000)  # a plain float32 sum of these ends 0.015 too low
    run = jax.jit(lambda z: anneal(path, starting(z, 0.1), rungs, jax.random.key(0), 1)[0].log_w)
    assert float(run(jnp.zeros(LATENT))) == pytest.approx(-377.7, abs=1e-4)
