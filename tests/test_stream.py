import gc
import os
import threading

import numpy as np
import pytest

from vae_jax.data import Split, from_arrays, row_reader, stream
from vae_jax.errors import UserError

pytestmark = pytest.mark.quick


@pytest.fixture
def split():
    x = np.random.default_rng(0).integers(0, 256, (50, 3, 4), np.uint8)
    return from_arrays("noise", x, num_valid=6, num_test=7).train


def _threads():
    return [t for t in threading.enumerate() if t.name.startswith("vae_jax-data")]


def test_every_epoch_is_a_permutation_of_its_own():
    epochs = stream.order(3, 37, 0, 37 * 4).reshape(4, 37)
    assert (np.sort(epochs, axis=1) == np.arange(37)).all()
    assert len({tuple(e) for e in epochs}) == 4
    assert epochs.dtype == np.int64


def test_order_is_a_function_of_position():
    whole = stream.order(1, 10, 0, 100)
    for start in (0, 1, 9, 10, 11, 57):
        for count in (0, 1, 10, 33):
            np.testing.assert_array_equal(
                stream.order(1, 10, start, count), whole[start : start + count]
            )


def test_order_depends_on_the_seed_and_never_changes():
    assert (stream.order(0, 100, 0, 100) != stream.order(1, 100, 0, 100)).any()
    # A resumed run must see the order that its beginning saw, with whatever versions.
    np.testing.assert_array_equal(stream.order(0, 10, 0, 10), [0, 8, 9, 3, 7, 5, 1, 2, 6, 4])


def test_callers_cannot_disturb_each_other():
    first = stream.order(5, 20, 0, 20)
    before = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(stream.order(5, 20, 0, 20), before)


def test_negative_seed():
    with pytest.raises(UserError, match=r"data\.seed"):
        stream.order(-1, 10, 0, 1)


def test_store_is_the_split_flattened(split):
    store = stream.store(split)
    assert store.x.shape == (37, 12) and store.x.dtype == np.uint8 and store.x.flags.c_contiguous
    np.testing.assert_array_equal(store.x, split.x[split.rows].reshape(37, 12))
    assert store.condition is None and store.observed is None


def test_resident_and_streamed_are_the_same_examples(split):
    bounds = [(0, 4), (4, 5), (5, 12)]  # 12 steps of 8 cross two epochs of 37
    kwargs = {"bounds": bounds, "batch_size": 8, "seed": 2}
    store = stream.store(split).x
    resident = list(stream.chunks(split, resident=True, **kwargs))
    streamed = list(stream.chunks(split, resident=False, **kwargs))
    assert len(resident) == len(streamed) == 3
    for (none, where), (given, index), (start, end) in zip(resident, streamed, bounds, strict=True):
        assert none is None and where.dtype == index.dtype == np.int32
        assert where.shape == index.shape == (end - start, 8)
        assert given.x.shape == (8 * (end - start), 12) and given.x.flags.c_contiguous
        np.testing.assert_array_equal(store[where], given.x[index])
    np.testing.assert_array_equal(
        np.concatenate([w for _, w in resident]).ravel(), stream.order(2, 37, 0, 96)
    )


@pytest.mark.parametrize("resident", [False, True])
def test_unshuffled_every_epoch_has_the_order_of_the_split(split, resident):
    how = {"bounds": [(0, 4), (4, 12)], "batch_size": 8, "seed": 2, "shuffle": False}
    store = stream.store(split).x
    found = [
        (store if resident else given.x)[index]
        for given, index in stream.chunks(split, resident=resident, **how)
    ]
    found = np.concatenate(found).reshape(96, 12)
    np.testing.assert_array_equal(found, store[np.arange(96) % 37])


def test_labels_and_what_is_observed_go_with_their_examples(split):
    label = np.arange(50, dtype=np.int32)  # the number of the row
    observed = np.random.default_rng(1).random(split.x.shape) < 0.7
    split = split._replace(columns={"row": label}, observed=observed, condition=("row",))
    kwargs = {"bounds": [(0, 3), (3, 9)], "batch_size": 8, "seed": 2}
    store, order = stream.store(split), stream.order(2, 37, 0, 72)
    np.testing.assert_array_equal(store.condition["row"], split.rows)
    for resident in (True, False):
        chunks = stream.chunks(split, resident=resident, **kwargs)
        found = [(store if rows is None else rows, i) for rows, i in chunks]
        rows = np.concatenate([given.condition["row"][i].ravel() for given, i in found])
        np.testing.assert_array_equal(rows, split.rows[order])
        for name, array in (("x", split.x), ("observed", observed)):
            values = np.concatenate([getattr(given, name)[i].reshape(-1, 12) for given, i in found])
            np.testing.assert_array_equal(values, array[rows].reshape(-1, 12))


@pytest.mark.parametrize("resident", [True, False])
def test_chunks_do_not_depend_on_the_bounds(split, resident):
    def examples(bounds):
        found = stream.chunks(split, bounds=bounds, batch_size=5, seed=0, resident=resident)
        return np.concatenate([(stream.store(split) if r is None else r).x[i] for r, i in found])

    np.testing.assert_array_equal(examples([(0, 9)])[4:], examples([(4, 6), (6, 9)]))
    assert not list(stream.chunks(split, bounds=[], batch_size=5, seed=0, resident=resident))


@pytest.fixture(params=[np.uint8, np.float32])
def mapped(request, tmp_path):
    """30 examples of more than a page in a memory-mapped file, 4 of them before what the split
    sees."""
    x = np.random.default_rng(0).integers(0, 256, (34, 70, 70)).astype(request.param)
    np.save(tmp_path / "x.npy", x)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")[4:, ..., None]
    return Split(x, {}, np.arange(1, 30, 2)), tmp_path / "x.npy"


def _all_of(split, seeds=None):
    bounds = [(0, 2), (2, 5)]
    kwargs = {"bounds": bounds, "batch_size": 7, "seed": 3, "member_seeds": seeds}
    return [rows.x[index] for rows, index in stream.chunks(split, resident=False, **kwargs)]


@pytest.mark.parametrize("seeds", [None, [5, 6]])
def test_files_are_read_as_they_would_be_mapped(mapped, seeds, monkeypatch):
    split, _ = mapped
    preads = []
    monkeypatch.setattr(
        row_reader.os, "preadv", lambda *args, preadv=os.preadv: preads.append(1) or preadv(*args)
    )
    read, in_memory = _all_of(split, seeds), _all_of(split._replace(x=np.array(split.x)), seeds)
    assert len(preads) == 35 * len(seeds or [0])
    for a, b in zip(read, in_memory, strict=True):
        assert a.dtype == split.x.dtype
        np.testing.assert_array_equal(a, b)
    assert not [t for t in threading.enumerate() if t.name.startswith("vae_jax")]


def test_files_that_change_while_they_are_read(mapped):
    split, path = mapped
    os.truncate(path, 5000)
    with pytest.raises(OSError, match=r"x\.npy has become shorter"):
        _all_of(split)


def test_files_that_are_gone_are_still_mapped(mapped):
    split, path = mapped
    expected = _all_of(split)
    path.unlink()
    for a, b in zip(_all_of(split), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_permutations_do_not_pile_up(split, monkeypatch):
    made = []
    monkeypatch.setattr(
        stream,
        "_permutation",
        lambda *args, make=stream._permutation: made.append(args) or make(*args),
    )
    kwargs = {"batch_size": 8, "seed": 2, "resident": True, "member_seeds": [0, 1, 1]}
    assert len(list(stream.chunks(split, bounds=[(i, i + 1) for i in range(20)], **kwargs))) == 20
    assert (
        len(made) == len(set(made)) == 2 * 5
    )  # 160 positions are in 5 epochs of 37: each permutation once a seed


class Recorder:
    """An array that records how often it is read, and fails at the reading of that number."""

    shape = (10, 2)

    def __init__(self, fail_at=None):
        self.reads, self.fail_at = 0, fail_at

    def __getitem__(self, rows):
        self.reads += 1
        if self.reads == self.fail_at:
            raise OSError("the disk is gone")
        return np.zeros((len(rows), 2), np.uint8)


def _streamed(x):
    split = Split(x, {}, np.arange(10))
    return stream.chunks(
        split, bounds=[(i, i + 1) for i in range(20)], batch_size=2, seed=0, resident=False
    )


def test_reading_is_one_chunk_ahead_and_no_more():
    x = Recorder()
    found = _streamed(x)
    for n in range(1, 6):
        next(found)
        for _ in range(100):
            if x.reads == n + 1:
                break
            threading.Event().wait(0.01)
        assert x.reads == n + 1
    found.close()
    assert x.reads == 6


def test_errors_of_the_thread_reach_the_consumer():
    found = _streamed(Recorder(fail_at=3))
    next(found), next(found)
    with pytest.raises(OSError, match="the disk is gone"):
        next(found)
    assert not _threads()


@pytest.mark.parametrize("end", ["close", "collect", "exhaust"])
def test_thread_ends_with_the_generator(end):
    found = _streamed(Recorder())
    next(found)
    assert len(_threads()) == 1
    if end == "close":
        found.close()
    elif end == "exhaust":
        assert len(list(found)) == 19
    else:
        del found
        gc.collect()
    assert not _threads()
