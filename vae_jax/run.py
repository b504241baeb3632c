"""Inference with one trained model: encode, decode, sample, reconstruct, log-likelihood, codes of a
whole split."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from vae_jax import config as settings
from vae_jax import rng as streams
from vae_jax.config import sweep
from vae_jax.data import Dataset, Split
from vae_jax.data.blocks import filled_blocks
from vae_jax.data.kinds import binarize
from vae_jax.errors import UserError
from vae_jax.metrics.importance_bound import bound
from vae_jax.models.draws import draw_batch, posterior_means, sample_batch, total
from vae_jax.parallel import devices, population
from vae_jax.training import inputs
from vae_jax.training.program import Program, make_program
from vae_jax.types import Example, Hypers, Latent, Model, Params
from vae_jax.workdir import card, files, ranking, record


class Codes(NamedTuple):
    """The posteriors q(z|x) of n examples, in the order of their split."""

    mean: Latent  # float32 [n, latent_dim]; of several layers a dict of such arrays
    logvar: Latent | None  # likewise; None where q(z|x) has none, as of a plain autoencoder
    label: np.ndarray | None  # [n], the labels of eval.label; None where the dataset has none
    row: np.ndarray  # int64 [n]: where the examples lie in the dataset's arrays


class Scores(NamedTuple):
    """What a model says of n examples, in nats. What it does not have is None."""

    mean: Latent | None  # of q(z|x)  [n, latent_dim]; of several layers a dict of such arrays
    logvar: Latent | None  # likewise
    elbo: Any  # [n]
    log_p: Any  # the importance-weighted bound on log p(x)  [n]


class Results(dict):
    """results.json, a dict that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        return card.of_results(self)


class Run:
    """One trained model, from `vae_jax.load`; no wider than its own latent dimension.

    Batches `x` are [B, *example_shape] or flat [B, D], of one channel also [B, H, W]: floats and
    bools are taken as they are; uint8 is grey values, divided by 255. Codes `z` are
    [B, latent_dim], of several stochastic layers a dict of such arrays. `condition` is a dict of
    arrays [B], the labels of data.condition; `observed` is bool, the shape of x. `rng` is a key or
    an integer seed.

    Batches of any size are computed in blocks, of at most eval.batch_size and filled up to a power
    of two, so that few are compiled and memory does not grow; noise belongs to a position in the
    batch. Within a user's jit, grad or vmap a batch is computed whole, and only its shape is
    checked. A run can be pickled; its functions are then made anew."""

    def __init__(
        self, workdir: Path, program: Program, member: int, params: Params, step: int, results
    ):
        """`program` is that of the member alone; `params` may be as wide as its population's."""
        hypers = population.member(program.hypers, 0)
        like = jax.eval_shape(program.steps.init, hypers).params
        self.workdir = workdir
        self.config: Any = program.config  # of the single run that this member equals
        self.catalogue = program.catalogue
        self.model = program.model
        self.likelihood = program.likelihood  # in the data's own units; None: the model has its own
        self.view = program.view
        self.member = member
        self.params = population.narrow(params, like)
        self.hypers: Hypers = hypers  # each []
        self.step = step  # of the checkpoint that the parameters come from
        # results.json, None before the first evaluation
        self.results: Results | None = None if results is None else Results(results)
        self.example_shape = program.example_shape
        self.latent_dim = program.latent_dim()
        self._program = program

    def __repr__(self) -> str:
        where = f"{str(self.workdir)!r}, member={self.member}"
        return f"Run({where}, step={self.step}, latent_dim={self.latent_dim})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the model, its numbers on valid and test, a picture."""
        entry = self.entry()
        about = (self.results or {}).get("dataset")
        on = f" on {record.dataset_name(about)}" if about else ""
        words = self._chosen("model").words or f"Model {self.config.model.name!r}"
        title = f"{words}{on}, {ranking.named(entry)}" if entry and entry["swept"] else words + on
        return card.of_run(title, self._settings(), entry, self.folder())

    def _chosen(self, kind: str):
        return self.catalogue.chosen(kind, settings.flatten(self.config))

    def _is_used(self, hyper: str) -> bool:
        """Whether a chosen part has this hyper-parameter, or every training has it."""
        owners = self.catalogue.owners.get(f"hypers.{hyper}")
        chosen = self.catalogue.all_chosen(settings.flatten(self.config))
        return owners is None or any(part in chosen for part in owners)

    def _settings(self) -> dict[str, str]:
        """{what: name and values} of the parts that make the model and its training, as text."""
        found = {}
        uses = self._chosen("model").uses
        for kind in (*(k for k in ("network", "likelihood", "prior") if k in uses), "objective"):
            part = self._chosen(kind)
            values = [f"{name} {self.config[kind][name]}" for name in part.fields]
            found[kind] = ", ".join([part.name, *values])
        found["hypers"] = ", ".join(
            f"{name} {ranking.show(np.asarray(value).item())}"
            for name, value in self.hypers.items()
            if self._is_used(name)
        )
        found["parameters"] = f"{sum(leaf.size for leaf in jax.tree.leaves(self.params)):,}"
        return found

    def entry(self) -> dict | None:
        """This member's entry of `results`, None before the first evaluation."""
        members = (self.results or {}).get("members", [])
        return next((entry for entry in members if entry["member"] == self.member), None)

    def __reduce__(self):
        made_of = self.config, self._program.facts, self.catalogue
        return _again, (made_of, self.workdir, self.member, self.params, self.step, self.results)

    def z_like(self) -> Latent:
        """The shapes of one z."""
        return self._program.draw_like.z

    @devices.own_settings()
    def encode(self, x, condition=None, observed=None):
        """q(z|x): mean and logvar, each [B, latent_dim]. uint8 goes in as grey values."""
        return self._in_blocks("encode", inputs.batch(self._program, x, condition, observed))

    @devices.own_settings()
    def decode(self, z, condition=None) -> jax.Array:
        """The mean of p(x|z), [B, *example_shape]."""
        z = inputs.codes(self._program, z)
        condition = inputs.labels(self._program, condition, inputs.num_rows(z))
        return self._in_blocks("decode", (z, condition))

    @devices.own_settings()
    def sample(
        self,
        rng: jax.Array | int,
        num: int,
        noise: bool = False,
        condition=None,
        level: str | None = None,
        each: int = 1,
    ) -> jax.Array:
        """Decoded draws from the prior, [num, *example_shape]: means of p(x|z), or draws of it with
        `noise`.

        Args:
          level: of a model with several stochastic layers, the name of one: `each` draws one after
            another share it and the layers above; those below are drawn anew from p given it.

        Raises:
          UserError: a plain autoencoder has no prior, unless one has been fitted to its codes.
        """
        if self.model.sample_prior is None:
            raise UserError(
                "this model has no prior to sample from: train with "
                "model.code_sampler='gaussian_fit', which fits a Gaussian to the training codes, "
                "or use a VAE"
            )
        fitted = (np.any(leaf) for leaf in jax.tree.leaves(self.params["prior"]))
        if self.model.fit_prior is not None and not any(fitted):
            raise UserError(
                "nothing has been fitted to the training codes of these parameters yet: "
                "--mode=evaluate does"
            )
        num = inputs.whole("num", num, 0)
        condition = inputs.labels(self._program, condition, num)
        how = {"noise": bool(noise), "level": inputs.level(self._program, level)}
        how |= {"each": inputs.whole("each", each, 1)}
        return self._in_blocks("sample", condition, inputs.key(rng), num, **how)

    @devices.own_settings()
    def reconstruct(
        self,
        rng: jax.Array | int,
        x,
        condition=None,
        observed=None,
        level: str | None = None,
    ) -> jax.Array:
        """The mean of p(x|z) at one z ~ q(z|x) for each x, [B, *example_shape].

        Args:
          level: of a model with several stochastic layers, the name of one: those below it are
            drawn from p given it, not from q.
        """
        example = inputs.batch(self._program, x, condition, observed)
        level = inputs.level(self._program, level)
        return self._in_blocks("reconstruct", example, inputs.key(rng), level=level)

    @devices.own_settings()
    def log_likelihood(
        self, rng: jax.Array | int, x, num_samples: int = 5000, condition=None, observed=None
    ) -> jax.Array:
        """The importance-weighted lower bound on log p(x) in nats, [B], of the observed values.

        uint8 is binarized as in training.
        """
        if self.model.log_joint is None:
            raise UserError(
                "a plain autoencoder gives x no likelihood: its codes have no prior; use a VAE"
            )
        grey = inputs.array("x", x).dtype == np.uint8
        example = inputs.batch(self._program, x, condition, observed)
        binarization = self.config.data.binarize if grey else "none"
        keys = streams.EvalKeys(*jax.random.split(inputs.key(rng)))
        how = self._samples(inputs.whole("num_samples", num_samples, 1))
        return self._in_blocks("log_p", example, keys, binarization=binarization, **how)

    @devices.own_settings()
    def as_evaluated(self, dataset: Dataset, split: str, positions) -> Example:
        """Examples of a split as the evaluation sees them, x [n, D]: the same binarization."""
        positions = _positions(dataset, split, positions)
        rows = getattr(dataset, split).examples(positions)
        key = streams.of_split(self.config.eval.seed, split).binarize
        keys = streams.fold(key, jnp.asarray(positions))
        return self.view.to_example(jax.tree.map(jnp.asarray, rows), keys)

    @devices.own_settings()
    def codes(self, dataset: Dataset, split: str, positions=None) -> Codes:
        """The codes of the examples at `positions` of a split, by default of all; see
        `encode_dataset`."""
        positions = _positions(dataset, split, positions)
        chosen = getattr(dataset, split)
        size, found = min(self.config.eval.batch_size, len(positions)), []
        for where, num in filled_blocks(len(positions), size):
            posterior = self._compute("encode", self.as_evaluated(dataset, split, positions[where]))
            mean = posterior_means(posterior)
            if mean is None or any(leaf.ndim != 2 for leaf in jax.tree.leaves(mean)):
                kind = type(posterior).__name__
                raise UserError(f"the posterior of this model ({kind}) has no mean to be its code")
            found.append(_on_host((mean, _logvars(posterior)), num))
        mean, logvar = jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
        label = chosen.labels(positions, self.config.eval.label)
        return Codes(mean, logvar, label, chosen.rows[positions])

    @devices.own_settings()
    def score(self, examples: Split) -> Scores:
        """Codes, ELBO and bound of examples as the evaluation would give them, were they its test
        split: binarized with eval.seed, with eval.nll_samples importance samples.

        Raises:
          UserError: they are not such as the model was trained on.
        """
        inputs.check_shape(self._program, "x", examples.x.shape)
        keys = streams.of_split(self.config.eval.seed, "test")
        how = self._samples(self.config.eval.nll_samples)
        how |= {"binarization": self.config.data.binarize}
        found = []
        for where, num in filled_blocks(examples.num, self.config.eval.batch_size):
            rows = inputs.batch(self._program, *examples.examples(where))
            found.append(_on_host(self._compute("score", rows, keys, where, **how), num))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)

    @devices.own_settings()
    def encode_dataset(
        self, split: str = "test", path: str | Path | None = None, dataset: Dataset | None = None
    ) -> Codes:
        """q(z|x) of every example of a split, which is also saved as .npz with the names of
        `Codes`.

        The examples are binarized as in the evaluation: valid and test are the very images that
        results.json is about; train is binarized once, with noise of its own from eval.seed
        (training draws it anew at every step). Examples are read in blocks of eval.batch_size, so a
        split may be larger than memory; its codes may not.

        Args:
          split: "train", "valid" or "test".
          path: of the file; by default codes_<split>.npz in the workdir, or in members/<i> of a
            sweep's.
          dataset: the one the run was trained with, where that was an object; else it is loaded.

        Raises:
          UserError: there is no such split, or the data is not the run's.
        """
        codes = self.codes(dataset or self.dataset(), split)
        path = Path(path or self.folder() / f"codes_{split}.npz")
        with files.clear_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        files.write_arrays(path, named(codes))
        return codes

    @devices.own_settings()
    def export(self, folder: str | Path) -> Path:
        """Writes encoder and decoder as functions that need this package no more.

        `encoder.jax`: x [B, *example_shape] float32 -> {"mean", "logvar"} of q(z|x), each a tree
        like z. `decoder.jax`: z [B, latent_dim] -> the mean of p(x|z), [B, *example_shape]. Their
        parameters are within, the size B of a batch is free, and they run on CPU, GPU and TPU:

            encoder = jax.export.deserialize(Path("encoder.jax").read_bytes())
            encoder.call(x)["mean"]

        A model that is given labels takes them as a further argument, a dict of arrays [B]; one of
        data with missing values then takes what is observed, bool in the shape of x.
        `export.json` says the shapes.

        Raises:
          UserError: the folder cannot be written.
        """
        batch = jax.export.symbolic_shape("B")
        example = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((*batch, *a.shape), a.dtype),
            self._program.facts.example(),
        )
        shaped = example._replace(x=_reshaped(example.x, self.example_shape))
        if example.observed is not None:
            shaped = shaped._replace(observed=_reshaped(example.observed, self.example_shape))
        z = jax.tree.map(lambda a: jax.ShapeDtypeStruct((*batch, *a.shape), a.dtype), self.z_like())

        def encoder(x, condition=None, observed=None):
            posterior = self.encode(x, condition, observed)
            found = {"mean": posterior_means(posterior), "logvar": _logvars(posterior)}
            return {name: value for name, value in found.items() if value is not None}

        given = [leaf for leaf in shaped if leaf is not None]
        if shaped.condition is None and shaped.observed is not None:
            given.insert(1, {})
        inputs = {"encoder": given, "decoder": [z] if shaped.condition is None else [z, given[1]]}
        folder = Path(folder)
        with files.clear_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for name, function in (("encoder", encoder), ("decoder", self.decode)):
            make = jax.export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))
            files.write_bytes(folder / f"{name}.jax", make(*inputs[name]).serialize())
        about = {name: jax.tree.map(str, args) for name, args in inputs.items()}
        about |= {"jax": jax.__version__, "workdir": str(self.workdir), "step": self.step}
        files.write_json(folder / "export.json", about)
        return folder

    def folder(self) -> Path:
        """Where what is this member's alone lies: the workdir, or its part of a sweep's."""
        stored = record.read_record(self.workdir)
        alone = stored is None or len(sweep.members(stored["config"])) == 1
        return self.workdir if alone else self.workdir / "members" / str(self.member)

    def dataset(self) -> Dataset:
        """The data that the run was trained on, read again.

        Raises:
          UserError: it is an object of one's own, or not the same data any more.
        """
        stored = record.read_record(self.workdir)
        if stored is None:
            raise UserError(
                f"{self.workdir} holds no run any more, which says what its data is: give the "
                "data, as dataset=, or load the run from where it is now"
            )
        if "dataset" in stored["own"]:
            raise UserError(
                f"the dataset of {self.workdir} is one of your own: give it again, as dataset="
            )
        dataset = record.load_dataset(self.config, self.workdir)
        if record.fingerprint(dataset) != stored["dataset"].get("fingerprint"):
            raise UserError(
                f"{dataset.name} is not the data any more that {self.workdir} was trained on"
            )
        return dataset

    def _samples(self, num_samples: int) -> dict[str, int]:
        per_step = min(num_samples, self.config.eval.samples_per_step)
        return {"num_samples": num_samples, "samples_per_step": per_step}

    def _in_blocks(self, name: str, rows, rng=None, num: int | None = None, **static):
        """The function `name` of `_compiled`, of all rows."""
        num = inputs.num_rows(rows) if num is None else num
        if num == 0 or inputs.is_traced((rows, rng, self.params)):
            return self._compute(name, rows, rng, jnp.arange(num), **static)
        size = min(self.config.eval.batch_size, 1 << (num - 1).bit_length())
        found = []
        with jax.ensure_compile_time_eval():  # numbers, also while something else is traced
            for where, count in filled_blocks(num, size):
                block = jax.tree.map(lambda leaf, where=where: leaf[where], rows)
                found.append(_on_host(self._compute(name, block, rng, where, **static), count))
        return jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)), *found)

    def _compute(self, name: str, rows, rng=None, positions=None, **static):
        function = _compiled(self.model)[name]
        return function(self.params, self.hypers, rows, rng, positions, **static)


def _positions(dataset: Dataset, split: str, wanted) -> np.ndarray:
    """Positions [n] in a split, from 0 on; `wanted` is whatever indexes an array, None for all.

    Raises:
      UserError: there is no such split, or it has no such examples; or they are none.
    """
    if split not in streams.SPLITS:
        raise UserError(f"there is no split {split!r}, only {', '.join(streams.SPLITS)}")
    num = getattr(dataset, split).num
    try:
        index = np.asarray(np.arange(num) if wanted is None else wanted)
        found = np.arange(num)[index] if index.size else index
    except IndexError as error:
        raise UserError(f"positions: {split} has {num} examples ({error})") from error
    if found.ndim != 1 or not len(found):
        raise UserError(f"positions of {split} are {wanted!r}, expected a list of one or more")
    return found


@lru_cache(maxsize=32)
def _compiled(model: Model) -> dict[str, Callable]:
    """The functions of a `Run`, of (params, hypers, rows [B, ...], rng, positions [B])."""

    def encode(params, hypers, x: Example, _rng, _positions):
        return jax.vmap(lambda x: model.encode(params, x, hypers))(x)

    def decode(params, _hypers, rows, _rng, _positions):
        return jax.vmap(lambda z, condition: model.decode(params, z, condition))(*rows)

    def sample(params, hypers, condition, rng, positions, **how):
        return sample_batch(model, params, rng, hypers, positions, condition=condition, **how)

    def reconstruct(params, hypers, x: Example, rng, positions, level):
        draw = draw_batch(model, params, x, rng, positions, jnp.arange(1), hypers)
        z = jax.tree.map(lambda leaf: leaf[:, 0], draw.z)
        if level is not None:
            keys = streams.fold(rng, positions)
            keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 1)  # 0 is the draw's
            z = jax.vmap(lambda z, key: model.from_layer(params, z, level, key))(z, keys)
        return jax.vmap(lambda z, condition: model.decode(params, z, condition))(z, x.condition)

    def bounded(
        params, hypers, x: Example, keys, positions, binarization, num_samples, samples_per_step
    ):
        x = x._replace(x=binarize(x.x, binarization, streams.fold(keys.binarize, positions)))
        args = (keys.epsilon, positions, hypers, num_samples, samples_per_step)
        return bound(model, params, x, *args)

    def log_p(*args, **static):
        return bounded(*args, **static).log_p

    def score(*args, **static) -> Scores:
        found = bounded(*args, **static)
        elbo = None if found.rate is None else -(found.distortion + total(found.rate, 1))
        mean, logvar = posterior_means(found.posterior), _logvars(found.posterior)
        return Scores(mean, logvar, elbo, found.log_p)

    how = ("binarization", "num_samples", "samples_per_step")
    static = {encode: (), decode: (), reconstruct: ("level",), log_p: how, score: how}
    static[sample] = ("noise", "level", "each")
    return {f.__name__: jax.jit(f, static_argnames=names) for f, names in static.items()}


def _again(made_of: tuple, workdir: Path, *rest) -> Run:
    """A run out of a pickle."""
    return Run(workdir, make_program(*made_of), *rest)


def _logvars(posterior) -> Latent | None:
    """The log variances of q(z|x), a tree like z; None of a posterior without them."""
    if isinstance(posterior, dict):
        found = {name: _logvars(layer) for name, layer in posterior.items()}
        return None if any(value is None for value in found.values()) else found
    return getattr(posterior, "logvar", None)


def _reshaped(flat: jax.ShapeDtypeStruct, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """The shape of a batch of flat rows [B, D] as [B, *shape]."""
    return jax.ShapeDtypeStruct((flat.shape[0], *shape), flat.dtype)


def _on_host(tree, num: int):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:num], tree)


def named(codes: Codes | Scores) -> dict[str, np.ndarray]:
    """{"mean": array} of one layer, {"mean_z1": array, ...} of several."""
    named = {}
    for field, value in codes._asdict().items():
        if isinstance(value, dict):
            named |= {f"{field}_{layer}": array for layer, array in value.items()}
        elif value is not None:
            named[field] = value
    return named
