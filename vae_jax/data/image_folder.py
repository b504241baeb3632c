"""A user's own folder of images: decoded once, in constant memory, into the cache."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from absl import logging

from vae_jax.data import cache, images
from vae_jax.data.arrays import Arrays
from vae_jax.data.reader import Reader, Request
from vae_jax.data.split import Dataset, assemble
from vae_jax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
_SHOWN = 3  # as many files are named in a message
_SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}

Result = TypeVar("Result")


class Broken(NamedTuple):
    """A file that cannot be decoded, and why."""

    name: str
    reason: str


class Header(NamedTuple):
    """What is known of an image before it is decoded."""

    name: str
    size: tuple[int, int]  # (height, width), upright
    gray: bool


def _read(request: Request) -> Dataset:
    data, label_names = read(request.path, request.cache, request.fit, request.skip_broken)
    dataset = assemble(
        Path(request.path).name,
        "file",
        data,
        num_valid=request.num_valid,
        num_test=request.num_test,
    )
    return dataset._replace(class_names={"label": tuple(label_names)} if label_names else {})


def read(path: str, root: Path, fit: images.Fit, skip_broken: bool) -> tuple[Arrays, list[str]]:
    """The images below the folder `path`, uint8 [N, H, W, C], and the names of their labels.

    They are in the order of their paths. C is 1 when all are gray, else 3. When all are in
    sub-folders, those directly below `path` are the labels 0, 1, ... in the order of their names.

    Args:
      path: of the folder.
      root: the folder of the cache.
      fit: how the images are cropped and resized.
      skip_broken: whether broken files are left out, with a warning.

    Raises:
      UserError: no such folder, no images, broken files (unless skipped), different sizes, no
        permission.
    """
    if not path:
        raise UserError(
            'data.name is "folder", but data.path is empty: set it to a folder of images'
        )
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        hint = "does not exist"
        if folder.is_file():
            hint = 'is a file: for .npy and .npz set data.name to "file"'
        raise UserError(f"data.path: {folder} {hint}")
    files = _listing(folder)
    names = [name for name, *_ in files]
    label_names = _label_names(folder, names)
    identity = repr((str(folder), files, fit, skip_broken))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]

    def blocks() -> Iterator[Arrays]:
        return _blocks(folder, names, label_names, fit, skip_broken)

    found = cache.streamed(root, f"folder-{digest}-v1", blocks)
    if "broken" in found:
        told = _summary(folder, found["broken"].tolist(), len(names))
        logging.warning("%s; they are left out", told)
    return {name: x for name, x in found.items() if name != "broken"}, label_names


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    """(path below `folder`, bytes, time of change) of every image, in the order of the paths."""
    found = []
    others = 0
    try:
        for file in _visible_files(folder):
            if file.name.lower().endswith(SUFFIXES):
                state = file.stat()
                name = file.relative_to(folder).as_posix()
                found.append((name, state.st_size, state.st_mtime_ns))
            else:
                others += 1
    except OSError as error:
        raise UserError(f"data.path: {error.filename} cannot be read ({error.strerror})") from error
    if not found:
        what = f"{folder} is empty"
        if others:
            what = f"none of the {others} files in {folder} is an image"
        raise UserError(
            f"data.path: {what}; expected {', '.join(SUFFIXES)} files, in it or in its sub-folders"
        )
    return sorted(found)


def _visible_files(folder: Path) -> Iterator[Path]:
    """The files below `folder` that are not hidden; links are followed, but not in circles."""

    def refuse(error: OSError) -> None:
        raise error

    seen = set()
    for here, below, names in os.walk(folder, onerror=refuse, followlinks=True):
        seen.add(os.path.realpath(here))
        visible = (name for name in sorted(below) if name[0] != ".")
        below[:] = [name for name in visible if os.path.realpath(Path(here, name)) not in seen]
        for name in names:
            if name[0] != ".":
                yield Path(here, name)


def _label_names(folder: Path, names: list[str]) -> list[str]:
    """The sub-folders directly below, when all images are in them, else none."""
    if not all("/" in name for name in names):
        return []
    found = sorted({name.split("/")[0] for name in names})
    if {name.lower() for name in found} <= _SPLIT_NAMES:
        raise UserError(
            f"data.path: {folder} holds {', '.join(found)}, which look like splits, not labels: "
            "set data.path to the one to train on"
        )
    return found


def _blocks(
    folder: Path, names: list[str], label_names: list[str], fit: images.Fit, skip_broken: bool
) -> Iterator[Arrays]:
    """The images, a block at a time; last, if some are skipped, "broken": which and why.

    Every file is tried before broken ones are refused, so that all can be named.
    """
    headers, broken = _headers(folder, names)
    if headers:
        _check_sizes(folder, headers, fit)
    gray = all(header.gray for header in headers)
    number = {name: i for i, name in enumerate(label_names)}

    def decode(header: Header) -> tuple[Header, np.ndarray] | Broken:
        return _guarded(folder, header.name, lambda file: (header, images.decoded(file, fit, gray)))

    size = fit.size or max((header.size for header in headers), default=(1, 1))
    blocks = images.blocks_of(headers, (*size, 1 if gray else 3))
    for found in images.in_threads(f"decoding {folder.name}", decode, blocks, len(headers)):
        broken += [result for result in found if isinstance(result, Broken)]
        good = [result for result in found if not isinstance(result, Broken)]
        if good and (skip_broken or not broken):
            yield {"x_train": np.stack([x for _, x in good])}
            if number:
                labels = [number[header.name.split("/")[0]] for header, _ in good]
                yield {"y_train": np.array(labels, np.int32)}
    if broken:
        yield {"broken": _skipped(folder, broken, len(names), skip_broken)}


def _headers(folder: Path, names: list[str]) -> tuple[list[Header], list[Broken]]:
    """The headers of all images, and the files that have none."""
    headers = []
    broken = []
    blocks = images.blocks_of(names)
    for found in images.in_threads(
        f"looking at {folder.name}", lambda name: _header(folder, name), blocks, len(names)
    ):
        headers += [result for result in found if isinstance(result, Header)]
        broken += [result for result in found if isinstance(result, Broken)]
    return headers, broken


def _skipped(folder: Path, broken: list[Broken], num: int, skip_broken: bool) -> np.ndarray:
    """Which of the `num` files are left out, and why.

    Raises:
      UserError: none may be left out, or none would be left.
    """
    told = [f"{name} ({reason})" for name, reason in sorted(broken)]
    if not skip_broken or len(broken) == num:
        hint = "repair or remove them"
        if not skip_broken:
            hint += ", or set --config.data.skip_broken=True"
        raise UserError(f"data.path: {_summary(folder, told, num)}: {hint}")
    return np.array(told)


def _summary(folder: Path, broken: list[str], num: int) -> str:
    shown = ", ".join(broken[:_SHOWN]) + (", ..." if len(broken) > _SHOWN else "")
    return f"{len(broken)} of the {num} images in {folder} are broken: {shown}"


def _header(folder: Path, name: str) -> Header | Broken:
    from PIL import Image

    def look(file: Path) -> Header:
        with Image.open(file) as image:
            width, height = image.size
            if images.orientation(image) >= 5:
                width, height = height, width
            return Header(name, (height, width), images.is_gray(image))

    return _guarded(folder, name, look)


def _guarded(folder: Path, name: str, read: Callable[[Path], Result]) -> Result | Broken:
    """read(file), or Broken; an error of the disk or the system is a UserError."""
    try:
        return read(folder / name)
    except OSError as error:
        if error.errno is not None:
            raise UserError(
                f"data.path: {folder / name} cannot be read ({error.strerror})"
            ) from error
        return _broken(folder, name, error)
    except UserError:
        raise
    except Exception as error:  # PIL raises nearly anything
        return _broken(folder, name, error)


def _broken(folder: Path, name: str, error: Exception) -> Broken:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Broken(name, reason.replace(f" {str(folder / name)!r}", ""))


def _check_sizes(folder: Path, headers: list[Header], fit: images.Fit) -> None:
    """Raises UserError where an image is smaller than the crop, or sizes differ and stay so."""

    def told(header: Header) -> str:
        return f"{header.name} is {header.size[0]}x{header.size[1]} (height x width)"

    first = headers[0]
    for header in headers:
        if fit.cropped and (header.size[0] < fit.cropped[0] or header.size[1] < fit.cropped[1]):
            raise UserError(
                f"data.path: in {folder} {told(header)}, smaller than data.crop {fit.crop}"
            )
        if not fit.size and header.size != first.size:
            raise UserError(
                f"data.path: the images in {folder} differ in size: {told(first)}, "
                f"{told(header)}; set data.resize, such as "
                '--config.data.resize="(64,64)"'
            )


FOLDER = Reader(("file",), _read, takes_path=True)
