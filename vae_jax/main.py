"""The command line: python -m vae_jax.main --config=configs/mnist.py

The same command again goes on where it stopped. Fields of the config are set as --config.hypers.beta=4;
vae_jax/config/defaults.py lists them all.
"""

import hashlib
import importlib.util
import os
import re
import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from vae_jax import config as settings
from vae_jax.errors import UserError
from vae_jax.workdir import record


def run(argv: list[str]) -> int:
    """Runs the command `argv` (the program's name first) and returns its exit status."""
    try:
        values = parse(argv)
        if values.help:
            fields = "\n".join(f"  --config.{k}={v!r}" for k, v in settings.flatten(settings.default()).items())
            print(f"{__doc__}\n{values.get_help()}\nthe config's fields and defaults:\n{fields}")
            return 0
        return execute(values)
    except UserError as error:
        if "--debug" in argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


def parse(argv: list[str]) -> flags.FlagValues:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "a file in configs/", values, lock_config=True, sys_argv=argv)
    flags.DEFINE_string("workdir", "", "default: runs/<config>[,<overrides>]", values)
    flags.DEFINE_enum(
        "mode",
        "train",
        ["train", "evaluate", "compare", "report"],
        "evaluate: the newest checkpoint again; compare: finished runs side by side, --workdir=A,B,... or A:<member>; "
        "report: report.html anew from the files beside it",
        values,
    )
    flags.DEFINE_string("coordinator", "", "host:port of process 0, where a cluster does not tell", values)
    flags.DEFINE_integer("num_processes", None, "how many processes run this command", 1, flag_values=values)
    flags.DEFINE_integer("process_id", None, "which of them this is, from 0", 0, flag_values=values)
    flags.DEFINE_bool("debug", False, "show the traceback of an error", values)
    flags.DEFINE_bool("help", False, "show this", values, short_name="h")
    try:
        rest = values(argv)
        if values.config is not None:
            values.config.items()  # a file that is not there says so only now
    except flags.Error as error:
        raise UserError(str(error).replace("\n", " ")) from error
    except OSError as error:
        raise UserError(f"--config cannot be read: {str(error).splitlines()[-1].strip()}") from error
    except Exception as error:  # an override of no field, or whatever the config file raises
        known = settings.flatten(settings.default())
        names = [match[1] for match in (re.match(r"--?config\.([\w.]+)", a) for a in argv) if match]
        for name in names:
            if name not in known:
                raise settings.unknown_field(name) from error
        file = next((a for a in argv if a.startswith("--config=")), "--config")
        raise UserError(f"{file}: {type(error).__name__}: {str(error).splitlines()[0]}") from error
    if rest[1:]:
        raise UserError(f"unexpected argument {rest[1]!r}; options are written --name=value")
    return values


def stored_config(workdir: Path, values: flags.FlagValues):
    """The config of the run in `workdir` with the command's overrides; the command's own config without a run."""
    stored = record.read_record(workdir)
    if stored is None:
        return values.config
    config = record.read_config(stored).unlock()
    overrides = {} if values.config is None else config_flags.get_override_values(values["config"])
    for name, value in overrides.items():
        section, field = name.split(".", 1)
        config[section][field] = value
    return config


def default_workdir(values: flags.FlagValues) -> Path:
    """runs/<config name>[,<overrides>]; overrides that may differ between two runs of one workdir do not count."""
    overrides = config_flags.get_override_values(values["config"])
    parts = [Path(config_flags.get_config_filename(values["config"])).stem]
    for name, value in sorted(overrides.items()):
        if not name.startswith(record.FREE) or name == "data.path":
            parts.append(f"{name}={re.sub(r'[^A-Za-z0-9.+-]+', '_', str(value)).strip('_')}")
    name = ",".join(parts)
    if len(name) > 120:  # file systems take names of 255 bytes
        name = f"{name[:100]},{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
    return Path("runs", name)


def execute(values: flags.FlagValues) -> int:
    from vae_jax import api
    from vae_jax.training.signals import Interrupted

    if values.mode == "compare":
        from vae_jax.report.compare import compare

        print(compare(values.workdir))
        return 0
    if values.config is None and (values.mode == "train" or not values.workdir):
        need = "--config" if values.mode == "train" else "--workdir or --config"
        raise UserError(f"no {need} given; for example --config=configs/mnist.py")
    workdir = Path(values.workdir) if values.workdir else default_workdir(values)
    if values.mode == "report":
        from vae_jax.report import page

        print(f"wrote {page.write(workdir)}")
        return 0
    _refuse_empty_lists(values)
    join_processes(values)
    keep_compiled()
    sys.unraisablehook = _unraisable
    try:
        if values.mode == "train":
            api.train(values.config, workdir)
        else:
            api.evaluate(workdir, stored_config(workdir, values))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Interrupted as signal:
        print(
            f"stopped by {signal} and saved in {workdir}; the same command goes on from there",
            file=sys.stderr,
        )
        return 128 + signal.signum
    return 0


def _refuse_empty_lists(values: flags.FlagValues) -> None:
    given = {} if values.config is None else config_flags.get_override_values(values["config"])
    for name, value in given.items():
        if name.startswith("sweep.") and value in ((), ("",)):
            raise UserError(f"{name} is empty: list its values, such as --config.{name}='(1,2)', or leave it out")


def join_processes(values: flags.FlagValues) -> None:
    """Joins the processes of this command on several hosts: those the flags name, or a cluster's own."""
    given = {name: values[name].value for name in ("coordinator", "num_processes", "process_id")}
    missing = [f"--{name}" for name, value in given.items() if value in ("", None)]
    if 0 < len(missing) < 3:
        raise UserError(f"{', '.join(missing)} is missing: several processes need all of --{', --'.join(given)}")
    if not missing and values.process_id >= values.num_processes:
        raise UserError(f"--process_id is {values.process_id}, expected less than --num_processes")
    tasks = max(int(os.environ.get(name, 1)) for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    if missing and tasks == 1 and not _has_tpu():
        return
    import jax

    try:
        if missing:
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(values.coordinator, values.num_processes, values.process_id)
    except (RuntimeError, ValueError) as error:
        if missing and tasks == 1:  # a TPU outside of any pod
            return
        raise UserError(f"the processes do not find each other: {str(error).splitlines()[0]}") from error


def _has_tpu() -> bool:
    """Whether this host has TPU chips, which may be part of a pod: only JAX can tell, in `initialize`."""
    chips = [*Path("/dev").glob("accel*"), *Path("/dev/vfio").glob("[0-9]*")]
    wanted = os.environ.get("JAX_PLATFORMS", "tpu")
    return bool(chips) and "tpu" in wanted and importlib.util.find_spec("libtpu") is not None


def _unraisable(problem) -> None:
    """When one write of a checkpoint fails, those beside it find their event loop closed and say so, each."""
    if "Event loop is closed" not in str(problem.exc_value):
        sys.__unraisablehook__(problem)


def keep_compiled() -> None:
    """Compiled programs are kept between commands, unless the user has chosen a place for them."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = Path(os.environ.get("VAE_JAX_CACHE") or Path(home, "vae_jax"), "compiled")
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


if __name__ == "__main__":
    sys.exit(run(sys.argv))
