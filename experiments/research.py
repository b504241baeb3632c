# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own objective, prior and model
#
# A new idea for VAEs is one or two functions. This notebook writes an objective, a prior, a model
# and an estimator in a cell each, checks them against what is known exactly, and then leaves
# training, sweeping, evaluation and drawing to the library. Nothing in the package is edited: a
# **part** is a value, given as `parts=`, and then chosen by its name in the configuration.
#
# To install the package, run the first cell of [colab.ipynb](colab.ipynb), or `pip install -e
# ".[notebook]"` in a clone. It takes a few minutes.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import vae_jax
from vae_jax import data, distributions
from vae_jax.distributions import Gaussian
from vae_jax.estimators import Estimator, Task
from vae_jax.objectives import make_loss_fn
from vae_jax.objectives.elbo import terms
from vae_jax.types import Draw, Field, Model, Objective, Part, Prior

# %% [markdown]
# ## An objective: the Rényi bound
#
# Li & Turner (2016, arXiv:1602.02311) bound $\log p(x)$ by a Rényi divergence of order $\alpha$.
# With $K$ importance weights $w_k = p(x, z_k) / q(z_k|x)$ the loss is minus
#
# $$L_\alpha = \frac{1}{1 - \alpha} \log \frac1K \sum_{k=1}^K w_k^{\,1 - \alpha}$$
#
# $\alpha \to 1$ gives the ELBO and $\alpha = 0$ the importance-weighted bound.
#
# An objective is a function of `draws`, which it calls to get draws $z \sim q(z|x)$:
# `draw.log_w`, `draw.distortion` and `draw.rate` with the axes [examples B, draws K]. What may be
# swept in one program is declared in `hypers`.


# %%
def make_renyi(section, z_like):
    def loss(params, draws, x, rng, hypers):
        draw = draws(params)
        order = 1 - hypers["alpha"]
        log_mean = jax.nn.logsumexp(order * draw.log_w, axis=1) - jnp.log(draw.log_w.shape[1])
        return -jnp.mean(log_mean / order), terms(draw)  # the metrics: elbo, distortion, rate

    return Objective(init=lambda rng, hypers: {}, loss=loss)


alpha = Field(
    0.5, "order of the divergence; 0: importance-weighted, near 1: ELBO", least=0, below=1
)
renyi = Part(
    "objective",
    "renyi",
    make_renyi,
    "the Rényi bound",
    hypers={"alpha": alpha},
    needs=("a rate",),
)

# %% [markdown]
# ## A prior: Laplace
#
# $$p(z) = \prod_j \frac{1}{2b} \exp\Big(-\frac{|z_j|}{b}\Big), \qquad b = \frac{1}{\sqrt 2}$$
#
# has variance 1, like $\mathcal N(0, 1)$, but more mass at zero and in its tails: it favours
# sparse codes. A prior is `init`, `log_prob` and `sample`. It may give `kl`, the KL of a Gaussian
# to it in closed form; this one does not, so the rate is that of the draw, $\log q(z|x) - \log
# p(z)$.
#
# Arrays are `width` units wide, of which the first `latent_dim` are active: so can models of
# different size train side by side.

# %%
B = 1 / np.sqrt(2)


def make_laplace(section, width, encode, x_mean):
    def active(latent_dim):
        return jnp.arange(width) < latent_dim

    def log_prob(params, z, latent_dim):
        return jnp.sum(jnp.where(active(latent_dim), -jnp.abs(z) / B - jnp.log(2 * B), 0.0))

    def sample(params, rng, latent_dim):
        return jnp.where(active(latent_dim), B * jax.random.laplace(rng, (width,)), 0.0)

    return Prior(init=lambda rng, latent_dim: {}, log_prob=log_prob, sample=sample)


laplace = Part("prior", "laplace", make_laplace, "Laplace, of variance 1")

# %% [markdown]
# Its density integrates to 1, and its samples have variance 1:

# %%
prior = make_laplace(None, 1, None, None)
grid = jnp.linspace(-20, 20, 20_001)
density = jnp.exp(jax.vmap(lambda z: prior.log_prob({}, z[None], 1))(grid))
keys = jax.random.split(jax.random.key(0), 100_000)
samples = jax.vmap(lambda key: prior.sample({}, key, 1))(keys)

np.testing.assert_allclose(jnp.trapezoid(density, grid), 1, atol=1e-3)
np.testing.assert_allclose(samples.var(), 1, atol=0.05)

# %% [markdown]
# ## Train a sweep of both
#
# `vae_jax.default(parts=...)` is the configuration with the fields of your parts. Both are now
# chosen, swept, checked and recorded like the package's own. `prior_name` is swept one after
# another, `alpha` and `seed` side by side in one program. Each step uses $K = 5$ draws per
# example.

# %%
parts = (renyi, laplace)
config = vae_jax.default(parts)
config.data.name, config.data.num_valid, config.data.num_test = "digits", 200, 300
config.network.hidden = (64,)
config.hypers.latent_dim = 8
config.objective.name, config.objective.num_samples = "renyi", 5
config.train.num_epochs = 40
config.eval.every_epochs = 5
config.eval.nll_samples = 100
config.sweep.prior_name = ("standard_normal", "laplace")
config.sweep.alpha = (0.0, 0.5, 0.99)
config.sweep.seed = (0, 1)

with vae_jax.Live() as live:
    run = vae_jax.train(config, "runs/research", parts=parts, on_row=live)

# %%
table = vae_jax.table(run)
table.groupby(["prior.name", "alpha"])[["nll", "elbo", "rate", "active_units"]].mean().round(2)

# %% [markdown]
# How much of that is noise? The standard error over the 300 test examples is in `nll_stderr`, and
# the two seeds of each row differ by:

# %%
by_seed = table.pivot_table(index=["prior.name", "alpha"], columns="seed", values="nll")
(by_seed[1] - by_seed[0]).round(2)

# %% [markdown]
# The two ends of $\alpha$ are what they should be. `make_loss_fn` gives the loss as a pure
# function of parameters, data and a key, so one batch and one key serve all three:


# %%
x = run.as_evaluated(run.dataset(), "test", np.arange(100)).x
key = jax.random.key(1)


def loss_at(alpha, num_samples=5):
    hypers = run.hypers | {"alpha": alpha}
    objective = make_renyi(None, run.z_like())
    loss_fn = make_loss_fn(run.model, objective, hypers, num_samples)
    return jax.jit(loss_fn)(run.params, x, key)


def draws_at(num_samples):
    """The draws that the loss sees, by an objective that gives its draws as metrics."""
    spy = Objective(init=dict, loss=lambda params, draws, *_: (0.0, {"log_w": draws(params).log_w}))
    return make_loss_fn(run.model, spy, run.hypers, num_samples)(run.params, x, key)[1]["log_w"]


log_w = draws_at(5)
iwae = jax.nn.logsumexp(log_w, axis=1) - jnp.log(5)
np.testing.assert_allclose(loss_at(0.0)[0], -iwae.mean(), rtol=1e-5)
np.testing.assert_allclose(loss_at(0.999)[0], -log_w.mean(), rtol=1e-3)
for value in (0.0, 0.5, 0.9, 0.999):
    print(f"alpha {value:5}: loss {loss_at(value)[0]:.3f}")
print(f"importance-weighted {-iwae.mean():.3f}, ELBO {-log_w.mean():.3f}")

# %% [markdown]
# ## A model: the linear VAE, whose likelihood is known
#
# With a linear decoder everything is Gaussian, and the marginal likelihood has a closed form
# (probabilistic PCA, Tipping & Bishop 1999):
#
# $$p(z) = \mathcal N(0, I), \quad p(x|z) = \mathcal N(W z + b, s^2 I)
#   \quad\Rightarrow\quad p(x) = \mathcal N(b,\ W W^\top + s^2 I)$$
#
# Its maximum is known, too, from the eigenvalues of the data's covariance. The encoder $q(z|x) =
# \mathcal N(V (x - b), \mathrm{diag}\,\sigma^2)$ contains the true posterior where the columns of
# $W$ are orthogonal, so the ELBO can reach it (Lucas et al. 2019, arXiv:1911.02469). A model that
# can be checked to the last nat.
#
# A `Model` is a few pure functions of one example. `draw` is the heart: it gives distortion, rate
# and the log importance weight of one $z \sim q(z|x)$.


# %%
def make_linear(section, ingredients):
    width, num = ingredients.width, ingredients.x_mean.size

    def active(hypers):
        return jnp.arange(width) < hypers["latent_dim"]

    def init(rng, hypers):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(width))  # a key per unit
        w = 0.1 * jax.vmap(lambda key: jax.random.normal(key, (num,)))(keys)
        encoder = {"v": w, "logvar": jnp.zeros(width)}
        decoder = {"w": w, "b": ingredients.x_mean.ravel(), "log_s": jnp.zeros(())}
        return {"encoder": encoder, "decoder": decoder, "prior": {}}

    def values(x):
        return getattr(x, "x", x).ravel()  # of an Example, or of a bare array

    def encode(params, x, hypers, rng=None):
        mean = params["encoder"]["v"] @ (values(x) - params["decoder"]["b"])
        mask = active(hypers)
        logvar = jnp.where(mask, params["encoder"]["logvar"], 0.0)
        return Gaussian(jnp.where(mask, mean, 0.0), logvar)

    def decode(params, z, condition=None, rng=None):
        mean = z @ params["decoder"]["w"] + params["decoder"]["b"]
        if rng is None:
            return mean
        return mean + jnp.exp(params["decoder"]["log_s"]) * jax.random.normal(rng, mean.shape)

    def log_likelihood(params, x, z):
        logvar = jnp.full(num, 2 * params["decoder"]["log_s"])
        return distributions.log_prob(Gaussian(decode(params, z), logvar), values(x)).sum()

    def log_prior(params, z, hypers):
        log_p = distributions.log_prob(Gaussian(jnp.zeros(width), jnp.zeros(width)), z)
        return jnp.where(active(hypers), log_p, 0.0).sum()

    def log_joint(params, x, z, hypers):
        return log_likelihood(params, x, z) + log_prior(params, z, hypers)

    def log_q(params, x, z, hypers):
        log_p = distributions.log_prob(encode(params, x, hypers), z)
        return jnp.where(active(hypers), log_p, 0.0).sum()

    def draw(params, x, rng, hypers, path_weight=None, score=None, offset=None):
        if not (path_weight is score is offset is None):
            raise NotImplementedError("only for plain draws: see types.DrawOne")
        q = encode(params, x, hypers)
        epsilon = jnp.where(active(hypers), jax.random.normal(rng, (width,)), 0.0)
        z = distributions.sample(q, epsilon)
        rate = jnp.where(active(hypers), distributions.kl_to_standard_normal(q), 0.0)
        log_w = log_joint(params, x, z, hypers) - log_q(params, x, z, hypers)
        return Draw(-log_likelihood(params, x, z), rate, log_w, z, q)

    def sample_prior(params, rng, hypers, condition=None):
        return jnp.where(active(hypers), jax.random.normal(rng, (width,)), 0.0)

    return Model(
        init=init,
        encode=encode,
        log_q=log_q,
        log_joint=log_joint,
        draw=draw,
        decode=decode,
        sample_prior=sample_prior,
        log_prior=log_prior,
        standard_normal=True,
    )


linear = Part(
    "model",
    "linear",
    make_linear,
    "Linear VAE",
    provides=("a rate", "a prior"),
    uses=(),  # it is made without the configuration's network, likelihood and prior
)

# %% [markdown]
# ## An estimator: the exact log-likelihood
#
# What is not a metric of the package yet is an estimator: a `Task` of blocks whose arrays it
# keeps, and a summary, which becomes a number in `results.json` and a line of the report.


# %%
def exact_log_p(params, x):
    """log N(x; b, W W^T + s^2 I) of each row of x, in nats."""
    w, b, log_s = (params["decoder"][name] for name in ("w", "b", "log_s"))
    covariance = w.T @ w + jnp.exp(2 * log_s) * jnp.eye(len(b))
    return jax.scipy.stats.multivariate_normal.logpdf(x, b, covariance)


def exact_task(study):
    def block(i):
        return {"log_p": exact_log_p(study.run.params, study.test_examples().x)}

    num = len(study.positions)
    return Task(
        about="log p(x) in closed form",
        settings={},
        num=num,
        size=num,
        block=block,
        units=1,
        unit=lambda: block(0)["log_p"],
        summarize=lambda arrays, others: {"log_p": float(np.mean(arrays["log_p"]))},
    )


exact = Estimator(
    name="exact",
    task=exact_task,
    line=lambda found: f"log p(x) {found['log_p']:.3f} nats, exactly",
    meaning="the marginal likelihood of a linear Gaussian model",
    pictures=(),
    needs=lambda section: (),
)

# %% [markdown]
# ## Train it on data of which the answer is known
#
# 4,000 vectors of 10 values are made from three factors and noise of standard deviation 0.5. The
# sweep tries 1 to 5 latent units, and the estimator is run for every member.

# %%
rng = np.random.default_rng(0)
mixing = rng.normal(size=(3, 10))
vectors = rng.normal(size=(4000, 3)) @ mixing + 0.5 * rng.normal(size=(4000, 10))
dataset = data.from_arrays("factors", vectors.astype(np.float32), num_valid=500, num_test=500)

parts = (linear, exact)
config = vae_jax.default(parts)
config.model.name, config.data.binarize = "linear", "none"
config.hypers.learning_rate = 0.02
config.train.num_epochs = 150
config.eval.every_epochs = 15
config.eval.nll_samples = 100
config.eval.bounds_examples = 500
config.eval.estimators, config.eval.all_members = ("exact",), True
config.sweep.latent_dim = (1, 2, 3, 4, 5)

with vae_jax.Live() as live:
    run = vae_jax.train(config, "runs/linear", parts=parts, dataset=dataset, on_row=live)

# %% [markdown]
# The maximum of the likelihood over all parameters, from the eigenvalues $\lambda$ of the
# covariance of the training data: the $Z$ largest are kept, the others averaged into $s^2$.
# `exact` is the estimator's number for the trained model, `nll` the library's bound with 100
# samples, both of the test split; the last column is the optimum, its parameters taken to the
# same test split.


# %%
def optimum(train, latent_dim):
    """The parameters of the maximum likelihood (Tipping & Bishop 1999, equations 7 and 8)."""
    values, vectors = np.linalg.eigh(np.cov(train.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    variance = values[latent_dim:].mean()
    w = vectors[:, :latent_dim] * np.sqrt(values[:latent_dim] - variance)
    return {"decoder": {"w": w.T, "b": train.mean(0), "log_s": 0.5 * np.log(variance)}}


train = dataset.train.take(slice(None))
test = dataset.test.take(slice(None))
table = vae_jax.table(run)[["latent_dim", "active_units", "elbo", "nll"]].copy()
table["exact"] = [-entry["exact"]["log_p"] for entry in run.results["evaluation"]]
table["optimum"] = [-float(exact_log_p(optimum(train, z), test).mean()) for z in table.latent_dim]
table.round(3)

# %% [markdown]
# The library's bound is the exact value, and training reaches the optimum to a few hundredths of a
# nat. Three units are enough: a fourth and a fifth only fit the noise of the training data, and
# gain nothing on the test split.

# %%
np.testing.assert_allclose(table["nll"], table["exact"], atol=0.05)

# %%
runs = [vae_jax.load("runs/linear", member, parts) for member in table.index]
sigma = [float(jnp.exp(run.params["decoder"]["log_s"])) for run in runs]
plt.figure(figsize=(4.5, 2.6), dpi=80)
plt.plot(table.latent_dim, sigma, "o-", label="learned")
plt.axhline(0.5, color="0.6", linestyle="--", label="of the data")
plt.xlabel("latent units")
plt.ylabel("noise s")
plt.legend(frameon=False)
plt.tight_layout()
plt.show()

# %% [markdown]
# ## Where to go from here
#
# - The interfaces: `vae_jax/types.py`. What `make` takes for every kind of part: `CONTRIBUTING.md`.
# - A model with two layers of latents, an objective with a discriminator and its own optimizer, a
#   likelihood: `tests/test_extending.py`.
# - Put the parts into a file of your own and import them: `vae_jax.load(..., parts=parts)` then
#   works in every session, and a run can be pickled.
