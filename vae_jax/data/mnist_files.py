"""Reading MNIST: a copy prepared by TFDS, or the four official IDX files (given, downloaded or fetched).

Either way the arrays are the same, bit for bit and in the official order; their SHA-256 sums are known.
"""

import gzip
import hashlib
import io
import math
import os
import tempfile
import threading
from pathlib import Path

import numpy as np

from vae_jax.data.arrays import Arrays
from vae_jax.errors import UserError

URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
PROBE_SECONDS = 3.0

# File: its SHA-256, the same as in TFDS's own list.
_FILES = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
# Split: its number of examples, and the SHA-256 of its pixels in the official order.
_SPLITS = {
    "train": (60_000, "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"),
    "test": (10_000, "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161"),
}


class Unavailable(Exception):
    """A source is not to be had here; the message says why."""


def read_prepared(data_dir: str) -> Arrays:
    """MNIST from the TFDS copy in `data_dir`, else in $TFDS_DATA_DIR or TFDS's default folder.

    Raises:
      Unavailable: there is none, or it cannot be read.
    """
    places = [data_dir] if data_dir else [os.environ.get("TFDS_DATA_DIR"), "~/tensorflow_datasets"]
    folders = [Path(p).expanduser() for p in places if p]
    found = [f for f in folders if any(f.glob("mnist/*/dataset_info.json"))]  # before the slow import
    if not found:
        raise Unavailable(f"no prepared mnist in {' or '.join(map(str, folders))}")
    try:
        parts = {split: _read_records(found[0], split) for split in _SPLITS}
    except Exception as error:  # TFDS and its readers raise nearly anything
        raise Unavailable(
            f"the prepared mnist in {found[0]} cannot be read ({_first_line(error)}); it must be whole "
            'and have file_format="array_record"'
        ) from error
    return {f"{kind}_{split}": a for split, xy in parts.items() for kind, a in zip("xy", xy, strict=True)}


def _read_records(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow_datasets as tfds
    from PIL.PngImagePlugin import PngImageFile

    num, digest = _SPLITS[split]
    skip = {"image": tfds.decode.SkipDecoding()}  # TFDS's own decoding of the PNGs takes twice the time
    records = tfds.data_source("mnist", split=split, data_dir=folder, decoders=skip, download=False)
    examples = records.__getitems__(range(len(records)))
    pixels = b"".join(PngImageFile(io.BytesIO(e["image"])).tobytes() for e in examples)
    x = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28, 1)
    y = np.array([e["label"] for e in examples], np.int32)
    # TFDS stores the examples sorted by a salted hash of their number: undo that.
    hashes = [hashlib.md5(f"{split}{i}".encode(), usedforsecurity=False).digest() for i in range(num)]
    official = np.argsort(sorted(range(num), key=hashes.__getitem__))
    if len(x) != num or hashlib.sha256(x := x[official]).hexdigest() != digest:
        raise ValueError(f"its {split} split is not MNIST's")
    return x, y[official]


def read_official(manual_dir: str, downloads: Path, *, network: bool) -> Arrays:
    """MNIST from the official files: in `manual_dir` if given, else in `downloads`, else fetched into it.

    Raises:
      Unavailable: there are no files, and they cannot be fetched (or `network` is False).
      UserError: a file of manual_dir is damaged.
    """
    if manual_dir:
        return _decode(_given(Path(manual_dir).expanduser()))
    if files := _downloaded(downloads):
        return _decode(files)
    if not network:
        raise Unavailable("the download host did not answer within the last hour")
    if reason := offline():
        raise Unavailable(reason)
    if _is_writable(downloads):
        return _decode(_fetch(downloads))
    with tempfile.TemporaryDirectory() as tmp:
        return _decode(_fetch(Path(tmp)))


def _given(folder: Path) -> dict[str, Path]:
    for name, expected in _FILES.items():
        if not (folder / name).is_file():
            raise Unavailable(f"there is no {name} in {folder}; it needs {', '.join(_FILES)}")
        if _sha256(folder / name) != expected:
            raise UserError(f"data.manual_dir: {folder / name} is damaged or not MNIST's (wrong SHA-256): get it again")
    return {name: folder / name for name in _FILES}


def _downloaded(folder: Path) -> dict[str, Path] | None:
    """The official files among those in `folder`, whatever their names; None unless all are there, intact."""
    found = {_sha256(path): path for path in folder.glob("*") if path.is_file()}
    return {n: found[s] for n, s in _FILES.items()} if found.keys() >= set(_FILES.values()) else None


def _fetch(folder: Path) -> dict[str, Path]:
    import tensorflow_datasets as tfds

    try:
        # Forced: were the files there and intact, they would have been used; TFDS trusts them by their names.
        manager = tfds.download.DownloadManager(download_dir=folder, force_download=True)
        files = manager.download({name: URL + name for name in _FILES})
    except Exception as error:  # TFDS and its client raise nearly anything
        raise Unavailable(f"the download failed ({_first_line(error)})") from error
    for name, expected in _FILES.items():
        if _sha256(Path(files[name])) != expected:
            raise Unavailable(f"the download of {name} is damaged (wrong SHA-256)")
    return {name: Path(path) for name, path in files.items()}


def offline() -> str:
    """Why the download host cannot be reached, "" when it answers; known within PROBE_SECONDS.

    TFDS itself would retry for minutes. Asks with the client that TFDS uses, so that proxies and certificates
    are treated alike, and in a thread, since neither a name look-up nor a proxy need keep to a time limit.
    """
    import requests

    answer = []

    def ask() -> None:
        try:
            response = requests.head(URL + min(_FILES), timeout=PROBE_SECONDS, allow_redirects=True)
            answer.append("" if response.ok else f"{URL} answers {response.status_code} {response.reason}")
        except Exception as error:
            answer.append(f"{URL} cannot be reached ({type(error).__name__})")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answer[0] if answer else f"{URL} does not answer within {PROBE_SECONDS:g} s"


def _decode(files: dict[str, Path]) -> Arrays:
    def split(prefix: str) -> tuple[np.ndarray, np.ndarray]:
        x = read_idx(files[f"{prefix}-images-idx3-ubyte.gz"], ndim=3)
        return x[..., None], read_idx(files[f"{prefix}-labels-idx1-ubyte.gz"], ndim=1).astype(np.int32)

    (x_train, y_train), (x_test, y_test) = split("train"), split("t10k")
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """The array in a gzipped IDX file of unsigned bytes: magic (0, 0, 8, ndim), big-endian sizes, values.

    Returns: uint8 with `ndim` axes.
    Raises:
      UserError: the file is damaged or of another kind.
    """
    try:
        data = gzip.decompress(path.read_bytes())
    except Exception as error:  # gzip, zlib and I/O each raise their own
        raise UserError(f"{path} cannot be unpacked ({error}): get it again") from error
    start = 4 + 4 * ndim
    if len(data) < start or data[:4] != bytes((0, 0, 8, ndim)):
        raise UserError(f"{path} is not an IDX file of bytes with {ndim} axes: get it again")
    shape = tuple(np.frombuffer(data[4:start], ">u4").tolist())
    if len(data) - start != math.prod(shape):
        raise UserError(f"{path} holds {len(data) - start} values, but its header says {shape}: get it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        return True
    except OSError:
        return False


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
