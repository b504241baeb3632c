"""Where randomness comes from: the only module that makes root keys and derives streams.

Roles are separated by one named `split`; whatever is indexed (step, position in the batch or in the
split, posterior sample) is reached by `fold_in`. No key is both split and folded into, because
`fold_in(key, i) == split(key, n)[i]`. Nothing is carried: the key of step t is a function of
(seed, t), so a checkpoint holds no randomness and an example's noise depends on neither batch size,
number of samples, number of devices nor latent width.
"""

import hashlib
from typing import Any, NamedTuple

import jax
import numpy as np

Key = jax.Array

SPLITS = ("train", "valid", "test")


class Roots(NamedTuple):
    init: Key  # initial parameters
    train: Key  # folded with the step
    evaluate: Key  # folded with the split
    sample: Key  # draws from the prior
    estimate: Key  # folded with the estimator; last: the others do not depend on it


class StepKeys(NamedTuple):
    binarize: Key  # folded with the position in the batch
    loss: Key  # the `rng` of loss_fn


class LossKeys(NamedTuple):
    epsilon: Key  # of z = mean + sigma * eps: folded with the position, then the sample
    objective: Key  # an objective's own randomness


class EvalKeys(NamedTuple):
    binarize: Key  # folded with the example's index in its split
    epsilon: Key  # likewise, then with the sample


def _split(key: Key, roles: Any) -> Any:
    """A key for each of the roles, the fields of a NamedTuple."""
    return roles(*jax.random.split(key, len(roles._fields)))


def roots(seed: int | jax.Array) -> Roots:
    return _split(jax.random.key(seed), Roots)


def at_step(seed: int | jax.Array, step: int | jax.Array) -> StepKeys:
    return _split(jax.random.fold_in(roots(seed).train, step), StepKeys)


def of_loss(rng: Key) -> LossKeys:
    return _split(rng, LossKeys)


def of_split(seed: int | jax.Array, split: str | int | jax.Array) -> EvalKeys:
    """The keys of a split, given by its name or by its index in `SPLITS`."""
    index = SPLITS.index(split) if isinstance(split, str) else split
    return _split(jax.random.fold_in(roots(seed).evaluate, index), EvalKeys)


def of_estimator(seed: int | jax.Array, key: int | str) -> Key:
    """The key of one estimator: to be folded or split, but not both.

    Args:
      key: the package's own have small numbers from 1, others the digest of their name.
    """
    return jax.random.fold_in(roots(seed).estimate, key if isinstance(key, int) else _digest(key))


def _digest(name: str) -> int:
    """A number of 32 bits, the highest of which is set: far from small ones."""
    digest = hashlib.blake2b(name.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") | 1 << 31


def of_examples(seed: int | jax.Array) -> Key:
    """The key that picks the `eval.bounds_examples` test examples of expensive estimates."""
    return jax.random.fold_in(roots(seed).estimate, 0)


def fold(key: Key, index: jax.Array | np.ndarray) -> Key:
    """One key per entry of `index` [M]: [M] keys."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)
