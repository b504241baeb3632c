"""Datasets and their splits: row numbers over shared arrays, so that holding examples out copies nothing."""

from typing import NamedTuple

import numpy as np

from vae_jax.data import arrays
from vae_jax.errors import UserError

# Which rows are held out is fixed forever and does not depend on data.seed: runs stay comparable.
_HELD_OUT_SEED = (20131220, 13126114, 1)


class Split(NamedTuple):
    """The examples x[rows] and their labels."""

    x: np.ndarray  # uint8 or float32 [n_total, H, W, C] or [n_total, D], usually memory-mapped
    label: np.ndarray | None  # int32 [n_total]
    rows: np.ndarray  # int64 [n], ascending

    @property
    def num(self) -> int:
        """The number of examples."""
        return len(self.rows)

    def take(self, i) -> np.ndarray:
        """Examples i (an index, a slice or an array of indices, 0 <= i < num), read into memory."""
        return np.asarray(self.x[self.rows[i]])

    def labels(self, i) -> np.ndarray | None:
        """Labels of examples i, int32; None when the dataset has none."""
        return None if self.label is None else np.asarray(self.label[self.rows[i]])


class Dataset(NamedTuple):
    """Three disjoint splits and where they came from."""

    name: str
    source: str  # "tfds" | "official" | "embedded" | "file" | "array"
    train: Split
    valid: Split
    test: Split
    preparation: str = ""  # what was done to the images: cropped, resized
    label_names: tuple[str, ...] = ()  # of labels 0, 1, ..., where they are known

    @property
    def example_shape(self) -> tuple[int, ...]:
        """(H, W, C) or (D,)."""
        return self.train.x.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """uint8 or float32."""
        return self.train.x.dtype


def shuffled(num: int, *seed: int) -> np.ndarray:
    """The permutation of 0..num-1 that belongs to `seed` (integers >= 0), int64 [num].

    Sorts raw Philox bits: NumPy promises these bits across its versions, but not `Generator.permutation`.
    """
    bits = np.random.Philox(np.random.SeedSequence(seed)).random_raw(num)
    return np.argsort(bits, kind="stable")


def interleaved(order: np.ndarray, label: np.ndarray) -> np.ndarray:
    """`order` (a permutation) rearranged so that every prefix holds the classes of `label` in proportion."""
    by_class = order[np.argsort(label[order], kind="stable")]
    count = np.unique(label, return_counts=True)[1]
    rank = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    return by_class[np.argsort((rank + 0.5) / np.repeat(count, count), kind="stable")]


def from_arrays(
    name: str,
    x_train: np.ndarray,
    x_test: np.ndarray | None = None,
    y_train: np.ndarray | None = None,
    y_test: np.ndarray | None = None,
    *,
    num_valid: int,
    num_test: int = 0,
    source: str = "array",
) -> Dataset:
    """A dataset made of arrays in memory.

    Args:
      x_train, x_test: [N, H, W], [N, H, W, C] or [N, D]; uint8, float (becomes float32) or bool (0 or 255).
      y_train, y_test: integer labels [N].
      num_valid: how many examples of x_train are held out for validation, at least 1.
      num_test: how many are held out for testing; 0 when x_test is given, at least 1 when it is not.

    Raises:
      UserError: an array or a number is not as described.
    """
    checked = arrays.checked(name, x_train=x_train, x_test=x_test, y_train=y_train, y_test=y_test)
    return assemble(name, source, checked, num_valid=num_valid, num_test=num_test)


def assemble(
    name: str, source: str, data: arrays.Arrays, *, num_valid: int, num_test: int, stratify: bool = False
) -> Dataset:
    """Splits checked arrays, but keeps x_valid and x_test whole where the data has them.

    Test rows come first in the permutation, so num_valid does not change them.
    """
    x, y = data["x_train"], data.get("y_train")
    own = {part: _whole(data, part) for part in ("valid", "test") if f"x_{part}" in data}
    _check_counts(name, len(x), set(own), num_valid, num_test)
    order = shuffled(len(x), *_HELD_OUT_SEED)
    if stratify:
        order = interleaved(order, y)
    rows = dict(zip(("test", "valid", "train"), np.split(order, [num_test, num_test + num_valid]), strict=True))
    splits = {part: Split(x, y, np.sort(chosen)) for part, chosen in rows.items()} | own
    return Dataset(name, source, **splits)


def _whole(data: arrays.Arrays, part: str) -> Split:
    x = data[f"x_{part}"]
    return Split(x, data.get(f"y_{part}"), np.arange(len(x)))


def _check_counts(name: str, num: int, own: set[str], num_valid: int, num_test: int) -> None:
    if num_valid < 1 and "valid" not in own:
        raise UserError(f"data.num_valid must be at least 1, not {num_valid}: validation needs examples")
    if num_valid and "valid" in own:
        raise UserError(f"data.num_valid must be 0, not {num_valid}: {name} has a validation split of its own")
    if num_test < 0:
        raise UserError(f"data.num_test must not be negative, but is {num_test}")
    if num_test and "test" in own:
        raise UserError(f"data.num_test must be 0, not {num_test}: {name} has a test split of its own")
    if not num_test and "test" not in own:
        raise UserError(f"{name} has no test split: set data.num_test to how many examples to hold out for it")
    if num_valid + num_test >= num:
        extra = f" + data.num_test ({num_test})" if num_test else ""
        raise UserError(
            f"data.num_valid ({num_valid}){extra} must be less than the {num} examples of {name}, "
            "or none are left to train on"
        )
