"""Checkpoints whose contents are verified on load: the only module that imports orbax.

Orbax writes a step into a temporary folder and renames it, so a killed process leaves whole steps
only. But it restores a flipped bit without an error. So a digest of every leaf's bytes is saved
beside the state and compared on load: one for each member, which is the leading axis of every leaf.
A process can then verify the members it holds, however many these are, and a state may be restored
onto other devices and processes than it was saved from.

A checkpoint also holds the record of its run, as config.json does, and the number of rows that
metrics.jsonl had: so a checkpoint is never taken for that of another run, and lost rows are seen.

With several processes (`jax.distributed`) all of them make the same calls, on one shared folder.
"""

import contextlib
import errno
import hashlib
import shutil
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from vae_jax.errors import SaveError, UserError
from vae_jax.parallel import processes
from vae_jax.workdir import files

ELSEWHERE = "0" * 32  # in place of the digest of a member that only other processes hold


def _is_not_orbax(record) -> bool:
    return "orbax" not in Path(record.pathname).parts


# Orbax logs the tracebacks of errors that it also raises; here each becomes one line.
logging.get_absl_logger().addFilter(_is_not_orbax)


def digests(tree) -> dict[str, list[str]]:
    """{path of the leaf: a digest of the dtype, shape and bytes of each member}.

    It is ELSEWHERE for a member that this process does not hold.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): _leaf_digests(leaf) for path, leaf in leaves}


def _leaf_digests(leaf) -> list[str]:
    found = [ELSEWHERE] * leaf.shape[0]
    for first, part in _held_parts(leaf).items():
        for i, member in enumerate(np.asarray(part), first):
            head = f"{member.dtype}{member.shape}".encode()
            found[i] = hashlib.blake2b(head + member.tobytes(), digest_size=16).hexdigest()
    return found


def _held_parts(leaf) -> dict:
    """{first member: values} of the parts of `leaf` that this process holds, each replica once."""
    if not isinstance(leaf, jax.Array):
        return {0: leaf}
    shards = leaf.addressable_shards
    if any(shard.data.shape[1:] != leaf.shape[1:] for shard in shards):
        # No device could compute the digest of a member.
        raise ValueError(f"a member of {leaf.shape} is divided: {leaf.sharding}")
    return {shard.index[0].start or 0: shard.data for shard in reversed(shards)}


def _gather(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """The digests of all processes, on each of them. ELSEWHERE is below every other digest."""
    flat = [digest for leaf in found.values() for digest in leaf]
    mine = np.array(flat, "S32").view(np.uint8)
    largest = np.max(multihost_utils.process_allgather(mine), axis=0)
    whole = iter(largest.view("S32").astype(str).tolist())
    return {path: [next(whole) for _ in leaf] for path, leaf in found.items()}


def steps(folder: Path) -> list[int]:
    """The steps that were saved, newest first."""
    folder = Path(folder)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


class Writer:
    """Saves in the background; a context manager, whose end waits for the last save."""

    def __init__(self, folder: Path, keep: int, record: dict | None = None):
        """`keep`: how many of the newest checkpoints stay; `record`: of the run."""
        self.folder, self.record = Path(folder), record or {}
        policy = checkpoint_managers.LatestN(keep)
        options = ocp.CheckpointManagerOptions(preservation_policy=policy, create=True)
        with _disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.manager = ocp.CheckpointManager(self.folder.absolute(), options=options)
        self.copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))

    def save(self, step: int, state, num_rows: int = 0) -> None:
        """Starts to save a copy of `state`, which may be donated right after.

        Does nothing where `step` has been saved. `num_rows`: of metrics.jsonl up to this step.

        Raises:
          SaveError: the disk is full, not writable, ...
        """
        # All processes must decide alike, and one that looks a moment later may see one step more.
        if processes.largest(int(step in steps(self.folder))):
            return
        state = self.copy(state)
        about = {"record": self.record, "rows": num_rows, "leaves": _gather(digests(state))}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            about=ocp.args.JsonSave(files.with_digest(about)),
        )
        with _disk_errors(self.folder):
            self.manager.save(step, args=items)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_) -> None:
        with _disk_errors(self.folder):
            self.manager.close()  # waits for the save under way, and raises its error


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turns whatever goes wrong in a save into one line; earlier checkpoints stay."""
    try:
        yield
    except Exception as error:  # orbax raises many kinds
        if _is_full_disk(error):
            raise SaveError(
                f"disk full while saving to {folder}; earlier checkpoints are intact: "
                "free some space and run the same command again"
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SaveError(
            f"cannot save to {folder} ({reason[:200]}); earlier checkpoints are intact: mend that "
            "and run the same command again"
        ) from error


def _is_full_disk(error: Exception) -> bool:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return True
    signs = ("No space left", "RESOURCE_EXHAUSTED", "ENOSPC")
    return any(sign in str(error) for sign in signs)


class Saved(NamedTuple):
    """A checkpoint that has been read."""

    step: int
    state: Any
    about: dict  # "record" of the run; "rows" that metrics.jsonl had of its program; "leaves"


def restore(folder: Path, abstract, set_aside: bool = False) -> Saved | None:
    """The newest checkpoint that can be read, or None where none was ever saved.

    One that cannot is named in a warning and the one before is used, by all processes even if only
    one of them found what is wrong.

    Args:
      abstract: the state's tree of ShapeDtypeStructs. A leaf is restored with its `sharding`, of
        which every process reads its part; without one, whole, on the first device.
      set_aside: whether damaged checkpoints are renamed, so that their steps can be saved again.

    Raises:
      UserError: none can be read; all stay where they are.
    """
    folder = Path(folder)
    damaged: list[int] = []
    first = ""  # what is wrong with the newest
    while True:
        step = _newest(folder, damaged)
        if step is None:
            break
        found, problem = _try(_load, folder / str(step), abstract)
        if not processes.largest(int(found is None)):
            assert found is not None
            if set_aside:
                _set_aside(folder, damaged)
            return Saved(step, *found)
        if not set_aside and processes.largest(int(_vanishes(folder / str(step)))):
            continue  # the run that it is of goes on, and has newer ones
        if processes.is_main():
            logging.warning(
                "checkpoint %s cannot be read (%s); using the one before",
                folder / str(step),
                problem or "in a part that another process reads",
            )
        first = first or problem or "another process cannot read its part"
        damaged.append(step)
    if damaged:
        raise UserError(
            f"no checkpoint in {folder} can be read ({', '.join(map(str, damaged))}; of the "
            f"newest: {first}): the files are damaged, or a part in parts= has changed since; "
            "restore the files or the part, or choose another --workdir"
        )
    return None


def _newest(folder: Path, damaged: list[int]) -> int | None:
    """The newest step that is not among `damaged`; the same on every process."""
    mine = max(set(steps(folder)).difference(damaged), default=-1)
    step = processes.largest(mine)
    return None if step < 0 else step


def saved_record(folder: Path) -> dict | None:
    """The record in the newest checkpoint in `folder`, or in its sub-folders, that can be read."""
    folders = [folder, *folder.glob("part*")]
    for step, place in sorted(((s, f) for f in folders for s in steps(f)), reverse=True):
        about, _ = _try(_about, place / str(step))
        if about is not None:
            return about["record"]
    return None


def _vanishes(path: Path) -> bool:
    """Whether what could not be read is gone within a second: its run was just removing it."""
    for _ in range(10):
        if not path.exists():
            return True
        time.sleep(0.1)
    return False


def _try(read, path: Path, *args):
    """(what `read` gives of `path`, "") or (None, what is wrong with it, in one line)."""
    try:
        return read(path, *args), ""
    except Exception as error:  # orbax raises many kinds for a damaged file
        text = str(error).strip() or type(error).__name__
        return None, text.splitlines()[0][:200]


def _set_aside(folder: Path, damaged: list[int]) -> None:
    if processes.is_main():
        for step in damaged:
            shutil.rmtree(folder / f"damaged-{step}", ignore_errors=True)
            (folder / str(step)).rename(folder / f"damaged-{step}")
    processes.wait_for_all("damaged checkpoints are set aside")


def _load(path: Path, abstract) -> tuple[Any, dict]:
    """The state in `path`, or the part of it that `abstract` places on this process's devices; and
    what is saved beside it.

    No process waits for another here: if one fails, the others still reach the point where all
    agree.

    Raises:
      ValueError: a digest does not match.
    """
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def placed(leaf) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding or here)

    about = _about(path)
    state = _read(path, state=ocp.args.StandardRestore(jax.tree.map(placed, abstract)))
    _verify(digests(state), about["leaves"])
    return state, about


def _about(path: Path) -> dict:
    """What is saved beside a state: see `Saved`.

    Raises:
      ValueError: it is damaged.
    """
    return files.without_digest(_read(path, about=ocp.args.JsonRestore()))


def _read(path: Path, **items):
    """The one item of a checkpoint."""
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    handler = ocp.CompositeCheckpointHandler()
    with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        return next(
            iter(checkpointer.restore(path.absolute(), ocp.args.Composite(**items)).values())
        )


def _verify(found: dict[str, list[str]], saved: dict[str, list[str]]) -> None:
    """Raises ValueError where a digest in `found` is neither that in `saved` nor ELSEWHERE."""
    wrong = [name for name, mine in found.items() if not _match(mine, saved.get(name, []))]
    if wrong or len(found) != len(saved):
        raise ValueError(f"digest of {', '.join(wrong[:3]) or 'the tree'} does not match")


def _match(found: list[str], saved: list[str]) -> bool:
    return all(mine in (theirs, ELSEWHERE) for mine, theirs in zip_longest(found, saved))
