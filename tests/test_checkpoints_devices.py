"""A state saved from some devices and processes is restored onto others, and damage is found on all
of them.

Run as a script, this file is one of two processes (see `main`).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vae_jax.errors import UserError
from vae_jax.parallel import devices, processes
from vae_jax.workdir import checkpoints

ROOT = Path(__file__).parents[1]


def values(members, step):
    """Large enough that every device's part is a file of its own, apart from orbax's index; of
    several types."""
    w = np.random.default_rng(step).normal(size=(members, 40, 30)).astype(np.float32)
    half = w[:, 0].astype(jnp.bfloat16)
    return {
        "w": w,
        "half": half,
        "bias": w[:, 0, :7].copy(),
        "step": np.full(members, step, np.int32),
    }


def abstract(members, mesh=None, *axes):
    where = NamedSharding(mesh, P(*axes)) if mesh else None
    leaves = values(members, 0)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), leaves
    )


def save(folder, mesh, axes, members, *steps):
    with checkpoints.Writer(folder, keep=3) as writer:
        for step in steps:
            writer.save(step, devices.place(mesh, values(members, step), *axes))


def same(state, members, step):
    """Whether this process's parts of `state` are, bit for bit, what was saved at `step`."""
    expected = values(members, step)
    shards = [
        (expected[name], shard) for name, leaf in state.items() for shard in leaf.addressable_shards
    ]
    return bool(shards) and all(
        np.asarray(s.data).tobytes() == whole[s.index].tobytes() for whole, s in shards
    )


def recorded(folder, step):
    """The digests that lie beside the state."""
    return json.loads(next((folder / str(step) / "about").rglob("metadata")).read_text())["leaves"]


def largest_file(folder, within=""):
    """It holds values."""
    found = [p for p in (folder / "state").rglob("*") if p.is_file() and within in str(p)]
    return max(found, key=lambda p: p.stat().st_size)


def flip_a_bit(path):
    """Orbax restores the value without complaint."""
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    path.write_bytes(damaged)


def mesh_of(shape):
    some = jax.devices()[: shape[0] * shape[1]]
    mesh = devices.make_mesh(shape[0], shape[1], devices=some)
    assert mesh.devices.shape == shape
    return mesh


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """{shape of the mesh: folder with steps 1 and 2 of a population of 8}."""
    folders = {}
    for shape in [(1, 1), (8, 1), (4, 2)]:
        folders[shape] = tmp_path_factory.mktemp("saved") / "checkpoints"
        save(folders[shape], mesh_of(shape), ["member"], 8, 1, 2)
    return folders


@pytest.mark.parametrize("shape", [(1, 1), (8, 1), (4, 2)])
def test_digests_do_not_depend_on_the_number_of_devices(saved, shape):
    assert recorded(saved[shape], 2) == checkpoints.digests(values(8, 2))
    for axes in (["member"], []):
        placed = devices.place(mesh_of(shape), values(8, 2), *axes)
        assert checkpoints.digests(placed) == checkpoints.digests(values(8, 2))


@pytest.mark.parametrize("shape", [(8, 1), (4, 2)])
def test_many_devices_to_one(saved, shape):
    step, state, _ = checkpoints.restore(saved[shape], abstract(8))
    assert step == 2 and same(state, 8, 2)
    assert all(leaf.devices() == {jax.devices()[0]} for leaf in state.values())


@pytest.mark.parametrize("saved_on", [(1, 1), (8, 1)])
@pytest.mark.parametrize("shape", [(8, 1), (4, 2)])
def test_one_device_or_others_to_many(saved, saved_on, shape):
    wanted = abstract(8, mesh_of(shape), "member")
    step, state, _ = checkpoints.restore(saved[saved_on], wanted)
    assert step == 2 and same(state, 8, 2)
    assert all(state[name].sharding == wanted[name].sharding for name in wanted)


@pytest.mark.parametrize("shape", [(8, 1), (4, 2)])
def test_a_flipped_bit_is_found_on_many_devices(saved, shape, tmp_path, caplog):
    folder = shutil.copytree(saved[shape], tmp_path / "checkpoints")
    flip_a_bit(largest_file(folder / "2"))
    step, state, _ = checkpoints.restore(folder, abstract(8, mesh_of(shape), "member"))
    assert step == 1 and same(state, 8, 1)
    assert f"{folder}/2 cannot be read" in caplog.text


def test_one_changed_value_of_one_member_is_found_on_the_device_that_holds_it(
    tmp_path, monkeypatch
):
    """Orbax's own checks cannot see it: the files are whole, only the digest speaks of other
    values."""
    right = checkpoints.digests

    def of_others(tree):
        return right(jax.tree.map(lambda leaf: leaf.at[5].add(1), tree))

    save(tmp_path, mesh_of((8, 1)), ["member"], 8, 1)
    monkeypatch.setattr(checkpoints, "digests", of_others)
    save(tmp_path, mesh_of((8, 1)), ["member"], 8, 2)
    monkeypatch.undo()
    assert checkpoints.restore(tmp_path, abstract(8, mesh_of((8, 1)), "member"))[0] == 1


def test_a_digest_that_stands_for_elsewhere_is_not_taken_for_any_value(saved, tmp_path):
    folder = shutil.copytree(saved[8, 1], tmp_path / "checkpoints")
    path = next((folder / "2" / "about").rglob("metadata"))
    text = path.read_text()
    path.write_text(text.replace(recorded(folder, 2)["['w']"][3], checkpoints.ELSEWHERE))
    assert path.read_text() != text
    assert checkpoints.restore(folder, abstract(8))[0] == 1


def test_a_member_divided_among_devices_is_refused():
    state = devices.place(mesh_of((4, 2)), {"a": np.zeros((8, 6))}, "member", "data")
    with pytest.raises(ValueError, match="divided"):
        checkpoints.digests(state)


# Two processes of two devices each: a population of 4 is divided among them, one of 3 is on every
# device.

MEMBERS, ALONE, AXES = 4, 3, {4: ["member"], 3: []}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder that two processes share, and what each of them found."""
    folder = tmp_path_factory.mktemp("two")
    save(folder / "from_one", mesh_of((1, 1)), ["member"], MEMBERS, 1)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, str(folder), str(port)]
    logs = [folder / f"{i}.log" for i in range(2)]
    running = [
        subprocess.Popen([*command, str(i)], env=environment, stderr=log.open("w"))
        for i, log in enumerate(logs)
    ]
    give_up = time.monotonic() + 60
    while (
        any(p.poll() is None for p in running)
        and not any(p.poll() for p in running)
        and time.monotonic() < give_up
    ):
        time.sleep(0.05)
    for process in running:  # one that waits for another that has failed
        process.kill()
    errors = [log.read_text() for log in logs]
    assert [process.wait() for process in running] == [0, 0], "\n".join(errors)
    found = [json.loads((folder / f"{i}.json").read_text()) for i in range(2)]
    return folder, found, errors


def main(folder: Path, port: str, index: int) -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(
        f"localhost:{port}", num_processes=2, process_id=index, initialization_timeout=60
    )
    logging.use_absl_handler()
    found, moved, rename = {}, [], Path.rename

    def slow_rename(path, to):
        moved.append(path.name)
        time.sleep(0.2)
        return rename(path, to)

    Path.rename = slow_rename

    def restore(name, members=MEMBERS, set_aside=False):
        mesh = devices.make_mesh(members, 4)
        step, state, _ = checkpoints.restore(
            folder / name, abstract(members, mesh, *AXES[members]), set_aside
        )
        return [step, same(state, members, step)]

    found["from_one"] = restore("from_one")
    for name, members, steps in [("divided", MEMBERS, [1, 2, 3]), ("whole", ALONE, [1])]:
        save(folder / name, devices.make_mesh(members, 4), AXES[members], members, *steps)
        found[name] = restore(name, members)
    found["nothing"] = checkpoints.restore(folder / "none", abstract(MEMBERS))

    def damage(step, process, how=flip_a_bit):
        """Only `process` wrote there, and only it reads there."""
        processes.wait_for_all("nobody reads")
        if processes.is_main():
            how(largest_file(folder / "damaged" / str(step), f"ocdbt.process_{process}"))
        processes.wait_for_all("damaged")

    if processes.is_main():
        shutil.copytree(folder / "divided", folder / "damaged")
    damage(3, 1, Path.unlink)
    found["damaged by 1"] = restore("damaged")
    damage(2, 0)
    found["damaged by 0"] = restore("damaged", set_aside=True)
    found["moved"] = sorted(moved)
    found["left"] = checkpoints.steps(folder / "damaged")
    save(folder / "damaged", devices.make_mesh(MEMBERS, 4), AXES[MEMBERS], MEMBERS, 2, 3)
    found["saved again"] = restore("damaged")
    with checkpoints.Writer(folder / "divided", keep=3) as writer:
        seen = checkpoints.steps
        checkpoints.steps = lambda path: (
            [4] * index + seen(path)
        )  # process 1 sees what 0 does not see yet
        writer.save(4, devices.place(devices.make_mesh(MEMBERS, 4), values(MEMBERS, 4), "member"))
        checkpoints.steps = seen
    found["not saved again"] = checkpoints.steps(folder / "divided")
    for step in (1, 2, 3):
        damage(step, 1)
    try:
        restore("damaged", set_aside=True)
    except UserError as error:
        found["all damaged"] = str(error)
    (folder / f"{index}.json").write_text(json.dumps(found))


def test_one_process_to_two(two):
    _, found, _ = two
    assert [f["from_one"] for f in found] == [[1, True]] * 2


@pytest.mark.parametrize(
    ("name", "members", "step"), [("divided", MEMBERS, 3), ("whole", ALONE, 1)]
)
def test_two_processes_to_one_and_to_two(two, name, members, step):
    folder, found, _ = two
    assert [f[name] for f in found] == [[step, True]] * 2
    assert recorded(folder / name, step) == checkpoints.digests(values(members, step))
    for wanted in (abstract(members), abstract(members, mesh_of((members, 2)), "member")):
        last, state, _ = checkpoints.restore(folder / name, wanted)
        assert last == step and same(state, members, step)


def test_damage_that_one_process_meets_makes_both_use_the_one_before(two):
    _, found, errors = two
    assert [f["damaged by 1"] for f in found] == [[2, True]] * 2
    assert "damaged/3 cannot be read (in a part that another process reads)" in errors[0]
    assert [f["damaged by 0"] for f in found] == [[1, True]] * 2


def test_only_the_first_process_warns_and_sets_aside(two):
    _, found, errors = two
    assert [f["moved"] for f in found] == [["2", "3"], []]
    assert [f["left"] for f in found] == [[1], [1]]
    assert [f["saved again"] for f in found] == [[3, True]] * 2
    assert "cannot be read" in errors[0] and "cannot be read" not in errors[1]


def test_what_one_process_sees_saved_none_saves_again(two):
    assert [f["not saved again"] for f in two[1]] == [[3, 2, 1]] * 2


def test_two_processes_agree_that_nothing_or_nothing_whole_is_there(two):
    folder, found, _ = two
    assert [f["nothing"] for f in found] == [None, None]
    for f in found:
        assert f["all damaged"].startswith(
            f"no checkpoint in {folder / 'damaged'} can be read (3, 2, 1; of the newest: "
        )
    assert checkpoints.steps(folder / "damaged") == [3, 2, 1]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
