"""Models whose log p(x) is known exactly, and float64."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from vae_jax.distributions import Gaussian
from vae_jax.likelihoods.gaussian import gaussian
from vae_jax.models.generator import generator
from vae_jax.models.hierarchical import Inference, Layers, hierarchical
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

    def simulate(self, num: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(z, x) of the model."""
        z = rng.normal(size=(num, self.latent_dim))
        return z, z @ self.w.T + self.b + self.sigma * rng.normal(size=(num, len(self.b)))

    def log_p(self, x: np.ndarray) -> np.ndarray:
        return np.atleast_1d(self.true.logpdf(x))


class Chain:
    """z2 ~ N(0, 1), z1|z2 ~ N(a z2, s1), x|z1 ~ N(w z1, s2), three values of x; all Gaussian.

    `model` is built by the package's own `hierarchical`. Its q is the posterior, drawn upwards as
    q(z1|x) q(z2|z1) or downwards as q(z2|x) q(z1|z2, x), with `error` added to every mean and
    logvar. `logvars` are those of the posterior.
    """

    def __init__(self, downwards: bool, error: float = 0.0):
        self.w, self.a = np.array([0.8, -0.5, 1.1]), 0.9
        self.s1, self.s2 = s1, s2 = 0.6, 0.5
        joint = np.array([[self.a**2 + s1, self.a], [self.a, 1.0]])  # of (z1, z2)
        self.true = scipy.stats.multivariate_normal(
            np.zeros(3), joint[0, 0] * np.outer(self.w, self.w) + s2 * np.eye(3)
        )
        evidence = self.w @ self.w / s2  # precision that x adds to z1

        def given_x(precision, to_mean):
            """(mean of x, logvar) of a layer: x enters by w.x alone."""
            return to_mean / precision * self.w / s2, -np.log(precision)

        if downwards:
            of_z1 = 1 / s1 + evidence  # given z2 and x
            spread = s1 + 1 / evidence  # of the estimate of z1 by x, given z2
            top = 1 + self.a**2 / spread
            first = given_x(top, self.a / spread / evidence)
            parts = {"z2": (first[0], 0.0, first[1])}
            parts["z1"] = (self.w / s2 / of_z1, self.a / s1 / of_z1, -np.log(of_z1))
        else:
            first = given_x(1 / joint[0, 0] + evidence, 1.0)
            parts = {"z1": (first[0], 0.0, first[1])}
            slope = joint[0, 1] / joint[0, 0]
            parts["z2"] = (np.zeros(3), slope, np.log(1 - slope * joint[0, 1]))
        self.logvars = {name: logvar for name, (_, _, logvar) in parts.items()}
        order = ["z2", "z1"] if downwards else ["z1", "z2"]

        def q(params, x, name, z, _hypers):
            of_x, of_z, logvar = params["encoder"][name]
            other = z[order[0]][0] if name == order[1] else 0.0
            return Gaussian((of_x @ x + of_z * other + error)[None], logvar[None] + error)

        inference = Inference(
            order,
            lambda _rng, _hypers: jax.tree.map(jnp.asarray, parts),
            lambda _params, example: example.x,
            q,
        )
        decoder = Network(
            lambda _rng, _dim: {"w": jnp.asarray(self.w)}, lambda p, z: (p["w"] * z)[:, None]
        )
        down = Network(
            lambda _rng, _active: {"a": jnp.asarray(self.a), "v": jnp.log(jnp.asarray(s1))},
            lambda p, z: (p["a"] * z, p["v"][None]),
        )
        layers = Layers({"z1": 1, "z2": 1}, standard_normal(1), {"z1": down}, log_sigma=False)
        p_x = generator(decoder, gaussian(np.sqrt(s2), False), (3,))
        self.model = hierarchical(layers, inference, p_x)
        self.hypers = {"latent_dim": jnp.int32(1), "beta": jnp.asarray(1.0)}
        self.params = self.model.init(jax.random.key(0), self.hypers)

    def sample(self, num: int, seed: int = 3) -> np.ndarray:
        return self.true.rvs(num, random_state=seed)

    def simulate(self, num: int, rng: np.random.Generator) -> tuple[dict, np.ndarray]:
        z2, eps, noise = (
            rng.normal(size=(num, 1)),
            rng.normal(size=(num, 1)),
            rng.normal(size=(num, 3)),
        )
        z1 = self.a * z2 + np.sqrt(self.s1) * eps
        return {"z1": z1, "z2": z2}, z1 * self.w + np.sqrt(self.s2) * noise

    def log_p(self, x: np.ndarray) -> np.ndarray:
        return np.atleast_1d(self.true.logpdf(x))
