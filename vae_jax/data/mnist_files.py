"""MNIST and datasets of its form, from a copy that TFDS has prepared or the official IDX files.

The arrays are the same from both, in the official order. EMNIST's images, which are transposed in
its files, stand upright.
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
    """Where the official files of a dataset, or of several, are, and which they are."""

    url: str
    files: tuple[File, ...]
    transposed: bool = False  # images in the files, as Cohen et al. 2017 wrote them from MATLAB


def _four(url: str, *files: tuple[int, str]) -> Family:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    named = zip(names, files, strict=True)
    return Family(url, tuple(File(f"{name}-ubyte.gz", *file) for name, file in named))


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
        (
            File(
                "gzip.zip",
                561753746,
                "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
            ),
        ),
        transposed=True,
    ),
}
EMNIST = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")  # its parts
# The SHA-256 of MNIST's pixels in the official order.
_MNIST_PIXELS = {
    "train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
}


def read_prepared(name: str, data_dir: str) -> Arrays:
    """x_train, y_train, x_test and y_test of a dataset, from a copy that TFDS has prepared.

    Args:
      name: a key of FAMILIES, or "emnist/<part>".
      data_dir: where the copy is, see `prepared.find`.

    Raises:
      Unavailable: there is none, or it cannot be read.
    """
    copy = prepared.find(name, data_dir)
    try:
        parts = {split: _read_records(name, copy, split) for split in ("train", "test")}
    except Exception as error:  # TFDS and its readers raise nearly anything
        raise prepared.unreadable(name, copy, error) from error
    arrays = {}
    for split, (x, y) in parts.items():
        arrays[f"x_{split}"] = x
        arrays[f"y_{split}"] = y
    return arrays


def _read_records(name: str, copy: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    from PIL.PngImagePlugin import PngImageFile

    records = prepared.records(copy, split)
    num = len(records)
    pixels = bytearray()
    labels = []
    for start in range(0, num, 10_000):
        for example in records.__getitems__(range(start, min(start + 10_000, num))):
            pixels += PngImageFile(io.BytesIO(example["image"])).tobytes()
            labels.append(example["label"])
    official = _official_order(split, num)
    x = np.frombuffer(pixels, np.uint8).reshape(num, 28, 28, 1)[official]
    y = np.array(labels, np.int32)[official]
    if name == "mnist" and hashlib.sha256(x.data).hexdigest() != _MNIST_PIXELS[split]:
        raise ValueError(f"its {split} split is not MNIST's")
    return _upright(name, x), y


def _official_order(split: str, num: int) -> np.ndarray:
    """Where each example is in a split as TFDS writes it: sorted by a salted hash of its number."""

    def salted(i: int) -> bytes:
        return hashlib.md5(f"{split}{i}".encode(), usedforsecurity=False).digest()

    return np.argsort(sorted(range(num), key=salted))


def family_of(name: str) -> Family:
    """The family of a dataset: `name` is a key of FAMILIES, or "emnist/<part>"."""
    return FAMILIES[name.split("/")[0]]


def _upright(name: str, x: np.ndarray) -> np.ndarray:
    return x.swapaxes(1, 2) if family_of(name).transposed else x


def read_official(name: str, manual_dir: str, downloads: Path, *, network: bool) -> Arrays:
    """x_train, y_train, x_test and y_test of a dataset, from its official files.

    Args:
      name: a key of FAMILIES, or "emnist/<part>".
      manual_dir: where the files are; "": in `downloads`, else they are fetched there.
      downloads: the folder of downloaded files; where it cannot be written, they are not kept.
      network: whether they may be fetched.

    Raises:
      Unavailable: there are no files, and they cannot be fetched (or `network` is False).
      UserError: a file of manual_dir is damaged.
    """
    family = family_of(name)
    if manual_dir:
        return _decode(name, _given(name, family, Path(manual_dir).expanduser()))
    files = _downloaded(family, downloads)
    if files:
        return _decode(name, files)
    if not network:
        raise Unavailable("the download host did not answer within the last hour")
    reason = offline(family)
    if reason:
        raise Unavailable(reason)
    if _is_writable(downloads):
        return _decode(name, _fetch(family, downloads))
    with tempfile.TemporaryDirectory() as tmp:
        return _decode(name, _fetch(family, Path(tmp)))


def _given(name: str, family: Family, folder: Path) -> dict[str, Path]:
    """{name of an official file: its path} in a folder of the user's, verified."""
    for file in family.files:
        if not (folder / file.name).is_file():
            needs = ", ".join(f.name for f in family.files)
            raise Unavailable(f"there is no {file.name} in {folder}; {name} needs {needs}")
        if _sha256(folder / file.name) != file.sha256:
            raise UserError(
                f"data.manual_dir: {folder / file.name} is damaged or not {name}'s "
                "(wrong SHA-256): get it again"
            )
    return {file.name: folder / file.name for file in family.files}


def _downloaded(family: Family, folder: Path) -> dict[str, Path] | None:
    """{name of an official file: its path} in `folder`, where files may have any names.

    None unless all are there and undamaged.
    """
    sizes = {file.num_bytes for file in family.files}
    there = (path for path in folder.glob("*") if path.is_file() and path.stat().st_size in sizes)
    found = {_sha256(path): path for path in there}
    if not found.keys() >= {file.sha256 for file in family.files}:
        return None
    return {file.name: found[file.sha256] for file in family.files}


def _fetch(family: Family, folder: Path) -> dict[str, Path]:
    """{name of an official file: its path} after downloading into `folder`, verified."""
    import tensorflow_datasets as tfds

    try:
        # Forced: TFDS would take a file of the right name for undamaged.
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

    TFDS itself would retry for minutes. The request is made with the client that TFDS uses, so that
    proxies and certificates are treated alike, and in a thread, since neither a name look-up nor a
    proxy need keep to a time limit.
    """
    import requests

    url = family.url
    answer = []

    def ask() -> None:
        file = url + family.files[0].name
        try:
            response = requests.head(file, timeout=PROBE_SECONDS, allow_redirects=True)
        except Exception as error:
            answer.append(f"{url} cannot be reached ({type(error).__name__})")
            return
        told = f"{url} answers {response.status_code} {response.reason}"
        answer.append("" if response.ok else told)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answer[0] if answer else f"{url} does not answer within {PROBE_SECONDS:g} s"


def _decode(name: str, files: dict[str, Path]) -> Arrays:
    """The arrays in official files {name: path}."""
    arrays = {}
    for split in ("train", "test"):
        x = _read_official(name, files, split, "images-idx3", 3)
        y = _read_official(name, files, split, "labels-idx1", 1)
        arrays[f"x_{split}"] = _upright(name, x[..., None])
        arrays[f"y_{split}"] = y.astype(np.int32)
    return arrays


def _read_official(
    name: str, files: dict[str, Path], split: str, kind: str, ndim: int
) -> np.ndarray:
    family, _, part = name.partition("/")
    if part:  # EMNIST's are in one archive
        member = f"gzip/{family}-{part}-{split}-{kind}-ubyte.gz"
        return _read_zipped(files["gzip.zip"], member, ndim)
    prefix = {"train": "train", "test": "t10k"}[split]
    return read_idx(files[f"{prefix}-{kind}-ubyte.gz"], ndim)


def _read_zipped(path: Path, member: str, ndim: int) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(member)
    except Exception as error:  # zipfile, zlib and I/O each raise their own
        raise UserError(f"{path} cannot be unpacked ({error}): get it again") from error
    return _parse_idx(content, f"{member} in {path}", ndim)


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """The array in a gzipped IDX file of unsigned bytes, uint8 with `ndim` axes.

    The file has the bytes (0, 0, 8, ndim), the sizes as big-endian uint32, and the values.

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
        raise UserError(
            f"{what} holds {len(data) - start} values, but its header says {shape}: get it again"
        )
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
