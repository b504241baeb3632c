"""A trained member in your hands: encode, decode, sample, reconstruct, log-likelihood; the codes of a whole split."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jax import rng as streams
from vae_jax.config import sweep
from vae_jax.data import Dataset
from vae_jax.distributions import Gaussian
from vae_jax.errors import UserError
from vae_jax.metrics.importance_bound import bound
from vae_jax.models import draw_batch, sample_batch
from vae_jax.parallel import population
from vae_jax.training.program import Program
from vae_jax.training.step import binarize
from vae_jax.types import Hypers, Params
from vae_jax.workdir import files, record


class Codes(NamedTuple):
    """The posteriors q(z|x) of n examples, in the order of their split."""

    mean: np.ndarray  # float32 [n, latent_dim]
    logvar: np.ndarray | None  # likewise; None for a plain autoencoder
    label: np.ndarray | None  # int32 [n]; None where the dataset has none
    row: np.ndarray  # int64 [n]: where the examples lie in the dataset's arrays


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
        """Decoded draws from the prior, [num, *example_shape]: means of p(x|z), or draws of it with `noise`.

        Raises:
          UserError: a plain autoencoder has no prior, unless one has been fitted to its codes.
        """
        if self.model.sample_prior is None:
            raise UserError(
                "this model has no prior to sample from: train with model.code_sampler='gaussian_fit', which fits a "
                "Gaussian to the training codes, or use a VAE"
            )
        if self.model.fit_prior is not None and not any(np.any(leaf) for leaf in jax.tree.leaves(self.params["prior"])):
            raise UserError(
                "nothing has been fitted to the training codes of these parameters yet: --mode=evaluate does"
            )
        return self._sample(self.params, rng, num=num, noise=noise)

    def reconstruct(self, rng: jax.Array, x) -> jax.Array:
        """The mean of p(x|z) at one z ~ q(z|x) for each x, [B, *example_shape]."""
        return self._reconstruct(self.params, rng, self._batch(x))

    def log_likelihood(self, rng: jax.Array, x, num_samples: int = 5000) -> jax.Array:
        """The importance-weighted lower bound on log p(x) in nats, [B]; uint8 is binarized as in training."""
        if self.model.log_joint is None:
            raise UserError("a plain autoencoder gives x no likelihood: its codes have no prior; use a VAE")
        binarize_rng, epsilon = jax.random.split(rng)
        x = jnp.asarray(x)
        if x.dtype == jnp.uint8:
            keys = streams.fold(binarize_rng, jnp.arange(len(x)))
            x = binarize(x.reshape(len(x), -1), self.config.data.binarize, keys)
        step = min(num_samples, self.config.eval.samples_per_step)
        return self._log_likelihood(self.params, epsilon, self._batch(x), num_samples, step)

    def as_evaluated(self, dataset: Dataset, split: str, positions) -> jax.Array:
        """Examples of a split as the evaluation sees them, [n, D]: the same binarization, bit for bit."""
        x = getattr(dataset, split).take(positions).reshape(len(positions), -1)
        key = streams.of_split(self.config.eval.seed, split).binarize
        return binarize(jnp.asarray(x), self.config.data.binarize, streams.fold(key, jnp.asarray(positions)))

    def codes(self, dataset: Dataset, split: str, positions=None) -> Codes:
        """The codes of the examples at `positions` of a split, by default of all; see `encode_dataset`."""
        chosen = getattr(dataset, split)
        positions = np.arange(chosen.num) if positions is None else np.asarray(positions)
        size, found = min(self.config.eval.batch_size, len(positions)), []
        for start in range(0, len(positions), size):
            # The last block is filled up with the last example: one shape, one compilation.
            block = positions[np.minimum(np.arange(start, start + size), len(positions) - 1)]
            posterior = self.encode(self.as_evaluated(dataset, split, block))
            if np.ndim(getattr(posterior, "mean", None)) != 2:
                raise UserError(f"the posterior of this model ({type(posterior).__name__}) has no mean to be its code")
            parts = posterior.mean, getattr(posterior, "logvar", None)
            found.append([None if part is None else np.asarray(part)[: len(positions) - start] for part in parts])
        mean, logvar = (None if parts[0] is None else np.concatenate(parts) for parts in zip(*found, strict=True))
        return Codes(mean, logvar, chosen.labels(positions), chosen.rows[positions])

    def encode_dataset(
        self, split: str = "test", path: str | Path | None = None, dataset: Dataset | None = None
    ) -> Codes:
        """q(z|x) of every example of a split, which is also saved as .npz with the names of `Codes`.

        The examples are binarized as in the evaluation: valid and test are the very images that results.json is
        about; train is binarized once, with noise of its own from eval.seed (training draws it anew at every step).
        Examples are read in blocks of eval.batch_size, so a split may be larger than memory; its codes may not.

        Args:
          split: "train", "valid" or "test".
          path: of the file; by default codes_<split>.npz in the workdir, or in members/<i> of a sweep's.
          dataset: the one the run was trained with, where that was an object; else it is loaded as then.

        Raises:
          UserError: there is no such split, or the data is not the run's.
        """
        if split not in streams.SPLITS:
            raise UserError(f"there is no split {split!r}, only {', '.join(streams.SPLITS)}")
        codes = self.codes(dataset or self._own_dataset(), split)
        path = Path(path or self.folder() / f"codes_{split}.npz")
        with files.clear_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        files.write_arrays(path, {name: a for name, a in codes._asdict().items() if a is not None})
        return codes

    def folder(self) -> Path:
        """Where what is this member's alone lies: the workdir, or its part of a sweep's."""
        stored = record.read_record(self.workdir)
        alone = stored is None or len(sweep.members(record.read_config(stored))) == 1
        return self.workdir if alone else self.workdir / "members" / str(self.member)

    def _own_dataset(self) -> Dataset:
        stored = record.read_record(self.workdir)
        if "dataset" in stored["own"]:
            raise UserError(f"the dataset of {self.workdir} is one of your own: give it again, as dataset=")
        dataset = record.load_dataset(self.config, self.workdir)
        found = record.describe_dataset(dataset, self.config.data.binarize)["fingerprint"]
        if found != stored["dataset"]["fingerprint"]:
            raise UserError(f"{stored['dataset']['name']} is not the data any more that {self.workdir} was trained on")
        return dataset

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
