"""A trained member in your hands: encode, decode, sample, reconstruct, log-likelihood."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jax import population
from vae_jax import rng as streams
from vae_jax.distributions import Gaussian
from vae_jax.errors import UserError
from vae_jax.evaluation.likelihood import bound
from vae_jax.models import draw_batch, sample_batch
from vae_jax.program import Program
from vae_jax.step import binarize
from vae_jax.types import Hypers, Params


class Run:
    """One member of a finished or running training, from `vae_jax.load`; no wider than its own latent dimension.

    Batches `x` are [B, *example_shape] or flat [B, D]: floats and bools are taken as they are; uint8 is grey
    values, divided by 255. Codes `z` are [B, latent_dim].
    """

    def __init__(self, workdir: Path, program: Program, member: int, params: Params, step: int, results):
        """`program` is the one that the member has alone; `params` may be as wide as its population's."""
        like = jax.eval_shape(program.steps.init, population.member(program.hypers, 0)).params
        self.workdir = workdir
        self.config: ConfigDict = program.config  # of the single run that this member equals
        self.model = program.model
        self.member = member
        self.params = population.narrow(params, like)
        self.hypers: Hypers = population.member(program.hypers, 0)  # each []
        self.step = step  # of the checkpoint that the parameters come from
        self.results: dict | None = results  # results.json, None before the first evaluation
        self.example_shape = program.example_shape
        self.latent_dim = program.latent_dim()

    def __repr__(self) -> str:
        return f"Run({str(self.workdir)!r}, member={self.member}, step={self.step}, latent_dim={self.latent_dim})"

    def encode(self, x) -> Gaussian:
        """q(z|x): mean and logvar, each [B, latent_dim]. uint8 goes in as grey values, not binarized."""
        return self._encode(self.params, self._batch(x))

    def decode(self, z) -> jax.Array:
        """The mean of p(x|z), [B, *example_shape]."""
        z = jnp.asarray(z, jnp.float32)
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise UserError(f"codes have shape {z.shape}, expected [B, {self.latent_dim}]")
        return self._decode(self.params, z)

    def sample(self, rng: jax.Array, num: int, noise: bool = False) -> jax.Array:
        """Decoded draws from the prior, [num, *example_shape]: means of p(x|z), or draws of it with `noise`."""
        return self._sample(self.params, rng, num=num, noise=noise)

    def reconstruct(self, rng: jax.Array, x) -> jax.Array:
        """The mean of p(x|z) at one z ~ q(z|x) for each x, [B, *example_shape]."""
        return self._reconstruct(self.params, rng, self._batch(x))

    def log_likelihood(self, rng: jax.Array, x, num_samples: int = 5000) -> jax.Array:
        """The importance-weighted lower bound on log p(x) in nats, [B]; uint8 is binarized as in training."""
        binarize_rng, epsilon = jax.random.split(rng)
        x = jnp.asarray(x)
        if x.dtype == jnp.uint8:
            keys = streams.fold(binarize_rng, jnp.arange(len(x)))
            x = binarize(x.reshape(len(x), -1), self.config.data.binarize, keys)
        step = min(num_samples, self.config.eval.samples_per_step)
        return self._log_likelihood(self.params, epsilon, self._batch(x), num_samples, step)

    def _batch(self, x) -> jax.Array:
        x = jnp.asarray(x)
        size = int(np.prod(self.example_shape))
        if jnp.issubdtype(x.dtype, jnp.integer) and x.dtype != jnp.uint8:
            raise UserError(f"x is {x.dtype}, expected uint8 grey values or floats")
        if x.ndim < 2 or x[0].size != size:
            raise UserError(f"x has shape {x.shape}, expected [B, {', '.join(map(str, self.example_shape))}]")
        x = x.reshape(len(x), size)
        return x / jnp.float32(255) if x.dtype == jnp.uint8 else x.astype(jnp.float32)

    @partial(jax.jit, static_argnums=0)
    def _encode(self, params, x):
        return jax.vmap(lambda x: self.model.encode(params, x, self.hypers))(x)

    @partial(jax.jit, static_argnums=0)
    def _decode(self, params, z):
        return jax.vmap(lambda z: self.model.decode(params, z))(z)

    @partial(jax.jit, static_argnums=0, static_argnames=("num", "noise"))
    def _sample(self, params, rng, num, noise):
        return sample_batch(self.model, params, rng, self.hypers, num, noise)

    @partial(jax.jit, static_argnums=0)
    def _reconstruct(self, params, rng, x):
        draw = draw_batch(self.model, params, x, rng, jnp.arange(len(x)), jnp.arange(1), self.hypers)
        return jax.vmap(lambda z: self.model.decode(params, z))(draw.z[:, 0])

    @partial(jax.jit, static_argnums=(0, 4, 5))
    def _log_likelihood(self, params, rng, x, num_samples, samples_per_step):
        positions = jnp.arange(len(x))
        return bound(self.model, params, x, rng, positions, self.hypers, num_samples, samples_per_step).log_p
