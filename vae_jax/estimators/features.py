"""A feature space in which the distance of two images means something, learnt from the labels of the dataset itself.

It is the last hidden layer of a small classifier that sees examples as training does. The classifier is trained once
for a dataset and kept in the cache, so that all runs on that dataset are measured in one space. It knows no other
images than these: noise may lie among them here (high precision), though not spread as they are (coverage, Fréchet).
"""

import hashlib
import math
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from vae_jax import rng as streams
from vae_jax.config import default
from vae_jax.data import Dataset, cache, stream
from vae_jax.errors import UserError
from vae_jax.networks import Network, make_encoder
from vae_jax.training.step import binarize
from vae_jax.workdir import files, record

_FORMAT = 1  # to be raised with any change of network or training: files of other formats are not read
_WIDTH, _HIDDEN = 64, (256, 256)
_LEARNING_RATE, _BATCH = 1e-3, 200
_EPOCHS, _MIN_STEPS, _MAX_STEPS = 10, 1_000, 20_000
_STEPS_PER_CALL = 100  # the examples of a call are in memory together
_BLOCK = 1_000  # examples that features are computed of together


class Features(NamedTuple):
    apply: Callable  # x float32 [n, D] in the model's own range -> np.ndarray [n, 64]
    accuracy: float  # of the classifier on the valid split, binarized as in training
    digest: str  # of the weights: distances in spaces of different digests do not compare


def make_features(dataset: Dataset, binarize_mode: str, seed: int = 0) -> Features:
    """The feature space of a dataset whose examples are binarized so: from the cache, or trained and put there.

    Raises:
      UserError: the dataset has no labels.
    """
    if dataset.train.label is None or dataset.valid.label is None:
        raise UserError(f"sample quality and label metrics need labels, which {dataset.name} does not have")
    encoder = _encoder(dataset.example_shape)
    fingerprint = record.describe_dataset(dataset, binarize_mode)["fingerprint"]
    path = cache.root() / "features" / f"{fingerprint}-{binarize_mode}-seed{seed}-format{_FORMAT}.npz"
    found = _read(path, encoder)
    if found is None:
        logging.info("training the classifier whose features samples of %s are compared in", dataset.name)
        found = _train(encoder, dataset, binarize_mode, seed)
        _keep(path, *found)
    params, accuracy = found
    return Features(partial(_apply, encoder, params), accuracy, _digest(params))


@lru_cache(maxsize=2)  # one object for a shape: what is compiled for it is compiled once
def _encoder(example_shape: tuple[int, ...]) -> Network:
    """Its `mean` is the features."""
    config = default().model
    config.encoder, config.hidden, config.activation = "mlp", _HIDDEN, "relu"
    return make_encoder(config, example_shape, _WIDTH)


def _train(encoder: Network, dataset: Dataset, mode: str, seed: int) -> tuple[dict, float]:
    """The encoder's parameters after training with a linear layer on top, and the accuracy of the two."""
    classes, label = np.unique(dataset.train.labels(slice(None)), return_inverse=True)
    top = {"kernel": jnp.zeros((_WIDTH, len(classes))), "bias": jnp.zeros(len(classes))}
    params = {"encoder": encoder.init(streams.roots(seed).init, _WIDTH), "top": top}
    tx = optax.adam(_LEARNING_RATE)

    def loss_fn(params, x: jax.Array, y: jax.Array) -> jax.Array:
        features = jax.vmap(lambda x: encoder.apply(params["encoder"], x)[0])(x)
        return optax.softmax_cross_entropy_with_integer_labels(_logits(params["top"], features), y).mean()

    def train(state, batch):
        (params, opt_state), (step, x, y) = state, batch
        keys = streams.fold(streams.at_step(seed, step).binarize, jnp.arange(_BATCH))
        updates, opt_state = tx.update(jax.grad(loss_fn)(params, binarize(x, mode, keys), y), opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    scan, state = jax.jit(partial(jax.lax.scan, train)), (params, tx.init(params))
    for start in range(0, _num_steps(dataset.train.num), _STEPS_PER_CALL):
        steps = np.arange(start, start + _STEPS_PER_CALL)
        i = stream.order(seed, dataset.train.num, start * _BATCH, len(steps) * _BATCH)
        x, y = dataset.train.take(i).reshape(len(steps), _BATCH, -1), label[i].reshape(len(steps), _BATCH)
        state, _ = scan(state, (steps, x, y))
    params = jax.tree.map(np.asarray, state[0])
    return params["encoder"], _accuracy(encoder, params, classes, dataset, mode, seed)


def _num_steps(num: int) -> int:
    """Of training on so many examples: whole calls, so that one shape is compiled."""
    steps = min(max(_EPOCHS * num / _BATCH, _MIN_STEPS), _MAX_STEPS)
    return math.ceil(steps / _STEPS_PER_CALL) * _STEPS_PER_CALL


def _logits(top: dict, features):
    return features.clip(0) @ top["kernel"] + top["bias"]


def _accuracy(encoder: Network, params: dict, classes: np.ndarray, dataset: Dataset, mode: str, seed: int) -> float:
    """The share of the valid split whose label is found."""
    valid, key, hits = dataset.valid, streams.of_split(seed, "valid").binarize, 0
    for start in range(0, valid.num, _BLOCK):
        i = np.arange(start, min(start + _BLOCK, valid.num))
        x = binarize(jnp.asarray(valid.take(i).reshape(len(i), -1)), mode, streams.fold(key, jnp.asarray(i)))
        logits = _logits(params["top"], _apply(encoder, params["encoder"], x))
        hits += np.sum(classes[logits.argmax(1)] == valid.labels(i))
    return float(hits / valid.num)


def _apply(encoder: Network, params: dict, x) -> np.ndarray:
    """The features [n, 64] of x [n, ...]."""
    x, found = np.asarray(x, np.float32).reshape(len(x), -1), []
    for start in range(0, len(x), _BLOCK):
        # The last block is filled up with the last example: one shape, one compilation.
        some = x[np.minimum(np.arange(start, start + _BLOCK), len(x) - 1)]
        found.append(np.asarray(_block(encoder.apply, params, some))[: len(x) - start])
    return np.concatenate(found)


@partial(jax.jit, static_argnums=0)
def _block(apply: Callable, params: dict, x: jax.Array) -> jax.Array:
    return jax.vmap(lambda x: apply(params, x)[0])(x)


def _digest(params: dict) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for leaf in jax.tree.leaves(params):
        digest.update(np.ascontiguousarray(leaf))
    return digest.hexdigest()


def _read(path: Path, encoder: Network) -> tuple[dict, float] | None:
    """What `_keep` has written; None where there is no such file, or it is damaged."""
    like, structure = jax.tree.flatten(jax.eval_shape(encoder.init, jax.random.key(0), _WIDTH))
    stored = files.read_arrays(path)
    leaves, accuracy = [stored.get(str(i)) for i in range(len(like))], stored.get("accuracy")
    whole = all(np.shape(found) == expected.shape for found, expected in zip(leaves, like, strict=True))
    return (jax.tree.unflatten(structure, leaves), float(accuracy)) if whole and accuracy is not None else None


def _keep(path: Path, params: dict, accuracy: float) -> None:
    leaves = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(params))}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_arrays(path, leaves | {"accuracy": np.float64(accuracy)})
    except (OSError, UserError) as error:
        logging.warning("features cannot be kept in %s (%s): they are trained again next time", path.parent, error)
