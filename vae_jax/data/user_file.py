"""A user's own data: an .npy or .npz file."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from vae_jax.data import arrays, cache, images
from vae_jax.data.arrays import PARTS
from vae_jax.data.reader import Reader, Request
from vae_jax.data.split import Dataset, assemble
from vae_jax.errors import UserError

# The layouts of an .npz file: {an array: its key}.
_LAYOUTS = (
    {f"{array}_{part}": f"{array}_{part}" for part in PARTS for array in ("x", "y", "observed")},
    {"x_train": "x", "y_train": "y", "observed_train": "observed"},
    {"x_train": "images", "y_train": "labels", "observed_train": "observed"},
    {"x_train": "arr_0"},
)
_SMALL = 1 << 28  # bytes
_KEYS = "x_train[, x_valid, x_test, y_train, ...], or x[, y], or images[, labels]"

Result = TypeVar("Result")


def _read(request: Request) -> Dataset:
    data = read(request.path, request.cache, request.fit, request.scale)
    name, num_valid, num_test = Path(request.path).name, request.num_valid, request.num_test
    dataset = assemble(name, "file", data, num_valid=num_valid, num_test=num_test)
    file = Path(request.path).expanduser().absolute()
    is_mapped = getattr(dataset.train.x, "filename", None) == file.resolve()
    return dataset._replace(mapped=(str(file), file.stat().st_ctime_ns) if is_mapped else None)


def read(path: str, root: Path, fit: images.Fit, scale: str) -> arrays.Arrays:
    """The checked arrays of the file at `path`, memory-mapped, their images cropped and resized.

    A large .npy file that needs no conversion is mapped itself; everything else is read, or
    converted once, into the cache. Where nothing is converted the entry says that the values were
    checked, and no more.

    Args:
      path: of the file.
      root: the folder of the cache.
      fit: how images are cropped and resized.
      scale: which stored numbers are 0 and 1, see `ranges`.

    Raises:
      UserError: the file is missing, damaged, or does not hold what a dataset can be made of.
    """
    if not path:
        raise UserError(
            'data.name is "file", but data.path is empty: set it to an .npy or .npz file'
        )
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        hint = ""
        if file.is_dir():
            hint = ': it is a folder; for images in it set data.name to "folder"'
        raise UserError(f"data.path: there is no file {file}{hint}")
    if file.suffix not in (".npy", ".npz"):
        raise UserError(
            f"data.path: {file} is neither .npy nor .npz: save the data with np.save or np.savez"
        )
    state = file.stat()
    identity = f"{file}\n{state.st_mtime_ns}\n{state.st_ctime_ns}\n{state.st_size}\n{scale}"
    key = f"file-{hashlib.sha256(identity.encode()).hexdigest()[:16]}-v2"
    if file.suffix == ".npz":
        data = cache.cached(root, key, lambda: _read_npz(file, scale))
    else:
        # A mapped file must not change; a small one is read instead.
        mode = None if state.st_size <= _SMALL else "r"
        raw = _guarded(file, lambda: np.load(file, mmap_mode=mode, allow_pickle=False))
        converted = cache.cached(root, key, lambda: _converted(file, raw, scale))
        data = {"x_train": arrays.with_channels(raw)} | converted
    return images.fit_arrays(str(file), root, key, data, fit)


def _converted(file: Path, raw: np.ndarray, scale: str) -> arrays.Arrays:
    """The checked arrays of a mapped file, without the examples where they need no conversion."""
    data = arrays.checked(str(file), {"x_train": raw}, scale)
    if np.may_share_memory(data["x_train"], raw):
        del data["x_train"]
    return data


def _read_npz(file: Path, scale: str) -> arrays.Arrays:
    """The checked arrays of an .npz file."""

    def members() -> tuple[arrays.Arrays, list[str]]:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as archive:
            chosen = _layout(file, archive.files)
            data = {ours: archive[theirs] for ours, theirs in chosen.items()}
            unused = [key for key in archive.files if key not in chosen.values()]
        if not all(
            isinstance(x, np.ndarray) for x in data.values()
        ):  # NumPy gives bytes for other files
            raise ValueError("its members are not arrays")
        return data, unused

    given, unused = _guarded(file, members)
    data = arrays.checked(str(file), given, scale)
    if unused:
        note = f"of {file} these arrays are not used: {', '.join(unused)} (those that are: {_KEYS})"
        data["notes"] = np.array([*data.get("notes", ()), note])
    return data


def _layout(file: Path, keys: list[str]) -> dict[str, str]:
    """{the name of an array: its key in the file}."""
    for layout in _LAYOUTS:
        chosen = {ours: theirs for ours, theirs in layout.items() if theirs in keys}
        if "x_train" in chosen:
            return chosen
    raise UserError(f"data.path: {file} holds {', '.join(keys) or 'nothing'}; expected {_KEYS}")


def _guarded(file: Path, read: Callable[[], Result]) -> Result:
    """read(), whose errors are turned into a UserError."""
    try:
        return read()
    except UserError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"data.path: {file} is damaged or holds Python objects ({reason}): "
            "save plain arrays with np.save or np.savez"
        ) from error


FILE = Reader(("file",), _read, takes_path=True)
