"""Checkpoints that can be trusted: the only module that imports orbax.

Orbax writes a step into a temporary folder and renames it, so a kill leaves whole steps only. It restores a
flipped bit without complaint, though; so a digest of every leaf's bytes lies beside the state and is compared
on load.
"""

import errno
import hashlib
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from vae_jax.errors import UserError


def _not_orbax(record) -> bool:
    """Orbax logs the tracebacks of errors that it also raises, and that become one line here."""
    return "orbax" not in Path(record.pathname).parts


logging.get_absl_logger().addFilter(_not_orbax)


def digests(tree) -> dict[str, str]:
    """{path of the leaf: digest of its dtype, shape and bytes}."""

    def digest(leaf) -> str:
        leaf = np.ascontiguousarray(leaf)
        head = f"{leaf.dtype}{leaf.shape}".encode()
        return hashlib.blake2b(head + leaf.tobytes(), digest_size=16).hexdigest()

    return {jax.tree_util.keystr(path): digest(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


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
        if step in steps(self.folder):
            return
        state = self.copy(state)
        items = {"state": ocp.args.StandardSave(state), "digests": ocp.args.JsonSave(digests(state))}
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

    `abstract` is the state's tree of ShapeDtypeStructs. A damaged checkpoint is named in a warning and the
    one before is used; with `set_aside` it is then moved out of the way, so that its step can be saved again.

    Raises:
      UserError: every checkpoint is damaged; all stay where they are.
    """
    folder, damaged = Path(folder), []
    for step in steps(folder):
        try:
            state = _load(folder, step, abstract)
        except Exception as error:  # whatever orbax meets in a damaged file
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            logging.warning("checkpoint %s is damaged (%s); using the one before", folder / str(step), reason)
            damaged.append(step)
            continue
        for other in damaged if set_aside else ():
            shutil.rmtree(folder / f"damaged-{other}", ignore_errors=True)
            (folder / str(other)).rename(folder / f"damaged-{other}")
        return step, state
    if damaged:
        raise UserError(
            f"every checkpoint in {folder} is damaged ({', '.join(map(str, damaged))}) or of another model; "
            "correct what was given, or start again with another --workdir"
        )
    return None


def _load(folder: Path, step: int, abstract):
    items = {"state": ocp.args.StandardRestore(abstract), "digests": ocp.args.JsonRestore()}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(Path(folder).absolute() / str(step), ocp.args.Composite(**items))
    found = digests(restored["state"])
    wrong = [path for path, digest in found.items() if restored["digests"].get(path) != digest]
    if wrong or len(found) != len(restored["digests"]):
        raise ValueError(f"digest of {', '.join(wrong[:3]) or 'the tree'} does not match")
    return restored["state"]
