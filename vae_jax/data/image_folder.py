"""A user's own folder of images: decoded once, in constant memory, into the cache.

Files are looked at first: their pages and sizes; whether all are gray; which stored numbers are 0
and 1. Then they are decoded, a block of pages at a time.
"""

import collections
import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from absl import logging

from vae_jax.data import cache, images, ranges
from vae_jax.data.arrays import PARTS, Arrays
from vae_jax.data.ranges import BYTES, Range
from vae_jax.data.reader import Reader, Request
from vae_jax.data.split import Dataset, assemble
from vae_jax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".gif", ".tif", ".tiff")
SUFFIXES += (".pgm", ".ppm", ".pbm", ".pnm")
_FIRST = 16  # images that are decoded before larger blocks are
_SHOWN = 3  # as many files are named in a message
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}

Result = TypeVar("Result")


class Broken(NamedTuple):
    """A file that cannot be decoded, and why."""

    name: str
    reason: str


class Page(NamedTuple):
    """What is known of an image before it is decoded."""

    name: str  # of its file
    number: int  # in its file
    size: tuple[int, int]  # (height, width), upright
    gray: bool  # by its mode
    deep: bool  # more than 8 bits
    cut: bool  # colours of more than 8 bits, which are read as 8


class Place(NamedTuple):
    """Where a file belongs."""

    part: str  # its split
    label: str  # the folder that is its label, or ""


def _read(request: Request) -> Dataset:
    return assemble(
        Path(request.path).name,
        "file",
        read(request.path, request.cache, request.fit, request.skip_broken, request.scale),
        num_valid=request.num_valid,
        num_test=request.num_test,
    )


def read(path: str, root: Path, fit: images.Fit, skip_broken: bool, scale: str) -> Arrays:
    """The images below the folder `path`, uint8 or float32 [N, H, W, C], and their labels.

    They are in the order of their paths and pages. C is 1 when all are gray, else 3. Sub-folders
    directly below `path` are splits where they have the names of splits, see `_places`; the next
    ones are labels 0, 1, ... in the order of their names when all images are in one.

    Args:
      path: of the folder.
      root: the folder of the cache.
      fit: how the images are cropped and resized.
      skip_broken: whether broken files are left out, with a warning.
      scale: which stored numbers are 0 and 1, see `ranges`.

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
    places = _places(folder, [name for name, *_ in files])
    identity = repr((str(folder), files, fit, skip_broken, scale))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]

    def blocks() -> Iterator[Arrays]:
        return _blocks(folder, places, fit, skip_broken, scale)

    return cache.streamed(root, f"folder-{digest}-v2", blocks)


def _listing(folder: Path) -> list[tuple[str, int, int, int]]:
    """(path below `folder`, bytes, times of change) of every image, in the order of the paths.

    It says which files are no images, and which are other files once more, by links.
    """
    found = []
    others = []
    same = collections.Counter()
    try:
        for file in _visible_files(folder):
            if file.name.lower().endswith(SUFFIXES):
                state = file.stat()
                if not stat.S_ISREG(state.st_mode):
                    raise UserError(
                        f"data.path: {file} is no file with content, but a device, a pipe or a "
                        "socket: move it elsewhere"
                    )
                same[state.st_dev, state.st_ino] += 1
                name = file.relative_to(folder).as_posix()
                found.append((name, state.st_size, state.st_mtime_ns, state.st_ctime_ns))
            else:
                others.append(file)
    except OSError as error:
        raise UserError(f"data.path: {error.filename} cannot be read ({error.strerror})") from error
    if not found:
        what = f"{folder} is empty"
        if others:
            what = f"none of the {len(others)} files in {folder} is an image"
        raise UserError(
            f"data.path: {what}; expected {', '.join(SUFFIXES)} files, in it or in its sub-folders"
        )
    if others:
        logging.warning("%s", _unread(folder, others, [name for name, *_ in found]))
    if again := same.total() - len(same):
        logging.warning(
            "%d of the %d images in %s are others once more, by links: the same image may be in "
            "different splits",
            again,
            len(found),
            folder,
        )
    return sorted(found)


def _unread(folder: Path, others: list[Path], names: list[str]) -> str:
    """What to say of the files that are no images, and of the sub-folders that have no other."""
    kinds = sorted({file.suffix or file.name for file in others})
    shown = ", ".join(kinds[:_SHOWN]) + (", ..." if len(kinds) > _SHOWN else "")
    with_images = {above.as_posix() for name in names for above in Path(name).parents}
    without = sorted({file.parent.relative_to(folder).as_posix() for file in others} - with_images)
    empty = f"; there is no image in {', '.join(without)}" if without else ""
    return f"{len(others)} files in {folder} are not read ({shown}){empty}"


def _visible_files(folder: Path) -> Iterator[Path]:
    """The files below `folder` that are not hidden; links are followed, but not in circles."""

    def refuse(error: OSError) -> None:
        raise error

    for here, below, names in os.walk(folder, onerror=refuse, followlinks=True):
        above = [path for path in (Path(here), *Path(here).parents) if path.is_relative_to(folder)]
        above = [path.resolve() for path in above]
        visible = ((name, Path(here, name).resolve()) for name in sorted(below) if name[0] != ".")
        below[:] = [
            name for name, real in visible if not any(path.is_relative_to(real) for path in above)
        ]
        for name in names:
            if name[0] != ".":
                yield Path(here, name)


def _places(folder: Path, names: list[str]) -> dict[str, Place]:
    """{file: its place}.

    Sub-folders are splits when all of them have names of splits, or names of two splits are there.

    Raises:
      UserError: there are splits, but none to train on, or something beside them.
    """
    tops = dict.fromkeys(name.split("/")[0] for name in names)
    parts = {top: _SPLITS[top.lower()] for top in tops if top.lower() in _SPLITS}
    beside = [top for top in tops if top not in parts]
    if not parts or (beside and len(set(parts.values())) == 1):
        return {name: Place("train", _top(name)) for name in names}
    if beside or "train" not in parts.values():
        told = f"beside {beside[0]}, which is none" if beside else "but no train"
        raise UserError(
            f"data.path: {folder} holds the splits {', '.join(parts)} {told}: move what does not "
            "belong to train, valid and test elsewhere, or set data.path to the one to train on"
        )
    split = {name: name.split("/", 1) for name in names}
    return {name: Place(parts[top], _top(below)) for name, (top, below) in split.items()}


def _top(name: str) -> str:
    """The first folder of a path, "" where it is a file's name alone."""
    return name.split("/")[0] if "/" in name else ""


def _blocks(
    folder: Path, places: dict[str, Place], fit: images.Fit, skip_broken: bool, scale: str
) -> Iterator[Arrays]:
    """The images, a block at a time; last what is known of them, see `arrays.Arrays`.

    Every file is tried before broken ones are refused, so that all can be named.
    """
    pages, broken = _pages(folder, list(places))
    _check_sizes(folder, pages, fit)
    gray = _all_gray(folder, pages)
    deep, usual = _ranges(folder, pages, gray, scale)
    label_names = _label_names(places)
    extremes = []  # of each block of uint8
    parts = set()

    def decode(run: list[Page]) -> list[tuple[Page, np.ndarray]] | Broken:
        def one(image, page: Page) -> tuple[Page, np.ndarray]:
            of = deep if page.deep else usual
            return page, images.finished(images.pixels(image, gray), fit, of)

        return _each(folder, run, one)

    for part in PARTS:
        chosen = [page for page in pages if places[page.name].part == part]
        for found in _in_threads(f"decoding {folder.name}", decode, chosen, fit.size):
            broken += [result for result in found if isinstance(result, Broken)]
            good = [pair for run in found if not isinstance(run, Broken) for pair in run]
            if not good or (broken and not skip_broken):
                continue
            parts.add(part)
            x = np.stack([x for _, x in good])
            if x.dtype == np.uint8:
                extremes.append(np.array([x.min(), x.max()]))
            yield {f"x_{part}": x}
            if label_names:
                labels = [label_names.index(places[page.name].label) for page, _ in good]
                yield {f"y_{part}": np.array(labels, np.int32)}
    notes = _notes(folder, places, pages)
    if broken:
        notes.append(_skipped(folder, broken, len(places), skip_broken, "train" in parts))
    if ranges.by_type(scale) and extremes:
        notes += ranges.check_bytes(extremes, f"data.path: {folder}")
    of = deep if any(page.deep for page in pages) else usual
    said: dict[str, Any] = {"notes": notes, "label_names": label_names}
    said["stored_range"] = () if of in (None, BYTES) else (of.low, of.high)
    yield {name: np.array(values) for name, values in said.items() if values}


def _pages(folder: Path, names: list[str]) -> tuple[list[Page], list[Broken]]:
    """The pages of all files, and the files that have none."""
    pages = []
    broken = []
    blocks = images.blocks_of(names)
    for found in images.in_threads(
        f"looking at {folder.name}", lambda name: _look(folder, name), blocks, len(names)
    ):
        pages += [page for result in found if not isinstance(result, Broken) for page in result]
        broken += [result for result in found if isinstance(result, Broken)]
    return pages, broken


def _look(folder: Path, name: str) -> list[Page] | Broken:
    from PIL import Image

    def look(file: Path) -> list[Page]:
        with Image.open(file) as image:
            return [page(image, number) for number in range(images.num_pages(image))]

    def page(image, number: int) -> Page:
        image.seek(number)
        width, height = image.size
        if images.orientation(image) >= 5:
            width, height = height, width
        gray, deep, cut = images.is_gray(image), images.is_deep(image), images.is_cut(image)
        return Page(name, number, (height, width), gray, deep, cut)

    return _guarded(folder, name, look)


def _each(
    folder: Path, run: list[Page], read: Callable[[Any, Page], Result]
) -> list[Result] | Broken:
    """read(PIL image, page) of some pages of one file."""
    from PIL import Image

    def pages(file: Path) -> list[Result]:
        with Image.open(file) as image:
            results = []
            for page in run:
                image.seek(page.number)
                results.append(read(image, page))
            return results

    return _guarded(folder, run[0].name, pages)


def _in_threads(
    what: str, function: Callable[[list[Page]], Result], pages: list[Page], size: tuple[int, ...]
) -> Iterator[list[Result]]:
    """`images.in_threads` of the pages that each file has in a block, together.

    Args:
      size: (height, width) of what is kept of a page; (): its own.
    """
    # What most folders are found out by, and then blocks that fit into memory.
    shape = (*(size or max((page.size for page in pages), default=(1, 1))), 3)
    parts = (pages[:_FIRST], pages[_FIRST:])
    blocks = [block for part in parts for block in images.blocks_of(part, shape)]
    runs = [[list(run) for _, run in itertools.groupby(b, lambda page: page.name)] for b in blocks]
    return images.in_threads(what, function, runs, sum(map(len, runs)))


def _all_gray(folder: Path, pages: list[Page]) -> bool:
    """Whether no pixel has a colour, whatever the modes of the images say."""

    def look(run: list[Page]) -> list[bool] | Broken:
        return _each(folder, run, lambda image, _: images.has_no_colour(image))

    coloured = [page for page in pages if not page.gray]
    return all(
        isinstance(result, Broken) or all(result)
        for found in _in_threads(f"looking for colours in {folder.name}", look, coloured, ())
        for result in found
    )


def _ranges(
    folder: Path, pages: list[Page], gray: bool, scale: str
) -> tuple[Range | None, Range | None]:
    """The ranges of images of more than 8 bits and of the usual ones."""

    def look(run: list[Page]) -> list[ranges.Extent] | Broken:
        return _each(folder, run, lambda image, _: ranges.extent(images.pixels(image, gray)))

    needed = [page for page in pages if page.deep or not ranges.by_type(scale)]
    extents = [
        extent
        for found in _in_threads(f"looking for the range of {folder.name}", look, needed, ())
        for result in found
        if not isinstance(result, Broken)
        for extent in result
    ]
    if not extents:
        return None, BYTES
    of = ranges.chosen(scale, ranges.joined(extents), f"data.path: {folder}")
    if not ranges.by_type(scale):
        return of, of
    if len({extent.step is None for extent in extents}) > 1:
        raise UserError(
            f"data.path: {folder} has images of integers and of floats, whose ranges differ: "
            'set data.scale to "range" or to the numbers that are to be 0 and 1'
        )
    return of, BYTES._replace(exact=of is not None and of.exact)


def _label_names(places: dict[str, Place]) -> list[str]:
    """The folders that are labels, in their order; none unless every image has one."""
    labels = {place.label for place in places.values()}
    return [] if "" in labels else sorted(labels)


def _notes(folder: Path, places: dict[str, Place], pages: list[Page]) -> list[str]:
    """What is to be said of the images and their labels."""
    notes = []
    bare = sum(not place.label for place in places.values())
    if 0 < bare < len(places):
        notes.append(
            f"{bare} of the {len(places)} images in {folder} lie beside its sub-folders, so that "
            "none has a label: for labels put all into sub-folders"
        )
    many = len({page.name for page in pages if page.number})
    if many:
        notes.append(
            f"{many} of the {len(places)} files in {folder} have several pages or frames, "
            f"{len(pages)} in all: each is an example, and those of one file may be in different "
            "splits"
        )
    cut = sum(page.cut for page in pages)
    if cut:
        notes.append(
            f"{cut} of the {len(pages)} images in {folder} have colours of more than 8 bits, of "
            "which the upper 8 are read: convert them to arrays to keep all"
        )
    deep = sum(page.deep for page in pages)
    if 0 < deep < len(pages):
        notes.append(
            f"{deep} of the {len(pages)} images in {folder} have more than 8 bits and a range of "
            "their own: look whether they are as light as the others"
        )
    return notes


def _skipped(
    folder: Path, broken: list[Broken], num: int, skip_broken: bool, some_left: bool
) -> str:
    """Which of the `num` files are left out, and why.

    Raises:
      UserError: none may be left out, or none would be left to train on.
    """
    reasons = dict(sorted(broken))
    told = [f"{name} ({reason})" for name, reason in reasons.items()]
    shown = ", ".join(told[:_SHOWN]) + (", ..." if len(told) > _SHOWN else "")
    summary = f"{len(told)} of the {num} images in {folder} are broken: {shown}"
    if not skip_broken or not some_left:
        hint = "repair or remove them"
        if not skip_broken:
            hint += ", or set --config.data.skip_broken=True"
        raise UserError(f"data.path: {summary}: {hint}")
    return f"{summary}; they are left out"


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


def _check_sizes(folder: Path, pages: list[Page], fit: images.Fit) -> None:
    """Raises UserError where an image is smaller than the crop, or sizes differ and stay so."""

    def told(page: Page) -> str:
        number = f", page {page.number + 1}," if page.number else ""
        return f"{page.name}{number} is {page.size[0]}x{page.size[1]} (height x width)"

    for page in pages:
        if fit.cropped and (page.size[0] < fit.cropped[0] or page.size[1] < fit.cropped[1]):
            raise UserError(
                f"data.path: in {folder} {told(page)}, smaller than data.crop {fit.crop}"
            )
        if not fit.size and page.size != pages[0].size:
            raise UserError(
                f"data.path: the images in {folder} differ in size: {told(pages[0])}, "
                f"{told(page)}; set data.resize, such as "
                '--config.data.resize="(64,64)"'
            )


FOLDER = Reader(("file",), _read, takes_path=True)
