import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from absl import logging
from making import describe_dataset

from vae_jax import data
from vae_jax.data import cache, mnist_files, mnist_subset, user_file
from vae_jax.data.split import interleaved, shuffled
from vae_jax.errors import UserError
from vae_jax.workdir import record

pytestmark = pytest.mark.quick

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_files = pytest.mark.skipif(
    not (SHARED / "mnist").is_dir(), reason="the official files are not here"
)
needs_tfds = pytest.mark.skipif(not (SHARED / "tfds").is_dir(), reason="no prepared copy is here")


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No cache, no prepared data and no network but what a test makes itself."""
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    _serve_at(monkeypatch, "http://127.0.0.1:9/")


def _serve_at(monkeypatch, url):
    monkeypatch.setitem(
        mnist_files.FAMILIES, "mnist", mnist_files.FAMILIES["mnist"]._replace(url=url)
    )


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: found.append(message % args))
    return found


@pytest.fixture
def subset(monkeypatch):
    """A quick stand-in for the embedded digits: as many, sorted as well."""
    y = np.repeat(np.arange(10, dtype=np.int32), 500)
    arrays = {
        "x_train": np.broadcast_to(y.astype(np.uint8)[:, None, None, None], (5000, 28, 28, 1)),
        "y_train": y,
    }
    monkeypatch.setattr(mnist_subset, "read", lambda: arrays)


def _images(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def _refused(match, call, *args, **kwargs):
    with pytest.raises(UserError, match=match) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)


# --- splits


def test_splits_are_disjoint_and_complete():
    ds = data.from_arrays("x", _images(100, 5, 5), num_valid=20, num_test=10)
    assert [s.num for s in (ds.train, ds.valid, ds.test)] == [70, 20, 10]
    rows = np.concatenate([ds.train.rows, ds.valid.rows, ds.test.rows])
    assert rows.dtype == np.int64
    np.testing.assert_array_equal(np.sort(rows), np.arange(100))
    assert ds.train.x is ds.valid.x is ds.test.x
    assert ds.example_shape == (5, 5, 1) and ds.dtype == np.uint8 and ds.source == "array"


def test_own_test_split_is_kept_whole():
    x, x_test = _images(30, 4), _images(12, 4)
    ds = data.from_arrays("x", x, x_test, np.arange(30), np.arange(12), num_valid=5)
    np.testing.assert_array_equal(ds.test.take(slice(None)), x_test)
    np.testing.assert_array_equal(ds.test.labels(slice(None)), np.arange(12))
    np.testing.assert_array_equal(ds.train.take([3, 0]), x[ds.train.rows[[3, 0]]])
    np.testing.assert_array_equal(ds.train.labels([3, 0]), ds.train.rows[[3, 0]])
    assert ds.train.label.dtype == np.int32
    assert data.from_arrays("x", x, x_test, num_valid=5).train.labels(0) is None


def test_held_out_rows_are_fixed():
    a = data.from_arrays("a", _images(50, 4), num_valid=5, num_test=5)
    b = data.from_arrays("b", _images(50, 4), num_valid=9, num_test=5)
    np.testing.assert_array_equal(
        a.test.rows, b.test.rows
    )  # num_valid does not touch the test rows
    assert set(a.valid.rows) < set(b.valid.rows)
    assert a.valid.rows.tolist() == [24, 25, 26, 30, 46]  # for ever, whatever the version of NumPy


def test_interleaved_prefixes_hold_the_classes_in_proportion():
    label = np.repeat(np.arange(4), [10, 200, 30, 160])
    order = interleaved(shuffled(400, 1), label)
    np.testing.assert_array_equal(np.sort(order), np.arange(400))
    for n in range(1, 400):
        counts = np.bincount(label[order[:n]], minlength=4)
        assert (abs(counts - n * np.array([10, 200, 30, 160]) / 400) <= 1.5).all()


@pytest.mark.parametrize(
    ("num_valid", "num_test", "match"),
    [
        (0, 5, r"data\.num_valid must be at least 1"),
        (-1, 5, r"data\.num_valid must be at least 1, not -1"),
        (
            20,
            5,
            r"data\.num_valid \(20\) \+ data\.num_test \(5\) must be less than the 20 examples",
        ),
        (15, 5, r"data\.num_valid"),
        (5, 0, r"no test split: set data\.num_test"),
        (5, -1, r"data\.num_test must not be negative"),
    ],
)
def test_impossible_counts(num_valid, num_test, match):
    _refused(match, data.from_arrays, "x", _images(20, 4), num_valid=num_valid, num_test=num_test)


def test_impossible_counts_with_own_test_split():
    make = partial(data.from_arrays, "x", _images(20, 4), _images(5, 4))
    _refused(r"data\.num_test must be 0", make, num_valid=5, num_test=5)
    _refused(r"data\.num_valid \(20\) must be less than the 20", make, num_valid=20)
    assert make(num_valid=19).train.num == 1


# --- labels, missing values, conditions


def test_labels_of_several_names():
    x, age = _images(30, 4), np.linspace(20, 80, 30)
    kind, names = np.arange(30) % 3, {"kind": ("a", "b", "c")}
    ds = data.from_arrays(
        "x", x, num_valid=5, num_test=5, labels={"kind": kind, "age": age}, class_names=names
    )
    assert list(ds.train.columns) == ["kind", "age"] and ds.label_names == ("a", "b", "c")
    for split in (ds.train, ds.valid, ds.test):
        np.testing.assert_array_equal(split.labels([2, 0]), kind[split.rows[[2, 0]]])
        np.testing.assert_array_equal(split.labels(slice(None), "kind"), kind[split.rows])
        np.testing.assert_array_equal(split.labels(1, "age"), np.float32(age[split.rows[1]]))
    assert ds.train.label.dtype == np.int32 and ds.train.columns["age"].dtype == np.float32
    first = data.from_arrays("x", x, None, kind, num_valid=5, num_test=5, labels={"age": age})
    assert list(first.train.columns) == ["label", "age"]
    pair = (age, age[:6])
    own_test = data.from_arrays("x", x, x[:6], num_valid=5, labels={"age": pair})
    np.testing.assert_array_equal(own_test.test.labels(slice(None), "age"), np.float32(age[:6]))


@pytest.mark.parametrize("shape", [(4,), (3, 2), (3, 2, 1)])
def test_missing_values_are_zero_whatever_stood_there(shape):
    x = np.random.default_rng(0).normal(size=(30, *shape))
    observed = np.random.default_rng(1).random(x.shape) < 0.6
    hidden = np.where(observed, x, np.nan)
    ds = data.from_arrays("x", hidden, num_valid=5, num_test=5, observed=observed)
    for split in (ds.train, ds.valid, ds.test):
        rows = split.examples(slice(1, 4))
        mask = observed[split.rows[1:4]].reshape(3, -1)
        np.testing.assert_array_equal(rows.observed, mask)
        expected = np.float32(x[split.rows[1:4]]).reshape(3, -1)
        np.testing.assert_array_equal(rows.x, np.where(mask, expected, 0))
    pair = (observed, observed[:6])
    own_test = data.from_arrays("x", hidden, hidden[:6], num_valid=5, observed=pair)
    mask = own_test.test.examples(np.arange(6)).observed
    np.testing.assert_array_equal(mask, observed[:6].reshape(6, -1))


def test_conditions_are_labels_by_name():
    kind = np.arange(30) % 3
    ds = data.from_arrays("x", _images(30, 4), None, kind, num_valid=5, num_test=5)
    assert ds.train.examples(slice(None)).condition is None
    given = ds.conditioned(("label",)).valid
    found = given.examples([3, 1]).condition
    assert list(found) == ["label"]
    np.testing.assert_array_equal(found["label"], kind[given.rows[[3, 1]]])
    _refused("data.condition names 'age', but x has label", ds.conditioned, ("age",))
    bare = data.from_arrays("bare", _images(30, 4), num_valid=5, num_test=5)
    _refused("data.condition names 'age', but bare has no labels", bare.conditioned, ("age",))


def test_blocks_of_a_split_are_its_examples_in_order():
    x = _images(30, 4)
    split = data.from_arrays("x", x, None, np.arange(30), num_valid=5, num_test=5).train
    found = list(split.blocks(num_bytes=3 * 4))
    assert [len(rows.x) for rows in found] == [3] * 6 + [2]
    np.testing.assert_array_equal(np.concatenate([rows.x for rows in found]), x[split.rows])
    (some,) = split.blocks(positions=np.array([7, 2]))
    np.testing.assert_array_equal(some.x, x[split.rows[[7, 2]]])


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"observed": np.ones((20, 3), bool)}, r"observed has shape \(20, 3\), expected that of x"),
        ({"observed": np.full((20, 4), 2)}, "observed has other values than True and False"),
        ({"observed": np.zeros((20, 4), bool)}, "no value at all is observed"),
        ({"labels": {"age": np.ones(19)}}, r"labels 'age' has shape \(19,\), expected \(20,\)"),
        ({"labels": {"age": np.full(20, np.nan)}}, "labels 'age' has values that are not finite"),
        ({"labels": {"age": np.arange(20) << 32}}, "labels 'age' has values outside of int32"),
        ({"columns": ["a", "b"]}, r"2 columns are named, but .* is \(4,\)"),
    ],
)
def test_unusable_labels_and_masks(given, match):
    _refused(match, data.from_arrays, "x", _images(20, 4), num_valid=3, num_test=3, **given)


def test_with_test_examples_labels_and_masks_come_in_pairs():
    make = partial(data.from_arrays, "x", _images(20, 4), _images(6, 4), num_valid=3)
    _refused("observed must be a pair, of x_train", make, observed=np.ones((20, 4), bool))
    _refused("labels 'age' must be a pair, of x_train", make, labels={"age": np.ones(20)})


# --- arrays and the user's own files


@pytest.mark.parametrize(
    ("x", "shape", "dtype"),
    [
        (_images(9, 4, 5), (4, 5, 1), np.uint8),
        (_images(9, 4, 5, 3), (4, 5, 3), np.uint8),
        (_images(9, 7), (7,), np.uint8),
        (_images(9, 7).astype(np.float64), (7,), np.float32),
        (_images(9, 7).astype(">f4"), (7,), np.float32),
        (_images(9, 7).astype(np.float32), (7,), np.float32),
        (_images(9, 4, 5) > 99, (4, 5, 1), np.uint8),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ""])
def test_forms_of_data(tmp_path, x, shape, dtype, suffix):
    if suffix:
        path = tmp_path / f"x{suffix}"
        (np.save if suffix == ".npy" else np.savez)(path, x)
        load = partial(data.load, "file", path=str(path), num_valid=2, num_test=2)
        assert load().source == "file"
    else:
        load = partial(data.from_arrays, "x", x, num_valid=2, num_test=2)
    expected = (x.astype(np.uint8) * 255 if x.dtype == bool else x).reshape(9, *shape)
    for _ in range(2):  # built, then from the cache
        ds = load()
        assert ds.example_shape == shape and ds.dtype == dtype and ds.dtype.isnative
        np.testing.assert_array_equal(ds.train.take(slice(None)), expected[ds.train.rows])


def test_npy_is_mapped_without_a_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(user_file, "_SMALL", 0)
    np.save(tmp_path / "x.npy", _images(9, 4, 5))
    ds = data.load("file", path=str(tmp_path / "x.npy"), num_valid=2, num_test=2)
    assert Path(ds.train.x.filename) == tmp_path / "x.npy"
    assert not list((tmp_path / "cache").rglob("*.npy"))


@pytest.mark.parametrize("keys", ["x y", "images labels", "x_train y_train x_test y_test"])
def test_layouts_of_npz(tmp_path, keys):
    x, y = _images(20, 4), np.arange(20, dtype=np.uint8)
    values = dict(zip(keys.split(), (x, y, x[:6], y[:6]), strict=False))
    np.savez_compressed(tmp_path / "a.npz", other=np.zeros(3), **values)
    own_test = "x_test" in keys
    ds = data.load("file", path=str(tmp_path / "a.npz"), num_valid=3, num_test=0 if own_test else 4)
    assert (ds.train.num, ds.valid.num, ds.test.num) == ((17, 3, 6) if own_test else (13, 3, 4))
    for split in (ds.train, ds.valid, ds.test):
        np.testing.assert_array_equal(split.take(slice(None)), x[split.labels(slice(None))])
        assert split.label.dtype == np.int32


def test_changed_file_is_read_anew(tmp_path):
    path = tmp_path / "x.npz"
    for value in (1, 2):
        np.savez(path, np.full((9, 4), value, np.uint8))
        os.utime(path, ns=(value, value))
        ds = data.load("file", path=str(path), num_valid=2, num_test=2)
        assert (ds.train.take(slice(None)) == value).all()


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x": _images(9, 4).astype(np.int64)}, r"x_train has dtype int64, expected uint8"),
        ({"x": _images(9)}, r"x_train has shape \(9,\), expected"),
        ({"x": _images(9, 1, 2, 3, 4)}, r"x_train has shape"),
        ({"x": _images(9, 3, 8, 8)}, r"transpose"),
        ({"x": _images(0, 4)}, r"x_train is empty"),
        ({"x": np.array([[1.0, np.nan]] * 9)}, r"NaN or infinite"),
        ({"x": np.array([[1.0, 1e300]] * 9)}, r"NaN or infinite"),
        ({"x": _images(9, 4), "y": np.arange(8)}, r"y_train has shape \(8,\), expected \(9,\)"),
        ({"x": _images(9, 4), "y": 2 * np.eye(9)}, r"y_train has shape \(9, 9\)"),
        (
            {"x": _images(9, 4), "y": np.zeros(9, complex)},
            r"y_train has dtype complex128, expected",
        ),
        ({"x": _images(9, 4), "y": np.full(9, np.inf)}, r"y_train has values that are not finite"),
        ({"x": _images(9, 4), "y": np.arange(9) << 32}, r"int32"),
        (
            {"x_train": _images(9, 4), "x_test": _images(9, 5)},
            r"examples of x_train are uint8 \(4,\), but",
        ),
        ({"x_train": _images(9, 4), "x_test": np.zeros((9, 4))}, r"x_test float32"),
        ({"x_train": _images(9, 4), "y_test": np.arange(9)}, r"y_test, but no x_test"),
        ({"x": np.array([[{}]] * 9)}, r"Python objects"),
        ({"pixels": _images(9, 4), "n": np.ones(1)}, r"holds pixels, n; expected x_train"),
        ({}, r"holds nothing; expected x_train"),
    ],
)
def test_unusable_arrays(tmp_path, arrays, match):
    np.savez(tmp_path / "a.npz", **arrays)
    _refused(match, data.load, "file", path=str(tmp_path / "a.npz"), num_valid=1, num_test=1)


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (np.array([[{}]] * 9), "Python objects"),
        (_images(0, 4), "is empty"),
        (_images(9), "has shape"),
        (np.full((9, 4), np.inf, np.float32), "NaN or infinite"),
    ],
)
def test_unusable_npy(tmp_path, x, match):
    np.save(tmp_path / "a.npy", x)
    for _ in range(2):  # the cache must not remember it as checked
        _refused(match, data.load, "file", path=str(tmp_path / "a.npy"), num_valid=1, num_test=1)


def test_unusable_files(tmp_path):
    load = partial(data.load, "file", num_valid=1, num_test=1)
    np.save(tmp_path / "cut.npy", _images(9, 400))
    os.truncate(tmp_path / "cut.npy", 1000)
    np.savez(tmp_path / "cut.npz", _images(9, 400))
    os.truncate(tmp_path / "cut.npz", 1000)
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "none.npy").touch()
    with zipfile.ZipFile(tmp_path / "no_arrays.npz", "w") as archive:
        archive.writestr("x.npy", b"hello")
    for name in ("cut.npy", "cut.npz", "text.npy", "text.npz", "none.npy", "no_arrays.npz"):
        _refused(rf"data\.path: .*{name} is damaged", load, path=str(tmp_path / name))
    _refused(r"data\.path: there is no file .*nowhere\.npy", load, path="nowhere.npy")
    _refused(r"data\.path: there is no file", load, path=str(tmp_path))
    _refused(r"data\.path is empty", load)
    (tmp_path / "a.txt").touch()
    _refused(r"neither \.npy nor \.npz", load, path=str(tmp_path / "a.txt"))


@pytest.mark.parametrize("suffix", [".npz", ""])
@pytest.mark.parametrize(
    ("y", "expected", "names"),
    [
        (np.arange(9)[:, None] % 3, np.arange(9) % 3, ()),
        (np.arange(9) % 3 * 1.0, np.arange(9) % 3, ()),
        (np.eye(3)[np.arange(9) % 3], np.arange(9) % 3, ()),
        (np.eye(3, dtype=bool)[np.arange(9) % 3], np.arange(9) % 3, ()),
        (np.arange(9) % 2 == 0, [1, 0] * 4 + [1], ("False", "True")),
        (np.array(["dog", "cat", "emu"] * 3), [1, 0, 2] * 3, ("cat", "dog", "emu")),
        (np.array([[b"dog"], [b"cat"], [b"\xc3\xa9mu"]] * 3), [1, 0, 2] * 3, ("cat", "dog", "ému")),
        (np.arange(9) / 2, np.float32(np.arange(9) / 2), ()),
    ],
)
def test_forms_of_labels(tmp_path, y, expected, names, suffix):
    if suffix:
        np.savez(tmp_path / "a.npz", x=_images(9, 4), y=y)
        load = partial(data.load, "file", path=str(tmp_path / "a.npz"), num_valid=2, num_test=2)
    else:
        load = partial(data.from_arrays, "x", _images(9, 4), None, y, num_valid=2, num_test=2)
    for _ in range(2):  # built, then from the cache
        ds = load()
        assert ds.label_names == names
        assert ds.train.label.dtype == (np.float32 if np.asarray(expected).dtype == "f4" else "i4")
        np.testing.assert_array_equal(ds.train.label, expected)


def test_names_of_labels_are_those_of_all_splits():
    make = partial(data.from_arrays, "x", _images(9, 4), _images(3, 4), num_valid=2)
    ds = make(list("bcbcbcbcb"), ["a", "b", "c"], labels={"ok": ([True] * 9, [False] * 3)})
    assert ds.class_names == {"label": ("a", "b", "c"), "ok": ("False", "True")}
    assert ds.train.label.tolist() == [1, 2] * 4 + [1] and ds.test.label.tolist() == [0, 1, 2]
    _refused("labels of different types", make, list("bcbcbcbcb"), np.arange(3))
    _refused("masked labels", make, np.ma.masked_equal(np.arange(9), 3), np.arange(3))
    _refused("labels of int, str", make, np.array(["a", 1] + ["b"] * 7, object), np.arange(3))


@pytest.mark.parametrize(
    ("x", "scale", "expected", "of"),
    [
        (np.array([0, 4095, 1000], np.uint16), "type", np.array([0, 1, 1000 / 4095]), (0, 4095)),
        (np.array([0, 600, 9], np.uint32), "type", np.array([0, 600, 9]) / 1023, (0, 1023)),
        (np.array([0, 200, 9], np.uint16), "type", np.array([0, 200, 9], np.uint8), (0, 255)),
        (np.array([0, 257, 65535], ">u2"), "type", np.array([0, 1, 255], np.uint8), (0, 65535)),
        (np.array([0, 1, 1], np.uint8), "range", np.array([0, 255, 255], np.uint8), (0, 1)),
        (np.array([0, 1, 1], np.uint8), "0:255", np.array([0, 1, 1], np.uint8), (0, 255)),
        (np.array([5, 22, 10], np.uint8), "range", np.array([0, 255, 75], np.uint8), (5, 22)),
        (np.array([0, 50, 9], np.uint8), "0:100", np.array([0, 0.5, 0.09]), (0, 100)),
        (np.array([-1000, 1000, 0], np.int16), "range", np.array([0, 1, 0.5]), (-1000, 1000)),
        (np.array([0.0, 510, 51]), "0:510", np.array([0, 1, 0.1]), (0, 510)),
        (np.array([-3.0, 510, 51]), "type", np.array([-3.0, 510, 51]), None),
        (np.array([True, False, True]), "type", np.array([255, 0, 255], np.uint8), (0, 1)),
    ],
)
def test_the_range_of_stored_numbers(tmp_path, x, scale, expected, of):
    """As x is to be, no level lost, and what was done is recorded."""
    expected = expected if expected.dtype == np.uint8 else np.float32(expected)
    np.save(tmp_path / "x.npy", np.tile(x[:, None, None], (3, 2, 5)))
    for _ in range(2):
        ds = data.load("file", path=str(tmp_path / "x.npy"), scale=scale, num_valid=1, num_test=1)
        assert ds.dtype == expected.dtype and ds.example_shape == (2, 5, 1)
        np.testing.assert_array_equal(np.asarray(ds.train.x)[:, 1, 4, 0], np.tile(expected, 3))
        assert ds.stored_range == of
        assert describe_dataset(ds, "none")["stored_range"] == (of and list(of))


@pytest.mark.parametrize(
    ("x", "scale", "match"),
    [
        ([0, 1] * 5, "type", r'the numbers 0 and 1, .* data\.scale="range"'),
        ([0, 70] * 5, "0:60", r"numbers from 0 to 70, outside of 0:60"),
        ([7] * 10, "range", r"has no number but 7"),
        ([0, 70] * 5, "60:0", r"data\.scale is '60:0', expected"),
        ([0, 70] * 5, "max", r"data\.scale is 'max', expected"),
        ([0, 70] * 5, "0:inf", r"data\.scale is '0:inf', expected"),
    ],
)
def test_impossible_ranges(x, scale, match):
    x = np.array(x, np.uint8).reshape(10, 1, 1)
    _refused(match, data.from_arrays, "x", x, num_valid=1, num_test=1, scale=scale)


def test_suspicious_ranges_are_said_with_what_mends_them(tmp_path, warnings):
    x = _images(9, 5, 6)
    load = partial(data.load, "file", path=str(tmp_path / "x.npy"), num_valid=1, num_test=1)
    np.save(tmp_path / "x.npy", x // 4)
    for _ in range(2):  # from the cache too
        load()
        assert "no number above 63 of 255" in warnings.pop() and not warnings
    load(scale="range"), load(scale="0:255")
    np.save(tmp_path / "x.npy", x)
    load()
    assert not warnings
    make = partial(data.from_arrays, "x", num_valid=1, num_test=1)
    _refused("dtype int16, .* quantities; .* levels set data.scale", make, np.int16(x))
    make(np.uint16(x // 4))
    assert "no number above 63 of 255" in warnings.pop()
    _refused("digits is never scaled", data.load, "digits", scale="range", num_valid=9)


def test_axes_that_may_be_meant_otherwise_are_said(warnings):
    make = partial(data.from_arrays, num_valid=1, num_test=1)
    for shape, other in {
        (9, 28, 3): r"[H, W, C]",
        (8, 8, 40): r"[H, W, N]",
        (9, 4, 5, 3): r"[N, C, H, W]",
        (32, 32, 3, 50): r"[H, W, C, N]",
        (9, 6, 8, 8): r"[N, D, H, W]",
    }.items():
        make("x", _images(*shape))
        assert f"has shape {shape}, taken as [N, H, W" in warnings[0] and other in warnings.pop()
    make("x", _images(9, 28, 28)), make("x", _images(9, 28, 28, 3)), make("x", _images(9, 3))
    assert not warnings


def test_what_is_masked_is_missing():
    x = np.random.default_rng(0).normal(size=(20, 3))
    masked = np.ma.masked_array(np.where(x > 1, np.nan, x), x > 1)
    make = partial(data.from_arrays, "x", num_valid=3, num_test=3)
    found = make(masked).train
    np.testing.assert_array_equal(found.observed, x <= 1)
    np.testing.assert_array_equal(found.x, np.where(x <= 1, x, 0).astype(np.float32))
    found = make(masked, observed=x > -1).train
    np.testing.assert_array_equal(found.observed, (x <= 1) & (x > -1))
    assert make(np.ma.masked_array(x)).train.observed is None
    ds = data.from_arrays("x", masked, x[:5], num_valid=3)
    assert ds.test.observed.all() and ds.test.observed.shape == (5, 3)
    grey = np.ma.masked_less(_images(20, 2, 2) // 2 + np.uint8(100), 110)
    scaled = make(grey, scale="range")
    assert scaled.stored_range == (110, 227) and scaled.train.x.max() == 1.0
    assert not scaled.train.x[~scaled.train.observed].any()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ""])
def test_records_are_vectors_with_named_values(tmp_path, suffix):
    rows = np.array([(i, i / 2, i > 4) for i in range(9)], "i4,f8,?")
    rows.dtype.names = ("age", "height", "ill")
    if suffix:
        (np.save if suffix == ".npy" else np.savez)(tmp_path / f"x{suffix}", rows)
        load = partial(data.load, "file", path=str(tmp_path / f"x{suffix}"))
    else:
        load = partial(data.from_arrays, "x", rows.view(np.recarray))
    for _ in range(2):
        ds = load(num_valid=2, num_test=2)
        assert ds.value_names == ("age", "height", "ill") and ds.dtype == np.float32
        np.testing.assert_array_equal(ds.train.x, [[i, i / 2, i > 4] for i in range(9)])
    hidden = np.ma.array(rows, mask=[(i == 3, False, False) for i in range(9)])
    found = data.from_arrays("x", hidden, num_valid=2, num_test=2).train
    assert np.argwhere(~found.observed).tolist() == [[3, 0]] and found.x[3].tolist() == [0, 1.5, 0]
    text = np.array([(1.0, "x")] * 9, [("age", "f8"), ("town", "U3")])
    _refused("field 'town' of <U3", data.from_arrays, "x", text, num_valid=2, num_test=2)


def test_values_that_float32_cannot_tell_apart_are_refused():
    rng = np.random.default_rng(0)
    for column in (1.7e9 + rng.normal(0, 50, 300), 1.7e12 + np.arange(300.0)):
        x = np.stack([rng.normal(size=300), column], axis=1)
        told = r"x_train: value number 1 is 1.7\d*e\+\d* \+- .* float32 holds no such differences"
        _refused(told, data.from_arrays, "x", x, num_valid=20, num_test=20)
        data.from_arrays("x", x - [0, column.mean()], num_valid=20, num_test=20)
        seen = np.ones(x.shape, bool)
        seen[5, 1], x[5, 1] = False, -999  # what is missing says nothing
        _refused(told, data.from_arrays, "x", x, observed=seen, num_valid=20, num_test=20)
    records = np.array([(i, 10**12 + i) for i in range(300)], [("a", "f8"), ("id", "i8")])
    _refused("value 'id' is", data.from_arrays, "x", records, num_valid=20, num_test=20)
    for constant in (7.0, 0.1 + 0.2, 1e30):  # with the rounding of float64, it does not vary
        x[:, 1] = constant * (1 + 1e-16 * rng.integers(0, 2, 300))
        data.from_arrays("x", x, num_valid=20, num_test=20)


def test_records_are_put_in_one_order():
    names = [("age", "f8"), ("height", "f8")]
    train = np.array([(i, i / 100) for i in range(50)], names)
    test = train[["height", "age"]][:9]
    found = data.from_arrays("x", train, test, num_valid=5)
    assert found.value_names == ("age", "height")
    np.testing.assert_array_equal(found.test.x, np.float32([(i, i / 100) for i in range(9)]))
    other = np.zeros(9, [("age", "f8"), ("weight", "f8")])
    told = "x_test has the values age, weight, expected those of the training data, age, height"
    _refused(told, data.from_arrays, "x", train, other, num_valid=5)


def test_examples_of_which_nothing_is_observed_are_said(warnings):
    seen = np.ones((30, 4), bool)
    seen[::3] = False
    data.from_arrays("x", np.ones((30, 4)), observed=seen, num_valid=5, num_test=5)
    assert any("in 10 examples no value is observed" in note for note in warnings)


def test_missing_values_are_not_resized(tmp_path):
    np.savez(tmp_path / "x.npz", x=_images(9, 8, 8), observed=_images(9, 8, 8) > 100)
    load = partial(data.load, "file", path=str(tmp_path / "x.npz"), num_valid=2, num_test=2)
    _refused("data.resize mixes the missing values of", load, resize=(4, 4))
    cropped = load(crop="6x4")
    assert (cropped.train.observed == (_images(9, 8, 8) > 100)[:, 1:7, 2:6, None]).all()


def test_a_large_file_is_mapped_and_must_not_change(tmp_path, monkeypatch):
    path = tmp_path / "x.npy"
    np.save(path, _images(9, 4, 4))
    load = partial(data.load, "file", path=str(path), num_valid=2, num_test=2)
    small = load()
    np.save(path, _images(9, 4, 4) // 2)
    small.check_unchanged()
    np.testing.assert_array_equal(small.train.x[..., 0], _images(9, 4, 4))
    monkeypatch.setattr(user_file, "_SMALL", 0)
    mapped = load()
    assert isinstance(mapped.train.x, np.memmap)
    mapped.check_unchanged()
    time.sleep(0.02)  # a file system's clock has ticks
    np.save(path, _images(9, 4, 4))
    _refused("x.npy was changed while it was in use", mapped.check_unchanged)


def test_every_example_counts_in_the_fingerprint(monkeypatch):
    x = _images(2000, 3, 3)

    def fingerprint(x):
        ds = data.from_arrays("x", x, num_valid=300, num_test=400)
        return describe_dataset(ds, "none")["fingerprint"]

    def changed(i):
        other = x.copy()
        other[i, 1, 1] ^= 1
        return fingerprint(other)

    assert all(changed(i) != fingerprint(x) for i in range(0, 2000, 97))
    monkeypatch.setattr(record, "WHOLE", 0)  # of large data some
    assert any(changed(i) == fingerprint(x) for i in range(0, 2000, 97))


def test_other_subclasses_are_arrays():
    class Own(np.ndarray):
        """Whose rows are something else."""

        def __getitem__(self, _):
            return "a row"

    ds = data.from_arrays("x", _images(9, 4).view(Own), num_valid=2, num_test=2)
    assert type(ds.train.x) is np.ndarray and ds.train.take(0).shape == (4,)


def test_all_arrays_of_a_file_are_used_or_named(tmp_path, warnings):
    x, y = _images(20, 4), np.arange(20)
    parts = {"x_train": x, "x_valid": x[:5], "x_test": x[:6]}
    parts |= {"y_train": y, "y_valid": y[:5], "y_test": y[:6]}
    observed = np.random.default_rng(0).random(x.shape) < 0.5
    parts |= {"observed_train": observed, "observed_valid": observed[:5]}
    np.savez(tmp_path / "a.npz", **parts, weights=np.zeros(3), x=x)
    for _ in range(2):
        ds = data.load("file", path=str(tmp_path / "a.npz"), num_valid=0)
        assert (ds.train.num, ds.valid.num, ds.test.num) == (20, 5, 6)
        np.testing.assert_array_equal(ds.valid.label, y[:5])
        np.testing.assert_array_equal(ds.valid.observed, observed[:5])
        assert "these arrays are not used: weights, x (" in warnings.pop()
        assert "in 2 examples no value is observed" in warnings.pop() and not warnings


# --- names and sources


def test_wrong_names():
    _refused(r"no dataset 'minst'; known: mnist, ", data.load, "minst", num_valid=1)
    _refused(r"known: digits, ", data.load, "digit", num_valid=1)
    _refused(
        r"data\.source must be one of auto, embedded for digits",
        data.load,
        "digits",
        source="tfds",
        num_valid=1,
    )
    _refused(
        r"data\.path is set, but data\.name is 'digits'",
        data.load,
        "digits",
        path="x.npy",
        num_valid=1,
    )
    _refused(r"data\.num_test must be 0", data.load, "mnist", num_valid=1, num_test=10)


def test_digits():
    from sklearn.datasets import load_digits

    ds = data.load("digits", num_valid=200)
    assert (ds.train.num, ds.valid.num, ds.test.num) == (1297, 200, 300)
    assert ds.example_shape == (8, 8, 1) and ds.dtype == np.uint8 and ds.source == "embedded"
    assert ds.train.x.min() == 0 and ds.train.x.max() == 255
    original = load_digits()
    np.testing.assert_allclose(ds.train.x[..., 0], original.images * 255 / 16, atol=0.5)
    np.testing.assert_array_equal(ds.train.label, original.target)
    share = np.bincount(original.target) / 1797
    for split in (ds.train, ds.valid, ds.test):
        counts = np.bincount(split.labels(slice(None)), minlength=10)
        assert (abs(counts - share * split.num) <= 2).all()
    assert data.load("digits", num_valid=200, num_test=50).test.num == 50


def test_embedded_subset_is_stratified_and_says_so(warnings):
    ds = data.load("mnist", source="embedded", num_valid=5000)
    assert (ds.train.num, ds.valid.num, ds.test.num) == (4000, 500, 500)
    assert ds.source == "embedded" and ds.example_shape == (28, 28, 1) and ds.dtype == np.uint8
    for split, each in ((ds.train, 400), (ds.valid, 50), (ds.test, 50)):
        assert (np.bincount(split.labels(slice(None))) == each).all()
    rows = np.concatenate([ds.train.rows, ds.valid.rows, ds.test.rows])
    assert len(np.unique(rows)) == 5000
    assert (
        len(warnings) == 1
        and "SUBSET" in warnings[0]
        and "data.num_valid is ignored" in warnings[0]
    )


@pytest.mark.usefixtures("subset")
def test_second_start_imports_nothing_slow():
    data.load("mnist", num_valid=100)
    data.load("digits", num_valid=100)
    code = (
        "import sys; from vae_jax import data\nassert data.load('mnist', num_valid=100).source == "
        "'embedded'\ndata.load('digits', num_valid=100)\nslow = {'tensorflow_datasets', "
        "'mlxtend', 'sklearn', 'tensorflow', 'requests'} & set(sys.modules)\nassert not slow, "
        "slow"
    )
    env = os.environ | {"PYTHONPATH": str(Path(data.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


# --- mnist without a network, with one, and with files


@pytest.mark.usefixtures("subset")
@pytest.mark.parametrize("kind", ["refused", "silent", "stuck"])
def test_no_network_is_found_out_quickly(monkeypatch, warnings, kind):
    if kind == "silent":  # takes connections and never answers
        server = socket.create_server(("127.0.0.1", 0))
        _serve_at(monkeypatch, f"http://127.0.0.1:{server.getsockname()[1]}/")
    if kind == "stuck":  # a name look-up that does not come back
        monkeypatch.setattr(mnist_files, "PROBE_SECONDS", 0.3)  # "silent" waits for the true time
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: threading.Event().wait(60))
    start = time.monotonic()
    ds = data.load("mnist", num_valid=100)
    assert time.monotonic() - start < 5
    assert ds.source == "embedded"
    assert "127.0.0.1" in warnings[-1] and "no prepared mnist" in warnings[-1]


@pytest.mark.usefixtures("subset")
def test_network_is_tried_once_an_hour(monkeypatch, tmp_path, warnings):
    probes = []
    monkeypatch.setattr(mnist_files, "offline", lambda _: probes.append(1) or "no network")
    for _ in range(3):
        assert data.load("mnist", num_valid=100).source == "embedded"
    assert len(probes) == 1 and len(warnings) == 3
    _refused(
        r'data\.source="official": no network\. To get',
        data.load,
        "mnist",
        source="official",
        num_valid=9,
    )
    assert len(probes) == 2
    marker = tmp_path / "cache" / "data" / "mnist-offline"
    os.utime(marker, (time.time() - 3601,) * 2)
    data.load("mnist", num_valid=100)
    assert len(probes) == 3


@pytest.mark.usefixtures("subset")
def test_what_the_user_named_is_not_replaced(tmp_path):
    data.load("mnist", source="embedded", num_valid=100)
    load = partial(data.load, "mnist", num_valid=100)
    for source in ("auto", "tfds"):
        _refused(
            r"data\.data_dir: nowhere is not a folder", load, source=source, data_dir="nowhere"
        )
    for source in ("auto", "official"):
        _refused(
            r"data\.manual_dir: there is no train-images",
            load,
            source=source,
            manual_dir=str(tmp_path),
        )
    _refused(
        r'data\.source="tfds": no prepared mnist in .*tensorflow_datasets', load, source="tfds"
    )
    folder = tmp_path / "tfds" / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    _refused(r"data\.data_dir: .* cannot be read", load, data_dir=str(tmp_path / "tfds"))
    assert load().source == "embedded"


@needs_files
def test_official_files(tmp_path, warnings):
    ds = data.load("mnist", manual_dir=str(SHARED / "mnist"), num_valid=5000)
    assert ds.source == "official" and not warnings
    assert (ds.train.num, ds.valid.num, ds.test.num) == (55_000, 5000, 10_000)
    assert len(ds.train.x) == 60_000 and ds.train.label[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.load("mnist", num_valid=5000).source == "official"  # from the cache
    folder = shutil.copytree(SHARED / "mnist", tmp_path / "damaged")
    file = folder / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[99] ^= 1
    file.write_bytes(content)
    load = partial(
        data.load, "mnist", manual_dir=str(folder), num_valid=9, cache_dir=tmp_path / "other"
    )
    _refused(r"t10k-labels-idx1-ubyte\.gz is damaged", load)


@needs_files
@needs_tfds
@pytest.mark.slow
def test_prepared_copy_equals_the_official_files():
    official = data.load(
        "mnist", source="official", manual_dir=str(SHARED / "mnist"), num_valid=5000
    )
    tfds = data.load("mnist", data_dir=str(SHARED / "tfds"), source="tfds", num_valid=5000)
    assert tfds.source == "tfds"
    for a, b in zip(official[2:5], tfds[2:5], strict=True):
        assert list(a.columns) == list(b.columns) == ["label"]
        assert a.observed is None and b.observed is None and a.condition == b.condition == ()
        for x, y in ((a.x, b.x), (a.label, b.label), (a.rows, b.rows)):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)
    assert "tensorflow" not in sys.modules


@needs_files
def test_fetching(monkeypatch, tmp_path):
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(SHARED / "mnist"))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _serve_at(monkeypatch, f"http://127.0.0.1:{server.server_port}/")
    ds = data.load("mnist", num_valid=5000)
    server.shutdown()
    server.server_close()
    assert ds.source == "official" and ds.test.label[:3].tolist() == [7, 2, 1]
    shutil.rmtree(tmp_path / "cache" / "data")  # the downloaded files are still there
    assert data.load("mnist", num_valid=5000).source == "official"
    damaged = max(
        (tmp_path / "cache" / "downloads").glob("*images*"), key=lambda p: p.stat().st_size
    )
    os.truncate(damaged, 1000)
    shutil.rmtree(tmp_path / "cache" / "data")
    _refused(r"cannot be reached", data.load, "mnist", source="official", num_valid=5000)


def _write_idx(path, x, magic=None, cut=None):
    header = bytes(magic or (0, 0, 8, x.ndim)) + np.array(x.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress((header + x.tobytes())[:cut]))
    return path


def test_idx_files(tmp_path):
    for x in (_images(3, 4, 5), _images(300)):
        path = _write_idx(tmp_path / "a.gz", x)
        np.testing.assert_array_equal(mnist_files.read_idx(path, ndim=x.ndim), x)
    path, x = tmp_path / "a.gz", _images(3, 4, 5)
    _refused("a.gz is not an IDX file", mnist_files.read_idx, _write_idx(path, x), ndim=1)
    _refused(
        "a.gz is not an IDX file", mnist_files.read_idx, _write_idx(path, x, (0, 0, 13, 3)), ndim=3
    )
    _refused("a.gz is not an IDX file", mnist_files.read_idx, _write_idx(path, x, cut=9), ndim=3)
    _refused("holds 59 values, but", mnist_files.read_idx, _write_idx(path, x, cut=-1), ndim=3)
    os.truncate(_write_idx(path, x), 40)
    _refused("a.gz cannot be unpacked", mnist_files.read_idx, path, ndim=3)


# --- the cache


@pytest.fixture
def entry(tmp_path):
    arrays = {"x_train": _images(9, 4), "y_train": np.arange(9, dtype=np.int32)}
    return tmp_path, "key", arrays


def test_cache_returns_what_was_written(entry):
    root, key, arrays = entry
    assert cache.read(root, key) is None
    for found in (
        cache.write(root, key, arrays),
        cache.read(root, key),
        cache.write(root, key, arrays),
    ):
        assert found.keys() == arrays.keys()
        for name, x in found.items():
            assert isinstance(x, np.memmap) and not x.flags.writeable
            np.testing.assert_array_equal(x, arrays[name])
    assert os.listdir(root / "data") == [key]


def _cut(folder):
    os.truncate(folder / "x_train.npy", 100)


def _flip(folder):
    content = bytearray((folder / "x_train.npy").read_bytes())
    content[-1] ^= 1
    (folder / "x_train.npy").write_bytes(content)


def _lose(folder):
    (folder / "y_train.npy").unlink()


def _garble(folder):
    (folder / "meta.json").write_text("{")


def _swap_dtype(folder):
    meta = json.loads((folder / "meta.json").read_text())
    meta["arrays"]["y_train"]["dtype"] = "<f4"
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("damage", [_cut, _flip, _lose, _garble, _swap_dtype])
def test_damaged_cache_is_rebuilt(entry, warnings, damage):
    root, key, arrays = entry
    cache.write(root, key, arrays)
    damage(root / "data" / key)
    np.testing.assert_array_equal(
        cache.cached(root, key, lambda: arrays)["x_train"], arrays["x_train"]
    )
    assert len(warnings) == 1 and "damaged" in warnings[0]
    assert cache.read(root, key) is not None and len(warnings) == 1
    assert os.listdir(root / "data") == [key]


def test_cache_that_cannot_be_written(entry, warnings):
    root, key, arrays = entry
    (root / "file").touch()
    assert cache.cached(root / "file", key, lambda: arrays) is arrays
    assert len(warnings) == 1 and "VAE_JAX_CACHE" in warnings[0]


def test_failed_writing_leaves_nothing(entry, warnings, monkeypatch):
    root, key, arrays = entry

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.json, "dumps", lambda *_, **__: full())
    assert cache.write(root, key, arrays) is arrays
    assert not os.listdir(root / "data") and "No space left" in warnings[0]


def test_processes_racing(entry):
    root, key, arrays = entry
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(cache.write(root, key, arrays)))
        for _ in range(8)
    ]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all((r["x_train"] == arrays["x_train"]).all() for r in results) and len(results) == 8
    assert os.listdir(root / "data") == [key]


def test_leftovers_of_a_kill_are_removed(entry):
    root, key, arrays = entry
    for name, age in ((".tmp-old", 90_000), (".tmp-new", 60)):
        (root / "data" / name).mkdir(parents=True)
        os.utime(root / "data" / name, (time.time() - age,) * 2)
    cache.write(root, key, arrays)
    assert sorted(os.listdir(root / "data")) == [".tmp-new", key]


def test_place_of_the_cache(monkeypatch, tmp_path):
    assert cache.root("here") == Path("here")
    assert cache.root() == tmp_path / "cache"
    monkeypatch.delenv("VAE_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.root() == tmp_path / "vae_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.root() == tmp_path / "home" / ".cache" / "vae_jax"
