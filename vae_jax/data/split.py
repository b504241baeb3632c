"""Datasets and their splits: row numbers of shared arrays, so that nothing is copied."""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from vae_jax.data import arrays, ranges
from vae_jax.data.kinds import kind_of
from vae_jax.errors import UserError
from vae_jax.types import Example

# Never to be changed, and no field: all runs hold out the same rows, so they stay comparable.
_HELD_OUT_SEED = (20131220, 13126114, 1)


# Which examples of a split, 0 <= i < num: an index, a slice or an array.
Positions = int | slice | list[int] | np.ndarray


class Split(NamedTuple):
    """The examples x[rows], what is observed of them, and their labels."""

    x: np.ndarray  # uint8 or float32 [n_total, H, W, C] or [n_total, D], usually memory-mapped
    columns: dict[str, np.ndarray]  # labels, int32 or float32 [n_total]; the first is the default
    rows: np.ndarray  # int64 [n], ascending
    observed: np.ndarray | None = None  # bool, the shape of x; None: all values are observed
    condition: tuple[str, ...] = ()  # the labels that the model is given beside x

    @property
    def num(self) -> int:
        """The number of examples."""
        return len(self.rows)

    @property
    def label(self) -> np.ndarray | None:
        """The default labels of all rows [n_total]; None where there are none."""
        return next(iter(self.columns.values()), None)

    def condition_dtypes(self) -> tuple[tuple[str, str], ...]:
        """(name, dtype) of the labels that the model is given."""
        return tuple((name, str(self.columns[name].dtype)) for name in self.condition)

    def take(self, i: Positions) -> np.ndarray:
        """The values of examples i, in memory."""
        return np.asarray(self.x[self.rows[i]])

    def labels(self, i: Positions, name: str = "") -> np.ndarray | None:
        """The labels `name` of examples i, "" for the default ones; None where there are none."""
        column = self.columns[name] if name else self.label
        return None if column is None else np.asarray(column[self.rows[i]])

    def examples(self, i: Positions, x: np.ndarray | None = None) -> Example:
        """The examples i as rows: x [n, D], the labels of `condition` [n], observed [n, D].

        Args:
          i: a slice or an array of positions.
          x: their values, where they have been read already.
        """
        values: Any = self.take(i) if x is None else x
        observed: Any = None
        if self.observed is not None:
            observed = np.asarray(self.observed[self.rows[i]]).reshape(len(values), -1)
        condition: Any = {name: self.labels(i, name) for name in self.condition}
        return Example(values.reshape(len(values), -1), condition or None, observed)

    def blocks(
        self, num_bytes: int = 1 << 25, positions: np.ndarray | None = None
    ) -> Iterator[Example]:
        """Yields the examples at `positions`, by default all, as rows.

        A block has as many examples as `num_bytes` of x hold, at least one.
        """
        size = max(1, num_bytes // max(1, self.x[:1].nbytes))
        num = self.num if positions is None else len(positions)
        for start in range(0, num, size):
            block = slice(start, start + size)
            yield self.examples(block if positions is None else positions[block])


class Dataset(NamedTuple):
    """Three disjoint splits and where they came from."""

    name: str
    source: str  # "tfds" | "official" | "embedded" | "file" | "array"
    train: Split
    valid: Split
    test: Split
    preparation: str = ""  # what was done to the images: cropped, resized
    # {labels: the names of 0, 1, ...}, where they are known
    class_names: dict[str, tuple[str, ...]] = {}  # noqa: RUF012
    value_names: tuple[str, ...] = ()  # of the values of a vector, where they are known
    # the stored numbers that are 0 and 1 in x; None: x is what was stored
    stored_range: tuple[float, float] | None = None
    # a file of the user's that x is mapped from, and its time of change
    mapped: tuple[str, int] | None = None
    given_kind: str = ""  # a key of `kinds.KINDS`; "": that of the shape of an example

    @property
    def example_shape(self) -> tuple[int, ...]:
        """(H, W, C) or (D,)."""
        return self.train.x.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """uint8 or float32."""
        return self.train.x.dtype

    @property
    def kind(self) -> str:
        """The key of `kinds.KINDS`."""
        return self.given_kind or kind_of(self.example_shape)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the default labels 0, 1, ..., where they are known."""
        return self.class_names.get(next(iter(self.train.columns), ""), ())

    def check_unchanged(self) -> None:
        """Raises UserError if the file that x is mapped from was changed since it was read."""
        if self.mapped and os.stat(self.mapped[0]).st_ctime_ns != self.mapped[1]:
            raise UserError(
                f"{self.mapped[0]} was changed while it was in use, so that numbers would be of "
                "other data: restore it and run the same command again, or train on it in another "
                "--workdir"
            )

    def conditioned(self, names: tuple[str, ...]) -> "Dataset":
        """The dataset whose labels `names` are given to the model beside x.

        Raises:
          UserError: a split has no such labels.
        """
        splits = {part: getattr(self, part) for part in arrays.PARTS}
        for part, split in splits.items():
            for name in names:
                if name not in split.columns:
                    there = ", ".join(split.columns) or "no labels"
                    where = "" if part == "train" else f" in its {part} split"
                    raise UserError(
                        f"data.condition names {name!r}, but {self.name} has {there}{where}"
                    )
        return self._replace(**{p: s._replace(condition=names) for p, s in splits.items()})


def shuffled(num: int, *seed: int) -> np.ndarray:
    """The permutation of 0, ..., num - 1 that belongs to `seed` (integers >= 0), int64 [num].

    It sorts raw Philox bits: NumPy promises these across its versions, but not
    `Generator.permutation`.
    """
    bits = np.random.Philox(np.random.SeedSequence(seed)).random_raw(num)
    return np.argsort(bits, kind="stable")


def interleaved(order: np.ndarray, label: np.ndarray) -> np.ndarray:
    """`order`, rearranged so that every prefix has the classes of `label` in proportion, int64 [n].

    Args:
      order: a permutation of 0, ..., n - 1.
      label: the classes [n].
    """
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
    observed: np.ndarray | tuple[np.ndarray, np.ndarray] | None = None,
    labels: dict[str, Any] | None = None,
    class_names: dict[str, tuple[str, ...]] | None = None,
    columns: list[str] | None = None,
    scale: str = "type",
) -> Dataset:
    """A dataset made of arrays in memory.

    Args:
      name: of the dataset, in outputs and error messages.
      x_train, x_test: [N, H, W], [N, H, W, C] or [N, D]; uint8, float (becomes float32) or bool
        (becomes 0 or 255), of images also unsigned integers of more bits, with `scale` any
        integers. Of a masked array what is masked is missing; a structured array [N] is vectors
        with named values.
      y_train, y_test: labels [N] or [N, 1], the column "label": integers, floats, bools or strings,
        or one-hot [N, classes].
      num_valid: how many examples of x_train are held out for validation, at least 1.
      num_test: how many are held out for testing; 0 with x_test, else at least 1.
      source: where the arrays come from, for the record.
      observed: bool, the shape of x_train; False where a value is missing, whatever x has there.
        With x_test a pair (of x_train, of x_test).
      labels: {name: labels like y_train}, further columns of labels; with x_test pairs. The
        default labels are y_train, else the first of these.
      class_names: {name: (name of label 0, of label 1, ...)}; strings and bools have their own.
      columns: the names of the values of vectors.
      scale: which stored numbers are 0 and 1: "type", "range" or "LOW:HIGH", see `ranges`.

    Raises:
      UserError: an array or a number is not as described.
    """
    ranges.check(scale)
    given = {"x_train": x_train, "x_test": x_test, "y_train": y_train, "y_test": y_test}
    given = {key: values for key, values in given.items() if values is not None}
    if observed is not None:
        masks = arrays.pairs(name, "observed", observed, given)
        given |= {f"observed_{part}": mask for part, mask in masks.items()}
    data = arrays.checked(name, given, scale)
    names = {}
    for label, values in (labels or {}).items():
        if not label or (label == "label" and y_train is not None):
            raise UserError(f"{name}: labels {label!r}: choose another name, y_train has 'label'")
        what = f"labels {label!r}"
        of_parts = arrays.pairs(name, what, values, data)
        columns_of, names[label] = arrays.labels(of_parts, data, f"{name}: {what}")
        data |= {f"{label}:{part}": column for part, column in columns_of.items()}
    dataset = assemble(name, source, data, num_valid=num_valid, num_test=num_test)
    if unknown := set(class_names or {}) - set(dataset.train.columns):
        raise UserError(f"{name}: class_names of {min(unknown)!r}, but there are no such labels")
    if columns is not None and dataset.example_shape != (len(columns),):
        raise UserError(
            f"{name}: {len(columns)} columns are named, but the shape of an example is "
            f"{dataset.example_shape}"
        )
    names = {label: known for label, known in names.items() if known} | dict(class_names or {})
    names = {label: tuple(map(_readable, known)) for label, known in names.items()}
    return dataset._replace(
        class_names=dataset.class_names | names, value_names=tuple(columns or dataset.value_names)
    )


def assemble(
    name: str,
    source: str,
    data: arrays.Arrays,
    *,
    num_valid: int,
    num_test: int,
    stratify: bool = False,
) -> Dataset:
    """The dataset of checked arrays; x_valid and x_test, where there are, are splits of their own.

    Test rows come first in the permutation, so num_valid does not change them.

    Args:
      name, source: see `Dataset`.
      data: see `arrays.Arrays`.
      num_valid, num_test: how many examples of x_train are held out.
      stratify: whether all splits have the classes of y_train in proportion.

    Raises:
      UserError: so many cannot be held out.
    """
    own = {part: of_arrays(data, part) for part in ("valid", "test") if f"x_{part}" in data}
    whole = of_arrays(data, "train")
    _check_counts(name, whole.num, set(own), num_valid, num_test)
    order = shuffled(whole.num, *_HELD_OUT_SEED)
    if stratify:
        order = interleaved(order, data["y_train"])
    parts = np.split(order, [num_test, num_test + num_valid])
    rows = dict(zip(("test", "valid", "train"), parts, strict=True))
    splits = {part: whole._replace(rows=np.sort(chosen)) for part, chosen in rows.items()}
    splits |= own
    for note in data.get("notes", ()):
        logging.warning("%s", _readable(note))
    label_names = tuple(_readable(str(label)) for label in data.get("label_names", ()))
    stored_range = (0.0, 255.0) if whole.x.dtype == np.uint8 else None
    if "stored_range" in data:
        low, high = data["stored_range"].tolist()
        stored_range = (low, high)
    return Dataset(
        _readable(name),
        source,
        splits["train"],
        splits["valid"],
        splits["test"],
        class_names={"label": label_names} if label_names else {},
        value_names=tuple(data.get("value_names", np.array(())).tolist()),
        stored_range=stored_range,
    )


def _readable(name: str) -> str:
    """`name` with an escape for what no page or picture can hold: bytes of a file's name that are
    not UTF-8, control characters."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def of_arrays(data: arrays.Arrays, part: str) -> Split:
    """All examples of a part of the arrays."""
    x = data[f"x_{part}"]
    columns = {}
    if f"y_{part}" in data:
        columns["label"] = data[f"y_{part}"]
    for key, values in data.items():
        label, _, of = key.rpartition(":")
        if label and of == part:
            columns[label] = values
    return Split(x, columns, np.arange(len(x)), data.get(f"observed_{part}"))


def _check_counts(name: str, num: int, own: set[str], num_valid: int, num_test: int) -> None:
    if num_valid < 1 and "valid" not in own:
        raise UserError(
            f"data.num_valid must be at least 1, not {num_valid}: validation needs examples"
        )
    if num_valid and "valid" in own:
        raise UserError(
            f"data.num_valid must be 0, not {num_valid}: {name} has a validation split of its own"
        )
    if num_test < 0:
        raise UserError(f"data.num_test must not be negative, but is {num_test}")
    if num_test and "test" in own:
        raise UserError(
            f"data.num_test must be 0, not {num_test}: {name} has a test split of its own"
        )
    if not num_test and "test" not in own:
        raise UserError(
            f"{name} has no test split: set data.num_test to how many examples to hold out for it"
        )
    if num_valid + num_test >= num:
        extra = f" + data.num_test ({num_test})" if num_test else ""
        raise UserError(
            f"data.num_valid ({num_valid}){extra} must be less than the {num} examples of {name}, "
            "or none are left to train on"
        )
