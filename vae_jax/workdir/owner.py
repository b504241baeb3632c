"""One command at a time writes into a workdir: an advisory lock on a file in it.

The operating system lets go of the lock when its process ends, however it ends, so a killed command
hinders nobody. Readers take no lock. Of a run of several processes, process 0 holds it for all.
"""

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from vae_jax.errors import UserError
from vae_jax.parallel import processes
from vae_jax.workdir import files

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

NAME = ".owner"  # the locked file, which says who has locked it last
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def owning(workdir: Path) -> Iterator[None]:
    """Makes `workdir`, into which the caller is the only one to write until the end of this.

    What a killed command has left half written is removed. Where the file system has no locks, a
    warning says so, and nothing is held.

    Raises:
      UserError: it is not writable, or another command is at it: which, where and since when.
    """
    with contextlib.ExitStack() as held:  # closing the file lets go of the lock
        refused = ""
        if processes.is_main():
            try:
                workdir.mkdir(parents=True, exist_ok=True)
                file = held.enter_context((workdir / NAME).open("a+"))
                refused = _lock(workdir, file)
            except OSError as error:
                reason = f"is not writable ({error.strerror}); choose another --workdir"
                refused = f"workdir {workdir} {reason}"
        if processes.largest(int(bool(refused))):
            raise UserError(refused or f"process 0 cannot have {workdir} for itself")
        yield


def check_free(workdir: Path) -> None:
    """Raises the error of `owning` if another command is at `workdir`; changes nothing."""
    refused = ""
    if processes.is_main() and fcntl is not None:
        with contextlib.suppress(OSError), (workdir / NAME).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                refused = _in_use(workdir, file)
    if processes.largest(int(bool(refused))):
        raise UserError(refused or f"another command is at {workdir}")


def _lock(workdir: Path, file) -> str:
    """Locks the file and writes into it who has; or says who has locked it already."""
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, "no locks on this system")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _in_use(workdir, file)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        reason = f"{workdir} cannot be locked ({error.strerror})"
        logging.warning("%s: see to it that no other command uses it", reason)
        return ""
    files.remove_temporary(workdir)
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    file.truncate(0)
    file.write(json.dumps({"host": socket.gethostname(), "process": os.getpid(), "since": since}))
    file.flush()
    return ""


def _in_use(workdir: Path, file) -> str:
    """The error's text, with who holds the lock, as far as the file says."""
    try:
        file.seek(0)
        holder = json.loads(file.read())
        who = "process {process} on {host}, since {since}".format(**holder)
    except (ValueError, KeyError, TypeError):  # it has locked the file and not written yet
        who = "another command"
    return f"{workdir} is in use by {who}: wait until it has ended, or choose another --workdir"
