"""MNIST and datasets of its form, from the first of several sources that is there."""

import time
from contextlib import suppress
from pathlib import Path

from absl import logging

from vae_jax.data import cache, images, mnist_files, mnist_subset, prepared
from vae_jax.data.arrays import Arrays
from vae_jax.data.reader import Reader, Request
from vae_jax.data.split import Dataset, assemble
from vae_jax.errors import UserError

_RETRY_SECONDS = 3600  # after so long a download host that did not answer is asked again


def _read_mnist(request: Request) -> Dataset:
    """MNIST; where no source has it, or the subset is asked for, the embedded subset of it."""
    _check_num_test(request)
    offline = request.cache / "data" / "mnist-offline"  # modified when the host last did not answer
    network = request.source == "official" or not _is_recent(offline)
    found, reasons = _first_source(request, network)
    if found is not None:
        return _whole(request, *found)
    key = _key(request.name, "embedded")
    data = cache.cached(request.cache, key, mnist_subset.read)
    if reasons and network:
        with suppress(OSError):  # an unwritable cache has been warned of already
            offline.touch()
    _warn_of_subset(reasons)
    data = images.fit_arrays(request.name, request.cache, key, data, request.fit)
    return assemble(
        request.name,
        "embedded",
        data,
        num_valid=mnist_subset.NUM_HELD_OUT,
        num_test=mnist_subset.NUM_HELD_OUT,
        stratify=True,
    )


def _read_like_mnist(request: Request) -> Dataset:
    """A dataset of the same form, of which no subset is embedded."""
    _check_num_test(request)
    found, reasons = _first_source(request, network=True)
    if found is None:
        name = request.name
        raise UserError(
            f"{name} is not to be had ({'; '.join(reasons)}). To get it, {_how_to_get(name)}"
        )
    return _whole(request, *found)


def _check_num_test(request: Request) -> None:
    """Raises UserError before anything is read."""
    if request.num_test:
        raise UserError(
            f"data.num_test must be 0, not {request.num_test}: {request.name} has a test split of "
            "its own"
        )


def _whole(request: Request, source: str, data: Arrays) -> Dataset:
    """The dataset with its own test split."""
    key = _key(request.name, source)
    data = images.fit_arrays(request.name, request.cache, key, data, request.fit)
    return assemble(request.name, source, data, num_valid=request.num_valid, num_test=0)


def _first_source(request: Request, network: bool) -> tuple[tuple[str, Arrays] | None, list[str]]:
    """(source, arrays) of the first source that has the data, and why those before it have not.

    What is cached already comes first. `network`: whether the download host may be asked.
    """
    name = request.name
    readers = {
        "tfds": lambda: mnist_files.read_prepared(name, request.data_dir),
        "official": lambda: mnist_files.read_official(
            name, request.manual_dir, request.cache / "downloads", network=network
        ),
    }
    folders = {"tfds": request.data_dir, "official": request.manual_dir}
    wanted = [source for source in readers if request.source in ("auto", source)]
    wanted = [source for source in wanted if folders[source]] or wanted  # a named folder decides
    for source in wanted:
        data = cache.read(request.cache, _key(name, source))
        if data is not None:
            return (source, data), []
    reasons = []
    for source in wanted:
        try:
            data = cache.write(request.cache, _key(name, source), readers[source]())
            return (source, data), reasons
        except prepared.Unavailable as error:
            _refuse_fallback(request, source, folders[source], error)
            reasons.append(str(error))
    return None, reasons


def _key(name: str, source: str) -> str:
    """The name of the cache entry."""
    return f"{name.replace('/', '-')}-{source}-v1"


def _refuse_fallback(request: Request, source: str, folder: str, error: Exception) -> None:
    """Raises UserError where the user named the source, or its folder: nothing replaces it."""
    if request.source == "auto" and not folder:
        return
    setting = f'data.source="{source}"'
    if folder:
        setting = "data.data_dir" if source == "tfds" else "data.manual_dir"
    how = _how_to_get(request.name)
    raise UserError(f"{setting}: {error}. To get {request.name}, {how}") from error


def _how_to_get(name: str) -> str:
    files = mnist_files.family_of(name).files
    what = f"the official {files[0].name}" if len(files) == 1 else "the four official .gz files"
    return (
        f"connect to the network, or put {what} into a folder and set data.manual_dir to it, or "
        f"set data.data_dir to where TFDS has prepared {name} with "
        'file_format="array_record"'
    )


def _warn_of_subset(reasons: list[str]) -> None:
    why = 'data.source is "embedded"'
    retry = ""
    if reasons:
        why = f"MNIST is not to be had ({'; '.join(reasons)})"
        retry = '; data.source="official" tries the network at once, "auto" once an hour'
    logging.warning(
        "%s. THIS IS A SUBSET OF MNIST, NOT MNIST: 5,000 digits of its training set, as "
        "4,000/500/500 for train/valid/test; data.num_valid is ignored. The test digits are not "
        "from MNIST's test set, and the numbers compare with no published ones. To get the real "
        "MNIST, %s%s.",
        why,
        _how_to_get("mnist"),
        retry,
    )


def _is_recent(marker: Path) -> bool:
    with suppress(OSError):
        return 0 <= time.time() - marker.stat().st_mtime < _RETRY_SECONDS
    return False


MNIST = Reader(("tfds", "official", "embedded"), _read_mnist)
LIKE_MNIST = Reader(("tfds", "official"), _read_like_mnist)
