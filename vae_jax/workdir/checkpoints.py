"""Checkpoints that can be trusted: the only module that imports orbax.

Orbax writes a step into a temporary folder and renames it, so a kill leaves whole steps only. It restores a
flipped bit without complaint, though; so a digest of every leaf's bytes lies beside the state and is compared
on load. There is one for each member, the leading axis of every leaf: whoever holds a member, alone or with
others, can check it, so a state may be restored onto other devices and processes than it was saved from.

With several processes (`jax.distributed`) all of them make the same calls, on one shared folder.
"""

import errno
import hashlib
import shutil
from itertools import zip_longest
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from vae_jax.errors import UserError
from vae_jax.parallel import processes

ELSEWHERE = "0" * 32  # stands for the digest of a member that only other processes hold


def _not_orbax(record) -> bool:
    """Orbax logs the tracebacks of errors that it also raises, and that become one line here."""
    return "orbax" not in Path(record.pathname).parts


logging.get_absl_logger().addFilter(_not_orbax)


def digests(tree) -> dict[str, list[str]]:
    """{path of the leaf: digest of every member's dtype, shape and bytes}, ELSEWHERE for members not held here."""

    def one(leaf) -> list[str]:
        found = [ELSEWHERE] * leaf.shape[0]
        for first, part in _parts(leaf).items():
            for i, member in enumerate(np.asarray(part), first):
                head = f"{member.dtype}{member.shape}".encode()
                found[i] = hashlib.blake2b(head + member.tobytes(), digest_size=16).hexdigest()
        return found

    return {jax.tree_util.keystr(path): one(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _parts(leaf) -> dict:
    """{first member: values} of the parts of `leaf` that this process holds, of equal ones the first."""
    if not isinstance(leaf, jax.Array):
        return {0: leaf}
    shards = leaf.addressable_shards
    if any(shard.data.shape[1:] != leaf.shape[1:] for shard in shards):
        raise ValueError(f"a member of {leaf.shape} is divided: {leaf.sharding}")  # no device could check it
    return {shard.index[0].start or 0: shard.data for shard in reversed(shards)}


def _gather(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """The digests of all processes, on each of them: ELSEWHERE is below every other."""
    mine = np.array([digest for leaf in found.values() for digest in leaf], "S32").view(np.uint8)
    whole = iter(np.max(multihost_utils.process_allgather(mine), axis=0).view("S32").astype(str).tolist())
    return {path: [next(whole) for _ in leaf] for path, leaf in found.items()}


def steps(folder: Path) -> list[int]:
    """The steps that were saved, newest first."""
    names = [p.name for p in Path(folder).iterdir()] if Path(folder).is_dir() else []
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


class Writer:
    """Saves in the background; use as a context manager, which waits for the last save."""

    def __init__(self, folder: Path, keep: int):
        self.folder = Path(folder)
        policy = checkpoint_managers.LatestN(keep)
        options = ocp.CheckpointManagerOptions(preservation_policy=policy, create=True)
        with _disk_errors(self.folder):
            self.manager = ocp.CheckpointManager(self.folder.absolute(), options=options)
        self.copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))

    def save(self, step: int, state) -> None:
        """Starts to save `state`; it may be donated right after, because a copy of it is saved."""
        if processes.largest(int(step in steps(self.folder))):  # who looks a moment later may see one more
            return
        state = self.copy(state)
        items = {"state": ocp.args.StandardSave(state), "digests": ocp.args.JsonSave(_gather(digests(state)))}
        with _disk_errors(self.folder):
            self.manager.save(step, args=ocp.args.Composite(**items))

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_) -> None:
        with _disk_errors(self.folder):
            self.manager.close()  # waits for the save under way, and raises what went wrong with it


class _disk_errors:
    """Turns a full or unwritable disk into one clear line; earlier checkpoints stay as they are."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self):
        return self

    def __exit__(self, _kind, error, _trace) -> None:
        if error is None:
            return
        text = str(error)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text
        if full or "RESOURCE_EXHAUSTED" in text or "ENOSPC" in text:
            raise UserError(
                f"disk full while saving to {self.folder}; earlier checkpoints are intact: "
                "free some space and run the same command again"
            ) from error
        if isinstance(error, OSError) or "PERMISSION_DENIED" in text:
            raise UserError(f"cannot save to {self.folder}: {text.splitlines()[0]}") from error


def restore(folder: Path, abstract, set_aside: bool = False):
    """(step, state) of the newest undamaged checkpoint, or None where none was ever saved.

    `abstract` is the state's tree of ShapeDtypeStructs; a leaf comes back with its `sharding`, of which every
    process reads its part, or without one whole, on the first device. A damaged checkpoint is named in a warning
    and the one before is used, by all processes though only one may have met the damage; with `set_aside` it is
    then moved out of the way, so that its step can be saved again.

    Raises:
      UserError: every checkpoint is damaged; all stay where they are.
    """
    folder, damaged = Path(folder), []
    while (step := processes.largest(max(set(steps(folder)).difference(damaged), default=-1))) >= 0:
        state, reason = None, ""
        try:
            state = _load(folder / str(step), abstract)
        except Exception as error:  # whatever orbax meets in a damaged file
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        if not processes.largest(int(bool(reason))):
            if set_aside:
                _set_aside(folder, damaged)
            return step, state
        if processes.is_main():
            found = reason or "in a part that another process reads"
            logging.warning("checkpoint %s is damaged (%s); using the one before", folder / str(step), found)
        damaged.append(step)
    if damaged:
        raise UserError(
            f"every checkpoint in {folder} is damaged ({', '.join(map(str, damaged))}) or of another model; "
            "correct what was given, or start again with another --workdir"
        )
    return None


def _set_aside(folder: Path, damaged: list[int]) -> None:
    for step in damaged if processes.is_main() else ():
        shutil.rmtree(folder / f"damaged-{step}", ignore_errors=True)
        (folder / str(step)).rename(folder / f"damaged-{step}")
    processes.wait_for_all("damaged checkpoints are set aside")


def _load(path: Path, abstract):
    """The state in `path`, or its part that `abstract` places on this process's devices.

    No process waits for another here, so one that fails leaves the others free to go on to where all agree.
    """
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding or here), abstract)
    items = {"state": ocp.args.StandardRestore(abstract), "digests": ocp.args.JsonRestore()}
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler(), multiprocessing_options=alone) as checkpointer:
        restored = checkpointer.restore(path.absolute(), ocp.args.Composite(**items))
    found, saved = digests(restored["state"]), restored["digests"]
    pairs = {name: zip_longest(mine, saved.get(name, ())) for name, mine in found.items()}
    wrong = [name for name, both in pairs.items() if any(a not in (b, ELSEWHERE) for a, b in both)]
    if wrong or len(found) != len(saved):
        raise ValueError(f"digest of {', '.join(wrong[:3]) or 'the tree'} does not match")
    return restored["state"]
