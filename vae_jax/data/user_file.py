"""A user's own data: an .npy or .npz file."""

import hashlib
from pathlib import Path

import numpy as np

from vae_jax.data import arrays, cache, images
from vae_jax.errors import UserError

# The layouts of an .npz file that are understood: the key of the data -> keys of the other arrays.
_LAYOUTS = {
    "x_train": {"x_test": "x_test", "y_train": "y_train", "y_test": "y_test"},
    "x": {"y_train": "y"},
    "images": {"y_train": "labels"},
}
_KEYS = "x_train[, x_test, y_train, y_test], or x[, y], or images[, labels]"


def read(path: str, root: Path, fit: images.Fit) -> arrays.Arrays:
    """The checked arrays of the file at `path`, memory-mapped, their images cropped and resized.

    An .npy file is mapped itself when it needs no conversion; all else is converted once into the cache at
    `root`. Where nothing is converted the entry is empty and says that the values were checked.

    Raises:
      UserError: the file is missing, damaged, or does not hold what a dataset can be made of.
    """
    if not path:
        raise UserError('data.name is "file", but data.path is empty: set it to an .npy or .npz file')
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        hint = ': it is a folder; for images in it set data.name to "folder"' if file.is_dir() else ""
        raise UserError(f"data.path: there is no file {file}{hint}")
    if file.suffix not in (".npy", ".npz"):
        raise UserError(f"data.path: {file} is neither .npy nor .npz: save the data with np.save or np.savez")
    state = file.stat()
    identity = hashlib.sha256(f"{file}\n{state.st_mtime_ns}\n{state.st_size}".encode()).hexdigest()[:16]
    key = f"file-{identity}-v1"
    if file.suffix == ".npz":
        data = cache.cached(root, key, lambda: _read_npz(file))
    else:
        raw = _guarded(file, lambda: np.lib.format.open_memmap(file, mode="r"))
        data = cache.cached(root, key, lambda: _converted(file, raw)) or {"x_train": arrays.with_channels(raw)}
    return images.fit_arrays(str(file), root, key, data, fit)


def _converted(file: Path, raw: np.ndarray) -> arrays.Arrays:
    """{} when the mapped file serves as it is."""
    data = arrays.checked(str(file), raw)
    return {} if np.may_share_memory(data["x_train"], raw) else data


def _read_npz(file: Path) -> arrays.Arrays:
    def members() -> arrays.Arrays:
        with np.load(file, allow_pickle=False) as archive:
            chosen = _layout(file, archive.files)
            data = {ours: archive[theirs] for ours, theirs in chosen.items()}
        if not all(isinstance(x, np.ndarray) for x in data.values()):  # NumPy gives bytes for other files
            raise ValueError("its members are not arrays")
        return data

    return arrays.checked(str(file), **_guarded(file, members))


def _layout(file: Path, keys: list[str]) -> dict[str, str]:
    """Our names of the arrays -> the file's."""
    if keys == ["arr_0"]:
        return {"x_train": "arr_0"}
    for x, others in _LAYOUTS.items():
        if x in keys:
            return {"x_train": x} | {ours: theirs for ours, theirs in others.items() if theirs in keys}
    raise UserError(f"data.path: {file} holds {', '.join(keys) or 'nothing'}; expected {_KEYS}")


def _guarded(file: Path, read):
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
