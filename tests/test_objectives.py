"""Multi-sample objectives and the estimators of their gradients."""

import functools
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from making import check
from oracles import LinearGaussian, float64

from vae_jax import default
from vae_jax import rng as streams
from vae_jax.errors import UserError
from vae_jax.models.draws import draw_batch
from vae_jax.objectives import OBJECTIVES, elbo, make_loss_fn
from vae_jax.objectives.ciwae import combination
from vae_jax.objectives.iwae import log_mean
from vae_jax.objectives.jvi import jackknife
from vae_jax.objectives.multi_iwae import mean_of_blocks
from vae_jax.types import Example

LOG_W = 3 * np.random.default_rng(0).standard_t(3, size=(200, 12)).astype(np.float32)  # long tails


def of_blocks(num_blocks):
    return mean_of_blocks(SimpleNamespace(num_blocks=num_blocks))


def each(bound, log_w=LOG_W):
    """(F, its gradient) of every set of samples."""
    return jax.vmap(jax.value_and_grad(bound))(log_w)


@pytest.mark.quick
def test_more_samples_in_a_block_never_give_a_lower_bound():
    values = [each(of_blocks(m))[0] for m in (12, 6, 3, 1)]  # each divides the one before
    for fewer, more in itertools.pairwise(values):
        assert (more >= fewer - 1e-5).all() and (more > fewer + 0.1).any()


@pytest.mark.quick
def test_combinations_at_their_ends_are_their_parents():
    def ciwae(weight):
        return lambda log_w: combination(log_w, {"ciwae_weight": jnp.float32(weight)})

    for child, parent in (
        (ciwae(0), log_mean),
        (ciwae(1), elbo.mean),
        (of_blocks(1), log_mean),
        (of_blocks(12), elbo.mean),
    ):
        for found, expected in zip(each(child), each(parent), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(each(log_mean, LOG_W[:, :1])[0], LOG_W[:, 0])  # IWAE(1)


def test_the_bias_of_the_bound_falls_as_1_over_k_and_the_jackknife_s_as_1_over_k2():
    with float64():
        oracle = LinearGaussian(dim=3, latent_dim=2, sigma=0.6, encoder_error=0.2)
        x = oracle.sample(1)
        draw = jax.vmap(
            lambda key: oracle.model.draw(oracle.params, x[0], key, oracle.hypers).log_w
        )
        log_w = jax.jit(draw)(jax.random.split(jax.random.key(0), 2**21))
        log_w = np.asarray(log_w) - oracle.log_p(x)

        def biases(bound):
            groups = [jnp.asarray(log_w.reshape(-1, num)) for num in (2, 4, 8)]
            # The mean weight is 1: to subtract it takes away most of the noise, and no bias.
            noise = [jnp.exp(group).mean(1) - 1 for group in groups]
            pairs = zip(groups, noise, strict=True)
            return np.array([float(jnp.mean(jax.vmap(bound)(g) - n)) for g, n in pairs])

        bound, estimate = biases(log_mean), biases(jackknife)
    assert np.log2(bound[:-1] / bound[1:]) == pytest.approx([1, 1], abs=0.1)
    assert np.log2(estimate[:-1] / estimate[1:]) == pytest.approx([2, 2], abs=0.4)
    assert (bound < 0).all() and (np.abs(estimate) < -bound / 8).all()


# Every objective with every estimator that it has.
SAMPLES, BLOCKS = 4, 2
CASES = [
    (name, gradient)
    for name in ("elbo", "iwae", "ciwae", "multi_iwae", "jvi", "piwae")
    for gradient in ("reparameterized", "stl", "dreg", "score_function")
    if (name, gradient) != ("elbo", "dreg")
]
HYPERS = {"beta": 0.7, "ciwae_weight": 0.3}


def loss_of(name, gradient, model, hypers, num_samples=SAMPLES, **more):
    section = SimpleNamespace(gradient=gradient, num_blocks=BLOCKS)
    hypers = hypers | {k: jnp.asarray(v) for k, v in (HYPERS | more).items()}
    return make_loss_fn(model, OBJECTIVES[name].make(section, None), hypers, num_samples)


@functools.cache
def flawed():
    """A linear Gaussian whose q(z|x) is not the posterior, and one example."""
    oracle = LinearGaussian(dim=3, latent_dim=2, sigma=0.8, encoder_error=0.4)
    return oracle, jnp.asarray(oracle.sample(1))


@functools.cache
def gradients(name, gradient, num_samples=SAMPLES, num=20_000):
    """float64 [num, P]: the gradients of as many keys, flat, those of the encoder first."""
    with float64():
        oracle, x = flawed()
        loss_fn = loss_of(name, gradient, oracle.model, oracle.hypers, num_samples)

        def one(key):
            grads = jax.grad(lambda params: loss_fn(params, x, key)[0])(oracle.params)
            leaves = [*jax.tree.leaves(grads["encoder"]), *jax.tree.leaves(grads["decoder"])]
            return jnp.concatenate([leaf.ravel() for leaf in leaves])

        return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), num)))


NUM_ENCODER = 8  # w [2, 3] and v [2]


def t_statistics(difference):
    return difference.mean(0) / (difference.std(0) / np.sqrt(len(difference)))


@pytest.mark.parametrize(("name", "gradient"), [c for c in CASES if c[1] != "reparameterized"])
def test_an_estimator_is_unbiased_where_it_is_said_to_be(name, gradient):
    difference = gradients(name, gradient) - gradients(name, "reparameterized")
    of_encoder, of_decoder = np.split(t_statistics(difference), [NUM_ENCODER])
    moves = difference[:, NUM_ENCODER:].std(0) > 0  # the score function has the decoder's own
    assert (np.abs(of_decoder[moves]) < 4.5).all()
    if gradient == "stl" and name != "elbo":
        assert np.abs(of_encoder).max() > 10  # its known bias (Tucker et al. 2019)
    else:
        assert np.abs(of_encoder).max() < 4.5


@pytest.mark.parametrize("gradient", ["stl", "dreg"])
def test_with_one_sample_importance_weighting_is_the_elbo(gradient):
    t = t_statistics(gradients("iwae", gradient, 1) - gradients("elbo", "reparameterized", 1))
    assert np.nanmax(np.abs(t)) < 4.5
    np.testing.assert_allclose(
        gradients("iwae", gradient, 1), gradients("elbo", "stl", 1), atol=1e-12
    )


@pytest.mark.parametrize(("name", "gradient"), [c for c in CASES if c[1] in ("stl", "dreg")])
def test_without_the_score_the_encoder_s_gradient_vanishes_at_the_posterior(name, gradient):
    with float64():
        oracle = LinearGaussian(dim=5, latent_dim=2, sigma=0.7)
        x = jnp.asarray(oracle.sample(2))

        loss_fn = loss_of(name, gradient, oracle.model, oracle.hypers, beta=1.0)
        of = jax.grad(lambda params: loss_fn(params, x, jax.random.key(0))[0])
        found = jax.jit(of)(oracle.params)
        assert max(jnp.abs(g).max() for g in jax.tree.leaves(found["encoder"])) < 1e-9
        assert jnp.abs(found["decoder"]["network"]["w"]).max() > 1e-2


def score(oracle, x, key):
    """log w [K] of one example, and d log q(z_k|x) by the encoder's parameters, flat [K, P]."""
    loss_fn_keys = streams.of_loss(key)
    positions, samples = jnp.zeros(1, jnp.int32), jnp.arange(SAMPLES)
    args = (x, loss_fn_keys.epsilon, positions, samples, oracle.hypers)
    draw = draw_batch(oracle.model, oracle.params, *args)

    def log_q(encoder, z):
        params = oracle.params | {"encoder": encoder}
        return oracle.model.log_q(params, x[0], z, oracle.hypers)

    grads = jax.vmap(jax.grad(log_q), (None, 0))(oracle.params["encoder"], draw.z[0])
    return draw.log_w[0], jnp.concatenate([g.reshape(SAMPLES, -1) for g in grads.values()], axis=1)


def test_the_score_function_is_vargrad_for_the_elbo_and_vimco_for_iwae():
    with float64():
        oracle, x = flawed()
        key = jax.random.key(3)
        log_w, scores = jax.jit(lambda key: score(oracle, x, key))(key)

        def found(name):
            loss_fn = loss_of(name, "score_function", oracle.model, oracle.hypers, beta=1.0)
            grads = jax.jit(jax.grad(lambda params: loss_fn(params, x, key)[0]))(oracle.params)
            return jnp.concatenate([leaf.ravel() for leaf in grads["encoder"].values()])

        # Richter et al. 2020: half the gradient of the variance of the log-weights, z held fixed;
        # that of the mean of log q beside it has the expectation zero.
        vargrad = -jnp.cov(scores.T, log_w)[-1, :-1] + scores.mean(0)
        np.testing.assert_allclose(found("elbo"), vargrad, rtol=1e-9)

        # Mnih & Rezende 2016, equations 8 to 10.
        others = (log_w.sum() - log_w) / (SAMPLES - 1)
        replaced = jnp.where(jnp.eye(SAMPLES, dtype=bool), others[:, None], log_w)
        signal = log_mean(log_w) - jax.vmap(log_mean)(replaced)
        vimco = -(signal - jax.nn.softmax(log_w)) @ scores
        np.testing.assert_allclose(found("iwae"), vimco, rtol=1e-9)


@pytest.mark.parametrize(("name", "gradient"), [c for c in CASES if c[1] != "stl"])
def test_what_is_missing_changes_no_bit(name, gradient):
    oracle, x = flawed()
    observed = jnp.array([[True, False, True]])
    loss_fn = loss_of(name, gradient, oracle.model, oracle.hypers)
    params = jax.tree.map(jnp.float32, oracle.params)

    @jax.jit
    def of(x):
        def loss(params):
            return loss_fn(params, Example(x, observed=observed), jax.random.key(0))[0]

        return jax.value_and_grad(loss)(params)

    seen = jnp.float32(x)
    one, other = of(seen.at[0, 1].set(0.0)), of(seen.at[0, 1].set(-7.0))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert of(seen.at[0, 0].add(1.0))[0] != one[0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"objective.gradient": "score_function"},
            r"compares each sample with the others: set obj",
        ),
        ({"objective.gradient": "dreg"}, r"'dreg' is 'stl' where the objective is the ELBO"),
        ({"objective.name": "jvi"}, r"leaves out one sample: set objective.num_samples to 2"),
        (
            {"objective.name": "piwae", "objective.num_samples": 5, "objective.num_blocks": 2},
            r"num_samples 5 cannot be divided into objective.num_blocks 2 blocks",
        ),
        (
            {"objective.name": "piwae", "model.name": "ladder"},
            r"'piwae' needs an encoder apart from p\(x, z\), which model.name 'ladder' does",
        ),
        (
            {"objective.name": "iwae", "model.name": "ae"},
            r"'iwae' needs importance weights, which model.name 'ae' does.*; what fits is elbo$",
        ),
        (
            {"objective.gradient": "stl", "model.name": "ae"},
            r"objective.name 'elbo' needs importance weights, which model.name 'ae' does not have",
        ),
        ({"model.name": "hierarchical", "model.widths": ()}, r"model.widths is empty"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes, told):
    config = default()
    for field, value in changes.items():
        section, key = field.split(".")
        config[section][key] = value
    with pytest.raises(UserError, match=told):
        check(config)
