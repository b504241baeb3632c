"""What arrays a dataset may consist of, and their canonical form."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vae_jax.data import ranges
from vae_jax.errors import UserError

# x_train, and where there are: x_valid, x_test; y_<part>, the labels; observed_<part>;
# "<name>:<part>", further columns of labels; label_names, the names of y 0, 1, ...; value_names,
# of the values of a vector; stored_range [2], the stored numbers that are 0 and 1, where it is not
# 0..255; notes, what is to be said of the data each time that it is loaded.
Arrays = dict[str, np.ndarray]

PARTS = ("train", "valid", "test")
_BLOCK_BYTES = 1 << 25  # checked together, so that a large file needs little memory


def checked(what: str, given: Mapping[str, Any], scale: str = "type") -> Arrays:
    """The arrays in canonical form: x uint8 or float32 [N, H, W, C] or [N, D], see `Arrays`.

    Arrays that are canonical already are not copied. Of a masked array what is masked is missing;
    the fields of a structured one are the values of vectors.

    Args:
      what: the data, for error messages.
      given: x_<part>, y_<part> and observed_<part>.
      scale: see `ranges`.

    Raises:
      UserError: dtype, shape, length or values are not usable; it names `what` and the array.
    """
    parts = [part for part in PARTS if f"x_{part}" in given]
    for name in given:
        if name.split("_")[1] not in parts:
            raise UserError(f"{what}: there is {name}, but no x_{name.split('_')[1]}")
    x, masks, names = {}, {}, ()
    for part in parts:
        raw, masked, own = _plain(given[f"x_{part}"], f"{what}: x_{part}")
        names = names or own
        order = in_order(names, own or names, f"{what}: x_{part}")
        if order:
            raw, masked = raw[:, order], None if masked is None else masked[:, order]
        seen = given.get(f"observed_{part}")
        if seen is not None:
            masks[part] = mask(seen, raw, f"{what}: observed")
        if masked is not None:
            masks[part] = mask(~masked & masks.get(part, True), raw, f"{what}: x_{part}")
        if raw.ndim == 2 and raw.dtype.kind == "f" and raw.dtype.itemsize > 4:
            _check_offsets(raw, masks.get(part), names, f"{what}: x_{part}")
        x[part] = _examples(filled(raw, masks.get(part)), f"{what}: x_{part}", scale)
    shown = {part: f"{array.dtype} {array.shape[1:]}" for part, array in x.items()}
    for part in parts:
        if shown[part] != shown["train"]:
            raise UserError(
                f"{what}: examples of x_train are {shown['train']}, but those of x_{part} "
                f"{shown[part]}"
            )
    masks = {part: masks.get(part, np.ones(x[part].shape, bool)) for part in masks and parts}
    seen = [x[part][masks[part]] if masks else x[part] for part in parts]
    of = ranges.of_arrays(scale, seen, f"{what}: x")
    notes = _other_axes(what, x["train"].shape)
    empty = sum(int((~array.reshape(len(array), -1).any(1)).sum()) for array in masks.values())
    if empty:
        notes.append(f"{what}: in {empty} examples no value is observed, so that log p(x) is 0")
    if ranges.by_type(scale) and of == ranges.BYTES:
        notes += ranges.check_bytes(seen, f"{what}: x")
    data: Arrays = {}
    for part in parts:
        data[f"x_{part}"] = with_channels(filled(ranges.scaled(x[part], of), masks.get(part)))
        if masks:
            data[f"observed_{part}"] = with_channels(masks[part])
    y = {part: given[f"y_{part}"] for part in parts if given.get(f"y_{part}") is not None}
    columns, label_names = labels(y, data, f"{what}: y_", whole=True) if y else ({}, ())
    data |= {f"y_{part}": column for part, column in columns.items()}
    said = {"label_names": label_names, "value_names": names, "notes": notes}
    said["stored_range"] = () if of in (None, ranges.BYTES) else (of.low, of.high)
    return data | {name: np.array(values) for name, values in said.items() if len(values)}


def pairs(name: str, what: str, values: Any, x: Mapping[str, Any]) -> dict[str, Any]:
    """{"train": values} or, where x has test examples, a pair as {"train": ..., "test": ...}.

    Args:
      name: the dataset, for error messages.
      what: the values, for error messages.
      x: {"x_train": examples} or {"x_train": examples, "x_test": examples}.

    Raises:
      UserError: with test examples, `values` is no pair.
    """
    if "x_test" not in x:
        return {"train": values}
    if not isinstance(values, tuple) or len(values) != 2:
        raise UserError(f"{name}: {what} must be a pair, of x_train and of x_test")
    return dict(zip(("train", "test"), values, strict=True))


def mask(observed: Any, x: np.ndarray, what: str) -> np.ndarray:
    """Which values of x are observed, bool in the shape of x.

    Raises:
      UserError: it is not of bools or 0 and 1, not of the shape of x, or observes nothing.
    """
    observed = np.asarray(observed)
    if observed.dtype != bool and not np.isin(observed, (0, 1)).all():
        raise UserError(f"{what} has other values than True and False")
    if observed.shape != np.shape(x):
        raise UserError(f"{what} has shape {observed.shape}, expected that of x, {np.shape(x)}")
    if not observed.any():
        raise UserError(f"{what}: no value at all is observed")
    return observed.astype(bool)


def filled(x: np.ndarray, observed: np.ndarray | None) -> np.ndarray:
    """x with 0, which is in the support of every likelihood, where it is missing."""
    return x if observed is None else np.where(observed, x, np.zeros((), x.dtype))


def labels(
    values: Mapping[str, Any], data: Arrays, what: str, whole: bool = False
) -> tuple[Arrays, tuple[str, ...]]:
    """One column of labels {part: int32 or float32 [n]}, and the names of its classes if any.

    Integers, and floats as they are; bools are the classes False and True, strings are classes in
    alphabetical order; [n, 1] stands for [n], and one-hot rows [n, classes] for their position.

    Args:
      values: {part: labels}.
      data: the arrays that have the examples of the parts.
      what: the labels, for error messages; the part follows where it ends in "_".
      whole: whether floats that are whole numbers are integers.

    Raises:
      UserError: they are not that, or not one for each example.
    """
    named = {part: what + part if what.endswith("_") else what for part in values}
    columns = {
        part: _one_each(given, len(data[f"x_{part}"]), named[part])
        for part, given in values.items()
    }
    kinds = {column.dtype.kind for column in columns.values()}
    if len(kinds & {"U", "b"}) and len(kinds) > 1:
        raise UserError(f"{' and '.join(named.values())} are labels of different types")
    together = np.concatenate(list(columns.values()))
    names = ()
    if kinds == {"U"}:
        classes, together = np.unique(together, return_inverse=True)
        names = tuple(classes.tolist())
    elif kinds == {"b"}:
        names = ("False", "True")
    is_whole = whole and (together == np.round(together)).all() and _in_int32(together)
    dtype = np.float32 if together.dtype.kind == "f" and not is_whole else np.int32
    together = together.astype(dtype)
    ends = np.cumsum([len(column) for column in columns.values()])[:-1]
    return dict(zip(columns, np.split(together, ends), strict=True)), names


def with_channels(x: np.ndarray) -> np.ndarray:
    """A view of images [N, H, W] as [N, H, W, 1]; everything else as it is."""
    return x[..., None] if x.ndim == 3 else x


def _plain(x: Any, what: str) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """(an array of numbers, what is masked of it or None, the names of its values if any)."""
    names = getattr(x, "dtype", np.dtype(float)).names or ()
    if names and x.ndim != 1:
        raise UserError(f"{what} has records of shape {x.shape}, expected [N]")
    for name in names:
        if x.dtype[name].kind not in "biuf":
            raise UserError(
                f"{what} has the field {name!r} of {x.dtype[name]}: leave out what is not one "
                "number, and give names of classes as labels"
            )
    if names:
        x = np.ma.stack([x[name].astype(np.float64) for name in names], axis=1)
    masked = np.ma.getmaskarray(x) if np.ma.is_masked(x) else None
    return x if type(x) is np.memmap else np.asarray(x), masked, names


def _examples(x: np.ndarray, what: str, scale: str) -> np.ndarray:
    """x as it is, of floats as float32, after its shape, its dtype and its values were checked."""
    if x.ndim not in (2, 3, 4):
        raise UserError(f"{what} has shape {x.shape}, expected [N, H, W], [N, H, W, C] or [N, D]")
    if x.size == 0:
        raise UserError(f"{what} is empty: its shape is {x.shape}")
    if x.ndim == 4 and x.shape[1] <= 4 < x.shape[3]:
        raise UserError(
            f"{what} has shape {x.shape}, which looks like [N, C, H, W]: transpose it to "
            "[N, H, W, C]"
        )
    if np.issubdtype(x.dtype, np.floating):
        return _finite(x, what)
    # Integers of vectors, and signed ones, may be quantities or levels.
    levels = x.ndim > 2 and np.issubdtype(x.dtype, np.unsignedinteger)
    if x.dtype in (bool, np.uint8) or levels:
        return x
    if np.issubdtype(x.dtype, np.integer) and not ranges.by_type(scale):
        return x
    raise UserError(
        f"{what} has dtype {x.dtype}, expected uint8 (0..255), a float type or bool: convert it, "
        "of integers to a float type where they are quantities; where they are levels set "
        'data.scale to "range" or to the two that are to be 0 and 1'
    )


def _other_axes(what: str, shape: tuple[int, ...]) -> list[str]:
    """What to say where the axes of images may be meant in another order."""
    other = ""
    if len(shape) == 3 and shape[2] <= 4:
        other = "[H, W, C], a single image"
    elif len(shape) == 3 and shape[0] == shape[1] < shape[2]:
        other = "[H, W, N]"
    elif len(shape) == 4 and shape[3] > 4:
        other = "[H, W, C, N]" if shape[2] <= 4 else "[N, D, H, W]"
    elif len(shape) == 4 and shape[1] <= 4:
        other = "[N, C, H, W]"
    if not other:
        return []
    taken = "[N, H, W]" if len(shape) == 3 else "[N, H, W, C]"
    return [f"{what} has shape {shape}, taken as {taken}: if it is {other}, rearrange its axes"]


def _finite(x: np.ndarray, what: str) -> np.ndarray:
    """x as float32, after its values were checked."""
    with np.errstate(over="ignore"):  # what overflows is refused below
        x = x.astype(np.float32, copy=False)
    size = max(1, _BLOCK_BYTES * len(x) // x.nbytes)
    if not all(np.isfinite(x[i : i + size]).all() for i in range(0, len(x), size)):
        raise UserError(
            f"{what} has values that are NaN or infinite (as float32): remove or replace them"
        )
    return x


def in_order(names: tuple[str, ...], own: tuple[str, ...], what: str) -> list[int] | None:
    """Where each of the `names` of values is in `own`; None where they are the same.

    Raises:
      UserError: there are others.
    """
    if own == names:
        return None
    if sorted(own) != sorted(names):
        raise UserError(
            f"{what} has the values {', '.join(own)}, expected those of the training data, "
            f"{', '.join(names)}"
        )
    return [own.index(name) for name in names]


def _check_offsets(
    x: np.ndarray, observed: np.ndarray | None, names: tuple[str, ...], what: str
) -> None:
    """Raises UserError where values [N, D] vary less than float32 can tell at their size."""
    seen = np.isfinite(x) if observed is None else observed & np.isfinite(x)
    num = np.maximum(seen.sum(0), 1)
    mean = np.where(seen, x, 0).sum(0) / num
    deviation = np.sqrt((np.where(seen, x - mean, 0) ** 2).sum(0) / num)
    share = deviation / np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
    # Less than 1e-13 is rounding of float64: such values do not vary.
    lost = (share > 1e-13) & (share < 6e-6)
    if lost.any():
        i = int(lost.argmax())
        name = repr(names[i]) if names else f"number {i}"
        raise UserError(
            f"{what}: value {name} is {mean[i]:.7g} +- {deviation[i]:.2g}, and float32 holds no "
            "such differences at that size: subtract the mean from it, or leave it out"
        )


def _one_each(y: Any, num: int, what: str) -> np.ndarray:
    """Labels [num]: strings, bools, integers within int32, or finite floats."""
    if np.ma.is_masked(y):
        raise UserError(f"{what} has masked labels: leave those examples out, or give them a class")
    y = np.asarray(y)
    if y.dtype.kind in "SO":
        y = _text(y, what)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    elif y.ndim == 2 and ((y == 1).sum(1) == 1).all() and ((y == 0) | (y == 1)).all():
        y = y.argmax(1)  # one-hot
    if y.shape != (num,):
        raise UserError(
            f"{what} has shape {y.shape}, expected ({num},): one label for each example"
        )
    if y.dtype.kind not in "Ubiuf":
        raise UserError(f"{what} has dtype {y.dtype}, expected integers, floats, bools or strings")
    if y.dtype.kind in "iu" and not _in_int32(y):
        raise UserError(f"{what} has values outside of int32: renumber the labels")
    if y.dtype.kind == "f" and not (np.abs(y) <= np.finfo(np.float32).max).all():
        raise UserError(f"{what} has values that are not finite")
    return y


def _in_int32(y: np.ndarray) -> bool:
    limits = np.iinfo(np.int32)
    return bool(limits.min <= y.min() and y.max() <= limits.max)


def _text(y: np.ndarray, what: str) -> np.ndarray:
    """Strings out of bytes or Python objects, or what numbers the objects are."""
    try:
        texts = [v.decode() if isinstance(v, bytes) else v for v in y.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise UserError(f"{what} has names that are not UTF-8") from error
    kinds = sorted({type(text).__name__ for text in texts})
    if len(kinds) > 1:
        raise UserError(f"{what} has labels of {', '.join(kinds)}: give names or numbers")
    return np.array(texts).reshape(y.shape)
