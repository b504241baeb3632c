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
# # A variational autoencoder, from its equations to its latent space
#
# [![Open in Colab][badge]][colab]
#
# [badge]: https://colab.research.google.com/assets/colab-badge.svg
# [colab]: https://colab.research.google.com/github/vae-jax/vae_jax/blob/main/experiments/colab.ipynb
#
# This notebook trains a VAE on MNIST in about a minute, writes every equation of it beside the
# code that it became, sweeps two hyper-parameters, and lets you move through the latent space.
# Run it from top to bottom.

# %% [markdown]
# ## Install
#
# The next cell installs **vae_jax** where it is not there yet, from a copy beside this notebook or
# else from `REPOSITORY`. No package that is installed is replaced, least of all jax: pip is told
# their versions. Tried with those of Colab (Python 3.12, jax 0.7.2, flax 0.11.2, optax 0.2.6,
# orbax-checkpoint 0.12.4, numpy 2.0.2, matplotlib 3.10.0, pandas 2.2.2, ipywidgets 7.7.1), and with
# Python 3.11 and jax 0.10.2.

# %%
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

REPOSITORY = "https://github.com/vae-jax/vae_jax"

if importlib.util.find_spec("vae_jax") is None:
    folders = [Path("."), Path(".."), Path("vae_jax")]
    folder = next((path for path in folders if (path / "pyproject.toml").is_file()), None)
    if folder is None:
        folder = Path("vae_jax")
        subprocess.run(["git", "clone", "--depth=1", REPOSITORY, folder], check=True)
    installed = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    Path("installed.txt").write_text("".join(f"{n}=={v}\n" for n, v in installed.items() if n))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", "installed.txt"]
    subprocess.run([*pip, folder.resolve()], check=True)
    importlib.invalidate_caches()

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import vae_jax
from vae_jax import distributions
from vae_jax.objectives import OBJECTIVES, make_loss_fn

np.set_printoptions(precision=2, suppress=True)
print(f"jax {jax.__version__} on {jax.devices()[0].platform}")

# %% [markdown]
# ## Train
#
# A configuration holds every choice; what is not set here has its default, that of
# `configs/mnist.py`: two hidden layers of 200 units on either side, Bernoulli pixels, Adam. Ten
# passes over the 55,000 training images are enough to see everything below.
#
# `Live` draws the curves while the model trains. The same call again resumes a training that was
# stopped, and loads one that is complete.

# %%
config = vae_jax.default()
config.train.num_epochs = 10
config.hypers.latent_dim = 20
config.eval.nll_samples = 100

with vae_jax.Live() as live:
    run = vae_jax.train(config, "runs/colab", on_row=live)

# %% [markdown]
# A run is a trained model with its numbers. NLL is a bound on $-\log p(x)$ in nats, with its
# standard error over the test images.

# %%
run

# %% [markdown]
# ## The equations, and the code they became
#
# Everything below uses one batch of test images $x$, with pixels 0 or 1, and the trained
# parameters. A model in this library is a few pure functions of one example: `encode`, `draw`,
# `decode`, `log_joint`. `jax.vmap` makes them functions of a batch.

# %%
x = run.as_evaluated(run.dataset(), "test", np.arange(16)).x  # [16, 784]
model, params, hypers = run.model, run.params, run.hypers
x.shape, jax.tree.map(jnp.shape, params["encoder"])


# %% [markdown]
# ### 1. The encoder gives $q(z|x)$
#
# The true posterior $p(z|x)$ of a code $z$ given an image $x$ is not known. A network
# approximates it by a Gaussian with independent units:
#
# $$q(z|x) = \mathcal N\big(z;\ \mu(x),\ \mathrm{diag}\,\sigma^2(x)\big)$$
#
# The network gives $\mu$ and $\log\sigma^2$, which may be any real number.


# %%
q = jax.vmap(lambda x: model.encode(params, x, hypers))(x)
sigma = jnp.exp(0.5 * q.logvar)
print("mu", q.mean.shape, " sigma", sigma.shape)
print("mu    of the first image:", q.mean[0, :6])
print("sigma of the first image:", sigma[0, :6])

# %% [markdown]
# ### 2. The reparameterization trick
#
# Training needs gradients through a random draw $z \sim q(z|x)$. Write the draw as a function of
# the parameters and of noise that does not depend on them:
#
# $$z = \mu(x) + \sigma(x) \odot \varepsilon, \qquad \varepsilon \sim \mathcal N(0, I)$$

# %%
epsilon = jax.random.normal(jax.random.key(0), q.mean.shape)
z = q.mean + sigma * epsilon

np.testing.assert_allclose(z, distributions.sample(q, epsilon), rtol=1e-6)

# %% [markdown]
# ### 3. The decoder gives $p(x|z)$
#
# Each pixel is a coin whose probability of 1 the decoder network computes from $z$:
#
# $$\log p(x|z) = \sum_d x_d \log \pi_d(z) + (1 - x_d) \log\big(1 - \pi_d(z)\big)$$
#
# Its negative is the **distortion**: what the reconstruction costs. The library works with
# logits, which is exact where $\pi$ is close to 0 or 1.


# %%
def log_p_of_x(x, z):
    pi = model.decode(params, z).ravel()  # the mean of p(x|z)
    return jnp.sum(x * jnp.log(pi) + (1 - x) * jnp.log1p(-pi))


def log_prior(z):  # log N(z; 0, I)
    return jnp.sum(-0.5 * (z**2 + jnp.log(2 * jnp.pi)))


by_hand = jax.vmap(lambda x, z: log_p_of_x(x, z) + log_prior(z))(x, z)
log_joint = jax.vmap(lambda x, z: model.log_joint(params, x, z, hypers))(x, z)  # log p(x|z) p(z)
np.testing.assert_allclose(by_hand, log_joint, rtol=1e-4)
print("distortion of the first images:", -jax.vmap(log_p_of_x)(x, z)[:6])

# %% [markdown]
# ### 4. The rate
#
# The prior is $p(z) = \mathcal N(0, I)$. How far $q(z|x)$ is from it is the **rate**: what the
# code costs, in nats. For two Gaussians it has a closed form, a sum over latent units:
#
# $$\mathrm{KL}\big(q(z|x)\,\|\,p(z)\big) =
#   \tfrac12 \sum_j \big(\mu_j^2 + \sigma_j^2 - 1 - \log\sigma_j^2\big)$$

# %%
rate = 0.5 * (q.mean**2 + sigma**2 - 1 - q.logvar)  # [16, 20]

np.testing.assert_allclose(rate, distributions.kl_to_standard_normal(q), rtol=1e-3, atol=1e-4)
print("rate of the first images:", rate.sum(1)[:6])

# %% [markdown]
# ### 5. The ELBO
#
# The evidence lower bound is what a VAE maximizes:
#
# $$\log p(x) \ \ge\ \mathrm{ELBO}(x) = \mathbb E_{q(z|x)}\big[\log p(x|z)\big]
#   - \mathrm{KL}\big(q(z|x)\,\|\,p(z)\big) = -(\text{distortion} + \text{rate})$$
#
# One draw of $z$ estimates the expectation without bias. `model.draw` does steps 1 to 5 for one
# image and one random key.

# %%
keys = jax.random.split(jax.random.key(1), len(x))
draw = jax.vmap(lambda x, key: model.draw(params, x, key, hypers))(x, keys)
elbo = -(draw.distortion + draw.rate.sum(1))

by_hand = jax.vmap(log_p_of_x)(x, draw.z) - rate.sum(1)
np.testing.assert_allclose(elbo, by_hand, rtol=1e-4)
print(f"ELBO, averaged over the batch: {elbo.mean():.2f} nats; by hand: {by_hand.mean():.2f} nats")

# %% [markdown]
# ### 6. The loss, its gradient, and `jit`
#
# The loss is the negative ELBO of a batch, with a weight $\beta$ on the rate ($\beta = 1$ is the
# VAE). `make_loss_fn` makes it from a model and an objective. It is a pure function of
# parameters, data and a random key, so `jax.grad` differentiates it and `jax.jit` compiles it.
# That is all that a training loop needs.

# %%
objective = OBJECTIVES["elbo"].make(config.objective, run.z_like())
loss_fn = make_loss_fn(model, objective, hypers)

(loss, metrics), gradient = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(
    params, x, jax.random.key(2)
)
np.testing.assert_allclose(loss, metrics["distortion"] + metrics["rate"], rtol=1e-6)
downhill = jax.tree.map(lambda p, g: p - 1e-4 * g, params, gradient)
lower, _ = loss_fn(downhill, x, jax.random.key(2))
print(f"loss {loss:.3f}; after a small step against the gradient {lower:.3f}")

# %% [markdown]
# ### 7. A tighter bound on $\log p(x)$
#
# The gap between the ELBO and $\log p(x)$ is $\mathrm{KL}(q(z|x)\,\|\,p(z|x))$. Averaging $K$
# importance weights *inside* the logarithm gives a bound that tightens as $K$ grows:
#
# $$\log p(x) \ \ge\ \mathbb E\Big[\log \frac1K \sum_{k=1}^K w_k\Big], \qquad
#   w_k = \frac{p(x|z_k)\,p(z_k)}{q(z_k|x)}, \quad z_k \sim q(z|x)$$
#
# With $K = 1$ it is the ELBO. Test NLL is minus this bound.


# %%
def bound(x, key, num_samples):
    draws = jax.vmap(lambda key: model.draw(params, x, key, hypers))
    log_w = draws(jax.random.split(key, num_samples)).log_w
    return jax.nn.logsumexp(log_w) - jnp.log(num_samples)  # never exp(log_w): it underflows


for num_samples in (1, 10, 100, 1000):
    log_p = jax.vmap(lambda x, key, k=num_samples: bound(x, key, k))(x, keys)
    print(f"{num_samples:5} samples: {log_p.mean():8.2f} nats")

library = run.log_likelihood(jax.random.key(3), x, num_samples=1000)
print(f"the library's:{library.mean():9.2f} nats, with other noise")
np.testing.assert_allclose(log_p.mean(), library.mean(), atol=1)

# %% [markdown]
# ## Look at it
#
# Reconstructions are decoded from one draw of $q(z|x)$; samples are decoded from draws of the
# prior.


# %%
def show(rows, titles):
    """A row of images for each batch [n, 28, 28, 1]."""
    strips = [np.hstack(np.asarray(row)[..., 0]) for row in rows]
    figure, axes = plt.subplots(len(rows), figsize=(8, 0.72 * len(rows)), dpi=80, squeeze=False)
    for axis, strip, title in zip(axes.flat, strips, titles, strict=True):
        axis.imshow(strip, cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(title, fontsize=8, loc="left", pad=2)
        axis.set_axis_off()
    figure.tight_layout(pad=0.2)
    plt.show()


num = 14
images = x[:num].reshape(num, *run.example_shape)
show(
    [images, run.reconstruct(jax.random.key(4), images), run.sample(jax.random.key(5), num)],
    ["test images", "reconstructions", "samples from the prior"],
)

# %% [markdown]
# ## Sweep: $\beta$ and the number of latent units
#
# A tuple in `config.sweep` is a sweep. All combinations train at once, in one compiled program.
# Here nine models train on scikit-learn's 8 x 8 digits, which takes seconds.

# %%
config = vae_jax.default()
config.data.name, config.data.num_valid, config.data.num_test = "digits", 200, 300
config.network.hidden = (64,)
config.train.num_epochs = 60
config.eval.every_epochs = 5
config.eval.nll_samples = 100
config.sweep.beta = (0.5, 1.0, 4.0)
config.sweep.latent_dim = (2, 8, 16)

with vae_jax.Live() as live:
    sweep = vae_jax.train(config, "runs/colab_sweep", on_row=live)

# %% [markdown]
# `table` gives the test numbers of every member, a pandas DataFrame where pandas is installed.

# %%
table = vae_jax.table(sweep)
table.round(2)

# %% [markdown]
# Rate is what the code costs, distortion what the reconstruction costs: a larger $\beta$ buys a
# smaller rate with a larger distortion, and switches latent units off. Two units are too few for
# digits. The standard error of an NLL is 0.2 nats here: read no more into small differences.

# %%
table.pivot(index="latent_dim", columns="beta", values=["nll", "rate", "active_units"]).round(1)

# %% [markdown]
# `sweep` itself is the best member by validation; any other is `vae_jax.load(workdir, member=i)`.
# A report with all pictures is in `runs/colab_sweep/report.html`.

# %%
sweep.results

# %% [markdown]
# ## Play with the latent space
#
# Load the run of the beginning again, as you would in another session. The sliders move the most
# active latent units; the button draws a new code from the prior. (Without ipywidgets this is a
# picture.)

# %%
run = vae_jax.load("runs/colab")
vae_jax.explore(run, x=images)

# %% [markdown]
# Between two images: decode points on the line between the means of their posteriors. Most of
# what lies between looks like digits, because training fills the space between codes.

# %%
means = run.encode(images).mean
share = jnp.linspace(0, 1, num)[:, None]
lines = [run.decode((1 - share) * means[i] + share * means[i + 1]) for i in range(3)]
show(lines, ["from one test image to the next"] + [""] * (len(lines) - 1))

# %% [markdown]
# ## Where to go from here
#
# - `configs/mnist.py`, with 50 units, 100 epochs and 500 importance samples, takes 5 minutes on two
#   CPU cores and gives the numbers of the README.
# - Your own objective, prior and model: [research.ipynb](research.ipynb).
# - Your own data: `dataset = vae_jax.data.from_arrays("mine", x_train, x_test, num_valid=500)`,
#   then `vae_jax.train(config, "runs/mine", dataset=dataset)`.
# - Everything that may be chosen: `!python3 -m vae_jax.main --help-config`.
