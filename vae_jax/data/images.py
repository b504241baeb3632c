"""Images as arrays: upright, on white, gray or RGB, cropped and resized."""

import io
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from vae_jax.data import cache, ranges
from vae_jax.data.arrays import Arrays
from vae_jax.data.ranges import Range
from vae_jax.errors import UserError

_BLOCK_BYTES = 1 << 25  # decoded together, at most
_BLOCK_IMAGES = 1024  # likewise
_QUIET_SECONDS = 2  # decoding that takes longer shows its progress

Item = TypeVar("Item")
Result = TypeVar("Result")


class Fit(NamedTuple):
    """What is done to an image: first the crop, then the resize.

    The crop "center" is the largest centred part of the aspect ratio of `resize`, "none" the whole
    image, "<height>x<width>" a centred part of so many pixels.
    """

    # Its repr is in the names of cache entries.
    resize: tuple[int, ...]  # (height, width), or ()
    crop: str  # "center" | "none" | "<height>x<width>"

    @property
    def cropped(self) -> tuple[int, int] | None:
        """The (height, width) in pixels that crop names, or None."""
        if self.crop in ("center", "none"):
            return None
        height, width = self.crop.split("x")
        return int(height), int(width)

    @property
    def size(self) -> tuple[int, ...]:
        """The (height, width) of every result; () where it is the image's own."""
        return self.resize or self.cropped or ()

    @property
    def tag(self) -> str:
        """Its part of the name of a cache entry."""
        return f"{'x'.join(map(str, self.resize)) or 'asis'}-{self.crop}"

    def describe(self) -> str:
        """In words, for the record; "" where nothing is done."""
        part = {"center": "largest centred part of the aspect ratio", "none": "whole, squeezed"}
        crop = part.get(self.crop, f"centred {self.crop} pixels")
        size = "x".join(map(str, self.resize))
        if self.resize:
            return f"{crop}, resized to {size} (height x width, bilinear, antialiased)"
        return f"{crop} (height x width)" if self.cropped else ""


def make_fit(resize: tuple[int, ...], crop: str) -> Fit:
    """The Fit of data.resize and data.crop.

    Raises:
      UserError: they are not as `Fit` says.
    """
    if len(resize) not in (0, 2) or any(side < 1 for side in resize):
        raise UserError(
            f"data.resize is {tuple(resize)}, expected (height, width) in pixels, or () for none"
        )
    if crop not in ("center", "none") and not re.fullmatch(r"[1-9]\d*x[1-9]\d*", crop):
        raise UserError(
            f'data.crop is {crop!r}, expected "center", "none" or a size such as "148x148" '
            "(height x width)"
        )
    return Fit(tuple(resize), crop)


def fitted(image, fit: Fit):
    """A PIL image (L, RGB or F), cropped and then resized (bilinear, antialiased).

    Raises:
      UserError: it is smaller than the crop.
    """
    from PIL.Image import Resampling

    width, height = image.size
    h, w = fit.cropped or (height, width)
    if h > height or w > width:
        raise UserError(
            f"data.crop is {fit.crop}, but an image has only {height}x{width} pixels "
            "(height x width)"
        )
    if fit.resize and fit.crop == "center":
        scale = min(height / fit.resize[0], width / fit.resize[1])
        h, w = (max(1, round(side * scale)) for side in fit.resize)
    top, left = (height - h) // 2, (width - w) // 2
    if (h, w) != (height, width):
        image = image.crop((left, top, left + w, top + h))
    # Cropped first: resize(box=...) would let in what lies beside the box.
    if fit.resize and (h, w) != fit.resize:
        image = image.resize(fit.resize[::-1], Resampling.BILINEAR)
    return image


def is_gray(image) -> bool:
    """Whether the mode of a PIL image is levels of gray, not colours or a palette."""
    return image.mode in ("1", "L", "LA") or is_deep(image)


def is_deep(image) -> bool:
    """Whether a PIL image has numbers of more than 8 bits, integers or floats."""
    return image.mode.startswith(("I", "F"))


def is_cut(image) -> bool:
    """Whether PIL keeps 8 of more bits of each channel."""
    if is_deep(image) or not image.tile:
        return False
    codec, *_, args = image.tile[0]
    deep_ppm = codec.startswith("ppm") and isinstance(args, tuple) and args[-1] > 255
    return deep_ppm or ";16" in str(args)


def has_no_colour(image) -> bool:
    """Whether every pixel of a PIL image's current page is a level of gray."""
    x = pixels(image, gray=False)
    return bool((x == x[..., :1]).all())


def num_pages(image) -> int:
    """The pages of a TIFF, or the frames of an animation. A JPEG's further images are previews."""
    return image.n_frames if image.format in ("TIFF", "GIF", "PNG", "WEBP") else 1


def orientation(image) -> int:
    """The EXIF orientation of a PIL image that has not been loaded, 1 to 8.

    1 is upright; from 5 on height and width are exchanged.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # EXIF data after the pixels would be found only by decoding them
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # EXIF data may be damaged where the pixels are not
        return 1


def pixels(image, gray: bool) -> np.ndarray:
    """The numbers of a PIL image's current page, [H, W] or [H, W, 3].

    It is turned as its EXIF orientation says, and put on white where it is transparent. They are
    uint8, but of deep images as they are stored.

    Args:
      gray: whether colours become levels of gray.

    Raises:
      ValueError: they are not finite.
    """
    from PIL import Image, ImageOps

    turned = orientation(image) != 1
    image.load()
    image = ImageOps.exif_transpose(image) if turned else image
    if is_deep(image):
        x = np.asarray(image)
        if not np.isfinite(x).all():
            raise ValueError("its pixels are not finite")
        if _white_is_zero(image):
            x = np.iinfo(x.dtype).max - x
        return x if gray else np.repeat(x[..., None], 3, axis=-1)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    return np.asarray(image.convert("L" if gray else "RGB"))


def _white_is_zero(image) -> bool:
    """Whether 0 is white in a deep TIFF image of integers, which Pillow does not heed."""
    return getattr(image, "tag_v2", {}).get(262) == 0 and np.asarray(image).dtype.kind == "u"


def decoded(
    source: Path | bytes,
    fit: Fit,
    gray: bool,
    binary: bool = False,
) -> np.ndarray:
    """The first page of an encoded image: [H, W, 1] or [H, W, 3], uint8 or float32, see `ranges`.

    Args:
      source: a file, or its contents.
      fit: the crop and the size.
      gray: whether the result has one channel.
      binary: whether the values are 0 and 1, which become 0 and 255 before the image is resized.

    Raises:
      UserError: it is smaller than the crop.
      Exception: nearly any, where it is broken.
    """
    from PIL import Image

    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        x = pixels(image, gray)
    x = _full_scale(x) if binary else x
    return finished(x, fit, ranges.of_arrays("type", [x], "it"))


def finished(x: np.ndarray, fit: Fit, of: Range | None) -> np.ndarray:
    """The numbers of an image, [H, W] or [H, W, 3], as x: scaled, cropped and resized."""
    x = ranges.scaled(x[..., None] if x.ndim == 2 else x, of)
    return _fitted_array(x, fit) if fit.size else x


def _full_scale(x: np.ndarray) -> np.ndarray:
    """0 and 1 (or 255) as 0 and 255, uint8."""
    if not ((x <= 1) | (x == 255)).all():
        raise ValueError("an image has other values than 0 and 1")
    return (x > 0) * np.uint8(255)


def in_threads(
    what: str, function: Callable[[Item], Result], blocks: Iterable[Iterable[Item]], total: int
) -> Iterator[list[Result]]:
    """Yields [function(item) for each item] of each block; shows progress when it takes long.

    Args:
      what: the words before the progress.
      function: called in one thread for each core.
      blocks: of items, one block in memory at a time.
      total: the number of all items.
    """
    from tqdm import tqdm

    often = 0.1 if sys.stderr.isatty() else 30
    num_cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        num_cores = len(os.sched_getaffinity(0))
    progress = tqdm(
        total=total, desc=what, unit="image", delay=_QUIET_SECONDS, mininterval=often, leave=False
    )
    with progress, ThreadPoolExecutor(num_cores, thread_name_prefix="vae_jax-images") as pool:
        for block in blocks:
            results = list(pool.map(function, block))
            progress.update(len(results))
            yield results


def blocks_of(items: Any, shape: tuple[int, ...] = ()) -> list[Any]:
    """A sequence or array in slices whose images, of that `shape`, fit into memory together."""
    size = int(min(_BLOCK_IMAGES, max(1, _BLOCK_BYTES // math.prod(shape))))
    return [items[i : i + size] for i in range(0, len(items), size)]


def fit_arrays(what: str, root: Path, key: str, arrays: Arrays, fit: Fit) -> Arrays:
    """The arrays with their images cropped and resized, channel by channel; kept in the cache.

    Args:
      what: the data, for error messages.
      root: the folder of the cache.
      key: the entry of `arrays` in the cache.
      arrays: see `arrays.Arrays`.
      fit: the crop and the size; where they change nothing, the result is `arrays`.

    Raises:
      UserError: they are not uint8 images, or smaller than the crop.
    """
    x = arrays["x_train"]
    if not fit.size or (not fit.cropped and x.shape[1:3] == fit.size):
        return arrays
    if x.ndim != 4 or x.dtype != np.uint8:
        raise UserError(
            f"data.resize and data.crop are for uint8 images, but the examples of {what} are "
            f"{x.dtype} {x.shape[1:]}: resize them yourself, or set data.resize to () and "
            'data.crop to "center"'
        )

    resized = fit.size != (fit.cropped or x.shape[1:3])
    if resized and any(name.startswith("observed") for name in arrays):
        raise UserError(
            f"data.resize mixes the missing values of {what} into those that are observed: resize "
            "the images before values are taken out, or set data.resize to ()"
        )

    def blocks() -> Iterable[Arrays]:
        for name, old in arrays.items():
            for part in blocks_of(old, x.shape[1:]):
                if old.ndim == 4:
                    part = np.stack([_fitted_array(image, fit) for image in part])
                yield {name: part}

    return cache.streamed(root, f"{key}-{fit.tag}", blocks)


def _fitted_array(x: np.ndarray, fit: Fit) -> np.ndarray:
    """x [H, W, C], cropped and resized."""
    from PIL import Image

    channels = [Image.fromarray(np.ascontiguousarray(channel)) for channel in np.moveaxis(x, -1, 0)]
    return np.stack([np.asarray(fitted(channel, fit)) for channel in channels], axis=-1)
