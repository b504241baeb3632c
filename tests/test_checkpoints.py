"""Damage is found, named, and survived."""

import shutil
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.errors import SaveError, UserError
from vae_jax.types import Best, TrainState
from vae_jax.workdir import checkpoints

pytestmark = pytest.mark.quick


def state(value):
    params = {
        "encoder": {"w": jnp.full((2, 40, 30), value)},
        "decoder": {"w": jnp.arange(100.0).reshape(2, 50) * value},
    }
    best = Best(jax.tree.map(jnp.copy, params), jnp.float32([-1.5, -2]), jnp.int32([2, 1]))
    never = (
        jnp.int32([-1, -1]),
        jnp.int32([-1, -1]),
    )  # of two buffers: one could not be donated twice
    return TrainState(jnp.int32([3, 3]), params, (jnp.zeros((2, 7)),), None, best, *never)


def abstract():
    return jax.eval_shape(lambda: state(0.0))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    with checkpoints.Writer(folder, keep=2) as writer:
        for step in (1, 2, 3):
            writer.save(step, state(float(step)))
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def files(folder):
    """Every file of the newest checkpoint, largest first."""
    found = [p for p in (folder / "3").rglob("*") if p.is_file()]
    return sorted(found, key=lambda p: -p.stat().st_size)


def assert_restored(folder, step):
    found, restored, _ = checkpoints.restore(folder, abstract())
    assert found == step
    assert isinstance(restored, TrainState)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state(float(step))), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_latest_two_are_kept_and_restored_bit_for_bit(folder):
    assert checkpoints.steps(folder) == [3, 2]
    assert_restored(folder, 3)


def test_nothing_saved(tmp_path):
    assert checkpoints.restore(tmp_path / "none", abstract()) is None


def test_a_saved_state_may_be_donated_at_once(tmp_path):
    change = jax.jit(lambda tree: jax.tree.map(lambda a: a * 0, tree), donate_argnums=0)
    with checkpoints.Writer(tmp_path, keep=2) as writer:
        original = state(3.0)
        writer.save(3, original)
        change(original)
    assert_restored(tmp_path, 3)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_flipped_bit_in_the_arrays(folder, caplog, every):
    """Every payload file, one bit at a time: the state is right or the one before is used."""
    for i, path in enumerate(files(folder), start=2):
        original = path.read_bytes()
        end = len(original)
        positions = (0, end // 3, end // 2, end - 1)
        for position in positions if every else positions[i % 4 : i % 4 + 1]:
            damaged = bytearray(original)
            damaged[position] ^= 0x10
            path.write_bytes(damaged)
            step, restored, _ = checkpoints.restore(folder, abstract())
            expected = jax.tree.leaves(state(float(step)))
            assert all(
                (a == b).all() for a, b in zip(jax.tree.leaves(restored), expected, strict=True)
            ), path
            if i == 2 and position == end // 2:
                assert step == 2 and f"{folder}/3 cannot be read" in caplog.text
        path.write_bytes(original)
    assert_restored(folder, 3)


def test_a_changed_value_that_orbax_accepts_is_found_by_its_digest(tmp_path, monkeypatch, caplog):
    right = checkpoints.digests
    with checkpoints.Writer(tmp_path, keep=2) as writer:
        writer.save(1, state(1.0))
        monkeypatch.setattr(
            checkpoints, "digests", lambda tree: right(jax.tree.map(lambda a: a + 1, tree))
        )
        writer.save(2, state(2.0))
    monkeypatch.undo()
    assert_restored(tmp_path, 1)
    assert "digest of" in caplog.text and "does not match" in caplog.text


@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_a_truncated_or_deleted_file(folder, damage, caplog):
    found = 0
    for path in files(folder):
        original = path.read_bytes()
        if damage == "delete":
            path.unlink()
        else:
            path.write_bytes(original[: len(original) // 2])
        step, restored, _ = checkpoints.restore(folder, abstract())
        expected = jax.tree.leaves(state(float(step)))
        assert all(
            (a == b).all() for a, b in zip(jax.tree.leaves(restored), expected, strict=True)
        ), path
        found += step == 2
        path.write_bytes(original)
    assert found >= 3 and "cannot be read" in caplog.text


def test_all_damaged(folder):
    for step in (2, 3):
        shutil.rmtree(folder / str(step) / "state")
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read \(3, 2; of the newest: "):
        checkpoints.restore(folder, abstract())


def test_a_damaged_step_is_set_aside_and_can_be_saved_again(folder):
    shutil.rmtree(folder / "3" / "state")
    step, _, _ = checkpoints.restore(folder, abstract(), set_aside=True)
    assert step == 2 and checkpoints.steps(folder) == [2]
    assert (folder / "damaged-3").is_dir()
    with checkpoints.Writer(folder, keep=2) as writer:
        writer.save(3, state(3.0))
    assert_restored(folder, 3)


def test_another_model_is_not_restored_into(folder):
    other = abstract()._replace(params={"encoder": jax.ShapeDtypeStruct((2,), jnp.float32)})
    with pytest.raises(UserError):
        checkpoints.restore(folder, other)


def test_a_full_disk_is_one_line_and_keeps_what_was_there(folder, monkeypatch):
    writer = checkpoints.Writer(folder, keep=2)
    error = OSError(28, "No space left on device")
    monkeypatch.setattr(writer.manager, "save", lambda *_, **__: (_ for _ in ()).throw(error))
    with (
        pytest.raises(
            UserError, match=r"disk full while saving to .*earlier checkpoints are intact"
        ),
        writer,
    ):
        writer.save(4, state(4.0))
    assert_restored(folder, 3)


def test_a_save_that_fails_in_the_background_is_noticed(tmp_path, monkeypatch):
    writer = checkpoints.Writer(tmp_path, keep=2)
    error = ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device")
    monkeypatch.setattr(writer.manager, "close", lambda: (_ for _ in ()).throw(error))
    with pytest.raises(UserError, match="disk full"), writer:
        writer.save(1, state(1.0))


def test_whatever_fails_in_a_save_is_one_line(tmp_path):
    (tmp_path / "checkpoints").touch()
    with pytest.raises(SaveError, match=r"cannot save to .*checkpoints \(.*File exists"):
        checkpoints.Writer(tmp_path / "checkpoints", keep=2)
    error = ValueError("OUT_OF_RANGE: File too large\nand 130 more lines")
    writer = checkpoints.Writer(tmp_path / "other", keep=2)
    writer.manager.save = mock.Mock(side_effect=error)
    with pytest.raises(SaveError, match=r"cannot save to .*File too large\); earlier") as caught:
        writer.save(1, state(1.0))
    assert "\n" not in str(caught.value)


def test_a_digest_covers_shape_and_type():
    one = checkpoints.digests({"a": np.zeros(4, np.float32)})
    assert one != checkpoints.digests({"a": np.zeros((2, 2), np.float32)})
    assert one != checkpoints.digests({"a": np.zeros(4, np.int32)})
    assert checkpoints.digests({"a": np.zeros((1, 6))}) != checkpoints.digests(
        {"a": np.zeros((1, 2, 3))}
    )


def test_a_member_has_the_digest_that_it_has_alone():
    all_of_them = checkpoints.digests({"a": np.arange(12.0).reshape(3, 4)})["['a']"]
    assert len(set(all_of_them)) == 3
    for i, digest in enumerate(all_of_them):
        assert checkpoints.digests({"a": np.arange(12.0).reshape(3, 4)[i : i + 1]}) == {
            "['a']": [digest]
        }


def test_checkpoints_that_cannot_be_loaded_stay_where_they_are(folder):
    other = abstract()._replace(params={"encoder": jax.ShapeDtypeStruct((2,), jnp.float32)})
    for _ in range(2):
        with pytest.raises(UserError, match="or a part in parts= has changed"):
            checkpoints.restore(folder, other, set_aside=True)
    assert_restored(folder, 3)
