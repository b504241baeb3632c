"""The plain autoencoder: a VAE's reconstruction term at one point, no densities, samples only
from what was fitted."""

import contextlib
import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from making import KNOWN, check

import vae_jax
from vae_jax import config as settings
from vae_jax import default
from vae_jax.data import from_arrays
from vae_jax.errors import UserError
from vae_jax.objectives import OBJECTIVES, make_loss_fn
from vae_jax.results import finish
from vae_jax.training.program import Facts, make_model
from vae_jax.workdir.files import read_json
from vae_jax.workdir.rows import read_rows

X = jax.random.bernoulli(jax.random.key(3), 0.4, (5, 12)).astype(jnp.float32)
HYPERS = {"latent_dim": jnp.int32(3), "beta": jnp.float32(4.0)}


def models(width=3, **fields):
    config = default()
    config.network.hidden = (8,)
    for name, value in fields.items():
        config.model[name] = value
    made = []
    for name in ("ae", "vae"):
        config.model.name = name
        made.append(make_model(check(config), Facts(jnp.full((12,), 0.4), 200), KNOWN, width))
    return made


@pytest.mark.quick
def test_distortion_is_the_vaes_at_the_posterior_mean_with_the_same_network():
    ae, vae = models()
    params = jax.jit(ae.init)(jax.random.key(0), HYPERS)
    of_vae = jax.jit(vae.init)(jax.random.key(0), HYPERS)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(of_vae), strict=True):
        np.testing.assert_array_equal(a, b)

    @jax.jit
    def both(rng):
        q = vae.encode(params, X[0], HYPERS)
        return q, vae.log_joint(params, X[0], q.mean, HYPERS), ae.draw(params, X[0], rng, HYPERS)

    q, log_joint, draw = both(jax.random.key(1))
    np.testing.assert_array_equal(draw.z, q.mean)
    np.testing.assert_array_equal(draw.z, both(jax.random.key(2))[2].z)
    log_prior = -0.5 * np.sum(np.log(2 * np.pi) + q.mean**2)
    np.testing.assert_allclose(-draw.distortion, log_joint - log_prior, rtol=1e-5)
    assert (draw.rate, draw.log_w, ae.log_q, ae.log_joint, ae.sample_prior) == (None,) * 5


def test_beta_plays_no_part_and_inactive_units_have_no_gradient():
    ae, _ = models(width=5)
    params = jax.jit(ae.init)(jax.random.key(0), HYPERS)
    elbo = OBJECTIVES["elbo"].make(default().objective, None)
    loss_fn = make_loss_fn(ae, elbo, HYPERS)
    (loss, metrics), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(
        params, X, jax.random.key(1)
    )
    assert loss == metrics["distortion"] and set(metrics) == {"distortion"}
    kernel = grads["encoder"]["mean"]["kernel"]
    assert (kernel[3:] == 0).all() and (kernel[:3] != 0).any()
    assert all((g == 0).all() for g in jax.tree.leaves(grads["encoder"]["logvar"]))


def test_a_fitted_gaussian_has_the_codes_moments():
    ae, _ = models(width=4, code_sampler="gaussian_fit")
    params = jax.jit(ae.init)(jax.random.key(0), HYPERS)
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(1000, 3)) @ rng.normal(size=(3, 3)) + [1.0, -2.0, 0.5]
    codes = np.concatenate([codes, np.zeros((1000, 1))], 1)  # an inactive unit
    mean, covariance = codes.mean(0), np.cov(codes.T, bias=True)
    params = ae.fit_prior(
        params, jnp.asarray(mean, jnp.float32), jnp.asarray(covariance, jnp.float32)
    )
    sample = jax.jit(jax.vmap(lambda key: ae.sample_prior(params, key, HYPERS)))
    drawn = sample(jax.random.split(jax.random.key(1), 50_000))
    assert (drawn[:, 3] == 0).all()
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.15)


@pytest.fixture(scope="module")
def dataset():
    x = np.random.default_rng(0).integers(0, 256, (400, 4, 4), dtype=np.uint8)
    return from_arrays("noise", x, num_valid=50, num_test=60)


def small_config(**changes):
    config = default()
    config.model.name, config.network.hidden, config.hypers.latent_dim = "ae", (16,), 3
    config.train.num_epochs, config.train.batch_size, config.eval.batch_size = 3.0, 40, 32
    flat = settings.flatten(config) | {
        name.replace("__", "."): value for name, value in changes.items()
    }
    return settings.unflatten(flat)


@pytest.fixture(scope="module")
def printed():
    """What the training of the sweep prints."""
    return io.StringIO()


@pytest.fixture(scope="module")
def sweep(dataset, printed, tmp_path_factory):
    """The workdir of two trained members, without pictures."""
    workdir = tmp_path_factory.mktemp("sweep") / "run"
    config = small_config(
        model__code_sampler="gaussian_fit", sweep__latent_dim=(1, 3), train__steps_per_call=22
    )
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(finish.Outcome, "_draw", lambda *_: None)
        vae_jax.train(config, workdir, dataset=dataset)
    return workdir


def test_a_run_has_no_likelihood_and_says_so(dataset, sweep, printed):
    run = vae_jax.load(sweep, member=1)
    numbers = read_json(sweep / "results.json")["members"][1]["test"]
    none = ("elbo", "rate", "nll", "nll_stderr", "nll_samples", "active_units", "bits_per_dim")
    assert {name: numbers[name] for name in none} == dict.fromkeys(none)
    x = run.as_evaluated(dataset, "test", np.arange(60)).x
    decoded = run.decode(run.encode(x).mean).reshape(60, 16)
    np.testing.assert_allclose(numbers["mse"], np.mean((x - decoded) ** 2), rtol=1e-5)
    p = np.clip(decoded, 1e-6, 1 - 1e-6)
    np.testing.assert_allclose(
        numbers["distortion"],
        -np.mean(np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), 1)),
        rtol=1e-4,
    )
    (line,) = re.findall(r"^member 1, test: .*$", printed.getvalue(), re.MULTILINE)
    assert "squared error" in line and "NLL" not in line
    rows = read_rows(sweep / "metrics.jsonl")
    assert all(row.get("elbo") is None and row["distortion"] > 0 for row in rows)
    with pytest.raises(UserError, match="likelihood"):
        run.log_likelihood(jax.random.key(0), x)
    run.model = run.model._replace(sample_prior=None)  # as without a code_sampler
    with pytest.raises(UserError, match="gaussian_fit"):
        run.sample(jax.random.key(0), 4)


def test_samples_come_from_the_training_codes_and_survive_loading(dataset, sweep):
    run = vae_jax.load(sweep, member=1)
    x = run.as_evaluated(dataset, "train", np.arange(dataset.train.num)).x
    codes = np.asarray(run.encode(x).mean, np.float64)
    prior = run.params["prior"]
    np.testing.assert_allclose(prior["mean"], codes.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        prior["scale"] @ prior["scale"].T, np.cov(codes.T, bias=True), rtol=1e-3, atol=1e-4
    )
    assert run.sample(jax.random.key(0), 7).shape == (7, 4, 4, 1)
    assert vae_jax.load(sweep, member=0).params["prior"]["mean"].shape == (1,)


def test_the_best_member_is_the_one_with_the_least_distortion(sweep):
    results = read_json(sweep / "results.json")
    distortions = [member["valid"]["distortion"] for member in results["members"]]
    assert results["best_member"] == int(np.argmin(distortions))


@pytest.mark.parametrize("objective", ["capacity", "free_bits"])
def test_an_objective_that_weighs_the_rate_is_refused(objective):
    needs = f"objective.name '{objective}' needs a rate, which model.name 'ae' does not have"
    with pytest.raises(UserError, match=f"{needs}; what fits is elbo$"):
        check(small_config(objective__name=objective))


def test_a_vae_has_no_code_sampler(caplog):
    config = small_config(model__name="vae", model__code_sampler="gaussian_fit")
    told = "is of model.name ae, but model.name is 'vae'"
    with pytest.raises(UserError, match=f"^model.code_sampler {told}$"):
        settings.check(config, KNOWN, asked=("model.code_sampler",))
    settings.warn_of_unused(check(config), KNOWN)
    assert f"model.code_sampler has no effect: it {told}" in caplog.text
