"""A whole split through the encoder, and functions that are exported.

Codes are of the images of the evaluation, in their order, whatever the size of a block.
"""

import contextlib
import copy
import gc
import json
import pickle
import subprocess
import sys
import weakref
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import pytest
from conftest import untrained
from oracles import float64

import vae_jax
from vae_jax import data
from vae_jax import rng as streams
from vae_jax.errors import UserError
from vae_jax.models import MODELS
from vae_jax.parts import catalogue
from vae_jax.training import inputs, program
from vae_jax.types import Part
from vae_jax.workdir import files, record


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One short run on `images` that the tests only read."""
    import conftest

    patch = pytest.MonkeyPatch()
    patch.setattr("vae_jax.results.finish.Outcome._draw", lambda *_: None)
    images, config = conftest.images.__wrapped__(), conftest.config.__wrapped__()
    config.train.num_epochs = 0.5
    yield vae_jax.train(config, tmp_path_factory.mktemp("run"), dataset=images), images
    patch.undo()


def binarized(run, dataset, split):
    """By hand: pixel by pixel x ~ Bernoulli(grey), with the key of the example's place in its
    split."""
    chosen = getattr(dataset, split)
    x = chosen.take(slice(None)).reshape(chosen.num, -1) / np.float32(255)
    key = streams.of_split(run.config.eval.seed, split).binarize
    keys = [jax.random.fold_in(key, i) for i in range(len(x))]
    return np.stack([jax.random.bernoulli(k, one) for k, one in zip(keys, x, strict=True)])


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_codes_are_those_of_the_evaluations_images(trained, split, tmp_path):
    run, images = trained
    codes = run.encode_dataset(split, tmp_path / "codes.npz", images)
    wanted = run.encode(binarized(run, images, split))
    np.testing.assert_allclose(codes.mean, wanted.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(codes.logvar, wanted.logvar, rtol=1e-5, atol=1e-6)
    chosen = getattr(images, split)
    np.testing.assert_array_equal(codes.row, chosen.rows)
    np.testing.assert_array_equal(codes.label, chosen.label[chosen.rows])
    saved = np.load(tmp_path / "codes.npz")
    assert set(saved) == {"mean", "logvar", "label", "row"}
    for name, array in saved.items():
        np.testing.assert_array_equal(array, getattr(codes, name))


def test_they_give_the_rate_that_was_evaluated(trained):
    run, images = trained
    codes = run.codes(images, "test")
    rate = 0.5 * np.mean(np.sum(codes.mean**2 + np.exp(codes.logvar) - codes.logvar - 1, axis=1))
    assert rate == pytest.approx(run.results["members"][0]["test"]["rate"], rel=1e-4)
    test = run.results["members"][0]["test"]
    assert sum(test["unit_rate"]) == pytest.approx(test["rate"], rel=1e-4)
    np.testing.assert_allclose(codes.mean.var(0), test["unit_activity"], rtol=1e-3)


@pytest.mark.parametrize("size", [1, 7, 60, 1000])
def test_the_size_of_a_block_changes_nothing(trained, monkeypatch, size):
    run, images = trained
    whole = run.codes(images, "test")
    config = run.config.copy_and_resolve_references().unlock()
    config.eval.batch_size = size
    monkeypatch.setattr(run, "config", config)
    blocks, compute = [], run._compute

    def counted(name, block):
        blocks.append(len(block.x))
        return compute(name, block)

    monkeypatch.setattr(run, "_compute", counted)
    again = run.codes(images, "test")
    assert set(blocks) == {min(size, 60)} and len(blocks) == -(-60 // size)
    np.testing.assert_allclose(again.mean, whole.mean, rtol=1e-5, atol=1e-6)
    chosen = run.codes(images, "test", [41, 3])
    np.testing.assert_allclose(chosen.mean, whole.mean[[41, 3]], rtol=1e-5, atol=1e-6)


def test_by_default_the_dataset_is_loaded_and_the_file_lies_in_the_workdir(config, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=rng.integers(0, 256, (300, 6, 5), np.uint8), y=np.arange(300))
    config.data.update(name="file", path=str(tmp_path / "x.npz"), num_valid=40, num_test=60)
    loaded = data.load("file", path=config.data.path, num_valid=40, num_test=60)
    run = untrained(config, loaded, tmp_path, own=())
    codes = run.encode_dataset()
    assert codes.mean.shape == (60, 3) and codes.mean.dtype == np.float32
    np.testing.assert_array_equal(np.load(tmp_path / "codes_test.npz")["mean"], codes.mean)
    np.testing.assert_array_equal(codes.label, loaded.test.labels(slice(None)))
    stored = record.read_record(tmp_path)
    stored["dataset"]["fingerprint"] += "0"
    files.write_json(tmp_path / "config.json", stored)
    with pytest.raises(UserError, match="not the data any more"):
        run.encode_dataset()


def test_data_that_was_renamed_or_moved_is_the_same_data(config, tmp_path, monkeypatch):
    """And a relative path means the same from every folder."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=rng.integers(0, 256, (300, 6, 5), np.uint8))
    monkeypatch.chdir(tmp_path)
    config.data.update(name="file", path="x.npz", num_valid=40, num_test=60)
    load = partial(data.load, "file", num_valid=40, num_test=60)
    run = untrained(config, load(path="x.npz"), tmp_path / "run", own=())
    stored = record.read_record(tmp_path / "run")
    assert stored["config"]["data"]["path"] == str(tmp_path / "x.npz")
    (tmp_path / "y").mkdir()
    (tmp_path / "x.npz").rename(tmp_path / "y" / "renamed.npz")
    scaling = record.scaling_of(stored["dataset"])
    moved = record.describe_dataset(load(path="y/renamed.npz"), "dynamic", scaling)
    fields = run.catalogue.recorded(record.read_config(stored, run.catalogue))[1]
    fields["data"]["path"] = "y/renamed.npz"
    now = stored | {"config": fields, "dataset": moved}
    assert moved["name"] == "renamed.npz" and stored["dataset"]["name"] == "x.npz"
    record.open_workdir(tmp_path / "run", now, run.catalogue)
    other = now | {"dataset": moved | {"fingerprint": "0"}}
    with pytest.raises(UserError, match="holds a different run: dataset fingerprint"):
        record.open_workdir(tmp_path / "run", other, run.catalogue)


def test_a_member_of_a_sweep_has_its_own_file(config, images, tmp_path):
    config.sweep.latent_dim = (2, 3)
    run = untrained(config, images, tmp_path)
    assert run.encode_dataset("valid", dataset=images).mean.shape == (40, 2)
    assert (tmp_path / "members" / "0" / "codes_valid.npz").exists()


def test_colour_and_flat_data_of_any_range(config, tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 4, 3, 3))
    config.data.binarize, config.likelihood.name = "none", "gaussian"
    for name, arrays in {"colour": x, "flat": x.reshape(60, -1)}.items():
        dataset = data.from_arrays(name, arrays[:40], arrays[40:], num_valid=10)
        run = untrained(config, dataset, tmp_path / name)
        codes = run.encode_dataset("test", dataset=dataset)
        np.testing.assert_allclose(codes.mean, run.encode(arrays[40:]).mean, rtol=1e-5, atol=1e-6)
        assert codes.label is None and "label" not in np.load(tmp_path / name / "codes_test.npz")


@pytest.mark.quick
def test_a_part_of_ones_own_that_is_missing_or_new_makes_another_run(config, images, tmp_path):
    run = untrained(config, images, tmp_path / "run")
    stored = record.read_record(tmp_path / "run")
    assert stored["own"] == ["dataset"]
    _, fields = run.catalogue.recorded(record.read_config(stored, run.catalogue))
    now, without = stored | {"config": fields}, {"own": []}
    told = "holds a different run: dataset of your own is"
    with pytest.raises(UserError, match=f"{told} missing; choose another"):
        record.check_same_run(tmp_path / "run", stored, now | without, run.catalogue)
    with pytest.raises(UserError, match=f"{told} new; choose another"):
        record.check_same_run(tmp_path / "run", stored | without, now, run.catalogue)


def test_what_cannot_be_is_said(trained, tmp_path, monkeypatch):
    run, images = trained
    with pytest.raises(UserError, match="no split 'tset', only train, valid, test"):
        run.encode_dataset("tset", dataset=images)
    with pytest.raises(UserError, match="one of your own: give it again, as dataset="):
        run.encode_dataset()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        run.encode_dataset("valid", tmp_path / "file" / "x.npz", images)
    monkeypatch.setattr(run, "_compute", lambda name, block: (block.x,))
    with pytest.raises(UserError, match="has no mean to be its code"):
        run.codes(images, "test")


def test_a_code_without_a_variance_is_saved_without(trained, tmp_path, monkeypatch):
    run, images = trained

    class Point(NamedTuple):
        mean: jax.Array

    monkeypatch.setattr(run, "_compute", lambda name, block: Point(block.x[:, :3]))
    codes = run.encode_dataset("test", tmp_path / "x.npz", images)
    assert codes.logvar is None and set(np.load(tmp_path / "x.npz")) == {"mean", "label", "row"}


# --- run.export, and what is left of it where this package cannot be imported

ELSEWHERE = """
import pickle
import sys
from pathlib import Path

sys.modules["vae_jax"] = None  # importing it is an error now

import jax.export
import numpy as np

folder = Path(sys.argv[1])
found = []
for name, arguments in pickle.loads((folder / "calls").read_bytes()):
    function = jax.export.deserialize((folder / f"{name}.jax").read_bytes())
    assert set(function.platforms) == {"cpu", "cuda", "tpu"}
    found.append(jax.tree.map(np.asarray, function.call(*arguments)))
assert not {"flax", "optax", "ml_collections"} & set(sys.modules)
(folder / "found").write_bytes(pickle.dumps(found))
"""


def call_elsewhere(folder, calls):
    """What exported functions give in another process; `calls` are pairs (name, arguments)."""
    (folder / "calls").write_bytes(pickle.dumps(calls))
    command = [sys.executable, "-c", ELSEWHERE, str(folder)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return pickle.loads((folder / "found").read_bytes())


def make_told(section, ingredients):
    """A VAE whose codes are moved by a label, as an example of a model that is given one."""
    vae = MODELS["vae"].make(section, ingredients)

    def encode(params, x, hypers, rng=None):
        q = vae.encode(params, x, hypers)
        return q._replace(mean=q.mean + x.condition["age"])

    def decode(params, z, condition=None, rng=None):
        return vae.decode(params, z - condition["age"])

    return vae._replace(encode=encode, decode=decode)


def assert_close(a, b, what):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=what)


TOLD = Part("model", "told", make_told, "a model that is given a label", provides=("a rate",))


def vectors(missing):
    rng = np.random.default_rng(0)
    x, age = 5 + 3 * rng.normal(size=(80, 4)), rng.normal(size=80)
    observed = rng.random(x.shape) < 0.7 if missing else None
    return data.from_arrays(
        "people", x, num_valid=10, num_test=20, observed=observed, labels={"age": age}
    )


def run_to_export(kind, config, images, workdir):
    """(a run, its test examples, in the shapes that its exported encoder takes)."""
    dataset, parts = images, ()
    if kind == "autoencoder":
        config.model.name = "ae"
    elif kind != "images":
        dataset, config.likelihood.name = vectors("missing" in kind), "gaussian"
        config.data.binarize = "none"
    if "labels" in kind:
        dataset, parts = dataset.conditioned(("age",)), (TOLD,)
        config.model.name, config.data.condition = "told", ("age",)
    run = untrained(config, dataset, workdir, parts=parts)
    rng = np.random.default_rng(1)  # the first parameters of a decoder hide what it is given
    run.params = jax.tree.map(lambda a: np.float32(0.3 * rng.normal(size=a.shape)), run.params)
    example = run.as_evaluated(dataset, "test", np.arange(20))
    return run, example._replace(x=example.x.reshape(20, *dataset.example_shape))


def test_what_is_exported_needs_this_package_no_more(config, images, tmp_path):
    calls, wanted, kinds = [], [], []
    for kind in ("images", "autoencoder", "missing", "labels", "labels and missing"):
        run, whole = run_to_export(kind, copy.deepcopy(config), images, tmp_path / "runs" / kind)
        folder = tmp_path / "new" / kind
        assert run.export(str(folder)) == folder
        for size in (3, 20):
            example = jax.tree.map(lambda leaf, size=size: np.asarray(leaf[:size]), whole)
            z = np.random.default_rng(size).normal(size=(size, 3)).astype(np.float32)
            labels = [] if example.condition is None else [example.condition]
            observed = [] if example.observed is None else [example.observed]
            posterior = run.encode(*example)
            wanted.append({"mean": posterior.mean})
            if kind != "autoencoder":
                wanted[-1]["logvar"] = posterior.logvar
            wanted.append(run.decode(z, example.condition))
            inputs = [example.x, *(labels or [{}] * len(observed)), *observed]
            calls += [(f"{kind}/encoder", inputs), (f"{kind}/decoder", [z, *labels])]
            kinds += [kind] * 2
            assert wanted[-2]["mean"].shape == (size, 3)
            assert wanted[-1].shape == (size, *run.example_shape)
    found = call_elsewhere(tmp_path / "new", calls)
    for kind, ours, theirs in zip(kinds, wanted, found, strict=True):
        assert all(np.std(leaf, axis=0).max() > 1e-2 for leaf in jax.tree.leaves(theirs)), kind
        assert jax.tree.structure(ours) == jax.tree.structure(theirs), kind
        jax.tree.map(partial(assert_close, what=kind), ours, theirs)


def test_export_json_says_the_shapes(trained, tmp_path):
    run, _ = trained
    run.export(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "encoder.jax",
        "decoder.jax",
        "export.json",
    }
    about = json.loads((tmp_path / "model" / "export.json").read_text())
    assert len(about["encoder"]) == len(about["decoder"]) == 1
    assert "(B, 6, 5, 1)" in about["encoder"][0] and "(B, 3)" in about["decoder"][0]
    assert about["step"] == run.step == 5 and about["jax"] == jax.__version__
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        run.export(tmp_path / "file" / "model")


def test_products_are_float32s_whatever_is_computed(trained, tmp_path, monkeypatch):
    """On a CPU they always are: what is looked at is what a GPU would be told."""
    run, images = trained
    assert record.read_record(run.workdir)["devices"]["matmul_precision"] == "highest"
    told = []

    def watched(function):
        def again(*args, **kwargs):
            told.append(jax.config.jax_default_matmul_precision)
            return function(*args, **kwargs)

        return again

    run = copy.copy(run)
    functions = {name: f for name, f in run.model._asdict().items() if callable(f)}
    run.model = run.model._replace(**{name: watched(f) for name, f in functions.items()})
    monkeypatch.setattr("vae_jax.api._prepare", watched(lambda *_: 1 / 0))
    x, z = images.test.take(slice(4)), np.zeros((4, 3), np.float32)
    key = jax.random.key(0)
    uses = {
        "train": lambda: vae_jax.train(run.config, tmp_path),
        "evaluate": lambda: vae_jax.evaluate(run.workdir),
        "encode": lambda: run.encode(x),
        "decode": lambda: run.decode(z),
        "sample": lambda: run.sample(key, 4),
        "reconstruct": lambda: run.reconstruct(key, x),
        "log_likelihood": lambda: run.log_likelihood(key, x, 2),
        "export": lambda: run.export(tmp_path / "exported"),
    }
    for given, wanted in ((None, "highest"), ("tensorfloat32", "tensorfloat32")):
        for name, use in uses.items():
            given_up = name in ("train", "evaluate")
            ends = pytest.raises(ZeroDivisionError) if given_up else contextlib.nullcontext()
            with jax.default_matmul_precision(given), ends:
                use()
            assert told and set(told) == {wanted}, (name, given)
            told.clear()


# --- what is given to a run in a notebook


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """A run on colour images of real values in [0, 1], which `record` says; never trained."""
    import conftest

    x = np.random.default_rng(0).integers(0, 256, (60, 5, 4, 3), np.uint8)
    config = conftest.config.__wrapped__()
    config.data.binarize, config.likelihood.name = "none", "gaussian"
    dataset = data.from_arrays("colour", x[:40], x[40:], num_valid=10)
    run = untrained(config, dataset, tmp_path_factory.mktemp("colour"))
    run._program = run._program._replace(facts=run._program.facts._replace(value_range=(0.0, 1.0)))
    return run, x


def test_every_shape_of_a_batch_is_the_same_batch(trained):
    run, images = trained
    x = images.test.take(slice(0, 8))
    wanted = run.encode(x)
    seen = jax.jit(lambda x: x / jax.numpy.float32(255))(x.reshape(8, 30))  # as in training
    np.testing.assert_array_equal(inputs.batch(run._program, x, None, None).x, seen)
    for same in (x[..., 0], x.reshape(8, 30), jax.numpy.asarray(x)):
        jax.tree.map(np.testing.assert_array_equal, run.encode(same), wanted)


def test_what_is_not_a_batch_of_examples_is_refused(trained, colour):
    run, images = trained
    x = images.test.take(slice(0, 8))
    grey = x.astype(np.float32)
    holes, missing = grey / 255, np.ones(x.shape, bool)
    holes[2, 1, 1], missing[2, 1, 1] = np.nan, False
    of_colour = r"expected \[B, 5, 4, 3\] or \[B, 60\]"
    wrong = [
        (colour[0], colour[1].transpose(0, 3, 1, 2), {}, of_colour + ": transpose it"),
        (colour[0], colour[1].transpose(0, 2, 1, 3), {}, of_colour + "$"),
        (colour[0], colour[1].astype(float), {}, "on average, .* from 0 to 1: scale them"),
        (run, x.transpose(0, 2, 1, 3), {}, r"expected \[B, 6, 5, 1\] or \[B, 30\] or \[B, 6, 5\]"),
        (run, x[0], {}, r"for one example give x\[None\]"),
        (run, x.astype(np.int64), {}, "x is int64"),
        (run, [[1.0], [1.0, 2.0]], {}, "x is not an array"),
        (run, grey, {}, r"values from 0 to 25\d, but this model is of values in \[0, 1\]"),
        (run, -grey / 255, {}, r"values in \[0, 1\]"),
        (run, holes, {}, "NaN or infinite: .* observed="),
        (run, holes, {"observed": np.ones(x.shape, bool)}, "NaN or infinite"),
        (run, holes, {"observed": missing[:4]}, "observed is of 4 examples, but x of 8"),
        (run, holes, {"observed": missing * 2}, "other values than True and False"),
        (run, holes, {"observed": missing.transpose(0, 2, 1, 3)}, "observed has shape"),
        (run, x, {"condition": {"age": np.ones(8)}}, "condition has age, expected no labels"),
    ]
    for of, given, more, told in wrong:
        for use in (of.encode, partial(of.reconstruct, 0), partial(of.log_likelihood, 0)):
            with pytest.raises(UserError, match=told):
                use(given, **more)
    assert np.isfinite(run.encode(holes, observed=missing).mean).all()
    assert np.isfinite(colour[0].encode(np.random.normal(size=(8, 60)) + 0.5).mean).all()
    for z, told in (
        (np.ones((2, 4)), r"\[B, 3\]"),
        (np.full((2, 3), np.nan), "NaN"),
        ({}, "array"),
    ):
        with pytest.raises(UserError, match=told):
            run.decode(z)
    for rng in (0.5, None, np.random.default_rng(0), jax.random.split(jax.random.key(0)), 2**80):
        with pytest.raises(UserError, match="expected a key such as"):
            run.sample(rng, 2)
    with pytest.raises(UserError, match="num is -1, expected a whole number, 0 or more"):
        run.sample(0, -1)
    with pytest.raises(UserError, match="num_samples is 0, expected a whole number, 1 or more"):
        run.log_likelihood(0, x, 0)


def test_labels_are_those_of_the_model(config, images, tmp_path):
    run, whole = run_to_export("labels", config, images, tmp_path)
    for given in (None, {"sex": np.ones(20)}, {"age": np.ones(20), "sex": np.ones(20)}):
        with pytest.raises(UserError, match="expected age"):
            run.encode(whole.x, given)
    with pytest.raises(UserError, match=r"condition 'age' has shape \(3,\), expected \(20,\)"):
        run.encode(whole.x, {"age": np.ones(3)})
    with pytest.raises(UserError, match=r"x is uint8, .* numbers in units of their own"):
        run.encode(np.ones((2, 4), np.uint8), {"age": np.ones(2)})


def everything(run, x, z):
    """What a run computes of examples and codes."""
    return {
        "encode": run.encode(x),
        "decode": run.decode(z),
        "sample": run.sample(1, len(z), noise=True),
        "reconstruct": run.reconstruct(jax.random.key(2), x),
        "log_likelihood": run.log_likelihood(np.int64(3), x, 5),
    }


def test_an_empty_batch_has_an_empty_result(trained):
    run, images = trained
    found = everything(run, images.test.take(slice(0, 0)), np.zeros((0, 3)))
    assert {leaf.shape[0] for leaf in jax.tree.leaves(found)} == {0}
    assert found["decode"].shape == found["sample"].shape == (0, 6, 5, 1)


def test_blocks_change_nothing_and_few_are_compiled(trained, monkeypatch):
    run, images = trained
    x, z = images.train.take(slice(0, 47)), np.random.default_rng(0).normal(size=(47, 3))
    assert run.config.eval.batch_size == 100
    whole = everything(run, x, z)
    config = run.config.copy_and_resolve_references().unlock()
    config.eval.batch_size = 16
    monkeypatch.setattr(run, "config", config)
    rows, compute = set(), run._compute

    def counted(name, block, rng, positions, **static):
        rows.add(len(positions))
        return compute(name, block, rng, positions, **static)

    monkeypatch.setattr(run, "_compute", counted)
    for size in (47, 31, 9):  # noise belongs to a position
        found = everything(run, x[:size], z[:size])
        part = jax.tree.map(lambda leaf, size=size: leaf[:size], whole)
        jax.tree.map(partial(assert_close, what=str(size)), found, part)
    assert rows == {16}


def test_inside_a_users_own_functions_nothing_changes(trained):
    run, images = trained
    x, z = images.test.take(slice(0, 8)) / np.float32(255), np.ones((8, 3), np.float32)
    plain = everything(run, x, z)
    traced = jax.jit(partial(everything, run))(x, z)
    jax.tree.map(partial(assert_close, what="jit"), traced, plain)
    one_by_one = jax.vmap(lambda z: run.decode(z[None])[0])(z)
    assert_close(one_by_one, plain["decode"], "vmap")
    gradient = jax.grad(lambda z: run.decode(z).sum())(z)
    assert gradient.shape == z.shape and np.abs(gradient).max() > 0
    seeded = jax.jit(lambda seed: run.sample(seed, 8, noise=True))(1)
    assert_close(seeded, plain["sample"], "a seed that is traced")
    scaled = jax.jit(lambda scale: scale * run.decode(z))(2.0)  # z has values, scale has none
    assert_close(scaled, 2 * plain["decode"], "beside what is traced")


# --- its life


def test_a_run_that_has_computed_is_freed_and_what_is_compiled_serves_the_next(trained):
    given, images = trained
    x, z = images.test.take(slice(0, 8)), np.ones((8, 3), np.float32)
    alive, traced = [], []
    for _ in range(3):
        run = vae_jax.load(given.workdir)
        everything(run, x, z)
        traced.append(run.model)
        alive.append(weakref.ref(run))
        del run
        gc.collect()
    assert [ref() for ref in alive] == [None] * 3
    assert traced[0] == traced[1] == traced[2]


def test_equal_settings_are_one_model_but_parts_of_ones_own_are_asked_again(
    config, images, monkeypatch
):
    make_model = program.make_model.__wrapped__  # without what the tests remember
    facts = program.facts_of(images)

    def made(parts=(), width=3, facts=facts):
        return make_model(config, facts, catalogue(parts), width)

    same = made()
    config.hypers.seed, config.hypers.beta = 5, 2.0
    assert made() == same
    assert made(width=4) != same
    assert made(facts=facts._replace(x_mean=facts.x_mean / 2)) != same
    config.network.hidden = (17,)
    assert made() != same
    config.model.name = "told"
    assert made((TOLD,)) != made((TOLD,))


def test_a_run_can_be_pickled_and_copied(trained):
    run, images = trained
    x, z = images.test.take(slice(0, 8)), np.ones((8, 3), np.float32)
    wanted = everything(run, x, z)
    for again in (pickle.loads(pickle.dumps(run)), copy.copy(run), copy.deepcopy(run)):
        jax.tree.map(np.testing.assert_array_equal, everything(again, x, z), wanted)
        assert repr(again) == repr(run) and again.results == run.results
        assert again.config == run.config and again.model == run.model


def test_parts_of_ones_own_are_in_a_pickle_by_their_names(config, images, tmp_path):
    run, whole = run_to_export("labels", config, images, tmp_path / "told")
    again = pickle.loads(pickle.dumps(run))
    jax.tree.map(np.testing.assert_array_equal, again.encode(*whole), run.encode(*whole))
    nameless = TOLD._replace(make=lambda *given: make_told(*given))
    dataset = vectors(False).conditioned(("age",))
    run = untrained(config, dataset, tmp_path / "nameless", parts=(nameless,))
    with pytest.raises(UserError, match=r"the model 'told' of your own cannot .* module"):
        pickle.dumps(run)
    assert copy.deepcopy(run).catalogue is run.catalogue


SETTINGS = {
    "float64": float64,
    "rbg": lambda: jax.default_prng_impl("rbg"),
    "threefry_partitionable": lambda: jax.threefry_partitionable(False),
    "strict promotion": lambda: jax.numpy_dtype_promotion("strict"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_numbers_do_not_depend_on_settings_of_jax(trained, name):
    run, images = trained

    def numbers(run):
        x = images.test.take(slice(0, 3))
        drawn = run.sample(7, 3, noise=True), run.log_likelihood(1, x, 4)
        return *drawn, run.codes(images, "test", [0, 2]).mean, run.encode(x).logvar

    expected = numbers(run)
    with SETTINGS[name]():
        found = numbers(vae_jax.load(run.workdir))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)


def test_masks_and_two_shades_of_black_are_refused(trained):
    run, _ = trained
    x = np.ma.masked_less(np.random.default_rng(0).random((3, 6, 5, 1)), 0.5)
    with pytest.raises(UserError, match=r"x is a masked array: give its values, np.ma.getdata"):
        run.log_likelihood(0, x, 3)
    with pytest.raises(UserError, match="x is uint8 of 0 and 1, two shades of black"):
        run.encode((x.data > 0.5).astype(np.uint8))
    assert run.encode(x.data > 0.5).mean.shape == (3, 3)
    with pytest.raises(UserError, match="expected a key such as"):
        run.sample((1 << 32) + 5, 3)


def test_positions_are_whatever_indexes_an_array(trained):
    run, images = trained
    whole = run.codes(images, "test").mean
    for positions in ([-1, 0], np.arange(60) < 3, np.array([5])):
        found = run.codes(images, "test", positions)
        np.testing.assert_allclose(found.mean, whole[positions], rtol=1e-5, atol=1e-6)
    for positions, told in (
        ([], "expected a list of one or more"),
        (3, "expected a list of one or more"),
        ([60], "test has 60 examples"),
        (np.arange(9) < 3, "test has 60 examples"),
    ):
        with pytest.raises(UserError, match=told):
            run.codes(images, "test", positions)
    with pytest.raises(UserError, match="there is no split 'validation', only"):
        run.codes(images, "validation")


def test_a_run_whose_workdir_is_gone_says_so(trained, tmp_path):
    run = copy.copy(trained[0])
    run.workdir = tmp_path / "gone"
    with pytest.raises(UserError, match=r"gone holds no run any more"):
        run.encode_dataset("test")
