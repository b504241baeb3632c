"""Models whose log p(x) is known exactly, and float64."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from vae_jax.likelihoods.gaussian import gaussian
from vae_jax.models.generator import generator
from vae_jax.models.vae import vae
from vae_jax.priors.standard_normal import standard_normal
from vae_jax.types import Network


@contextlib.contextmanager
def float64():
    """Within it arrays are float64 by default; `jax.enable_x64` of the JAX that has that."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


class LinearGaussian:
    """p(z) = N(0, I), p(x|z) = N(W z + b, sigma^2 I), W with orthogonal columns: a diagonal true
    posterior; or, where `correlated`, with columns of any directions.

    `model` is built by the package's own `vae`; its encoder is the best diagonal Gaussian, which is
    the true posterior where that is diagonal, with mean and logvar shifted by `encoder_error`.
    With `learn_sigma` all numbers that differ between two values of sigma are in `params`.
    """

    def __init__(
        self,
        dim: int,
        latent_dim: int,
        sigma: float,
        encoder_error: float = 0.0,
        seed: int = 0,
        correlated: bool = False,
        learn_sigma: bool = False,
    ):
        rng = np.random.default_rng(seed)
        orthogonal = np.linalg.qr(rng.normal(size=(dim, latent_dim)))[0]
        self.w, self.b = orthogonal * rng.uniform(0.5, 2.0, latent_dim), rng.normal(size=dim)
        if correlated:
            self.w = self.w @ np.linalg.qr(rng.normal(size=(latent_dim, latent_dim)))[0]
        self.sigma, self.latent_dim = sigma, latent_dim
        self.precision = np.eye(latent_dim) + self.w.T @ self.w / sigma**2  # of p(z|x)
        to_mean = np.linalg.solve(self.precision, self.w.T) / sigma**2
        mean_shift, logvar = encoder_error, -np.log(np.diag(self.precision)) + encoder_error
        encoder = Network(
            init=lambda rng, latent_dim: {"w": jnp.asarray(to_mean), "v": jnp.asarray(logvar)},
            apply=lambda p, x: (p["w"] @ (x.ravel() - self.b) + mean_shift, p["v"]),
        )
        decoder = Network(
            init=lambda rng, latent_dim: {"w": jnp.asarray(self.w)},
            apply=lambda p, z: (p["w"] @ z + self.b)[:, None],
        )
        p_x = generator(decoder, gaussian(sigma, learn_sigma), (dim,))
        prior = standard_normal(latent_dim)
        self.model = vae(encoder, p_x, lambda _encode: prior, latent_dim)
        self.hypers = {"latent_dim": jnp.int32(latent_dim)}
        self.params = self.model.init(jax.random.key(0), self.hypers)
        self.true = scipy.stats.multivariate_normal(
            self.b, self.w @ self.w.T + sigma**2 * np.eye(dim)
        )

    def sample(self, num: int, seed: int = 1) -> np.ndarray:
        return np.atleast_2d(self.true.rvs(num, random_state=seed))

    def log_p(self, x: np.ndarray) -> np.ndarray:
        return np.atleast_1d(self.true.logpdf(x))
