"""What arrays a dataset may consist of, and their canonical form."""

from typing import Any

import numpy as np

from vae_jax.errors import UserError

# x_train, and where there are: x_valid, x_test; y_<part>, the labels; observed_<part>;
# "<name>:<part>", further columns of labels.
Arrays = dict[str, np.ndarray]

_BLOCK_BYTES = 1 << 25  # checked together, so that a large file needs little memory


def checked(
    what: str,
    x_train: np.ndarray,
    x_test: np.ndarray | None = None,
    y_train: np.ndarray | None = None,
    y_test: np.ndarray | None = None,
) -> Arrays:
    """The arrays in canonical form: x uint8 or float32 [N, H, W, C] or [N, D], y int32 [N].

    Arrays that are None are left out; arrays that are canonical already are not copied.

    Args:
      what: the data, for error messages.

    Raises:
      UserError: dtype, shape, length or values are not usable; it names `what` and the array.
    """
    data = {"x_train": _examples(x_train, f"{what}: x_train")}
    if x_test is not None:
        data["x_test"] = _examples(x_test, f"{what}: x_test")
        train, test = (f"{x.dtype} {x.shape[1:]}" for x in data.values())
        if train != test:
            raise UserError(f"{what}: examples of x_train are {train}, but those of x_test {test}")
    for part, y in (("train", y_train), ("test", y_test)):
        if y is not None:
            if f"x_{part}" not in data:
                raise UserError(f"{what}: there is y_{part}, but no x_{part}")
            data[f"y_{part}"] = _labels(y, len(data[f"x_{part}"]), f"{what}: y_{part}")
    return data


def parts(name: str, what: str, values: Any, x: dict[str, np.ndarray]) -> dict[str, Any]:
    """{"train": values} or, where x has test examples, a pair as {"train": ..., "test": ...}.

    Args:
      name: the dataset, for error messages.
      what: the values, for error messages.
      x: {"train": examples} or {"train": examples, "test": examples}.

    Raises:
      UserError: with test examples, `values` is no pair.
    """
    if "test" not in x:
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
    x = np.asarray(x)
    return x if observed is None else np.where(observed, x, np.zeros((), x.dtype))


def column(values: Any, num: int, what: str) -> np.ndarray:
    """Labels as int32, or float32 where they are floats  [num].

    Raises:
      UserError: they are not `num` finite numbers.
    """
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.floating):
        return _labels(values, num, what)
    if values.shape != (num,):
        raise UserError(f"{what} has shape {values.shape}, expected ({num},)")
    with np.errstate(over="ignore"):  # what overflows is refused below
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise UserError(f"{what} has values that are not finite")
    return values


def with_channels(x: np.ndarray) -> np.ndarray:
    """A view of images [N, H, W] as [N, H, W, 1]; everything else as it is."""
    return x[..., None] if x.ndim == 3 else x


def _examples(x: np.ndarray, what: str) -> np.ndarray:
    x = x if isinstance(x, np.ndarray) else np.asarray(x)
    if x.ndim not in (2, 3, 4):
        raise UserError(f"{what} has shape {x.shape}, expected [N, H, W], [N, H, W, C] or [N, D]")
    if x.size == 0:
        raise UserError(f"{what} is empty: its shape is {x.shape}")
    if x.ndim == 4 and x.shape[1] <= 4 < x.shape[3]:
        raise UserError(
            f"{what} has shape {x.shape}, which looks like [N, C, H, W]: transpose it to "
            "[N, H, W, C]"
        )
    if x.dtype == bool:
        x = x.astype(np.uint8) * np.uint8(255)
    elif np.issubdtype(x.dtype, np.floating):
        x = _finite(x, what)
    elif x.dtype != np.uint8:
        raise UserError(
            f"{what} has dtype {x.dtype}, expected uint8 (0..255), a float type or bool: convert it"
        )
    return with_channels(x)


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


def _labels(y: np.ndarray, num: int, what: str) -> np.ndarray:
    y = np.asarray(y)
    if y.shape != (num,):
        raise UserError(
            f"{what} has shape {y.shape}, expected ({num},): one label for each example"
        )
    if not np.issubdtype(y.dtype, np.integer):
        raise UserError(f"{what} has dtype {y.dtype}, expected integers")
    limits = np.iinfo(np.int32)
    if y.min() < limits.min or y.max() > limits.max:
        raise UserError(f"{what} has values outside of int32: renumber the labels")
    return y.astype(np.int32, copy=False)
