"""A feature space in which the distance of two examples means something, learned from the labels of
the dataset itself.

It is the last hidden layer of a small classifier that sees examples as training does, standardized
where their kind is. The classifier is trained once for a dataset and kept in the cache, so that all
runs on that dataset are measured in one space. It knows no other examples than these: noise may lie
among them here (high precision), though not spread as they are (coverage, Fréchet).
"""

import hashlib
import math
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from vae_jax import rng as streams
from vae_jax.data import Dataset, cache, stream
from vae_jax.data.kinds import KINDS, View, make_view
from vae_jax.errors import UserError
from vae_jax.estimators.task import of_block
from vae_jax.networks import mlp
from vae_jax.types import Example, Network
from vae_jax.workdir import files, record

_FORMAT = 1  # of network and training: raise it with any change; other files are not read
_WIDTH = 64
_NETWORK = SimpleNamespace(hidden=(256, 256), activation="relu")
_LEARNING_RATE, _BATCH = 1e-3, 200
_EPOCHS, _MIN_STEPS, _MAX_STEPS = 10, 1_000, 20_000
_STEPS_PER_CALL = 100  # the examples of a call are in memory together
_BLOCK = 1_000  # examples whose features are computed together


class Features(NamedTuple):
    apply: Callable[[Example], np.ndarray]  # examples as the model sees them [n, D] -> [n, 64]
    accuracy: float  # of the classifier on the valid split, binarized as in training
    digest: str  # of the weights: distances in spaces of different digests do not compare


class _Classifier(NamedTuple):
    """What the classifier of one dataset is trained on."""

    dataset: Dataset
    view: View
    label: str
    seed: int
    encoder: Network  # whose `mean` is the features


def make_features(dataset: Dataset, binarization: str, label: str = "", seed: int = 0) -> Features:
    """The feature space of a dataset: from the cache, or trained and put there.

    Args:
      binarization: as of config.data.
      label: the labels that are classified, by default the first ones.
      seed: of the initial weights and of the order of examples.

    Raises:
      UserError: the dataset has no labels.
    """
    if dataset.train.label is None or dataset.valid.label is None:
        raise UserError(
            f"sample quality and label metrics need labels, which {dataset.name} does not have"
        )
    scaling = KINDS[dataset.kind].scaling(dataset.train)
    view = make_view(binarization, scaling)
    encoder = _encoder(dataset.example_shape)
    about = _Classifier(dataset, view, label, seed, encoder)
    path = _path(dataset, binarization, label, seed)
    found = _read(path, encoder)
    if found is None:
        name = dataset.name
        logging.info("training the classifier whose features samples of %s are compared in", name)
        found = _train(about)
        _keep(path, *found)
    params, accuracy = found
    return Features(partial(_apply, about, params), accuracy, _digest(params))


def _path(dataset: Dataset, binarization: str, label: str, seed: int) -> Path:
    fingerprint = record.fingerprint(dataset)
    of_label = ""
    if label and label != next(iter(dataset.train.columns)):
        of_label = f"-label{hashlib.blake2b(label.encode(), digest_size=8).hexdigest()}"
    name = f"{fingerprint}-{binarization}{of_label}-seed{seed}-format{_FORMAT}.npz"
    return cache.root() / "features" / name


@lru_cache(maxsize=2)  # one object for a shape: what is compiled for it is compiled once
def _encoder(example_shape: tuple[int, ...]) -> Network:
    return mlp.make(_NETWORK, example_shape, example_shape, _WIDTH).encoder


def _train(about: _Classifier) -> tuple[dict, float]:
    """The encoder's parameters after training with a linear layer on top, and their accuracy."""
    train, encoder, seed = about.dataset.train, about.encoder, about.seed
    labels: Any = train.labels(slice(None), about.label)
    classes, label = np.unique(labels, return_inverse=True)
    top = {"kernel": jnp.zeros((_WIDTH, len(classes))), "bias": jnp.zeros(len(classes))}
    params = {"encoder": encoder.init(streams.roots(seed).init, _WIDTH), "top": top}
    tx = optax.adam(_LEARNING_RATE)

    def loss_fn(params, x: Example, y: jax.Array) -> jax.Array:
        inputs = _inputs(about, x)
        features = jax.vmap(lambda x: encoder.apply(params["encoder"], x)[0])(inputs)
        logits = _logits(params["top"], features)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(state, batch):
        (params, opt_state), (t, rows, y) = state, batch
        keys = streams.fold(streams.at_step(seed, t).binarize, jnp.arange(_BATCH))
        gradient = jax.grad(loss_fn)(params, about.view.to_example(rows, keys), y)
        updates, opt_state = tx.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    scan, state = jax.jit(partial(jax.lax.scan, step)), (params, tx.init(params))
    for start in range(0, _num_steps(train.num), _STEPS_PER_CALL):
        steps = np.arange(start, start + _STEPS_PER_CALL)
        i = stream.order(seed, train.num, start * _BATCH, len(steps) * _BATCH)
        by_step = partial(_split_by_step, num_steps=len(steps))
        rows, y = jax.tree.map(by_step, (_without_condition(train.examples(i)), label[i]))
        state, _ = scan(state, (steps, rows, y))
    params = jax.tree.map(np.asarray, state[0])
    return params["encoder"], _accuracy(about, params, classes)


def _split_by_step(array: np.ndarray, num_steps: int) -> np.ndarray:
    """[num_steps * _BATCH, ...] -> [num_steps, _BATCH, ...]."""
    return array.reshape(num_steps, _BATCH, *array.shape[1:])


def _without_condition(examples: Example) -> Example:
    """The classifier sees the values alone: a condition may be the label itself."""
    return examples._replace(condition=None)


def _num_steps(num: int) -> int:
    """Of training on `num` examples: whole calls, so that one shape is compiled."""
    steps = min(max(_EPOCHS * num / _BATCH, _MIN_STEPS), _MAX_STEPS)
    return math.ceil(steps / _STEPS_PER_CALL) * _STEPS_PER_CALL


def _inputs(about: _Classifier, examples: Example) -> jax.Array:
    """What the network sees of examples [n, D]: their values, standardized where their kind is."""
    return jax.vmap(about.view.to_input)(examples)


def _logits(top: dict, features):
    return features.clip(0) @ top["kernel"] + top["bias"]


def _accuracy(about: _Classifier, params: dict, classes: np.ndarray) -> float:
    """The share of the valid split whose label is found."""
    valid, key, hits = about.dataset.valid, streams.of_split(about.seed, "valid").binarize, 0
    for start in range(0, valid.num, _BLOCK):
        i = np.arange(start, min(start + _BLOCK, valid.num))
        rows = jax.tree.map(jnp.asarray, _without_condition(valid.examples(i)))
        x = about.view.to_example(rows, streams.fold(key, jnp.asarray(i)))
        logits = _logits(params["top"], _apply(about, params["encoder"], x))
        hits += np.sum(classes[logits.argmax(1)] == valid.labels(i, about.label))
    return float(hits / valid.num)


def _apply(about: _Classifier, params: dict, examples: Example) -> np.ndarray:
    """The features [n, 64] of examples [n, D]."""
    x, found = np.asarray(_inputs(about, _without_condition(examples)), np.float32), []
    for i in range(-(-len(x) // _BLOCK)):
        features = _block(about.encoder.apply, params, of_block(x, i, _BLOCK))
        found.append(np.asarray(features)[: len(x) - i * _BLOCK])
    return np.concatenate(found)


@partial(jax.jit, static_argnums=0)
def _block(apply: Callable, params: dict, x: jax.Array) -> jax.Array:
    return jax.vmap(lambda x: apply(params, x)[0])(x)


def _digest(params: dict) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _read(path: Path, encoder: Network) -> tuple[dict, float] | None:
    """What `_keep` has written; None where there is no such file, or it is damaged."""
    like = jax.eval_shape(encoder.init, jax.random.key(0), _WIDTH)
    shapes, structure = jax.tree.flatten(like)
    stored = files.read_arrays(path)
    leaves: list[Any] = [stored.get(str(i)) for i in range(len(shapes))]
    accuracy = stored.get("accuracy")
    whole = all(np.shape(a) == b.shape for a, b in zip(leaves, shapes, strict=True))
    if not whole or accuracy is None:
        return None
    return jax.tree.unflatten(structure, leaves), float(accuracy)


def _keep(path: Path, params: dict, accuracy: float) -> None:
    leaves = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(params))}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_arrays(path, leaves | {"accuracy": np.float64(accuracy)})
    except (OSError, UserError) as error:
        logging.warning(
            "features cannot be kept in %s (%s): they are trained again next time",
            path.parent,
            error,
        )
