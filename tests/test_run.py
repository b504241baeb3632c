"""A whole split through the encoder: the images of the evaluation, in their order, whatever the size of a block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import untrained

import vae_jax
from vae_jax import data
from vae_jax import rng as streams
from vae_jax.errors import UserError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One short run on `images` that the tests only read."""
    import conftest

    patch = pytest.MonkeyPatch()
    patch.setattr("vae_jax.report.finish.Outcome._draw", lambda *_: None)
    images, config = conftest.images.__wrapped__(), conftest.config.__wrapped__()
    config.train.num_epochs = 0.5
    yield vae_jax.train(config, tmp_path_factory.mktemp("run"), dataset=images), images
    patch.undo()


def binarized(run, dataset, split):
    """By hand: pixel by pixel x ~ Bernoulli(grey), with the key of the example's place in its split."""
    x = getattr(dataset, split).take(slice(None)).reshape(getattr(dataset, split).num, -1) / np.float32(255)
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
    blocks, encode = [], run.encode
    monkeypatch.setattr(run, "encode", lambda x: blocks.append(len(x)) or encode(x))
    again = run.codes(images, "test")
    assert set(blocks) == {min(size, 60)} and len(blocks) == -(-60 // size)
    np.testing.assert_allclose(again.mean, whole.mean, rtol=1e-5, atol=1e-6)
    chosen = run.codes(images, "test", [41, 3])
    np.testing.assert_allclose(chosen.mean, whole.mean[[41, 3]], rtol=1e-5, atol=1e-6)


def test_by_default_the_dataset_is_loaded_and_the_file_lies_in_the_workdir(config, tmp_path):
    config.data.name, config.data.num_valid, config.data.num_test = "digits", 100, 100
    digits = data.load("digits", num_valid=100, num_test=100)
    run = untrained(config, digits, tmp_path, own=())
    codes = run.encode_dataset()
    assert codes.mean.shape == (100, 3) and codes.mean.dtype == np.float32
    np.testing.assert_array_equal(np.load(tmp_path / "codes_test.npz")["mean"], codes.mean)
    np.testing.assert_array_equal(codes.label, digits.test.labels(slice(None)))
    stored = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(stored.replace('"fingerprint": "', '"fingerprint": "0'))
    with pytest.raises(UserError, match="not the data any more"):
        run.encode_dataset()


def test_a_member_of_a_sweep_has_its_own_file(config, images, tmp_path):
    config.sweep.latent_dim = (2, 3)
    run = untrained(config, images, tmp_path)
    assert run.encode_dataset("valid", dataset=images).mean.shape == (40, 2)
    assert (tmp_path / "members" / "0" / "codes_valid.npz").exists()


def test_colour_and_flat_data_of_any_range(config, tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 4, 3, 3))
    config.data.binarize, config.model.likelihood = "none", "gaussian"
    for name, arrays in {"colour": x, "flat": x.reshape(60, -1)}.items():
        dataset = data.from_arrays(name, arrays[:40], arrays[40:], num_valid=10)
        run = untrained(config, dataset, tmp_path / name)
        codes = run.encode_dataset("test", dataset=dataset)
        np.testing.assert_allclose(codes.mean, run.encode(arrays[40:]).mean, rtol=1e-5, atol=1e-6)
        assert codes.label is None and "label" not in np.load(tmp_path / name / "codes_test.npz")


def test_what_cannot_be_is_said(trained, tmp_path, monkeypatch):
    run, images = trained
    with pytest.raises(UserError, match="no split 'tset', only train, valid, test"):
        run.encode_dataset("tset", dataset=images)
    with pytest.raises(UserError, match="one of your own: give it again, as dataset="):
        run.encode_dataset()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        run.encode_dataset("valid", tmp_path / "file" / "x.npz", images)
    monkeypatch.setattr(run, "encode", lambda x: (x,))
    with pytest.raises(UserError, match="has no mean to be its code"):
        run.codes(images, "test")


def test_a_code_without_a_variance_is_saved_without(trained, tmp_path, monkeypatch):
    run, images = trained

    def encode(x):
        return type("Point", (), {"mean": jnp.asarray(x)[:, :3]})

    monkeypatch.setattr(run, "encode", encode)
    codes = run.encode_dataset("test", tmp_path / "x.npz", images)
    assert codes.logvar is None and set(np.load(tmp_path / "x.npz")) == {"mean", "label", "row"}
