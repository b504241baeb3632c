"""A user's own folder of images: decoded once, in constant memory, into the cache."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from vae_jax.data import cache, images
from vae_jax.data.arrays import Arrays
from vae_jax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
_SHOWN = 3  # as many files are named in a message
_SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}


class Broken(NamedTuple):
    """A file that cannot be decoded, and why."""

    name: str
    reason: str


class Header(NamedTuple):
    """What is known of an image before it is decoded."""

    name: str
    size: tuple[int, int]  # (height, width), upright
    gray: bool


def read(path: str, root: Path, fit: images.Fit, skip_broken: bool) -> tuple[Arrays, list[str]]:
    """The images below the folder `path`: uint8 [N, H, W, C], and the names of their labels.

    In the order of their paths. C is 1 when all are gray, else 3. When all lie in sub-folders, the ones directly
    below `path` are the labels: 0, 1, ... in the order of their names.

    Raises:
      UserError: no such folder, no images, broken files (unless skipped), different sizes, no permission.
    """
    if not path:
        raise UserError('data.name is "folder", but data.path is empty: set it to a folder of images')
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        hint = 'is a file: for .npy and .npz set data.name to "file"' if folder.is_file() else "does not exist"
        raise UserError(f"data.path: {folder} {hint}")
    files = _listing(folder)
    names = [name for name, *_ in files]
    label_names = _label_names(folder, names)
    identity = hashlib.sha256(repr((str(folder), files, fit, skip_broken)).encode()).hexdigest()[:16]
    found = cache.streamed(root, f"folder-{identity}-v1", lambda: _blocks(folder, names, label_names, fit, skip_broken))
    if "broken" in found:
        logging.warning("%s; they are left out", _summary(folder, found["broken"].tolist(), len(names)))
    return {name: x for name, x in found.items() if name != "broken"}, label_names


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    """(path below `folder`, bytes, time of change) of every image, in the order of the paths."""

    def refuse(error: OSError) -> None:
        raise UserError(f"data.path: {error.filename} cannot be read ({error.strerror})") from error

    found, others, seen = [], 0, set()
    try:
        for here, below, names in os.walk(folder, onerror=refuse, followlinks=True):
            seen.add(os.path.realpath(here))
            below[:] = [b for b in sorted(below) if b[0] != "." and os.path.realpath(Path(here, b)) not in seen]
            for name in (n for n in names if n[0] != "."):  # hidden files are not images, whatever their suffix
                if name.lower().endswith(SUFFIXES):
                    state = Path(here, name).stat()
                    found.append((Path(here, name).relative_to(folder).as_posix(), state.st_size, state.st_mtime_ns))
                else:
                    others += 1
    except OSError as error:
        refuse(error)
    if not found:
        what = f"none of the {others} files in {folder} is an image" if others else f"{folder} is empty"
        raise UserError(f"data.path: {what}; expected {', '.join(SUFFIXES)} files, in it or in its sub-folders")
    return sorted(found)


def _label_names(folder: Path, names: list[str]) -> list[str]:
    """The sub-folders directly below, when all images lie in them, else none."""
    if not all("/" in name for name in names):
        return []
    found = sorted({name.split("/")[0] for name in names})
    if {name.lower() for name in found} <= _SPLIT_NAMES:
        raise UserError(
            f"data.path: {folder} holds {', '.join(found)}, which look like splits, not labels: set data.path to the "
            "one to train on"
        )
    return found


def _blocks(
    folder: Path, names: list[str], label_names: list[str], fit: images.Fit, skip_broken: bool
) -> Iterator[Arrays]:
    """The images, a block at a time; all files are looked at before the broken ones are refused or, skipped, listed."""
    headers, broken = [], []
    blocks = images.blocks_of(names)
    for found in images.in_threads(f"looking at {folder.name}", lambda name: _header(folder, name), blocks, len(names)):
        headers += [f for f in found if isinstance(f, Header)]
        broken += [f for f in found if isinstance(f, Broken)]
    if headers:
        _check_sizes(folder, headers, fit)
    gray = all(header.gray for header in headers)
    label = {name: i for i, name in enumerate(label_names)}

    def decode(header: Header) -> tuple[Header, np.ndarray] | Broken:
        return _guarded(folder, header.name, lambda file: (header, images.decoded(file, fit, gray)))

    shape = (*(fit.size or max((h.size for h in headers), default=(1, 1))), 1 if gray else 3)
    blocks = images.blocks_of(headers, shape)
    for found in images.in_threads(f"decoding {folder.name}", decode, blocks, len(headers)):
        broken += [f for f in found if isinstance(f, Broken)]
        good = [f for f in found if not isinstance(f, Broken)]
        if good and (skip_broken or not broken):
            yield {"x_train": np.stack([x for _, x in good])}
            if label:
                yield {"y_train": np.array([label[header.name.split("/")[0]] for header, _ in good], np.int32)}
    if broken:
        told = [f"{b.name} ({b.reason})" for b in sorted(broken)]
        if not skip_broken or len(broken) == len(names):
            hint = "repair or remove them" + ("" if skip_broken else ", or set --config.data.skip_broken=True")
            raise UserError(f"data.path: {_summary(folder, told, len(names))}: {hint}")
        yield {"broken": np.array(told)}


def _summary(folder: Path, broken: list[str], num: int) -> str:
    shown = ", ".join(broken[:_SHOWN]) + (", ..." if len(broken) > _SHOWN else "")
    return f"{len(broken)} of the {num} images in {folder} are broken: {shown}"


def _header(folder: Path, name: str) -> Header | Broken:
    from PIL import Image

    def look(file: Path) -> Header:
        with Image.open(file) as image:
            lies = images.orientation(image) >= 5
            return Header(name, image.size if lies else image.size[::-1], images.is_gray(image))

    return _guarded(folder, name, look)


def _guarded(folder: Path, name: str, read):
    """read(file), or Broken; errors of the disk and the system are not the file's."""
    try:
        return read(folder / name)
    except OSError as error:
        if error.errno is not None:
            raise UserError(f"data.path: {folder / name} cannot be read ({error.strerror})") from error
        return _broken(folder, name, error)
    except UserError:
        raise
    except Exception as error:  # PIL raises nearly anything
        return _broken(folder, name, error)


def _broken(folder: Path, name: str, error: Exception) -> Broken:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Broken(name, reason.replace(f" {str(folder / name)!r}", ""))


def _check_sizes(folder: Path, headers: list[Header], fit: images.Fit) -> None:
    def told(header: Header) -> str:
        return f"{header.name} is {header.size[0]}x{header.size[1]} (height x width)"

    for header in headers:
        if fit.cropped and (header.size[0] < fit.cropped[0] or header.size[1] < fit.cropped[1]):
            raise UserError(f"data.path: in {folder} {told(header)}, smaller than data.crop {fit.crop}")
        if not fit.size and header.size != headers[0].size:
            raise UserError(
                f"data.path: the images in {folder} differ in size: {told(headers[0])}, {told(header)}; set "
                'data.resize, such as --config.data.resize="(64,64)"'
            )
