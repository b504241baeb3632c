"""What arrays a dataset may consist of, and their canonical form."""

import numpy as np

from vae_jax.errors import UserError

Arrays = dict[str, np.ndarray]  # x_train; optional x_valid, x_test, y_train, y_valid, y_test

_BLOCK_BYTES = 1 << 25  # looked at together, so that checking a large file needs little memory


def checked(
    what: str,
    x_train: np.ndarray,
    x_test: np.ndarray | None = None,
    y_train: np.ndarray | None = None,
    y_test: np.ndarray | None = None,
) -> Arrays:
    """The arrays in canonical form: x uint8 or float32 [N, H, W, C] or [N, D], y int32 [N].

    Arrays that are None are left out; arrays that are canonical already are not copied.

    Raises:
      UserError: dtype, shape, length or values are not usable; it names `what` and the array.
    """
    data = {"x_train": _examples(x_train, f"{what}: x_train")}
    if x_test is not None:
        data["x_test"] = _examples(x_test, f"{what}: x_test")
        (a, b) = ((data[k].shape[1:], data[k].dtype) for k in ("x_train", "x_test"))
        if a != b:
            raise UserError(f"{what}: examples of x_train are {a[1]} {a[0]}, but those of x_test {b[1]} {b[0]}")
    for part, y in (("train", y_train), ("test", y_test)):
        if y is not None:
            if f"x_{part}" not in data:
                raise UserError(f"{what}: there is y_{part}, but no x_{part}")
            data[f"y_{part}"] = _labels(y, len(data[f"x_{part}"]), f"{what}: y_{part}")
    return data


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
        raise UserError(f"{what} has shape {x.shape}, which looks like [N, C, H, W]: transpose it to [N, H, W, C]")
    if x.dtype == bool:
        x = x.astype(np.uint8) * np.uint8(255)
    elif np.issubdtype(x.dtype, np.floating):
        with np.errstate(over="ignore"):  # what overflows is refused below
            x = x.astype(np.float32, copy=False)
        size = max(1, _BLOCK_BYTES * len(x) // x.nbytes)
        if not all(np.isfinite(x[i : i + size]).all() for i in range(0, len(x), size)):
            raise UserError(f"{what} has values that are NaN or infinite (as float32): remove or replace them")
    elif x.dtype != np.uint8:
        raise UserError(f"{what} has dtype {x.dtype}, expected uint8 (0..255), a float type or bool: convert it")
    return with_channels(x)


def _labels(y: np.ndarray, num: int, what: str) -> np.ndarray:
    y = np.asarray(y)
    if y.shape != (num,):
        raise UserError(f"{what} has shape {y.shape}, expected ({num},): one label for each example")
    if not np.issubdtype(y.dtype, np.integer):
        raise UserError(f"{what} has dtype {y.dtype}, expected integers")
    limits = np.iinfo(np.int32)
    if y.min() < limits.min or y.max() > limits.max:
        raise UserError(f"{what} has values outside of int32: renumber the labels")
    return y.astype(np.int32, copy=False)
