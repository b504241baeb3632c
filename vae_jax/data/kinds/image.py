"""Images [H, W, C]: grey or colour values in [0, 1], not scaled.

One channel is drawn in grey and three in colour; any other number of channels lie side by side.
"""

import numpy as np

from vae_jax.data.kinds.kind import GAP, WIDEST, Kind, Look, Picture

LARGEST_SIDE = 256  # pixels; larger images are shrunk
SMALL, SMALL_SIDE, SIDE = 42, 84, 128  # images of at most SMALL pixels grow to about SMALL_SIDE
# Of grey differences, from -1 by white at 0 to 1: ColorBrewer's RdBu, sRGB.
DIFFERENCES = (
    (103, 0, 31),
    (178, 24, 43),
    (214, 96, 77),
    (244, 165, 130),
    (253, 219, 199),
    (247, 247, 247),
    (209, 229, 240),
    (146, 197, 222),
    (67, 147, 195),
    (33, 102, 172),
    (5, 48, 97),
)


def tile_size(shape: tuple[int, ...], columns: int = 1) -> tuple[int, int]:
    """(height, width) in pixels of the picture of an image, one of `columns` in a row.

    Small images are magnified by a whole number, so that their pixels stay equal squares; of large
    ones every second pixel is drawn, or every third, and so on.
    """
    height, width = shape[0], shape[1] * (1 if shape[2] in (1, 3) else shape[2])
    side = max(height, width)
    if side > LARGEST_SIDE:
        step = -(-side // LARGEST_SIDE)
        return -(-height // step), -(-width // step)
    wanted = round((SMALL_SIDE if side <= SMALL else SIDE) / side)
    zoom = max(1, min(wanted, WIDEST // (columns * (width + GAP))))
    return zoom * height, zoom * width


def show(x: np.ndarray, look: Look, size: tuple[int, int] | None, signed: bool) -> Picture:
    """The pixels of an image.

    A difference in grey is red below zero and blue above; one in colour lies around a middle grey.
    """
    if x.shape[-1] not in (1, 3):
        x = np.moveaxis(x, -1, 1).reshape(len(x), -1, 1)
    x = x if size is None else _resize(x, size)
    colour = x.shape[-1] == 3
    if signed:
        share = np.clip(0.5 + 0.5 * x / (look.high - look.low), 0.0, 1.0)
        return Picture(share if colour else _in_colours(share[..., 0]))
    shade = np.clip((x - look.low) / (look.high - look.low), 0.0, 1.0)
    if colour:
        return Picture(shade)
    return Picture(np.repeat(1.0 - shade if look.ink else shade, 3, axis=-1))


def zero(shape: tuple[int, ...]) -> str:
    """The colours of differences, in words."""
    return "middle grey is zero" if shape[-1] == 3 else "blue above, red below zero"


def _resize(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image [H, W, C] in a size from `tile_size`."""
    step = -(-max(x.shape[:2]) // max(size))
    if step > 1:
        return x[::step, ::step]
    zoom = size[0] // x.shape[0]
    return x.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _in_colours(share: np.ndarray) -> np.ndarray:
    """The colours DIFFERENCES at shares in [0, 1] of their range, in 256 steps."""
    anchors = np.array(DIFFERENCES) / 255
    steps = np.linspace(0.0, 1.0, 256)
    at = np.linspace(0.0, 1.0, len(anchors))
    table = np.stack([np.interp(steps, at, channel) for channel in anchors.T], axis=-1)
    return table[np.minimum((256 * share).astype(int), 255)]


KIND = Kind(
    "image",
    is_of=lambda shape: len(shape) == 3,
    scaling=lambda _split: None,
    tile_size=tile_size,
    show=show,
    zero=zero,
)
