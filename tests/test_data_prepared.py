"""MNIST's likes from official files, and sets prepared by TFDS: small ones of the same form,
made here."""

import gzip
import hashlib
import importlib.util
import io
import json
import sys
import time
import zipfile
from functools import partial

import jax
import numpy as np
import pytest
from absl import logging
from making import check, make_program
from PIL import Image

import vae_jax
from vae_jax import data
from vae_jax.data import mnist_files, prepared
from vae_jax.errors import UserError
from vae_jax.training.suitability import check_data

NUM = {"train": 70, "test": 20, "validation": 10}


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No cache, no prepared data and no network but what a test makes itself."""
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    for name, family in mnist_files.FAMILIES.items():
        monkeypatch.setitem(mnist_files.FAMILIES, name, family._replace(url="http://127.0.0.1:9/"))


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: found.append(message % args))
    return found


def _refused(match, call, *args, **kwargs):
    with pytest.raises(UserError, match=match) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)


def _digits(split, shape=(28, 28, 1)):
    """(images, labels) of a split: every image tells its number, and which way up it is."""
    x = np.zeros((NUM[split], *shape), np.uint8)
    x[:, 2:20, 4:8] = np.arange(NUM[split])[:, None, None, None] + 100
    x[:, 2:4, 4:14] = 255
    return x, (np.arange(NUM[split]) * 7 % 10).astype(np.uint8)


# --- official files


def _idx(x):
    return gzip.compress(
        bytes((0, 0, 8, x.ndim)) + np.array(x.shape, ">u4").tobytes() + x.tobytes()
    )


def _declare(monkeypatch, family, folder):
    """The files in `folder` are what the family's table says."""
    files = []
    for file in mnist_files.FAMILIES[family].files:
        content = (folder / file.name).read_bytes()
        files.append(
            file._replace(num_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        )
    known = mnist_files.FAMILIES[family]._replace(files=tuple(files))
    monkeypatch.setitem(mnist_files.FAMILIES, family, known)


@pytest.fixture
def official(tmp_path, monkeypatch):
    """Makes the official files of a data set, and returns their folder."""

    def make(name):
        folder, (family, _, part) = tmp_path / "official", name.partition("/")
        folder.mkdir()
        with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
            for split in ("train", "test"):
                x, y = _digits(split)
                if part:
                    archive.writestr(
                        f"gzip/emnist-{part}-{split}-images-idx3-ubyte.gz",
                        _idx(x[..., 0].swapaxes(1, 2)),
                    )
                    archive.writestr(f"gzip/emnist-{part}-{split}-labels-idx1-ubyte.gz", _idx(y))
                else:
                    prefix = {"train": "train", "test": "t10k"}[split]
                    (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(_idx(x[..., 0]))
                    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(_idx(y))
        _declare(monkeypatch, family, folder)
        return folder

    return make


def _check_is_digits(ds):
    for split, name in ((ds.train, "train"), (ds.test, "test")):
        x, y = _digits(name)
        np.testing.assert_array_equal(split.x, x)
        np.testing.assert_array_equal(split.label, y)
        assert split.x.dtype == np.uint8 and split.label.dtype == np.int32


NAMES = ["fashion_mnist", "kmnist", "emnist/balanced", "emnist/letters"]


@pytest.mark.quick
@pytest.mark.parametrize("name", NAMES)
def test_official_files_and_a_prepared_copy_are_the_same(name, official, tmp_path):
    ds = data.load(name, manual_dir=str(official(name)), num_valid=10)
    assert (ds.name, ds.source, ds.train.num, ds.valid.num, ds.test.num) == (
        name,
        "official",
        60,
        10,
        20,
    )
    _check_is_digits(ds)
    assert data.load(name, num_valid=10).source == "official"  # from the cache
    upright = name.partition("/")[1] == ""
    _prepare(
        tmp_path / "tfds",
        name,
        lambda split: _digits(split)[0].swapaxes(1, 2) if not upright else _digits(split)[0],
    )
    ds = data.load(
        name, data_dir=str(tmp_path / "tfds"), num_valid=10, cache_dir=tmp_path / "other"
    )
    assert ds.source == "tfds"
    _check_is_digits(ds)
    assert "tensorflow" not in sys.modules


def test_the_parts_of_emnist_are_different_sets(official, tmp_path):
    folder = official("emnist/digits")
    data.load("emnist/digits", manual_dir=str(folder), num_valid=10)
    _refused(
        r"gzip\.zip cannot be unpacked .*emnist-mnist",
        data.load,
        "emnist/mnist",
        manual_dir=str(folder),
        num_valid=1,
    )
    _refused(r"no dataset 'emnist'; known: .*emnist/", data.load, "emnist", num_valid=1)


@pytest.mark.parametrize("name", NAMES)
def test_other_files_are_refused(name, official):
    folder = official(name)
    file = mnist_files.FAMILIES[name.split("/")[0]].files[-1].name
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    load = partial(data.load, name, manual_dir=str(folder), num_valid=10)
    _refused(rf"data\.manual_dir: .*{file} is damaged or not {name}'s \(wrong SHA-256\)", load)
    (folder / file).unlink()
    _refused(
        rf"data\.manual_dir: there is no {file} in .*To get {name}, connect to the network", load
    )


@pytest.mark.parametrize("name", NAMES)
def test_without_a_network_it_says_so_at_once(name):
    start = time.monotonic()
    _refused(
        rf"{name} is not to be had \(no prepared {name} in .*; "
        r"http://127\.0\.0\.1:9/ cannot be reached .*\)\. To get it, connect to the network, or "
        r"put (the four official \.gz files|the official gzip\.zip) into",
        data.load,
        name,
        num_valid=10,
    )
    assert time.monotonic() - start < 5
    _refused(
        r"must be 0, not 5: .* has a test split of its own",
        data.load,
        name,
        num_valid=10,
        num_test=5,
    )


def test_checksums_are_those_of_tfds():
    folder = importlib.util.find_spec("tensorflow_datasets").submodule_search_locations[0]
    for family, about in mnist_files.FAMILIES.items():
        with open(f"{folder}/url_checksums/{family}.txt") as file:
            lines = {
                url.rsplit("/", 1)[1]: (url, int(size), sha)
                for url, size, sha, _ in map(str.split, file)
            }
        assert {f.name: (f.num_bytes, f.sha256) for f in about.files} == {
            k: v[1:] for k, v in lines.items()
        }


# --- prepared sets


def _png(x):
    file = io.BytesIO()
    Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x).save(file, "PNG")
    file.seek(0)
    return file


def _prepare(
    folder, name, make, splits=("train", "test"), label="label", file_format="array_record"
):
    """A copy of `name` as TFDS prepares it, its images made by make(split)."""
    import tensorflow_datasets as tfds

    shape = make("train").shape[1:]
    features = {"image": tfds.features.Image(shape=shape)} | (
        {label: tfds.features.ClassLabel(num_classes=10)} if label else {}
    )

    family, _, part = name.partition("/")
    configs = [tfds.core.BuilderConfig(name=part)] if part else []

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("3.0.0")
        BUILDER_CONFIGS = configs
        pkg_dir_path = folder

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, _):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            x, y = make(split), _digits(split)[1]
            for i in range(NUM[split]):
                yield i, {"image": _png(x[i])} | ({label: int(y[i])} if label else {})

    Made.name = family
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tqdm.std.tqdm.display", lambda *_, **__: None)
        Made(data_dir=folder, file_format=file_format).download_and_prepare()


def _noise(*shape, high=256):
    return lambda split: (
        np.random.default_rng(len(split)).integers(0, high, (NUM[split], *shape)).astype(np.uint8)
    )


def _sorted(x):
    """Rows in an order that does not depend on TFDS's."""
    return x[sorted(range(len(x)), key=lambda i: x[i].tobytes())]


@pytest.mark.parametrize("name", ["cifar10", "svhn_cropped"])
def test_colour_with_labels_and_a_test_split(name, tmp_path):
    _prepare(tmp_path / "tfds", name, lambda split: _digits(split, (32, 32, 3))[0])
    ds = data.load(name, data_dir=str(tmp_path / "tfds"), num_valid=10)
    assert (ds.name, ds.source, ds.train.num, ds.valid.num, ds.test.num) == (
        name,
        "tfds",
        60,
        10,
        20,
    )
    assert ds.example_shape == (32, 32, 3) and isinstance(ds.train.x, np.memmap)
    for split, kind in ((ds.train, "train"), (ds.test, "test")):
        x, y = _digits(kind, (32, 32, 3))
        number = split.x[:, 10, 5, 0].astype(int) - 100
        np.testing.assert_array_equal(np.sort(number), np.arange(NUM[kind]))
        np.testing.assert_array_equal(split.x, x[number])
        np.testing.assert_array_equal(split.label, y[number])
    assert "tensorflow" not in sys.modules


def test_an_own_validation_split_is_kept(tmp_path):
    make = _noise(218, 178, 3)
    _prepare(tmp_path / "tfds", "celeb_a", make, ("train", "validation", "test"), None)
    load = partial(
        data.load, "celeb_a", data_dir=str(tmp_path / "tfds"), crop="148x148", resize=(64, 64)
    )
    ds = load(num_valid=0)
    assert (ds.train.num, ds.valid.num, ds.test.num) == (70, 10, 20) and ds.train.label is None
    assert (
        ds.preparation
        == "centred 148x148 pixels, resized to 64x64 (height x width, bilinear, antialiased)"
    )
    centre = make("validation")[:, 35:183, 15:163]
    expected = np.array(
        [Image.fromarray(x).resize((64, 64), Image.Resampling.BILINEAR) for x in centre]
    )
    np.testing.assert_array_equal(_sorted(ds.valid.x), _sorted(expected))
    _refused(
        r"data\.num_valid must be 0, not 5: celeb_a has a validation split of its own",
        load,
        num_valid=5,
    )
    _refused(r"data\.num_test must be 0, not 5", load, num_valid=0, num_test=5)
    _refused(r"data\.crop is 219x2, but an image has only 218x178", load, num_valid=0, crop="219x2")


@pytest.mark.parametrize(
    ("name", "splits", "label"),
    [
        ("binarized_mnist", ("train", "validation", "test"), None),
        ("dsprites", ("train",), "label_shape"),
    ],
)
def test_binary_images_are_exactly_zero_and_one_to_the_model(
    name, splits, label, tmp_path, warnings, config
):
    make = _noise(28, 28, 1, high=2)
    _prepare(tmp_path / "tfds", name, make, splits, label)
    held_out = {"num_valid": 0} if len(splits) == 3 else {"num_valid": 20, "num_test": 20}
    ds = data.load(name, data_dir=str(tmp_path / "tfds"), **held_out)
    np.testing.assert_array_equal(_sorted(ds.train.x), _sorted(make("train") * 255))
    assert (ds.train.label is None) == (label is None)
    config.data.binarize = "none"
    program = make_program(check(config), np.full(ds.example_shape, 0.5), ds.train.num)
    check_data(program, ds, 0.0, 1.0)
    assert not warnings
    spoilt = ds.train.x.copy()
    spoilt[5, 5, 5] = 254
    check_data(program, ds._replace(train=ds.train._replace(x=spoilt)), 0.0, 1.0)
    assert "likelihood.name 'bernoulli' is not a likelihood of grey values" in warnings.pop()


def test_grey_images_under_a_binary_name(tmp_path):
    _prepare(
        tmp_path / "tfds",
        "binarized_mnist",
        _noise(28, 28, 1),
        ("train", "validation", "test"),
        None,
    )
    load = partial(data.load, "binarized_mnist", data_dir=str(tmp_path / "tfds"), num_valid=0)
    _refused(r"cannot be read \(an image has other values than 0 and 1\)", load)


def test_sets_without_splits_need_num_test(tmp_path):
    _prepare(tmp_path / "tfds", "shapes3d", _noise(64, 64, 3), ("train",), "label_shape")
    load = partial(data.load, "shapes3d", data_dir=str(tmp_path / "tfds"), num_valid=10)
    _refused(r"shapes3d has no test split: set data\.num_test", load)
    ds = load(num_test=10)
    assert (ds.train.num, ds.valid.num, ds.test.num) == (50, 10, 10)
    assert ds.train.label.tolist() != [0] * 70


def test_omniglot_is_gray_and_resized(tmp_path):
    def make(split):
        return np.repeat(_noise(105, 105, 1)(split), 3, axis=-1)

    _prepare(tmp_path / "tfds", "omniglot", make)
    ds = data.load("omniglot", data_dir=str(tmp_path / "tfds"), resize=(28, 28), num_valid=10)
    small = [
        Image.fromarray(x[..., 0]).resize((28, 28), Image.Resampling.BILINEAR)
        for x in make("train")
    ]
    np.testing.assert_array_equal(_sorted(ds.train.x[..., 0]), _sorted(np.array(small)))
    whole = data.load("omniglot", data_dir=str(tmp_path / "tfds"), num_valid=10)
    assert whole.example_shape == (105, 105, 1) and whole.preparation == ""


def test_another_copy_is_not_taken_for_this_one(tmp_path):
    for i, high in enumerate((2, 256)):
        folder = tmp_path / f"tfds{i}"
        _prepare(folder, "cifar10", _noise(32, 32, 3, high=high))
        x = data.load("cifar10", data_dir=str(folder), num_valid=10).train.x
        assert (x.max() > 1) == (high > 2)
        assert (
            data.load("cifar10", data_dir=str(folder), num_valid=10).train.x.filename == x.filename
        )


@pytest.mark.parametrize("name", sorted(prepared.PREPARED))
def test_what_is_not_prepared_says_how(name, tmp_path):
    expected = (
        rf"{name} is not to be had \(no prepared {name} in .*tensorflow_datasets\): prepare it "
        r"once, which downloads it and needs TensorFlow: "
        r'pip install -e "\.\[prepare\]" && python3 -c "import tensorflow_datasets as tfds; '
        rf"tfds\.builder\('{name}'\)\.download_and_prepare\(file_format='array_record'\)\"$"
    )
    _refused(expected, data.load, name, num_valid=10)
    _refused(
        rf"builder\('{name}', data_dir='{tmp_path}'\)",
        data.load,
        name,
        num_valid=10,
        data_dir=str(tmp_path),
    )
    _refused(
        r"data\.data_dir: nowhere is not a folder",
        data.load,
        name,
        num_valid=10,
        data_dir="nowhere",
    )
    _refused(
        r"data\.source must be one of auto, tfds for",
        data.load,
        name,
        num_valid=10,
        source="official",
    )


def test_copies_that_cannot_be_read(tmp_path):
    _prepare(tmp_path / "tfds", "cifar10", _noise(32, 32, 3))
    load = partial(data.load, "cifar10", data_dir=str(tmp_path / "tfds"), num_valid=10)
    (info,) = (tmp_path / "tfds").glob("cifar10/*/dataset_info.json")
    about = json.loads(info.read_text())
    info.write_text(json.dumps(about | {"fileFormat": "tfrecord"}))
    _refused(
        r"the prepared cifar10 in .* cannot be read \(.*\); it must be whole .*: "
        r"delete it and prepare it once",
        load,
    )
    info.write_text(json.dumps(about))
    (records,) = info.parent.glob("*test*array_record*")
    records.unlink()
    _refused(r"cannot be read", load)
    assert not list((tmp_path / "cache" / "data").glob("cifar10*"))


# --- a user's own colour images, through training


def test_colour_with_labels_trains_from_a_file(tmp_path, config, undrawn):
    x = np.random.default_rng(0).integers(0, 256, (90, 8, 6, 3), np.uint8)
    np.savez(tmp_path / "grey.npz", images=x, labels=np.arange(90) % 3)
    np.savez(tmp_path / "real.npz", images=x / np.float32(255), labels=np.arange(90) % 3)
    config.data.update(name="file", path=str(tmp_path / "real.npz"), binarize="none")
    config.data.update(num_valid=20, num_test=30)
    config.likelihood.name = "gaussian"
    config.train.num_epochs, config.hypers.beta_warmup_epochs, config.eval.nll_samples = 1.0, 0.0, 2
    run = vae_jax.train(config, tmp_path / "run")
    told = run.results["dataset"]
    assert run.step == 2 and run.results["complete"]
    assert (told["num_train"], told["example_shape"]) == (40, [8, 6, 3])
    assert np.isfinite(run.results["members"][0]["test"]["nll"])
    assert run.sample(jax.random.key(0), 2).shape == (2, 8, 6, 3)
    # Grey values are the same data.
    grey = data.load("file", path=str(tmp_path / "grey.npz"), num_valid=20, num_test=30)
    real = data.load("file", path=str(tmp_path / "real.npz"), num_valid=20, num_test=30)
    for split in ("train", "valid", "test"):
        ours, theirs = (run.as_evaluated(ds, split, np.arange(20)).x for ds in (grey, real))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        ours, theirs = (getattr(ds, split).labels(slice(None)) for ds in (grey, real))
        np.testing.assert_array_equal(ours, theirs)
