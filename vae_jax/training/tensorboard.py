"""TensorBoard event files: `tensorboard --logdir=<workdir>`.

They need the extra [tensorboard] and eval.tensorboard=True. They repeat what the workdir holds and
are made from it: every start of a training writes them anew from the rows of metrics.jsonl that it
keeps, and then adds to them, so no row is doubled or lost whenever a training is stopped. Each
member of a sweep has a folder, which is what TensorBoard calls a run. TensorFlow is not needed: the
tensorboard package has the protocol buffers and the record format.
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
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # {colour type of a PNG: its number of channels}


def check(config) -> None:
    """Checks that the package that eval.tensorboard needs is installed.

    Raises:
      UserError: it is not.
    """
    if not config.eval.tensorboard:
        return
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"eval.tensorboard needs the package tensorboard ({error}): "
            "python3 -m pip install tensorboard, or set eval.tensorboard to False"
        ) from error


class Events:
    """The scalars of one program's members. With several processes only process 0 writes."""

    def __init__(self, workdir: Path, program: Program):
        """Replaces these members' event files by the content of metrics.jsonl and timing.jsonl."""
        self.paths: dict[int, Path] = {}  # of each member
        self.events: dict[int, list] = {}  # of each member, not yet in its file
        if not processes.is_main():
            return
        timing = read_rows(workdir / "timing.jsonl")
        began = time.time() - (timing[-1]["wall_time_s"] if timing else 0.0)
        ours = [row for row in timing if row.get("part", "") == program.name]
        times = {row["step"]: row["wall_time_s"] for row in ours}
        for i, member in enumerate(program.members):
            self.paths[member] = _new_file(_folder(workdir, program, member), "scalars")
            self.events[member] = [_event(began, 0, _describe(program, i, began))]
        for row in read_rows(workdir / "metrics.jsonl"):
            if row["member"] in self.events:
                self._add(row, began + times.get(row["step"], 0.0))
        self.flush()

    def write(self, row: dict) -> None:
        """Adds a row of metrics.jsonl, at the present time."""
        if row["member"] in self.events:
            self._add(finite(row), time.time())

    def _add(self, row: dict, wall_time: float) -> None:
        scalars = {
            f"{row['split']}/{name}": value
            for name, value in row.items()
            if name not in NOT_SCALARS and value is not None
        }
        self.events[row["member"]].append(_event(wall_time, row["step"], _scalars(scalars)))

    def flush(self) -> None:
        """Appends the events added since the last flush to the files."""
        for member, events in self.events.items():
            _append(self.paths[member], events)
            events.clear()


def write_pictures(workdir: Path, programs: list[Program], steps: dict[int, int]) -> None:
    """Writes the PNG files of a finished workdir and of its members, in place of earlier ones.

    Also writes the scalars of programs that were trained while eval.tensorboard was off.

    Args:
      steps: {member: its last step}.
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
        _append(_new_file(folder, "pictures"), [_event(time.time(), step, _images(images))])


def _folder(workdir: Path, program: Program, member: int) -> Path:
    is_sweep = bool(program.name) or len(program.members) > 1
    return workdir / "tensorboard" / (str(member) if is_sweep else "")


def _new_file(folder: Path, kind: str) -> Path:
    """A new event file with its header, in place of the earlier ones of its kind.

    A running TensorBoard reads the files of a folder in the order of their names; the session start
    at step 0 tells it to drop what it has read.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore

    now = time.time()
    path = folder / f"events.out.tfevents.{now:017.6f}.{kind}"
    with clear_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"events.out.tfevents.*.{kind}"):
            old.unlink()
    header = [Event(wall_time=now, file_version="brain.Event:2")]
    if kind == "scalars":
        start = SessionLog(status=SessionLog.START)
        header.append(Event(wall_time=now, step=0, session_log=start))
    _append(path, header)
    return path


def _append(path: Path, events: list) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    with clear_errors(path), path.open("ab") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())


def _event(wall_time: float, step: int, summary):
    """The protocol buffer of one event."""
    from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore

    return Event(wall_time=wall_time, step=step, summary=summary)


def _describe(program: Program, i: int, began: float):
    """The Summary of the i-th member's config: as text, and for TensorBoard's table HPARAMS.

    The table has the hyper-parameters and the fields that the sweep varies.
    """
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.text.metadata import create_summary_metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    changes = program.changes[i]
    given = settings.flatten(program.config) | changes
    shown = [name for name in given if name.startswith("hypers.") or name in changes]
    hparams = {}
    for name in shown:
        value = given[name]
        hparams[name] = value if isinstance(value, int | float | str) else str(value)
    summary = hparams_pb(hparams, start_time_secs=began)
    # In Markdown an indented line is code.
    lines = [f"    {name} = {v!r}" for name, v in given.items() if not name.startswith("sweep.")]
    text = make_tensor_proto("\n".join(lines).encode())
    metadata = create_summary_metadata(display_name="config", description="")
    summary.value.add(tag="config", tensor=text, metadata=metadata)
    return summary


def _scalars(values: dict[str, float]):
    """The Summary of {tag: number}."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore

    summary = Summary()
    for tag, value in values.items():
        summary.value.add(tag=tag, simple_value=value)
    return summary


def _images(files: dict[str, bytes]):
    """The Summary of {tag: PNG file}."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore

    summary = Summary()
    for tag, png in files.items():
        width, height, _, colour_type = struct.unpack(">IIBB", png[16:26])
        image = Summary.Image(
            height=height,
            width=width,
            colorspace=CHANNELS[colour_type],
            encoded_image_string=png,
        )
        summary.value.add(tag=tag, image=image)
    return summary
