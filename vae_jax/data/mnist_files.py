"""Reading MNIST and its likes: a copy prepared by TFDS, or the official IDX files (given, downloaded or fetched).

Either way the arrays are the same and in the official order. EMNIST's images, which lie on their side in its files,
stand upright.
"""

import gzip
import hashlib
import io
import math
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax.data import prepared
from vae_jax.data.arrays import Arrays
from vae_jax.data.prepared import Unavailable, first_line
from vae_jax.errors import UserError

PROBE_SECONDS = 3.0


class File(NamedTuple):
    """An official file. The numbers are those of TFDS 4.9.10, in its url_checksums/<family>.txt."""

    name: str
    num_bytes: int
    sha256: str


class Family(NamedTuple):
    """Where the files of a data set are, and which they are."""

    url: str
    files: tuple[File, ...]


def _four(url: str, *files: tuple[int, str]) -> Family:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return Family(url, tuple(File(f"{name}-ubyte.gz", *file) for name, file in zip(names, files, strict=True)))


FAMILIES = {
    "mnist": _four(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    "fashion_mnist": _four(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
    "kmnist": _four(
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        (18165135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
        (29497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
        (3041136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
        (5120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
    ),
    "emnist": Family(
        "https://biometrics.nist.gov/cs_links/EMNIST/",
        (File("gzip.zip", 561753746, "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"),),
    ),
}
_EMNIST = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")
NAMES = ("mnist", "fashion_mnist", "kmnist", *(f"emnist/{part}" for part in _EMNIST))
# The SHA-256 of MNIST's pixels in the official order.
_MNIST_PIXELS = {
    "train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
}


def read_prepared(name: str, data_dir: str) -> Arrays:
    """A member of NAMES from the TFDS copy in `data_dir`, else in $TFDS_DATA_DIR or TFDS's default folder.

    Raises:
      Unavailable: there is none, or it cannot be read.
    """
    copy = prepared.find(name, data_dir)
    try:
        parts = {split: _read_records(name, copy, split) for split in ("train", "test")}
    except Exception as error:  # TFDS and its readers raise nearly anything
        raise prepared.unreadable(name, copy, error) from error
    return {f"{kind}_{split}": a for split, xy in parts.items() for kind, a in zip("xy", xy, strict=True)}


def _read_records(name: str, copy: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    from PIL.PngImagePlugin import PngImageFile

    records = prepared.records(copy, split)
    num, pixels, labels = len(records), bytearray(), []
    for start in range(0, num, 10_000):
        for example in records.__getitems__(range(start, min(start + 10_000, num))):
            pixels += PngImageFile(io.BytesIO(example["image"])).tobytes()
            labels.append(example["label"])
    x, y = np.frombuffer(pixels, np.uint8).reshape(num, 28, 28, 1), np.array(labels, np.int32)
    # TFDS stores the examples sorted by a salted hash of their number: undo that.
    hashes = [hashlib.md5(f"{split}{i}".encode(), usedforsecurity=False).digest() for i in range(num)]
    official = np.argsort(sorted(range(num), key=hashes.__getitem__))
    x = x[official]
    if name == "mnist" and hashlib.sha256(x).hexdigest() != _MNIST_PIXELS[split]:
        raise ValueError(f"its {split} split is not MNIST's")
    return _upright(name, x), y[official]


def _upright(name: str, x: np.ndarray) -> np.ndarray:
    """EMNIST's files hold their images transposed (Cohen et al. 2017 wrote them from MATLAB)."""
    return x.swapaxes(1, 2) if name.startswith("emnist/") else x


def read_official(name: str, manual_dir: str, downloads: Path, *, network: bool) -> Arrays:
    """A member of NAMES from its official files: in `manual_dir` if given, else in `downloads`, else fetched there.

    Raises:
      Unavailable: there are no files, and they cannot be fetched (or `network` is False).
      UserError: a file of manual_dir is damaged.
    """
    family = FAMILIES[name.split("/")[0]]
    if manual_dir:
        return _decode(name, _given(name, family, Path(manual_dir).expanduser()))
    if files := _downloaded(family, downloads):
        return _decode(name, files)
    if not network:
        raise Unavailable("the download host did not answer within the last hour")
    if reason := offline(family):
        raise Unavailable(reason)
    if _is_writable(downloads):
        return _decode(name, _fetch(family, downloads))
    with tempfile.TemporaryDirectory() as tmp:
        return _decode(name, _fetch(family, Path(tmp)))


def _given(name: str, family: Family, folder: Path) -> dict[str, Path]:
    for file in family.files:
        if not (folder / file.name).is_file():
            needs = ", ".join(f.name for f in family.files)
            raise Unavailable(f"there is no {file.name} in {folder}; {name} needs {needs}")
        if _sha256(folder / file.name) != file.sha256:
            raise UserError(
                f"data.manual_dir: {folder / file.name} is damaged or not {name}'s (wrong SHA-256): get it again"
            )
    return {file.name: folder / file.name for file in family.files}


def _downloaded(family: Family, folder: Path) -> dict[str, Path] | None:
    """The official files among those in `folder`, whatever their names; None unless all are there, intact."""
    sizes = {file.num_bytes for file in family.files}
    there = (path for path in folder.glob("*") if path.is_file() and path.stat().st_size in sizes)
    found = {_sha256(path): path for path in there}
    return {f.name: found[f.sha256] for f in family.files} if found.keys() >= {f.sha256 for f in family.files} else None


def _fetch(family: Family, folder: Path) -> dict[str, Path]:
    import tensorflow_datasets as tfds

    try:
        # Forced: were the files there and intact, they would have been used; TFDS trusts them by their names.
        manager = tfds.download.DownloadManager(download_dir=folder, force_download=True)
        files = manager.download({file.name: family.url + file.name for file in family.files})
    except Exception as error:  # TFDS and its client raise nearly anything
        raise Unavailable(f"the download failed ({first_line(error)})") from error
    for file in family.files:
        if _sha256(Path(files[file.name])) != file.sha256:
            raise Unavailable(f"the download of {file.name} is damaged (wrong SHA-256)")
    return {name: Path(path) for name, path in files.items()}


def offline(family: Family) -> str:
    """Why the download host cannot be reached, "" when it answers; known within PROBE_SECONDS.

    TFDS itself would retry for minutes. Asks with the client that TFDS uses, so that proxies and certificates
    are treated alike, and in a thread, since neither a name look-up nor a proxy need keep to a time limit.
    """
    import requests

    url, answer = family.url, []

    def ask() -> None:
        try:
            response = requests.head(url + family.files[0].name, timeout=PROBE_SECONDS, allow_redirects=True)
            answer.append("" if response.ok else f"{url} answers {response.status_code} {response.reason}")
        except Exception as error:
            answer.append(f"{url} cannot be reached ({type(error).__name__})")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answer[0] if answer else f"{url} does not answer within {PROBE_SECONDS:g} s"


def _decode(name: str, files: dict[str, Path]) -> Arrays:
    family, _, part = name.partition("/")
    arrays = {}
    for split, in_file in (("train", "train"), ("test", "test" if part else "t10k")):
        for kind, inner, ndim in (("x", "images-idx3", 3), ("y", "labels-idx1", 1)):
            if part:
                values = _read_zipped(files["gzip.zip"], f"gzip/{family}-{part}-{in_file}-{inner}-ubyte.gz", ndim)
            else:
                values = read_idx(files[f"{in_file}-{inner}-ubyte.gz"], ndim)
            arrays[f"{kind}_{split}"] = _upright(name, values[..., None]) if ndim == 3 else values.astype(np.int32)
    return arrays


def _read_zipped(path: Path, member: str, ndim: int) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(member)
    except Exception as error:  # zipfile, zlib and I/O each raise their own
        raise UserError(f"{path} cannot be unpacked ({error}): get it again") from error
    return _parse_idx(content, f"{member} in {path}", ndim)


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """The array in a gzipped IDX file of unsigned bytes: magic (0, 0, 8, ndim), big-endian sizes, values.

    Returns: uint8 with `ndim` axes.
    Raises:
      UserError: the file is damaged or of another kind.
    """
    return _parse_idx(path.read_bytes(), str(path), ndim)


def _parse_idx(content: bytes, what: str, ndim: int) -> np.ndarray:
    try:
        data = gzip.decompress(content)
    except Exception as error:  # gzip and zlib each raise their own
        raise UserError(f"{what} cannot be unpacked ({error}): get it again") from error
    start = 4 + 4 * ndim
    if len(data) < start or data[:4] != bytes((0, 0, 8, ndim)):
        raise UserError(f"{what} is not an IDX file of bytes with {ndim} axes: get it again")
    shape = tuple(np.frombuffer(data[4:start], ">u4").tolist())
    if len(data) - start != math.prod(shape):
        raise UserError(f"{what} holds {len(data) - start} values, but its header says {shape}: get it again")
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
