import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from jax.test_util import check_grads
from making import KNOWN, check, make_program
from oracles import float64

import vae_jax
from vae_jax import default
from vae_jax.errors import UserError
from vae_jax.likelihoods import LIKELIHOODS
from vae_jax.likelihoods.bernoulli import bernoulli
from vae_jax.likelihoods.continuous_bernoulli import expectation, log_density, quantile
from vae_jax.likelihoods.gaussian import gaussian
from vae_jax.objectives import OBJECTIVES, make_loss_fn
from vae_jax.training.evaluation import Evaluator, summarize
from vae_jax.training.program import Facts, make_model

# Compiled whole: operation by operation takes much longer.
expectation, log_density, quantile = map(jax.jit, (expectation, log_density, quantile))
LEVELS = np.arange(256) / np.float32(255)
SUPPORTS = {name: part.make(default().likelihood).support for name, part in LIKELIHOODS.items()}
MASSES = tuple(name for name, support in SUPPORTS.items() if support == "levels")
REAL = tuple(name for name, support in SUPPORTS.items() if support == "real")
DENSITIES = ("continuous_bernoulli", *REAL)
ELBO = OBJECTIVES["elbo"].make(default().objective, None)


@functools.cache
def build(name, **fields):
    """One object for one likelihood: what is compiled for it in one test serves all."""
    section = default().likelihood
    section.update(sigma=0.1, mixtures=3, **fields)
    likelihood = LIKELIHOODS[name].make(section)
    compiled = {f: jax.jit(getattr(likelihood, f)) for f in ("start", "log_prob", "mean", "sample")}
    return likelihood._replace(**compiled)  # much sooner than operation by operation


def first(likelihood):
    """Its own parameters and its running statistics."""
    return likelihood.init() | {"statistics": likelihood.statistics()}


def outputs(name, seed=0, num=60):
    """Decoder outputs [num, channels] from the usual to the extreme."""
    rng = np.random.default_rng(seed)
    if name == "categorical":
        spread = rng.choice([0.1, 3.0, 200.0], (num, 1))
        return jnp.asarray(rng.normal(size=(num, 256)) * spread, jnp.float32)
    if name == "discretized_logistic":
        means, log_scales = (
            rng.choice([-1e6, -3, 0, 1 / 510, 0.4, 1, 7, 1e6], (num, 1)),
            rng.uniform(-40, 100, (num, 1)),
        )
        means[::2], log_scales[::2] = (
            rng.uniform(-0.2, 1.2, (num // 2, 1)),
            rng.uniform(-9, 0, (num // 2, 1)),
        )
        return jnp.asarray(np.concatenate([means, log_scales], 1), jnp.float32)
    means, log_scales = rng.uniform(-0.5, 1.5, (num, 3)), rng.uniform(-12, 4, (num, 3))
    means[0], log_scales[1] = (-1e5, 0.5, 1e5), (-60, 0, 60)
    logits = rng.normal(size=(num, 3)) * rng.choice([1, 100], (num, 1))
    return jnp.asarray(np.concatenate([logits, means, log_scales], 1), jnp.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def draw(likelihood, num, out, theta):
    """Samples [num, D]."""
    return jax.vmap(lambda key: likelihood.sample(theta, key, out))(
        jax.random.split(jax.random.key(0), num)
    )


@functools.partial(jax.jit, static_argnums=0)
def over_levels(likelihood, out):
    """log p of every level, [256, D]."""
    return jax.vmap(lambda level: likelihood.log_prob({}, out, jnp.full(len(out), level)))(
        jnp.asarray(LEVELS)
    )


@pytest.mark.quick
def test_bernoulli_is_scipys_and_sums_to_one():
    logits = np.array([-8.0, -0.3, 0.0, 2.0, 9.0])
    p = 1 / (1 + np.exp(-logits))
    log_p = [
        bernoulli().log_prob({}, jnp.asarray(logits)[:, None], jnp.full(5, x)) for x in (0.0, 1.0)
    ]
    for x in (0, 1):
        np.testing.assert_allclose(
            log_p[x], scipy.stats.bernoulli.logpmf(x, p), rtol=1e-4, atol=1e-6
        )
    np.testing.assert_allclose(np.exp(log_p[0]) + np.exp(log_p[1]), 1.0, rtol=1e-6)


@jax.jit
@jax.value_and_grad
def bernoulli_and_gradient(logit, x):
    return bernoulli().log_prob({}, logit.reshape(1, 1), x.reshape(1)).sum()


@pytest.mark.quick
@pytest.mark.parametrize("logit", [1e4, -1e4, 104.0, 88.0, 0.0])
@pytest.mark.parametrize("x", [0.0, 1.0])
def test_bernoulli_is_finite_with_its_gradient_at_any_logit(logit, x):
    value, gradient = bernoulli_and_gradient(logit, x)
    np.testing.assert_allclose(value, x * logit - np.logaddexp(0, logit), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gradient, x - scipy.special.expit(logit), atol=1e-6)


@pytest.mark.quick
@pytest.mark.parametrize("learn_sigma", [False, True])
def test_gaussian_is_scipys_and_integrates_to_one(learn_sigma):
    likelihood = gaussian(0.3, learn_sigma)
    theta, out = likelihood.init(), jnp.array([[-1.0], [0.2]])
    x = np.array([0.1, 0.3])
    expected = scipy.stats.norm.logpdf(x, np.asarray(out)[:, 0], 0.3)
    np.testing.assert_allclose(likelihood.log_prob(theta, out, jnp.asarray(x)), expected, rtol=1e-5)
    log_p = jax.jit(lambda x: likelihood.log_prob(theta, out, jnp.full(2, x))[1])

    def density(x):
        return float(np.exp(log_p(x)))

    assert (
        abs(scipy.integrate.quad(density, -4, 4, points=[0.2], limit=50, epsabs=1e-4)[0] - 1) < 1e-3
    )


@pytest.mark.quick
def test_laplace_is_scipys_and_its_sigma_is_the_spread_of_the_samples():
    likelihood, out = build("laplace"), jnp.array([[-1.0], [0.2]])  # sigma = 0.1
    x = np.array([0.1, 0.3])
    expected = scipy.stats.laplace.logpdf(x, np.asarray(out)[:, 0], 0.1 / np.sqrt(2))
    np.testing.assert_allclose(likelihood.log_prob({}, out, jnp.asarray(x)), expected, rtol=1e-5)
    samples = draw(likelihood, 4000, out, {})
    np.testing.assert_allclose(samples.std(0), 0.1, rtol=0.06)


@pytest.mark.quick
def test_a_learned_sigma_is_optimal_at_the_root_mean_square_error():
    likelihood, out = gaussian(1.0, True), jnp.zeros((4, 1))
    x = jnp.array([0.1, -0.2, 0.3, 0.4])
    optimum = {"log_sigma": 0.5 * jnp.log(jnp.mean(x**2))}
    gradient = jax.jit(jax.grad(lambda t: jnp.sum(likelihood.log_prob(t, out, x))))(optimum)
    np.testing.assert_allclose(gradient["log_sigma"], 0.0, atol=1e-5)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_mean_and_sample_agree_and_start_has_the_mean(name):
    likelihood = build(name)
    x_mean = jnp.array([0.003, 0.05, 0.5, 0.8, 0.99])
    out, theta = likelihood.start(x_mean), first(likelihood)
    assert out.ndim == 2 and len(out) == 5
    np.testing.assert_allclose(likelihood.mean(theta, out), x_mean, rtol=1e-5, atol=1e-5)
    samples = draw(likelihood, 4000, out, theta)
    np.testing.assert_allclose(samples.mean(0), x_mean, atol=4 * 0.5 / np.sqrt(4000))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_start_is_finite_where_a_value_never_varies(name):
    likelihood, x_mean = build(name), jnp.array([0.0, 1.0, 1.0, 0.0, 1.0])
    out = likelihood.start(x_mean)
    assert np.isfinite(out).all()
    theta = first(likelihood)
    np.testing.assert_allclose(likelihood.mean(theta, out), x_mean, atol=2e-3)

    def log_p(out):
        return jnp.sum(likelihood.log_prob(theta, out, x_mean))

    assert all(np.isfinite(a).all() for a in jax.jit(jax.value_and_grad(log_p))(out))


def test_gradients_match_finite_differences():
    with float64():
        out, x = jnp.array([[-3.0], [0.5], [6.0]]), jnp.array([1.0, 0.0, 1.0])
        binary = jax.jit(lambda out: bernoulli().log_prob({}, out, x))
        check_grads(binary, (out,), order=2, modes="rev", rtol=1e-5)
        normal, theta = gaussian(0.5, True), {"log_sigma": jnp.asarray(-0.7)}
        real = jax.jit(lambda theta, out: normal.log_prob(theta, out, x))
        check_grads(real, (theta, out), order=2, modes="rev", rtol=1e-5)


@pytest.mark.parametrize("name", ["continuous_bernoulli", "gaussian_per_pixel", *MASSES])
def test_gradients_of_the_others_match_finite_differences(name):
    with float64():
        rng = np.random.default_rng(1)
        likelihood, x = build(name), jnp.asarray([0, 1, 100, 101, 254, 255]) / 255
        channels = likelihood.start(jnp.full(6, 0.4)).shape[1]
        out = jnp.asarray(rng.normal(size=(6, channels)))
        check_grads(
            lambda out: likelihood.log_prob({}, out, x),
            (out,),
            order=2,
            modes="rev",
            rtol=1e-4,
            eps=1e-5,
        )


def test_a_learned_sigma_is_the_spread_of_the_samples():
    likelihood, out = gaussian(1.0, True), jnp.zeros((3, 1))
    samples = draw(likelihood, 4000, out, {"log_sigma": jnp.log(0.1)})
    np.testing.assert_allclose(samples.std(0), 0.1, rtol=0.05)


# Probabilities of the 256 levels


@pytest.mark.quick
@pytest.mark.parametrize("name", MASSES)
def test_masses_sum_to_one_and_their_mean_is_exact(name):
    likelihood, out = build(name), outputs(name)
    p = np.exp(np.asarray(over_levels(likelihood, out), np.float64))
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(0), 1.0, atol=1e-5)
    mean = likelihood.mean({}, out)
    np.testing.assert_allclose(mean, LEVELS @ p, atol=1e-5)
    assert (mean >= 0).all() and (mean <= 1).all()


@pytest.mark.parametrize("name", MASSES)
def test_masses_are_finite_with_their_gradients_at_the_extremes(name):
    likelihood, out = build(name), outputs(name, seed=1)
    assert np.isfinite(over_levels(likelihood, out)).all()
    log_p = jax.grad(lambda out, x: likelihood.log_prob({}, out, jnp.full(len(out), x)).sum())
    gradient = jax.jit(jax.vmap(lambda x: log_p(out, x)))
    assert np.isfinite(gradient(jnp.asarray(LEVELS[[0, 1, 128, 254, 255]]))).all()


def logistic_mass(mean, scale):
    """The definition in float64, with the bins' tails: [256]."""
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    logistic = scipy.stats.logistic(mean, scale)
    upper = edges > mean  # the difference of the tails that are small
    sf, cdf = logistic.sf(edges), logistic.cdf(edges)
    return np.where(upper[:-1], sf[:-1] - sf[1:], cdf[1:] - cdf[:-1])


@pytest.mark.quick
@pytest.mark.parametrize(("mean", "scale"), [(0.4, 0.03), (0.0, 0.002), (1.1, 0.1), (0.5, 3.0)])
def test_a_discretized_logistic_is_the_difference_of_distribution_functions(mean, scale):
    raw = -7.6 + np.log(np.expm1(np.log(scale) + 7.6))  # the soft bound undone
    log_p = over_levels(build("discretized_logistic"), jnp.array([[mean, raw]], jnp.float32))[:, 0]
    np.testing.assert_allclose(log_p, np.log(logistic_mass(mean, scale)), rtol=2e-4, atol=2e-4)


@pytest.mark.quick
def test_a_mixture_is_the_weighted_sum_of_its_components():
    mixture, one = build("discretized_logistic_mixture"), build("discretized_logistic")
    out = outputs("discretized_logistic_mixture", num=7)[2:]
    logits, means, log_scales = np.split(out, 3, axis=1)
    parts = [
        np.exp(over_levels(one, jnp.stack([means[:, i], log_scales[:, i]], 1))) for i in range(3)
    ]
    weights = scipy.special.softmax(logits, axis=1)
    expected = sum(weights[:, i] * parts[i] for i in range(3))
    np.testing.assert_allclose(np.exp(over_levels(mixture, out)), expected, atol=2e-6)


@pytest.mark.parametrize("name", MASSES)
def test_samples_of_masses_are_levels_in_their_proportions(name):
    likelihood, num = build(name), 20_000
    out = likelihood.start(jnp.array([0.004, 0.3]))
    if name == "discretized_logistic_mixture":
        out = jnp.tile(jnp.array([[0.0, 1.0, -1.0, 0.1, 0.8, 1.2, -4.0, -3.0, -2.0]]), (2, 1))
    samples = draw(likelihood, num, out, {})
    level = np.round(np.asarray(samples) * 255).astype(int)
    np.testing.assert_allclose(samples, LEVELS[level], rtol=2e-7)
    p = np.exp(np.asarray(over_levels(likelihood, out), np.float64))
    for d in range(2):
        seen = np.cumsum(np.bincount(level[:, d], minlength=256)) / num
        assert np.max(np.abs(seen - np.cumsum(p[:, d]))) < 1.95 / np.sqrt(
            num
        )  # Kolmogorov-Smirnov, 1 in 1,000


# Densities


def integral(values, logit, low=0.0, high=1.0):
    """Of `values` (of x [n] in float64) by Gauss-Legendre in pieces that are short where
    exp(logit x) is large."""
    pieces = np.array([0, 1, 3, 9, 27, 81]) / max(abs(logit), 1)
    pieces = 1 - pieces[::-1] if logit > 0 else pieces
    edges = np.unique(np.clip([low, *pieces, high], low, high))
    nodes, weights = np.polynomial.legendre.leggauss(24)
    width = np.diff(edges)[:, None]
    return np.sum(0.5 * width * weights * values(edges[:-1, None] + 0.5 * width * (nodes + 1)))


def density(logit):
    return lambda x: np.exp(
        np.asarray(log_density(jnp.full(x.shape, logit, jnp.float64), jnp.asarray(x)))
    )


@pytest.mark.quick
@pytest.mark.parametrize(
    "logit", [-600.0, -37.0, -2.0, -1.0, -0.3, 1e-4, 0.0, 0.5, 0.999, 1.001, 12.0, 600.0]
)
def test_the_continuous_bernoulli_is_the_papers_and_integrates_to_one(logit):
    x = np.linspace(0, 1, 21)
    log_p = log_density(jnp.full(21, logit, jnp.float32), jnp.asarray(x, jnp.float32))
    if 1e-3 < abs(logit) < 30:
        p = scipy.special.expit(logit)
        log_c = np.log(2 * np.arctanh(1 - 2 * p) / (1 - 2 * p))
        np.testing.assert_allclose(
            log_p, log_c + x * np.log(p) + (1 - x) * np.log1p(-p), rtol=1e-6, atol=2e-6
        )
    with float64():
        np.testing.assert_allclose(integral(density(logit), logit), 1.0, rtol=1e-11)


def normalizer(logit):
    """log((e^l - 1)/l) and two derivatives, in float64."""
    if abs(logit) < 0.02:
        return logit / 2 + logit**2 / 24, 0.5 + logit / 12 - logit**3 / 720, 1 / 12 - logit**2 / 240
    end = max(logit, 0.0)  # log(e^l - 1) = l + log(1 - e^-l)
    value = end + np.log1p(-np.exp(-abs(logit))) - np.log(abs(logit))
    return value, -1 / np.expm1(-logit) - 1 / logit, 1 / logit**2 - 0.25 / np.sinh(logit / 2) ** 2


@pytest.mark.quick
def test_the_continuous_bernoulli_is_exact_around_one_half():
    """In float32: value, gradient and second derivative."""
    logits = jnp.float32(
        [-8, -2.5, -1, -0.99, -0.5, -0.1, -1e-3, -1e-7, 0, 1e-20, 1e-5, 0.03, 0.7, 1, 1.01, 3]
    )
    function = jax.jit(lambda l: -log_density(l, jnp.zeros_like(l)))  # noqa: E741
    first = jax.grad(lambda logits: function(logits).sum())
    second = jax.jit(jax.grad(lambda logits: first(logits).sum()))
    expected = np.array([normalizer(logit) for logit in np.asarray(logits, np.float64)]).T
    for found, exact in zip(
        (function(logits), expectation(logits), second(logits)), expected, strict=True
    ):
        np.testing.assert_allclose(found, exact, rtol=2e-6, atol=3e-7)
    for derivative in (function, expectation, second):
        assert np.isfinite(derivative(jnp.float32([-1e30, -100, 100, 1e30]))).all()


def test_the_continuous_bernoullis_mean_and_quantiles_are_those_of_its_density():
    logits = jnp.array([-700.0, -30.0, -1.001, -0.999, -1e-3, 0.0, 2e-4, 0.0011, 5.0, 90.0])
    u = jnp.linspace(0.0, 1 - 2**-23, 9)
    x = jax.vmap(lambda u: quantile(logits, jnp.full(10, u)))(u)
    assert (x >= 0).all() and (x <= 1).all() and np.isfinite(x).all()
    means = expectation(logits)
    with float64():
        for i, logit in enumerate(np.asarray(logits, np.float64)):
            p = density(logit)
            mean = integral(lambda x: x * p(x), logit)  # noqa: B023
            np.testing.assert_allclose(means[i], mean, atol=3e-7)
            below = [integral(p, logit, high=float(end)) for end in x[1:-1, i]]
            np.testing.assert_allclose(below, u[1:-1], atol=5e-5 if abs(logit) > 50 else 1e-5)


def test_continuous_bernoulli_samples_have_their_distribution():
    likelihood, logits = build("continuous_bernoulli"), jnp.array([-20.0, 0.0, 3.0])
    samples = np.asarray(draw(likelihood, 5000, logits[:, None], {}))
    for d, logit in enumerate(np.asarray(logits, np.float64)):
        cdf = (
            (lambda x: x)
            if logit == 0
            else lambda x, logit=logit: np.expm1(logit * x) / np.expm1(logit)
        )
        assert scipy.stats.kstest(samples[:, d], cdf).pvalue > 1e-3


@pytest.mark.quick
def test_a_gaussian_per_pixel_has_its_own_sigma_above_the_bound():
    likelihood = build("gaussian_per_pixel", min_sigma=0.02)
    raw = jnp.array([-1e4, -5.0, np.log(0.02), -1.0, 2.0])
    out = jnp.stack([jnp.full(5, 0.3), raw], axis=1)
    sigma = 0.02 * (
        1 + np.exp(np.asarray(raw, np.float64)) / 0.02
    )  # exp(low + softplus(raw - low))
    x = np.array([0.3, 0.31, 0.25, 0.9, -4.0])
    expected = scipy.stats.norm.logpdf(x, 0.3, sigma)
    np.testing.assert_allclose(
        likelihood.log_prob({}, out, jnp.asarray(x)), expected, rtol=2e-5, atol=1e-5
    )
    np.testing.assert_allclose(draw(likelihood, 4000, out, {}).std(0), sigma, rtol=0.05)
    start = likelihood.start(jnp.array([0.2]))
    np.testing.assert_allclose(
        likelihood.log_prob({}, start, jnp.array([0.2])), -np.log(0.1 * np.sqrt(2 * np.pi)), 1e-5
    )


# The optimal sigma


def optimal_sigma(variance, min_sigma=0.01):
    likelihood = build("gaussian_optimal_sigma", min_sigma=min_sigma)
    return likelihood, {"statistics": {"variance": jnp.asarray(variance, jnp.float64)}}


def test_the_variances_gradient_is_its_distance_to_the_batchs_mean_squared_error():
    with float64():
        likelihood, theta = optimal_sigma(0.3)
        rng = np.random.default_rng(0)
        x, out = jnp.asarray(rng.uniform(size=(6, 9))), jnp.asarray(rng.uniform(size=(6, 9, 1)))
        one = jax.vmap(likelihood.log_prob, (None, 0, 0))

        def loss(theta, out):
            return jnp.mean(jnp.sum(-one(theta, out, x), axis=1))

        value, (gradient, d_out) = jax.jit(jax.value_and_grad(loss, (0, 1)))(theta, out)
        mse = np.mean((np.asarray(x) - np.asarray(out[..., 0])) ** 2)
        np.testing.assert_allclose(gradient["statistics"]["variance"], 0.3 - mse, rtol=1e-12)

        ordinary = gaussian(np.sqrt(0.3), False)

        def usual(out):
            return jnp.mean(jnp.sum(-jax.vmap(ordinary.log_prob, (None, 0, 0))({}, out, x), axis=1))

        expected, d_expected = jax.jit(jax.value_and_grad(usual))(out)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(d_out, d_expected, rtol=1e-12)


@pytest.mark.quick
@pytest.mark.parametrize(("variance", "sigma"), [(0.09, 0.3), (1e-9, 0.02), (0.0, 0.02)])
def test_the_optimal_sigma_stays_above_its_bound(variance, sigma):
    with float64():
        likelihood, theta = optimal_sigma(variance, min_sigma=0.02)
        x, out = jnp.array([0.1, 0.5]), jnp.array([[0.1], [0.6]])
        np.testing.assert_allclose(
            likelihood.log_prob(theta, out, x),
            scipy.stats.norm.logpdf(x, out[:, 0], sigma),
            rtol=1e-12,
        )
        gradient_of = jax.jit(jax.grad(lambda t: -likelihood.log_prob(t, out, x).sum()))
        gradient = gradient_of(theta)["statistics"]["variance"]
        np.testing.assert_allclose(
            gradient, variance - 0.005, rtol=1e-9
        )  # it can leave the bound again
        np.testing.assert_allclose(draw(likelihood, 4000, out, theta).std(0), sigma, rtol=0.05)


def test_the_optimal_sigmas_variance_is_a_running_mean_in_a_model():
    """SGD at rate 0.1 on a whole VAE's loss moves the variance as v <- 0.9 v + 0.1 mse."""
    config = default()
    config.likelihood.name, config.network.hidden = "gaussian_optimal_sigma", (8,)
    model = make_model(check(config), Facts(jnp.full((3, 2, 1), 0.4), 200), KNOWN, 2)
    now = {"latent_dim": jnp.int32(2), "beta": jnp.float32(0.3)}
    loss_fn = make_loss_fn(model, ELBO, now, num_samples=3)

    params, x = model.init(jax.random.key(0), now), jax.random.uniform(jax.random.key(1), (8, 6))
    step = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    (_, metrics), grads = step(params, x, jax.random.key(2))
    variance, gradient = (tree["statistics"]["variance"] for tree in (params, grads))
    mse = (metrics["distortion"] / 6 - 0.5 * np.log(2 * np.pi)) * 2  # at variance 1
    np.testing.assert_allclose(variance - 0.1 * gradient, 0.9 * variance + 0.1 * mse, rtol=1e-5)


@pytest.mark.parametrize("name", REAL)
def test_densities_of_real_values_integrate_to_one(name):
    likelihood = build(name)
    theta, out = first(likelihood), likelihood.start(jnp.array([0.3]))
    x = np.concatenate([np.linspace(-300, -2, 3001), np.linspace(-2, 3, 15001)[1:-1]])
    x = np.concatenate([x, np.linspace(3, 300, 3001)])  # heavy tails, too
    one = jax.jit(jax.vmap(lambda x: likelihood.log_prob(theta, out, x[None])[0]))
    log_p = one(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(
        scipy.integrate.trapezoid(np.exp(np.asarray(log_p, np.float64)), x), 1.0, atol=1e-5
    )


# What they are a distribution of


def test_support_says_what_is_a_probability():
    assert SUPPORTS["bernoulli"] == "binary" and SUPPORTS["continuous_bernoulli"] == "unit"
    assert {"discretized_logistic", "discretized_logistic_mixture", "categorical"} <= set(MASSES)
    assert {"gaussian", "gaussian_per_pixel", "gaussian_optimal_sigma", "laplace"} <= set(REAL)
    assert [name for name in LIKELIHOODS if build(name).mass] == ["bernoulli", *MASSES]


def test_an_unknown_support_is_refused():
    part = LIKELIHOODS["laplace"]

    def make(section):
        return part.make(section)._replace(support="counts")

    parts = (part._replace(name="counted", make=make),)
    config = default(parts)
    config.likelihood.name = "counted"
    with pytest.raises(UserError, match="'counted' has the support 'counts', expected one of bin"):
        make_program(check(config, parts), np.full((2, 3, 1), 0.4), 200, parts=parts)


@pytest.mark.parametrize(
    ("fields", "floats", "pattern"),
    [
        (
            {"name": "categorical"},
            True,
            r"'categorical' is a probability of the 256 levels.* are float32: give",
        ),
        (
            {"name": "categorical", "binarize": "threshold"},
            False,
            r"'threshold' leaves two of them",
        ),
        (
            {"name": "discretized_logistic", "binarize": "dynamic"},
            False,
            r"set data.binarize to 'none'",
        ),
        (
            {"name": "continuous_bernoulli", "binarize": "dynamic"},
            False,
            r"a density, which grows without bound",
        ),
        ({"name": "gaussian_optimal_sigma", "binarize": "dynamic"}, False, r"grows without bound"),
        ({"name": "gaussian_per_pixel", "binarize": "threshold"}, False, r"grows without bound"),
        (
            {"name": "gaussian", "learn_sigma": True, "binarize": "dynamic"},
            False,
            r"grows without bound",
        ),
        (
            {"name": "continuous_bernoulli", "shift": 1.0},
            True,
            r"lie in .*outside the range \[0, 1\]",
        ),
        (
            {"name": "gaussian_per_pixel", "sigma": 0.01},
            False,
            r"sigma is 0.01.*more than likelihood.min_sigma",
        ),
        (
            {"name": "gaussian_optimal_sigma", "min_sigma": 0.0},
            False,
            r"min_sigma is 0.0, expected more than 0",
        ),
        ({"name": "discretized_logistic_mixture", "mixtures": 0}, False, r"mixtures is 0"),
    ],
)
def test_a_likelihood_that_does_not_suit_the_data(
    config, images, tmp_path, fields, floats, pattern
):
    fields = dict(fields)
    config.data.binarize, shift = fields.pop("binarize", "none"), fields.pop("shift", 0.0)
    config.likelihood.update(fields)
    x = images.train.x
    x = (x / 255 + shift).astype(np.float32) if floats else x
    with pytest.raises(UserError, match=pattern) as caught:
        vae_jax.train(
            config,
            tmp_path / "run",
            dataset=vae_jax.data.from_arrays("x", x, num_valid=20, num_test=20),
        )
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "names", [("bernoulli", "categorical"), ("gaussian", "categorical"), ("bernoulli", "gaussian")]
)
def test_a_sweep_ranks_only_what_can_be_compared(names):
    config = default()
    config.data.binarize = "none"
    config.sweep.likelihood_name = names
    with pytest.raises(UserError, match="cannot be ranked in one table"):
        check(config)
    config.sweep.likelihood_name = MASSES
    assert check(config).sweep.likelihood_name == MASSES
    config.sweep.likelihood_name = DENSITIES
    assert check(config).sweep.likelihood_name == DENSITIES


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_model_learns_with_each_and_draws_what_it_is_a_distribution_of(name):
    config = default()
    config.network.hidden, config.model.name = (8,), "ae"  # no noise but the likelihood's
    config.likelihood.update(name=name, mixtures=2, sigma=0.3)
    x = jnp.round(jnp.asarray(np.random.default_rng(0).beta(2, 5, (20, 6)) * 255)) / 255
    x = (x > 0.3).astype(jnp.float32) if name == "bernoulli" else x.astype(jnp.float32)
    model = make_model(check(config), Facts(jnp.full((3, 2, 1), 0.6), 200), KNOWN, 2)
    now = {"latent_dim": jnp.int32(2), "beta": jnp.float32(1.0)}
    loss_fn = make_loss_fn(model, ELBO, now)

    def step(params, rng):
        loss, grads = jax.value_and_grad(lambda p: loss_fn(p, x, rng)[0])(params)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
        return jax.tree.map(lambda p, g: p - 0.05 * g / (1 + norm), params, grads), loss

    @jax.jit
    def learn(params, keys, z):
        params, losses = jax.lax.scan(step, params, keys)
        return losses, model.decode(params, z, rng=keys[0]), model.decode(params, z)

    params = model.init(jax.random.key(0), now)  # not compiled whole: most of it is the same in all
    keys = jax.random.split(jax.random.key(1), 60)
    losses, drawn, mean = learn(params, keys, jnp.array([0.3, -1.0]))
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.1 and np.isfinite(losses).all()
    assert drawn.shape == mean.shape == (3, 2, 1) and drawn.std() > 0
    if LIKELIHOODS[name].make(config.likelihood).support != "real":
        assert 0 <= mean.min() <= mean.max() <= 1 and 0 <= drawn.min() <= drawn.max() <= 1


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_bits_per_dimension_are_for_probabilities_of_the_data_as_they_are(config, name):
    config.likelihood.name = name
    program = make_program(check(config), np.full((2, 3, 1), 0.4), 200)
    for binarize, are in (("dynamic", ("bernoulli",)), ("none", MASSES)):
        config.data.binarize = binarize
        assert program._replace(config=check(config)).is_mass == (name in are)


def test_a_mixture_is_evaluated_in_bits_per_dimension(config):
    config.data.binarize, config.likelihood.mixtures = "none", 2
    config.likelihood.name = "discretized_logistic_mixture"
    config.network.hidden, config.hypers.latent_dim = (8,), 2
    x = np.random.default_rng(0).normal(128, 20, (90, 3, 2)).astype(np.uint8)
    dataset = vae_jax.data.from_arrays("x", x, num_valid=20, num_test=20)
    program = make_program(check(config), np.full((3, 2, 1), 0.5), 50)
    params = program.steps.init(jax.tree.map(lambda leaf: leaf[0], program.hypers)).params
    params = jax.tree.map(lambda leaf: leaf[None], params)  # of one member
    evaluation = Evaluator(program).evaluate(params, dataset.test, "test", 20)
    (result,) = summarize(program, evaluation, 20)
    np.testing.assert_allclose(result["bits_per_dim"], result["nll"] / (6 * np.log(2)))
    assert 0 < result["bits_per_dim"] < 8  # a uniform distribution has 8
