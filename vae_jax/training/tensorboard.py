"""TensorBoard event files, with the extra [tensorboard] and eval.tensorboard=True: `tensorboard --logdir=<workdir>`.

They are a second form of what the workdir holds and are written from it: every start of a training writes them anew
from the rows of metrics.jsonl that it keeps, and then adds to them, so that a stop at any moment neither doubles nor
loses a row. A sweep has a folder for each member, which is what TensorBoard calls a run. Written without TensorFlow:
the package's own protocol buffers and record format are enough.
"""

import struct
import time
from pathlib import Path

from vae_jax import config as settings
from vae_jax.errors import UserError
from vae_jax.parallel import processes
from vae_jax.training.program import Program
from vae_jax.workdir.files import clear_errors, finite
from vae_jax.workdir.rows import read_rows

NOT_SCALARS = ("step", "split", "member")
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # of a PNG, by its colour type


def check(config) -> None:
    """Whether what eval.tensorboard needs is there.

    Raises:
      UserError: it is not.
    """
    if not config.eval.tensorboard:
        return
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"eval.tensorboard needs the package tensorboard ({error}): python3 -m pip install tensorboard, or set "
            "eval.tensorboard to False"
        ) from error


class Events:
    """The scalars of one program's members; written by process 0."""

    def __init__(self, workdir: Path, program: Program):
        """Replaces the event files of these members by what metrics.jsonl and timing.jsonl hold of them."""
        self.paths, self.events = {}, {}
        if not processes.is_main():
            return
        timing = read_rows(workdir / "timing.jsonl")
        self.began = time.time() - (timing[-1]["wall_time_s"] if timing else 0.0)
        times = {row["step"]: row["wall_time_s"] for row in timing if row.get("part", "") == program.name}
        for i, member in enumerate(program.members):
            self.paths[member] = _fresh(_folder(workdir, program, member), "scalars")
            self.events[member] = [_event(self.began, 0, **_about(program, i))]
        for row in read_rows(workdir / "metrics.jsonl"):
            if row["member"] in self.events:
                self._add(row, self.began + times.get(row["step"], 0.0))
        self.flush()

    def write(self, row: dict) -> None:
        """A row of metrics.jsonl, now."""
        if row["member"] in self.events:
            self._add(finite(row), time.time())

    def _add(self, row: dict, wall_time: float) -> None:
        scalars = {f"{row['split']}/{k}": v for k, v in row.items() if k not in NOT_SCALARS and v is not None}
        self.events[row["member"]].append(_event(wall_time, row["step"], scalars=scalars))

    def flush(self) -> None:
        for member, events in self.events.items():
            _append(self.paths[member], events)
            events.clear()


def write_pictures(workdir: Path, programs: list[Program], steps: dict[int, int]) -> None:
    """The PNG files of a finished workdir, those of a sweep's members too, in place of earlier ones.

    What no training has written, because eval.tensorboard was off, is written now. `steps`: of each member.
    """
    if not processes.is_main():
        return
    for program in programs:
        if not any(_folder(workdir, program, program.members[0]).glob("*.scalars")):
            Events(workdir, program)
    for member, step in steps.items():
        folder = workdir / "members" / str(member)
        if folder.exists():
            _write_images(folder, workdir / "tensorboard" / str(member), step)
    _write_images(workdir, workdir / "tensorboard", max(steps.values()))


def _write_images(source: Path, folder: Path, step: int) -> None:
    images = {path.stem: path.read_bytes() for path in sorted(source.glob("*.png"))}
    if images:
        _append(_fresh(folder, "pictures"), [_event(time.time(), step, images=images)])


def _folder(workdir: Path, program: Program, member: int) -> Path:
    is_sweep = bool(program.name) or len(program.members) > 1
    return workdir / "tensorboard" / (str(member) if is_sweep else "")


def _fresh(folder: Path, kind: str) -> Path:
    """A new event file with its header, in place of the earlier ones of its kind.

    TensorBoard, which may be looking, takes files of a folder in the order of their names; the session's start at
    step 0 tells it to forget what it has read.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    now = time.time()
    path = folder / f"events.out.tfevents.{now:017.6f}.{kind}"
    with clear_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"events.out.tfevents.*.{kind}"):
            old.unlink()
    start = SessionLog(status=SessionLog.START)
    first = [Event(wall_time=now, file_version="brain.Event:2")]
    _append(path, first + [Event(wall_time=now, step=0, session_log=start)] * (kind == "scalars"))
    return path


def _append(path: Path, events: list) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    with clear_errors(path), path.open("ab") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())


def _about(program: Program, i: int) -> dict[str, dict]:
    """The i-th member's config as text; for the table HPARAMS its hyper-parameters and what the sweep changes."""
    given = settings.flatten(program.config) | program.changes[i]
    lines = (f"    {name} = {v!r}" for name, v in given.items() if not name.startswith("sweep."))
    hparams = {name: v for name, v in given.items() if name.startswith("hypers.") or name in program.changes[i]}
    return {
        "text": {"config": "\n".join(lines)},  # indented: code, in Markdown
        "hparams": {name: v if isinstance(v, int | float | str) else str(v) for name, v in hparams.items()},
    }


def _event(wall_time: float, step: int, scalars=None, text=None, hparams=None, images=None):
    """One event with {tag: number}, {tag: Markdown}, {name: value} of hyper-parameters, {tag: PNG file}."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.text.metadata import create_summary_metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    summary = hparams_pb(hparams, start_time_secs=wall_time) if hparams else Summary()
    for tag, value in (scalars or {}).items():
        summary.value.add(tag=tag, simple_value=value)
    for tag, value in (text or {}).items():
        about = create_summary_metadata(display_name=tag, description="")
        summary.value.add(tag=tag, tensor=make_tensor_proto(value.encode()), metadata=about)
    for tag, png in (images or {}).items():
        width, height, _, colours = struct.unpack(">IIBB", png[16:26])
        image = Summary.Image(height=height, width=width, colorspace=CHANNELS[colours], encoded_image_string=png)
        summary.value.add(tag=tag, image=image)
    return Event(wall_time=wall_time, step=step, summary=summary)
