"""Models with several stochastic layers: against an exact marginal, and their gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from conftest import untrained
from making import KNOWN, check
from oracles import Chain, float64

import vae_jax
from vae_jax import default, distributions
from vae_jax.distributions import Gaussian
from vae_jax.errors import UserError
from vae_jax.metrics.importance_bound import bound
from vae_jax.models.draws import total
from vae_jax.objectives import OBJECTIVES, make_loss_fn
from vae_jax.training.program import Facts, make_model
from vae_jax.workdir.rows import read_rows

GRADIENTS = ("reparameterized", "stl", "dreg", "score_function")


@pytest.mark.parametrize("downwards", [False, True])
def test_the_posterior_layer_by_layer_gives_log_p_for_every_epsilon(downwards):
    with float64():
        chain = Chain(downwards)
        x = chain.sample(4)
        keys = jax.random.split(jax.random.key(1), 50)
        draw = jax.vmap(jax.vmap(chain.model.draw, (None, None, 0, None)), (None, 0, None, None))
        drawn = jax.jit(draw)(chain.params, jnp.asarray(x), keys, chain.hypers)
        expected = np.repeat(chain.log_p(x)[:, None], 50, 1)
        np.testing.assert_allclose(drawn.log_w, expected, rtol=1e-10)
        assert np.std(drawn.distortion) > 0.1
        # The rate is analytic where it can be, and has the same expectation.
        rate = np.asarray(total(drawn.rate, 2))
        elbo = -(drawn.distortion + rate)
        error = 5 * np.std(elbo, axis=1) / np.sqrt(50) + 1e-12
        assert (np.abs(elbo.mean(1) - expected[:, 0]) < error).all()


@pytest.mark.parametrize("downwards", [False, True])
def test_the_bound_comes_to_the_exact_marginal(downwards):
    with float64():
        chain = Chain(downwards, error=0.3)
        x = chain.sample(3)
        args = (jax.random.key(0), jnp.arange(3), chain.hypers, 40_000, 2000)
        found = jax.jit(lambda x: bound(chain.model, chain.params, x, *args))(jnp.asarray(x))
        np.testing.assert_allclose(found.log_p, chain.log_p(x), atol=0.01)
        assert (-found.distortion - total(found.rate, 1) < found.log_p - 0.05).all()


@functools.cache
def gradients(downwards, gradient, num=20_000):
    """Gradients [num, P] of the loss of IWAE with 3 samples; exact q, so that F is log p(x)."""
    with float64():
        chain = Chain(downwards)
        x = jnp.asarray(chain.sample(1))[None]
        section = default().objective
        section.gradient = gradient
        objective = OBJECTIVES["iwae"].make(section, None)
        loss_fn = make_loss_fn(chain.model, objective, chain.hypers, 3)

        def one(key):
            grads = jax.grad(lambda params: loss_fn(params, x, key)[0])(chain.params)
            of_p = {"w": grads["decoder"]["network"]["w"], **grads["prior"]["z1"]}
            return of_p, grads["encoder"]

        return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(4), num))


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_every_estimator_has_the_gradient_of_the_exact_marginal(gradient, downwards):
    of_p, of_q = gradients(downwards, gradient)
    chain = Chain(downwards)
    x, step = chain.sample(1), 1e-5

    def log_p(w, a, logvar):
        cov = (a**2 + np.exp(logvar)) * np.outer(w, w) + 0.5 * np.eye(3)
        return scipy.stats.multivariate_normal(np.zeros(3), cov).logpdf(x)

    at = [*chain.w, chain.a, np.log(0.6)]
    exact = []
    for i in range(5):
        high, low = np.array(at), np.array(at)
        high[i], low[i] = high[i] + step, low[i] - step
        pair = [log_p(v[:3], v[3], v[4]) for v in (high, low)]
        exact.append(-(pair[0] - pair[1]) / (2 * step))
    found = np.column_stack([of_p["w"], of_p["a"], of_p["v"]])
    t = (found.mean(0) - exact) / (found.std(0) / np.sqrt(len(found)))
    assert np.abs(t).max() < 4.5
    if gradient in ("stl", "dreg"):  # all log-weights are equal
        assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(of_q)) < 1e-8


# Small networks, one model of each kind.


def configured(name, **changes):
    config = default()
    config.model.name, config.model.widths = name, (4, 3)
    config.model.hidden, config.network.hidden, config.hypers.latent_dim = (5,), (6,), 2
    config.model.activation = config.network.activation = "tanh"
    if name == "ladder":
        config.model.features = 5
    for field, value in changes.items():
        config.model[field] = value
    return check(config)


@functools.cache
def small(name, width=2):
    model = make_model(configured(name), Facts(jnp.full((3, 2, 1), 0.4), 100), KNOWN, width)
    return model._replace(init=jax.jit(model.init))


HYPERS = {"latent_dim": jnp.int32(2), "beta": jnp.float32(1.0)}
X = jnp.array([[1.0, 0, 0, 1, 1, 0], [0.0, 1, 0, 1, 0, 0]])
MODELS = ("hierarchical", "ladder")


@functools.cache
def encoder_gradients(name, gradient, num=4000):
    """Of IWAE with 4 samples [num, P], params away from their start, where q is nearly p."""
    model = small(name)
    params = jax.tree.map(lambda a: 1.7 * a + 0.1, model.init(jax.random.key(1), HYPERS))
    section = default().objective
    section.gradient = gradient
    loss_fn = make_loss_fn(model, OBJECTIVES["iwae"].make(section, None), HYPERS, 4)

    def one(key):
        grads = jax.grad(lambda params: loss_fn(params, X, key)[0])(params)
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(grads["encoder"])])

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), num)), np.float64)


def rms_t(difference):
    moves = difference.std(0) > 1e-6
    difference = difference[:, moves]
    t = difference.mean(0) / (difference.std(0) / np.sqrt(len(difference)))
    return np.sqrt(np.mean(t**2))


@pytest.mark.parametrize("name", MODELS)
def test_doubly_reparameterized_gradients_are_unbiased_and_plain_path_gradients_are_not(name):
    plain = encoder_gradients(name, "reparameterized")
    assert 0.5 < rms_t(encoder_gradients(name, "dreg") - plain) < 1.6
    assert rms_t(encoder_gradients(name, "stl") - plain) > 3


@pytest.mark.parametrize("name", MODELS)
def test_log_w_is_log_joint_minus_log_q_and_weights_change_no_value(name):
    model = small(name)
    params = model.init(jax.random.key(0), HYPERS)

    def values(weight, score):
        return model.draw(params, X[0], jax.random.key(3), HYPERS, weight, score)

    drawn = jax.jit(lambda: [values(None, None), values(jnp.float32(0.3), None), values(0.0, True)])
    plain, *others = drawn()
    log_q = model.log_q(params, X[0], plain.z, HYPERS)
    log_joint = model.log_joint(params, X[0], plain.z, HYPERS)
    np.testing.assert_allclose(plain.log_w, log_joint - log_q, rtol=1e-5)
    for other in others:
        np.testing.assert_allclose(other.log_w, plain.log_w, rtol=1e-5)
    assert {k: v.shape for k, v in plain.z.items()} == {"z1": (4,), "z2": (3,), "z3": (2,)}
    assert {k: v.shape for k, v in plain.rate.items()} == {"z1": (4,), "z2": (3,), "z3": (2,)}


@pytest.mark.parametrize("name", MODELS)
def test_a_narrow_top_layer_in_wide_arrays_is_the_narrow_model(name):
    narrow, wide = small(name), small(name, 5)
    params, wider = (m.init(jax.random.key(0), HYPERS) for m in (narrow, wide))
    cut = jax.tree.map(lambda a, b: a[tuple(map(slice, b.shape))], wider, params)
    jax.tree.map(np.testing.assert_array_equal, cut, params)

    def of(model):
        def loss(params):
            draw = model.draw(params, X[0], jax.random.key(3), HYPERS)
            return draw.log_w, draw

        return jax.jit(jax.grad(loss, has_aux=True))

    grads, draw = of(narrow)(params)
    wide_grads, wide_draw = of(wide)(wider)
    np.testing.assert_allclose(wide_draw.log_w, draw.log_w, rtol=1e-5)
    for tree in (wide_draw.z, wide_draw.rate):
        assert not np.asarray(tree["z3"][2:]).any()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a[tuple(map(slice, b.shape))], b, rtol=1e-4, atol=1e-6
        ),
        wide_grads,
        grads,
    )
    whole = sum(float(jnp.sum(jnp.abs(a))) for a in jax.tree.leaves(wide_grads))
    part = sum(float(jnp.sum(jnp.abs(a))) for a in jax.tree.leaves(grads))
    assert whole == pytest.approx(part, rel=1e-4)  # those of inactive units are zero


@pytest.mark.parametrize("name", MODELS)
def test_layers_below_one_are_drawn_from_p_given_it(name):
    model = small(name)
    params = model.init(jax.random.key(0), HYPERS)
    z = model.sample_prior(params, jax.random.key(1), HYPERS)
    means = model.from_layer(params, z, "z2")
    drawn = jax.jit(jax.vmap(lambda key: model.from_layer(params, z, "z2", key)))(
        jax.random.split(jax.random.key(2), 4000)
    )
    for kept in ("z2", "z3"):
        np.testing.assert_array_equal(means[kept], z[kept])
        assert (np.asarray(drawn[kept]) == z[kept]).all()
    assert drawn["z1"].std() > 0.1
    error = drawn["z1"].std(0) / np.sqrt(4000)
    assert (np.abs(drawn["z1"].mean(0) - means["z1"]) < 4.5 * error).all()
    jax.tree.map(np.testing.assert_array_equal, model.from_layer(params, z, "z1"), z)


def test_log_sigma_doubles_what_networks_say_of_the_scale():
    facts = Facts(jnp.full((3, 2, 1), 0.4), 100)
    by_sigma = make_model(configured("hierarchical", encoder_scale="log_sigma"), facts, KNOWN, 2)
    by_variance = small("hierarchical")
    params = by_variance.init(jax.random.key(0), HYPERS)
    logvars = [m.encode(params, X[0], HYPERS)["z1"].logvar for m in (by_variance, by_sigma)]
    np.testing.assert_allclose(logvars[1], 2 * logvars[0])


@pytest.mark.quick
def test_the_kl_and_the_product_of_two_gaussians():
    with float64():
        q = Gaussian(jnp.array([0.3, -1.0]), jnp.array([0.2, -2.0]))
        p = Gaussian(jnp.array([1.0, 0.5]), jnp.array([-1.0, 0.4]))
        z = jnp.linspace(-15, 15, 40_001)[:, None]
        log_q, log_p = distributions.log_prob(q, z), distributions.log_prob(p, z)
        expected = jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=0) * 30 / 40_000
        np.testing.assert_allclose(distributions.kl(q, p), expected, rtol=1e-8)
        normal = Gaussian(jnp.zeros(2), jnp.zeros(2))
        of_normal = distributions.kl_to_standard_normal(q)
        np.testing.assert_allclose(distributions.kl(q, normal), of_normal, rtol=1e-12)
        # Its logarithm is the sum of both, but for the constant that normalizes it.
        constant = log_q + log_p - distributions.log_prob(distributions.product(q, p), z)
        np.testing.assert_allclose(constant.std(0), 0, atol=1e-9)


def test_a_run_of_several_layers_says_and_draws_each(images, config, tmp_path):
    config.model.name, config.model.widths, config.model.hidden = "ladder", (4,), (6,)
    config.model.features = 8
    config.objective.name, config.objective.num_samples = "iwae", 3
    config.objective.gradient, config.eval.select = "dreg", "bound"
    run = vae_jax.train(config, tmp_path, dataset=images)

    # What is best is chosen by the bound of as many samples as the objective has.
    rows = [r for r in read_rows(tmp_path / "metrics.jsonl") if r["split"] == "valid"]
    assert all(row["bound"] >= row["elbo"] for row in rows)
    (member,) = run.results["members"]
    counted = {row["step"]: row["bound"] for row in rows if row["step"] >= 5}
    assert member["best_step"] == max(counted, key=counted.get)

    layers = member["test"]["layers"]
    assert list(layers) == ["z1", "z2"]
    total_rate = sum(layer["rate"] for layer in layers.values())
    assert total_rate == pytest.approx(member["test"]["rate"], rel=1e-5)
    active = sum(layer["active_units"] for layer in layers.values())
    assert active == member["test"]["active_units"]
    page = (tmp_path / "report.html").read_text()
    assert "rate of z1" in page and "active units of z2" in page
    assert {"samples_z2.png", "reconstructions_z2.png", "rates_z1.png", "latents_z2.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
    table = vae_jax.table(run)
    row = table.iloc[0] if hasattr(table, "iloc") else table[0]
    assert row["rate_z2"] == layers["z2"]["rate"]

    # Draws that share z2 differ, but less than others do.
    x = np.asarray(run.sample(0, 400, level="z2", each=20)).reshape(20, 20, -1)
    within = x.var(axis=1).mean()
    assert 0 < within < x.reshape(400, -1).var(axis=0).mean()
    np.testing.assert_array_equal(x[0, :7].ravel(), run.sample(0, 7, level="z2", each=20).ravel())
    seen = run.as_evaluated(images, "test", range(5))
    plain, from_z1, from_z2 = (run.reconstruct(1, seen.x, level=n) for n in (None, "z1", "z2"))
    np.testing.assert_array_equal(plain, from_z1)  # nothing lies below z1
    assert np.abs(plain - from_z2).max() > 1e-3
    with pytest.raises(UserError, match=r"level is 'z3', but the layers are z1, z2"):
        run.sample(0, 1, level="z3")


def test_one_layer_has_no_levels(images, config, tmp_path):
    run = untrained(config, images, tmp_path)
    with pytest.raises(UserError, match=r"level is 'z1', but this model has one stochastic layer"):
        run.sample(0, 1, level="z1")
