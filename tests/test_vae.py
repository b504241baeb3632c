from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from making import KNOWN, check
from oracles import LinearGaussian, float64

from vae_jax import default
from vae_jax.models.draws import draw_batch, scale_gradient
from vae_jax.objectives import OBJECTIVES, make_loss_fn
from vae_jax.training.program import Facts, make_model
from vae_jax.types import Example

ELBO = OBJECTIVES["elbo"].make(default().objective, None)


@cache
def small(width=6, hidden=(8, 7)):
    """One model of each width: what is compiled for it in one test serves all."""
    config = default()
    config.network.hidden = hidden
    model = make_model(check(config), Facts(jnp.full((4, 3, 1), 0.4), 200), KNOWN, width)
    return model._replace(init=jax.jit(model.init))


def hypers(latent_dim, **more):
    return {"latent_dim": jnp.int32(latent_dim), "beta": jnp.float32(1.0)} | more


X = jax.random.bernoulli(jax.random.key(3), 0.5, (6, 12)).astype(jnp.float32)


@partial(jax.jit, static_argnums=(0, 2, 3))
def drawn(model, params, batch, samples, hypers):
    positions = jnp.arange(batch), jnp.arange(samples)
    return draw_batch(model, params, X[:batch], jax.random.key(5), *positions, hypers)


def draws(model, params, batch, samples, latent_dim):
    return drawn(model, params, batch, samples, hypers(latent_dim))


def of_oracle(oracle, x, samples):
    positions = jnp.arange(len(x)), jnp.arange(samples)

    def many(x):
        return draw_batch(
            oracle.model, oracle.params, x, jax.random.key(0), *positions, oracle.hypers
        )

    return jax.jit(many)(jnp.asarray(x))


@pytest.mark.quick
def test_true_posterior_gives_log_p_for_every_epsilon():
    with float64():
        oracle = LinearGaussian(dim=7, latent_dim=3, sigma=0.4)
        x = oracle.sample(5)
        draw = of_oracle(oracle, x, 11)
        np.testing.assert_allclose(
            draw.log_w, np.repeat(oracle.log_p(x)[:, None], 11, 1), rtol=1e-10
        )
        assert np.std(draw.distortion) > 0.1  # not because nothing is drawn


@pytest.mark.quick
def test_elbo_of_the_true_posterior_is_log_p():
    with float64():
        oracle = LinearGaussian(dim=7, latent_dim=3, sigma=0.4)
        x = oracle.sample(3)
        draw = of_oracle(oracle, x, 20_000)
        elbo = -np.mean(draw.distortion + draw.rate.sum(-1), axis=1)
        np.testing.assert_allclose(
            elbo, oracle.log_p(x), atol=5 * np.std(draw.distortion) / np.sqrt(20_000)
        )


@pytest.mark.quick
def test_log_w_is_log_joint_minus_log_q():
    model = small()
    params = model.init(jax.random.key(0), hypers(3))
    draw = draws(model, params, 6, 2, 3)
    log_w = jax.jit(
        lambda x, z: model.log_joint(params, x, z, hypers(3)) - model.log_q(params, x, z, hypers(3))
    )
    expected = [
        [log_w(x, z) for z in zs] for x, zs in zip(np.asarray(X), np.asarray(draw.z), strict=True)
    ]
    np.testing.assert_allclose(draw.log_w, expected, rtol=1e-5)


@pytest.mark.quick
def test_path_gradient_vanishes_at_the_true_posterior_and_the_plain_one_does_not():
    with float64():
        oracle = LinearGaussian(dim=5, latent_dim=2, sigma=0.7)
        x, rng = jnp.asarray(oracle.sample(1)[0]), jax.random.key(2)

        def log_w(encoder, weight):
            params = oracle.params | {"encoder": encoder}
            return oracle.model.draw(params, x, rng, oracle.hypers, weight).log_w

        gradient = jax.jit(jax.grad(log_w))
        path = gradient(oracle.params["encoder"], jnp.float64(1.0))
        plain = gradient(oracle.params["encoder"], None)
        assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(path)) < 1e-9
        assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(plain)) > 1e-2


def test_path_weight_scales_the_path_and_leaves_the_value():
    z = jnp.array([1.0, 1e8])
    assert (scale_gradient(z, 0.25) == z).all()
    np.testing.assert_array_equal(
        jax.grad(lambda z: jnp.sum(scale_gradient(z, 0.25) * 3))(z), [0.75, 0.75]
    )
    model = small()
    params = model.init(jax.random.key(0), hypers(3))

    @jax.jit
    def encoder_gradient(weight):
        def log_w(p):
            return model.draw(p, X[0], jax.random.key(1), hypers(3), weight).log_w

        return jax.grad(log_w)(params)["encoder"]["mean"]["kernel"]

    np.testing.assert_allclose(
        encoder_gradient(0.5), 0.5 * encoder_gradient(1.0), rtol=1e-4, atol=1e-6
    )
    assert np.abs(encoder_gradient(1.0)).max() > 1e-3


def test_noise_depends_on_neither_batch_size_nor_number_of_samples():
    model = small()
    params = model.init(jax.random.key(0), hypers(6))
    whole, part = draws(model, params, 6, 5, 6), draws(model, params, 2, 3, 6)

    def eps(d):
        return (d.z - d.posterior.mean) * np.exp(-0.5 * d.posterior.logvar)

    np.testing.assert_allclose(eps(whole)[:2, :3], eps(part), rtol=1e-4, atol=1e-5)
    assert len(np.unique(np.round(eps(whole), 5))) == whole.z.size  # and no two are the same


@pytest.mark.parametrize("hidden", [(8,), (8, 7)])
def test_a_narrow_member_of_a_wide_run_is_the_narrow_model(hidden):
    wide, narrow = small(6, hidden), small(2, hidden)
    params = [m.init(jax.random.key(0), hypers(2)) for m in (wide, narrow)]
    first = f"Dense_{0}"
    cut = {
        "encoder": {"mean": np.s_[:2], "logvar": np.s_[:2]},
        "decoder": {first: np.s_[:, :2]},
    }
    for name, part in params[1]["encoder"].items():
        index = cut["encoder"].get(name, np.s_[:])
        np.testing.assert_array_equal(params[0]["encoder"][name]["kernel"][index], part["kernel"])
    for name, part in params[1]["decoder"]["network"].items():
        index = cut["decoder"].get(name, np.s_[:])
        np.testing.assert_array_equal(
            params[0]["decoder"]["network"][name]["kernel"][index], part["kernel"]
        )
    a, b = (draws(m, p, 6, 2, 2) for m, p in zip((wide, narrow), params, strict=True))
    np.testing.assert_allclose(a.z[..., :2], b.z, rtol=1e-5, atol=1e-6)  # equal but for rounding
    np.testing.assert_allclose(a.log_w, b.log_w, rtol=1e-5)
    assert (a.z[..., 2:] == 0).all() and (a.rate[..., 2:] == 0).all()


def test_inactive_units_have_no_gradient():
    model = small()
    params = model.init(jax.random.key(0), hypers(2))
    loss_fn = make_loss_fn(model, ELBO, hypers(2))
    grads = jax.jit(jax.grad(lambda p: loss_fn(p, X, jax.random.key(1))[0]))(params)
    heads = [grads["encoder"][n][k] for n in ("mean", "logvar") for k in ("kernel", "bias")]
    assert all((g[2:] == 0).all() and (g[:2] != 0).any() for g in heads)
    first = grads["decoder"]["network"]["Dense_0"]["kernel"]
    assert (first[:, 2:] == 0).all() and (first[:, :2] != 0).any()


def test_missing_values_do_not_count():
    model = small()
    params = model.init(jax.random.key(0), hypers(3))
    observed = jnp.arange(12) < 7
    one = jax.jit(
        lambda x: model.draw(params, Example(x, observed=observed), jax.random.key(1), hypers(3))
    )
    a, b = one(X[0]), one(jnp.where(observed, X[0], 1 - X[0]))
    assert a.distortion == b.distortion and (a.z == b.z).all()
    seen = jax.jit(model.draw)(params, X[0], jax.random.key(1), hypers(3))
    assert a.distortion < seen.distortion


def test_loss_gradient_matches_finite_differences():
    model = small()
    params = model.init(jax.random.key(0), hypers(3))
    with float64():
        params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
        now = hypers(3, beta=jnp.float64(2.5))
        loss_fn = make_loss_fn(model, ELBO, now, num_samples=2)
        x = jnp.asarray(X, jnp.float64)
        check_grads(
            jax.jit(lambda p: loss_fn(p, x, jax.random.key(1))[0]),
            (params,),
            order=1,
            modes="rev",
            rtol=1e-5,
            eps=1e-5,
        )


@pytest.mark.quick
def test_loss_is_the_sum_over_values_and_units_and_the_mean_over_examples():
    model = small()
    params = model.init(jax.random.key(0), hypers(3))
    loss_fn = make_loss_fn(model, ELBO, hypers(3, beta=jnp.float32(4.0)))
    loss, metrics = jax.jit(loss_fn)(params, X, jax.random.key(1))
    np.testing.assert_allclose(loss, metrics["distortion"] + 4 * metrics["rate"], rtol=1e-6)
    np.testing.assert_allclose(metrics["elbo"], -metrics["distortion"] - metrics["rate"], rtol=1e-6)
    q = jax.jit(jax.vmap(lambda x: model.encode(params, x, hypers(3))))(X)
    kl = 0.5 * np.sum(q.mean**2 + np.exp(q.logvar) - 1 - q.logvar, axis=1)
    np.testing.assert_allclose(metrics["rate"], np.mean(kl), rtol=1e-4)


def test_inactive_units_count_in_no_density_and_no_sample():
    wide, narrow = small(6), small(2)
    params = [m.init(jax.random.key(0), hypers(2)) for m in (wide, narrow)]
    z = jnp.array([0.3, -1.2])
    padded = jnp.concatenate([z, jnp.zeros(4)])
    for density in ("log_joint", "log_q"):
        a = jax.jit(getattr(wide, density))(params[0], X[0], padded, hypers(2))
        b = jax.jit(getattr(narrow, density))(params[1], X[0], z, hypers(2))
        np.testing.assert_allclose(a, b, rtol=1e-5)
    drawn = wide.sample_prior(params[0], jax.random.key(4), hypers(2))
    assert (drawn[2:] == 0).all()
    np.testing.assert_array_equal(
        drawn[:2], narrow.sample_prior(params[1], jax.random.key(4), hypers(2))
    )


def test_samples_of_the_prior_are_standard_normal():
    model = small()
    params = model.init(jax.random.key(0), hypers(6))
    keys = jax.random.split(jax.random.key(1), 10_000)
    z = jax.jit(jax.vmap(lambda key: model.sample_prior(params, key, hypers(6))))(keys)
    np.testing.assert_allclose(z.mean(0), 0.0, atol=0.05)
    np.testing.assert_allclose(z.std(0), 1.0, atol=0.05)


def test_the_first_decoder_starts_at_the_datas_mean_and_mirrors_the_encoder():
    config = default()
    config.network.hidden = (8, 7)
    x_mean = jnp.linspace(0.1, 0.9, 12).reshape(4, 3, 1)
    model = make_model(check(config), Facts(x_mean, 200), KNOWN, 3)
    params = jax.jit(model.init)(jax.random.key(0), hypers(3))
    network = params["decoder"]["network"]
    shapes = [network[f"Dense_{i}"]["kernel"].shape for i in range(3)]
    assert shapes == [(7, 3), (8, 7), (12, 8)]
    last = network["Dense_2"]
    silent = network | {"Dense_2": {"kernel": 0 * last["kernel"], "bias": last["bias"]}}
    mean = model.decode({"decoder": {"network": silent, "likelihood": {}}}, jnp.zeros(3))
    np.testing.assert_allclose(mean, x_mean, rtol=1e-5)
    limit = np.sqrt(6 / (12 + 8))
    assert 0.8 * limit < np.abs(last["kernel"]).max() <= limit
    limit = np.sqrt(6 / (7 + 3))  # scaled by the active width
    assert 0.7 * limit < np.abs(network["Dense_0"]["kernel"]).max() <= limit
