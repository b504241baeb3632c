"""The command line: python -m vae_jax.main --config=configs/mnist.py

The same command again goes on where it stopped. Fields of the config are set as
--config.hypers.beta=4; --help-config lists them all.
"""

import hashlib
import importlib.util
import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import jax
from absl import flags
from ml_collections import config_flags

from vae_jax import api
from vae_jax import config as settings
from vae_jax.errors import SaveError, UserError, cause
from vae_jax.parts import catalogue, default
from vae_jax.results.compare import compare
from vae_jax.training.signals import Interrupted
from vae_jax.workdir import record


def run(argv: list[str]) -> int:
    """Runs the command `argv`, the program's name first; returns the exit status."""
    try:
        values = parse(argv)
        if values["help-config"].value:
            print(_help_config(), flush=True)
        elif values.help:
            print(f"{__doc__}\n{values.get_help()}", flush=True)
        else:
            return execute(values)
    except BrokenPipeError:  # whoever reads what is printed, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except UserError as error:
        if "--debug" in argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        return os.EX_IOERR if isinstance(error, SaveError) else 1
    except Exception as error:
        if "--debug" in argv:
            raise
        print(f"error: {cause(error)} (--debug shows where)", file=sys.stderr)
        return 1
    return 0


def parse(argv: list[str]) -> flags.FlagValues:
    """The values of the flags in `argv`.

    Raises:
      UserError: a flag or a field of the config is unknown, or has a value it cannot have.
    """
    argv = _last_overrides(argv)
    values = _define_flags(argv)
    try:
        rest = values(argv)
        if values.config is not None:
            values.config.items()  # the config file is read only now
    except flags.UnrecognizedFlagError as error:
        hint = ""
        if error.flagname.startswith("config."):
            hint = ": fields are set beside --config=..., the file that the run was trained with"
        raise UserError(f"{error}{hint}") from error
    except flags.Error as error:
        raise UserError(str(error).replace("\n", " ")) from error
    except OSError as error:
        raise _no_config(error) from error
    except Exception as error:  # an override of no field, or whatever the config file raises
        raise _config_error(argv, error) from error
    if rest[1:]:
        raise UserError(f"unexpected argument {rest[1]!r}; options are written --name=value")
    return values


def _last_overrides(argv: list[str]) -> list[str]:
    """`argv` with the last of several overrides of a field; of tuples the flags would be joined."""
    kept: dict[str, list[str]] = {}
    field = ""
    for i, argument in enumerate(argv):
        if not argument.startswith("-") and field:
            kept[field].append(argument)  # --config.x value
            field = ""
            continue
        name, equals, _ = argument.partition("=")
        is_field = re.match(r"--?config\.", name)
        field = name.lstrip("-") if is_field and not equals else ""
        key = name.lstrip("-") if is_field else f"{i}: {argument}"
        kept.pop(key, None)
        kept[key] = [argument]
    return [argument for given in kept.values() for argument in given]


def _define_flags(argv: list[str]) -> flags.FlagValues:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "a file in configs/", values, lock_config=True, sys_argv=argv
    )
    flags.DEFINE_string("workdir", "", "default: runs/<config>[,<overrides>]", values)
    flags.DEFINE_enum(
        "mode",
        "train",
        ["train", "evaluate", "encode", "compare", "report"],
        "evaluate: the newest checkpoint again; encode: codes, ELBO and bound of new examples, "
        "from --input to --output; compare: finished runs side by side, --workdir=A,B,... or "
        "A:<member>; report: report.html anew from the files beside it",
        values,
    )
    flags.DEFINE_string("input", "", "of encode: .npy, .npz or a folder of images", values)
    flags.DEFINE_string("output", "", "of encode: .npz or .csv", values)
    about = "of encode: which member of a sweep; default: the best"
    flags.DEFINE_integer("member", None, about, 0, flag_values=values)
    flags.DEFINE_string(
        "coordinator", "", "host:port of process 0, where a cluster does not tell", values
    )
    flags.DEFINE_integer(
        "num_processes", None, "how many processes run this command", 1, flag_values=values
    )
    flags.DEFINE_integer("process_id", None, "which of them this is, from 0", 0, flag_values=values)
    flags.DEFINE_bool("debug", False, "show the traceback of an error", values)
    flags.DEFINE_bool("help", False, "show this", values, short_name="h")
    about = "show every field of the configuration: its default, what it is, who has it"
    flags.DEFINE_bool("help-config", False, about, values)
    return values


def _config_error(argv: list[str], error: Exception) -> UserError:
    """The error to show for one that reading the config and its overrides has raised."""
    known = settings.flatten(default())
    for argument in argv:
        match = re.match(r"--?config\.([\w.]+)", argument)
        if match and match[1] not in known:
            return settings.unknown_field(match[1], catalogue())
    given = next((a for a in argv if a.startswith("--config=")), "--config=")
    file = Path(given.removeprefix("--config=").split(":")[0])
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == file]
    where = f", line {frames[-1].lineno}" if frames else ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f", line {error.lineno}"
    reason = (str(error).strip() or "no message").splitlines()[0]
    return UserError(f"{given}{where}: {type(error).__name__}: {reason}")


def _no_config(error: OSError) -> UserError:
    reason = str(error).splitlines()[-1].strip()
    folder = Path(__file__).parents[1] / "configs"
    hint = f"; the package's are in {folder}" if folder.is_dir() else ""
    return UserError(f"--config cannot be read: {reason}{hint}")


def stored_config(workdir: Path, values: flags.FlagValues):
    """The config of the run in `workdir`, with the overrides of the command line.

    Without a run it is the config that the command line names.
    """
    stored = record.read_record(workdir)
    if stored is None:
        return values.config
    config = record.read_config(stored, catalogue()).unlock()
    for name, value in _overrides(values).items():
        section, field = name.split(".", 1)
        config[section][field] = value
    return config


def _overrides(values: flags.FlagValues) -> dict:
    """{"section.field": value} of the fields that the command line sets."""
    return {} if values.config is None else config_flags.get_override_values(values["config"])


def asked(values: flags.FlagValues) -> tuple[str, ...]:
    """The fields that the command line sets."""
    return tuple(_overrides(values))


def _help_config() -> str:
    """A line for every field of the configuration, below its section."""
    known = catalogue()
    lines: list[str] = []
    for name, field in known.fields.items():
        heading = f"[{name.split('.')[0]}]"
        if heading not in lines:
            lines.append(heading)
        line = f"  --config.{name}={field.default!r}  {field.help}"
        if field.choices:
            line += f" ({' | '.join(field.choices)})"
        if name in known.owners:
            line += f"  [of {', '.join(part.name for part in known.owners[name])}]"
        lines.append(line)
    lists = "--config.sweep.<hyper>=(a,b), --config.sweep.<section>_<field>=(a,b)"
    return "\n".join([*lines, f"  {lists}  values to sweep"])


def default_workdir(values: flags.FlagValues) -> Path:
    """runs/<config>[,<overrides>]. Overrides that may differ between two runs of one workdir are
    left out, but for those that say which data it is."""
    parts = [Path(config_flags.get_config_filename(values["config"])).stem]
    for name, value in sorted(_overrides(values).items()):
        if not name.startswith(record.FREE) or name in ("data.path", "data.scale"):
            text = re.sub(r"[^A-Za-z0-9.+-]+", "_", str(value)).strip("_")
            parts.append(f"{name}={text}")
    name = ",".join(parts)
    if len(name) > 120:  # file systems take names of 255 bytes
        digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
        name = f"{name[:100]},{digest}"
    return Path("runs", name)


def execute(values: flags.FlagValues) -> int:
    """Does what --mode says; returns the exit status.

    Raises:
      UserError: something the user can correct.
    """
    _check_encode(values)
    if values.mode == "compare":
        print(compare(values.workdir), flush=True)
        return 0
    if values.config is None and (values.mode == "train" or not values.workdir):
        need = "--config" if values.mode == "train" else "--workdir or --config"
        raise UserError(f"no {need} given; for example --config=configs/mnist.py")
    workdir = api.folder_of(values.workdir) if values.workdir else default_workdir(values)
    if values.mode == "report":
        print(f"wrote {api.report(workdir)}")
        return 0
    _refuse_empty_lists(values)
    join_processes(values)
    _check_devices()
    keep_compiled()
    os.environ["MPLBACKEND"] = "agg"  # whatever the user has for windows, this draws into files
    sys.unraisablehook = _unraisable
    return _work(workdir, values)


def _check_encode(values: flags.FlagValues) -> None:
    """Checks that --input and --output are given to encode, and to nothing else."""
    given = [name for name in ("input", "output", "member") if values[name].value not in ("", None)]
    if values.mode == "encode" and not {"input", "output"} <= set(given):
        raise UserError("--mode=encode needs --input and --output")
    if values.mode != "encode" and given:
        raise UserError(f"--{given[0]} is of --mode=encode only")


def _work(workdir: Path, values: flags.FlagValues) -> int:
    """Returns the exit status: 0, or that of the signal that ended the command."""
    try:
        if values.mode == "train":
            api.train(values.config, workdir, asked=asked(values))
        elif values.mode == "encode":
            config = stored_config(workdir, values)
            given = (values.input, values.output, values.member)
            api.encode(workdir, *given, config, asked=asked(values))
            print(f"wrote {values.output}")
        else:
            api.evaluate(workdir, stored_config(workdir, values), asked=asked(values))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Interrupted as error:
        message = f"stopped by {error} and saved in {workdir}"
        print(f"{message}; the same command goes on from there", file=sys.stderr)
        return 128 + error.signum
    return 0


def _refuse_empty_lists(values: flags.FlagValues) -> None:
    for name, value in _overrides(values).items():
        if name.startswith("sweep.") and value in ((), ("",)):
            raise UserError(
                f"{name} is empty: list its values, such as --config.{name}='(1,2)', or leave it "
                "out"
            )


def join_processes(values: flags.FlagValues) -> None:
    """Joins the processes of this command on several hosts: as the flags say, or the cluster.

    Raises:
      UserError: flags are missing, or the processes do not find each other.
    """
    given = {name: values[name].value for name in ("coordinator", "num_processes", "process_id")}
    missing = [f"--{name}" for name, value in given.items() if value in ("", None)]
    if 0 < len(missing) < 3:
        raise UserError(
            f"{', '.join(missing)} is missing: several processes need all of --{', --'.join(given)}"
        )
    if not missing and values.process_id >= values.num_processes:
        raise UserError(f"--process_id is {values.process_id}, expected less than --num_processes")
    variables = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
    try:
        tasks = max(int(os.environ.get(name, 1)) for name in variables)
    except ValueError as error:
        raise UserError(
            f"one of {', '.join(variables)} is no number ({error}): the cluster sets them; unset it"
        ) from error
    alone = bool(missing) and tasks == 1
    if alone and not _has_tpu():
        return
    try:
        if missing:
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(values.coordinator, values.num_processes, values.process_id)
    except (RuntimeError, ValueError) as error:
        if alone:  # a TPU outside of any pod
            return
        reason = str(error).splitlines()[0]
        raise UserError(f"the processes do not find each other: {reason}") from error


def _check_devices() -> None:
    """Raises UserError if JAX finds no device of the kind that it is told to use."""
    try:
        jax.devices()
    except Exception as error:  # JAX raises several kinds, some without words
        wanted = os.environ.get("JAX_PLATFORMS", "")
        reason = (str(error).strip() or "none is there").splitlines()[0]
        raise UserError(
            f"JAX has no device for JAX_PLATFORMS={wanted!r} ({reason}): install what it needs, "
            "such as jax[cuda12], or unset that"
        ) from error


def _has_tpu() -> bool:
    """Whether this host has TPU chips. Only JAX can tell, in `initialize`, if they are of a pod."""
    chips = [*Path("/dev").glob("accel*"), *Path("/dev/vfio").glob("[0-9]*")]
    wanted = os.environ.get("JAX_PLATFORMS", "tpu")
    return bool(chips) and "tpu" in wanted and importlib.util.find_spec("libtpu") is not None


def _unraisable(problem) -> None:
    """Hides errors that follow from another: when one write of a checkpoint fails, each of those
    under way finds its event loop closed."""
    if "Event loop is closed" not in str(problem.exc_value):
        sys.__unraisablehook__(problem)


def keep_compiled() -> None:
    """Keeps compiled programs between commands, unless the user has set JAX's own cache."""
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = Path(os.environ.get("VAE_JAX_CACHE") or Path(home, "vae_jax"), "compiled")
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def main(argv: list[str]) -> NoReturn:
    """Ends the process with the status of `run`."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  until the end
        # A terminal may not have every character.
        getattr(sys, name).reconfigure(errors="backslashreplace")
    status = run(argv)
    if status == os.EX_IOERR:  # or Python would wait for the writer's threads, for minutes
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    main(sys.argv)
