import tracemalloc

import numpy as np
import pytest
from making import check, make_program

import vae_jax
from vae_jax import data
from vae_jax.data import blocks, scan
from vae_jax.data.kinds import vector
from vae_jax.errors import UserError
from vae_jax.results.finish import large_values, raise_diverged
from vae_jax.training.suitability import check_data

pytestmark = pytest.mark.quick


def _dataset(x, **counts):
    return data.from_arrays("x", x, num_valid=20, num_test=30, **counts)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Of a few examples each, so that there are many."""
    monkeypatch.setattr(scan, "_BLOCK_BYTES", 1000)


def test_mean_of_bytes_is_exact_and_in_units_of_the_model():
    x = np.random.default_rng(0).integers(0, 256, (250, 6, 5, 3), np.uint8)
    train = _dataset(x).train
    expected = train.take(slice(None)).astype(np.float64).mean(0) / 255
    assert scan.mean(train).dtype == np.float32 and scan.mean(train).shape == (6, 5, 3)
    np.testing.assert_allclose(scan.mean(train), expected, rtol=3e-7)


def test_mean_of_floats_does_not_lose_small_ones():
    x = np.full((250, 4), 1e-4, np.float32)
    x[:, 0] = 1e4
    np.testing.assert_allclose(scan.mean(_dataset(x).train), [1e4, 1e-4, 1e-4, 1e-4], rtol=1e-6)


def test_mean_is_of_evenly_spaced_examples_where_there_are_many(monkeypatch):
    train = _dataset(np.arange(250, dtype=np.float32)[:, None]).train
    monkeypatch.setattr(scan, "_MEAN_EXAMPLES", 50)
    assert scan.mean(train) == train.take(slice(None, None, 4)).mean()
    monkeypatch.setattr(scan, "_MEAN_BYTES", 4 * 20)
    assert scan.mean(train) == train.take(slice(None, None, 10)).mean()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mean_is_of_observed_values(dtype):
    x = np.random.default_rng(0).integers(0, 256, (250, 6, 5, 1)).astype(dtype)
    observed = np.random.default_rng(1).random(x.shape) < 0.6
    observed[:, 2, 3] = False
    train = _dataset(x, observed=observed).train
    kept, values = observed[train.rows], np.float64(x[train.rows])
    count = np.maximum(kept.sum(0), 1)
    expected = np.where(kept, values, 0).sum(0) / count / (255 if dtype == np.uint8 else 1)
    assert scan.mean(train).shape == (6, 5, 1) and scan.mean(train)[2, 3] == 0
    np.testing.assert_allclose(scan.mean(train), expected, rtol=3e-6)


def test_vectors_are_scaled_by_their_observed_values():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(250, 4)) * [1, 100, 1e-3, 0] + [0, -3, 1, 7]
    observed = rng.random(x.shape) < 0.7
    train = _dataset(np.where(observed, x, 1e9), observed=observed).train
    seen = np.where(observed, x.astype(np.float32), np.nan)[train.rows].astype(np.float64)
    found = vector.scaling(train)
    np.testing.assert_allclose(found.shift, np.nanmean(seen, 0), rtol=1e-5)
    np.testing.assert_allclose(found.scale[:3], np.nanstd(seen, 0)[:3], rtol=1e-4)
    assert found.scale[3] == 1.0  # it does not vary


def test_the_largest_values_are_those_that_the_encoder_sees():
    x = np.random.default_rng(0).normal(size=(250, 4)) * [1, 100, 1e-3, 1] + [0, -3, 1, 7]
    observed = np.ones(x.shape, bool)
    train = _dataset(x).train
    x[train.rows[3], 1] = 1e6
    x[train.rows[5], 2], observed[train.rows[5], 2] = 1e9, False
    ds = _dataset(x, observed=observed, columns=["a", "income", "c", "d"])
    scaling = vector.scaling(ds.train)
    seen = np.where(observed, np.float32(x), np.nan)[ds.train.rows]
    expected = np.nanmax(np.abs((seen - scaling.shift) / scaling.scale), 0)
    np.testing.assert_allclose(scan.largest(ds.train, scaling), expected, rtol=1e-4)
    assert large_values(ds, scaling) == "income (14.1 standard deviations)"
    assert large_values(_dataset(np.full((250, 2, 2), 255, np.uint8)), None) == ""
    floats = _dataset(np.arange(4.0).reshape(1, 2, 2) * 1e9 + np.zeros((250, 1, 1)))
    assert large_values(floats, None) == "value 3 (3e+09), value 2 (2e+09), value 1 (1e+09)"


def test_a_loss_that_is_not_finite_at_first_names_the_columns_and_not_the_learning_rate(tmp_path):
    early, late = ([{"diverged_at": step}] for step in (0, 500))
    with pytest.raises(UserError, match=r"step 0: values are too large .* of income: look") as told:
        raise_diverged(early, tmp_path, "income")
    assert "learning_rate" not in str(told.value)
    for members, large in ((late, "income"), (early, "")):
        with pytest.raises(UserError, match="learning_rate"):
            raise_diverged(members, tmp_path, large)


def test_a_training_that_fails_at_first_ends_so(config, tmp_path):
    x = np.random.default_rng(0).random((300, 2, 2)) * [1, 1e30]
    config.data.binarize, config.likelihood.name = "none", "gaussian"
    with pytest.raises(UserError, match=r"at step \d: values are too large .* of value [13] \(\d"):
        vae_jax.train(
            config,
            tmp_path / "run",
            dataset=data.from_arrays("large", x, num_valid=40, num_test=40),
        )


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ((0, 255), True),
        ((0, 1 / 255), True),
        ((0, 1), False),
        ((-1, 1), False),
        ((-0.9, 0.2), False),
    ],
)
def test_images_of_floats_in_a_suspicious_range_are_said(config, caplog, of, said):
    low, high = of
    x = low + (high - low) * np.random.default_rng(0).random((300, 2, 2), np.float32)
    dataset = data.from_arrays("floats", x, num_valid=40, num_test=40)
    config.data.binarize, config.likelihood.name = "none", "gaussian"
    program = make_program(check(config), np.zeros((2, 2, 1)), 220)
    check_data(program, dataset, *scan.value_range(dataset))
    assert ("data.scale='range' scales them" in caplog.text) == said


def test_vectors_in_the_unit_interval_and_of_bytes_are_not_scaled():
    x = np.random.default_rng(0).random((250, 4))
    x[0, 0], x[1, 1] = 0.0, 1.0
    assert vector.scaling(_dataset(x).train) is None
    assert vector.scaling(_dataset(np.full((250, 4), 200, np.uint8)).train) is None
    assert vector.scaling(_dataset(x + 0.5).train) is not None


def test_range_counts_every_value_of_every_split():
    ds = _dataset(np.full((250, 4), 0.5, np.float32))
    assert scan.value_range(ds) == (0.5, 0.5)
    for split in (ds.train, ds.valid, ds.test):
        x = np.array(split.x)
        x[split.rows[0], 1], x[split.rows[-1], 2] = 0.25, 3.0
        changed = split._replace(x=x)
        kind = next(k for k in ("train", "valid", "test") if getattr(ds, k) is split)
        assert scan.value_range(ds._replace(**{kind: changed})) == (0.25, 3.0)


def test_bytes_are_not_read_for_their_range():
    x = np.zeros((250, 4), np.uint8)
    assert scan.value_range(_dataset(x)) == (0.0, 1.0)


@pytest.mark.parametrize("one", [np.uint8(255), np.float32(1)])
def test_binary_is_what_has_two_values_everywhere(one):
    x = np.random.default_rng(0).integers(0, 2, (250, 7)).astype(one.dtype) * one
    ds = _dataset(x)
    assert scan.is_binary(ds)
    for grey in (1, 254) if one == 255 else (0.5, 2.0, -1.0):
        for split in (ds.train, ds.valid, ds.test):
            spoilt = x.copy()
            spoilt[split.rows[-1], 6] = grey
            assert not scan.is_binary(_dataset(spoilt))


def test_scans_need_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(scan, "_BLOCK_BYTES", 1 << 16)
    np.save(tmp_path / "x.npy", np.zeros((20_000, 100), np.float32))  # 8 MB
    ds = _dataset(np.load(tmp_path / "x.npy", mmap_mode="r"))
    tracemalloc.start()
    scan.mean(ds.train), scan.value_range(ds), scan.is_binary(ds)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


@pytest.mark.parametrize(("num", "size"), [(1, 1), (1, 4), (4, 4), (10, 3), (12, 3), (7, 100)])
def test_filled_blocks_have_one_size_and_count_every_position_once(num, size):
    found = list(blocks.filled_blocks(num, size))
    assert all(len(positions) == size for positions, _ in found)
    counted = np.concatenate([positions[:count] for positions, count in found])
    np.testing.assert_array_equal(counted, np.arange(num))
    for i, (positions, count) in enumerate(found):
        assert 0 < count <= size and (positions[count:] == num - 1).all()
        np.testing.assert_array_equal(blocks.filled_block(num, size, i), positions)


def test_nothing_is_no_block():
    assert not list(blocks.filled_blocks(0, 5))
