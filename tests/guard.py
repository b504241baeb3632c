"""The guard of a refactoring: does this checkout compute what another one does, bit for bit?

    git worktree add ../parent HEAD
    python tests/guard.py --against=../parent
    python tests/guard.py --against=../parent --cases=mlp,sweep --keep=../kept --jobs=2
    python tests/guard.py --against=../parent --float64

Each checkout trains the small models of CASES on this machine, in a process that uses nothing of it
but `vae_jax.train`, `evaluate`, `load`, `data.from_arrays` and the default configuration. What is
compared:

    params    the parameters that `load` gives, for every member
    metrics   the rows of metrics.jsonl, in their order
    results   results.json, without times and commands

Equal means equal in dtype, shape and bits. A value that is gone or changed is a failure, and so is
a new parameter; a new key in results or metrics is a note. The exit status is 0 if every case is
equal, else 1, with the first paths that differ. Their "relative difference" is the largest absolute
difference, divided by the largest absolute value of that array.

Names may change between the checkouts. Cases are written in the old names, and three maps take them
to the new ones: FIELDS (of the configuration, and where results.json names its fields), PARAMS
(paths of parameters), and EXPECTED (what is to differ, and why). A change that renames
something adds a line there. Both sides are read through the maps, so either may have either names.

Some changes of a computation cannot but alter its rounding. `--float64` is for these. It compares
the losses of 30 steps in float64, to a relative 1e-9, and the loss of the first step in float32, to
1e-6. For float64 the names `float32` of `jax.numpy` and `numpy` stand for float64 before the
package is imported. Cases that train like another one, or in bfloat16, are left out.

    --cases=a,b   only these
    --jobs=2      both checkouts at once
    --keep=DIR    keeps compiled programs, and what the cases leave in a folder for each state of
                  the package: one that has run the same cases with the same versions is reused

Programs that both checkouts compile alike are compiled once.
"""

import argparse
import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Old to new names of configuration fields; `sweep.<section>_<field>` follows.
FIELDS = {
    "model.encoder": "network.name",
    "model.hidden": "network.hidden",
    "model.channels": "network.channels",
    "model.blocks": "network.blocks",
    "model.activation": "network.activation",
    "model.likelihood": "likelihood.name",
    "model.sigma": "likelihood.sigma",
    "model.learn_sigma": "likelihood.learn_sigma",
    "model.min_sigma": "likelihood.min_sigma",
    "model.mixtures": "likelihood.mixtures",
    "train.optimizer": "optimizer.name",
    "train.lr_decay": "schedule.learning_rate",
    "train.beta_schedule": "schedule.beta",
}
# Old to new paths of parameters, as regular expressions of the whole path.
PARAMS = {
    r"decoder/likelihood/statistics/(.*)": r"statistics/\1",
}
# Cases that are to differ, in which paths, and why: it is shown, but does not count.
EXPECTED = {
    "vectors": (".*", "real vectors are standardized, see data/kinds/vector.py"),
    "estimators": (
        r"results/evaluation/\d+/gaps/.*",
        "the best q(z|x) is found with other noise, see metrics/inference_gaps.py",
    ),
}

# What draws after a training: (module, path in it). Drawing takes a third of the time of such short
# runs and is left out where it has one of these names; else cases only take longer.
DRAWING = [("vae_jax.outcome", "Outcome._draw"), ("vae_jax.results.finish", "Outcome._draw")]
LEFT_OUT = {"wall_time_s", "examples_per_s", "best_command", "digest"}  # times, names
MAY_GO = r"results/members/\d+/hypers/.*"  # hyper-parameters that no chosen part has

FAST_TO_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
STEPS = 30  # of the comparison in float64
TOLERANCE = {"float64": 1e-9, "float32": 1e-6}  # relative
SHOWN = 5  # paths of a case that differs


class Case(NamedTuple):
    data: str  # a function of DATA, or the name of a data set
    fields: dict  # on top of BASE
    then: tuple = ()  # (function, fields), called after training, in the same workdir
    params: tuple = (None,)  # `load` is asked for each of them
    float64: bool = True  # whether --float64 has it


BASE = {
    "hypers.latent_dim": 3,
    "hypers.learning_rate": 0.03,
    "hypers.lr_warmup_epochs": 0.2,
    "hypers.beta_warmup_epochs": 0.5,
    "train.batch_size": 20,
    "train.num_epochs": 2.0,
    "train.steps_per_call": 5,
    "eval.nll_samples": 10,
    "checkpoint.every_epochs": 1.0,
}
MLP = {"model.hidden": (16,), "model.activation": "tanh"}
GREY = MLP | {"data.binarize": "none"}
CONV = {"model.encoder": "conv", "model.channels": (4, 8), "data.binarize": "none"}
ESTIMATORS = ("iwae", "ais", "bdmc", "rate_distortion", "gaps", "latents", "probes", "samples")
FEW = {
    "eval.bounds_examples": 6,
    "eval.batch_size": 4,
    "eval.samples_per_step": 4,
    "eval.iwae_samples": (10, 100),
    "eval.ais_chains": 4,
    "eval.ais_distributions": 20,
    "eval.ais_leapfrog": 3,
    "eval.gap_steps": 30,
    "eval.gap_samples": 2,
    "eval.feature_examples": 30,
}
CASES = {
    "mlp": Case("images", MLP),
    "conv": Case("colours", {**CONV, "model.likelihood": "discretized_logistic"}),
    "ae": Case(
        "images",
        {
            **GREY,
            "model.name": "ae",
            "model.code_sampler": "gaussian_fit",
            "model.likelihood": "gaussian",
        },
    ),
    "continuous": Case("images", {**GREY, "model.likelihood": "continuous_bernoulli"}),
    "gaussian": Case("images", {**GREY, "model.likelihood": "gaussian", "model.learn_sigma": True}),
    "per_pixel": Case(
        "images",
        {**GREY, "model.likelihood": "gaussian_per_pixel", "model.min_sigma": 0.05},
    ),
    "optimal_sigma": Case(
        "images",
        {**GREY, "model.likelihood": "gaussian_optimal_sigma", "model.sigma": 0.5},
    ),
    "mixture": Case(
        "colours",
        {**GREY, "model.likelihood": "discretized_logistic_mixture", "model.mixtures": 3},
    ),
    "categorical": Case("images", {**GREY, "model.likelihood": "categorical"}),
    "free_bits": Case(
        "images",
        {
            **MLP,
            "data.binarize": "threshold",
            "data.resident": "no",
            "objective.name": "free_bits",
            "objective.num_samples": 2,
            "train.beta_schedule": "cyclic",
            "hypers.beta_cycle_epochs": 1.0,
        },
    ),
    "capacity": Case(
        "images",
        {
            **MLP,
            "objective.name": "capacity",
            "hypers.capacity": 5.0,
            "hypers.capacity_warmup_epochs": 1.0,
            "hypers.gamma": 10.0,
            "train.beta_schedule": "cyclic",
            "hypers.beta_cycle_epochs": 1.0,
            "train.optimizer": "adamw",
            "train.lr_decay": "linear",
        },
    ),
    "sweep": Case(  # in two parts
        "images",
        {**MLP, "sweep.beta": (0.5, 2.0), "sweep.latent_dim": (2, 4), "sweep.max_members": 2},
    ),
    "static": Case(  # in two programs; one member diverges
        "images",
        {
            **MLP,
            "sweep.mode": "zip",
            "sweep.model_hidden": ((8,), (8,), (8, 8)),
            "sweep.learning_rate": (0.03, 1e30, 0.03),
            "sweep.seed": (0, 1, 2),
            "sweep.shared_data": False,
        },
        float64=False,
    ),
    "early": Case(
        "images",
        {
            **MLP,
            "hypers.learning_rate": 1.0,
            "train.num_epochs": 8.0,
            "train.early_stop_epochs": 1.0,
            "train.ema_decay": 0.9,
        },
        params=("last", "ema", "best"),
        float64=False,
    ),
    "bfloat16": Case("images", {**MLP, "train.dtype": "bfloat16"}, float64=False),
    "resumed": Case(
        "images",
        {**MLP, "train.num_epochs": 1.0, "train.schedule_epochs": 2.0},
        then=(("train", {"train.num_epochs": 2.0}),),
        float64=False,
    ),
    "estimators": Case("images", {**MLP, **FEW, "eval.estimators": ESTIMATORS}, float64=False),
    "vectors": Case("vectors", {**GREY, "model.likelihood": "gaussian", "model.sigma": 0.7}),
    "digits": Case(  # evaluated again, with other settings
        "digits",
        {
            **MLP,
            "data.name": "digits",
            "data.num_valid": 200,
            "data.num_test": 200,
            "train.batch_size": 100,
            "train.num_epochs": 1.0,
        },
        then=(("evaluate", {"eval.nll_samples": 7, "eval.params": "best"}),),
        params=("last", "best"),
    ),
}


# What a checkout computes. This part runs in a process of its own, with that checkout on the path.


def run_cases(names: list[str], folder: Path, precision: str) -> None:
    """Runs each case in its own folder, which then holds its time, or the error that ended it.

    Args:
      precision: "" for whole cases; "float64" or "float32" for their first steps alone.
    """
    import jax

    if precision == "float64":  # what the package then makes of float32, it makes of float64
        jax.numpy.float32 = jax.numpy.float64
        np.float32 = np.float64
    import vae_jax

    checkout = os.environ["PYTHONPATH"]
    assert Path(vae_jax.__file__).is_relative_to(checkout), vae_jax.__file__
    leave_out_drawing()
    for name in names:
        out, begin = folder_of(folder, name, precision), time.process_time()
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        try:
            with (out / "log.txt").open("w") as log, contextlib.redirect_stdout(log):
                train_case(vae_jax, name, out, precision)
        except (Exception, SystemExit):
            (out / "error").write_text(traceback.format_exc())
        seconds = time.process_time() - begin
        (out / "seconds").write_text(f"{seconds:.1f}")
        print(f"  {checkout}: {out.name} {seconds:.0f} s of CPU time", flush=True)


def train_case(vae_jax, name: str, out: Path, precision: str) -> None:
    """Trains a case in `out`/run, and writes the parameters of a whole case to `out`/params.npz."""
    case, workdir = CASES[name], out / "run"
    config = make_config(vae_jax, BASE | case.fields)
    dataset = DATA[case.data](vae_jax) if case.data in DATA else None
    if precision:
        set_fields(config, first_steps(STEPS if precision == "float64" else 1))
        vae_jax.train(config, workdir, dataset=dataset)
        return
    run = vae_jax.train(config, workdir, dataset=dataset)
    for function, fields in case.then:
        set_fields(config, fields)
        if function == "train":
            run = vae_jax.train(config, workdir, dataset=dataset)
        else:
            run = vae_jax.evaluate(workdir, config, dataset=dataset)
    params = {}
    for member in range(len(run.results["members"])):
        for which in case.params:
            tree = vae_jax.load(workdir, member=member, params=which).params
            params |= {f"{member}/{which}/{path}": leaf for path, leaf in leaves(tree).items()}
    np.savez(out / "params.npz", **params)


def leaves(tree) -> dict[str, np.ndarray]:
    """{path: array}; what is empty has no path."""
    import jax

    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        found[jax.tree_util.keystr(path, simple=True, separator="/")] = np.asarray(leaf)
    return found


def leave_out_drawing() -> None:
    def skip(*_args, **_kwargs) -> None:
        pass

    for module, path in DRAWING:
        with contextlib.suppress(ImportError, AttributeError):
            *owners, name = path.split(".")
            owner = functools.reduce(getattr, owners, importlib.import_module(module))
            getattr(owner, name)
            setattr(owner, name, skip)


def first_steps(num: int) -> dict:
    """Fields that log the loss of each of the first steps, `num` or more, and do little else.

    There are 10 steps or more in an epoch of every case.
    """
    return {
        "train.num_epochs": num / 10,
        "train.schedule_epochs": 3.0,
        "train.steps_per_call": 1,
        "train.early_stop_epochs": 0.0,
        "eval.every_epochs": 3.0,
        "eval.nll_samples": 1,
        "eval.params": "last",
    }


def make_config(vae_jax, fields: dict):
    """The default configuration of this checkout with `fields`, in old names."""
    if hasattr(vae_jax, "default"):
        config = vae_jax.default()
    else:
        from vae_jax.config import default

        config = default()
    set_fields(config, fields)
    return config


def set_fields(config, fields: dict) -> None:
    """Sets the fields of old names, each under its new name where the config has no old one."""
    with config.unlocked():
        for old, value in fields.items():
            known = [name for name in (old, renamed(old)) if has_field(config, name)]
            if not known:
                raise KeyError(f"the config has neither {old} nor {renamed(old)}: add it to FIELDS")
            section, field = known[0].split(".", 1)
            config[section][field] = value


def has_field(config, name: str) -> bool:
    section, field = name.split(".", 1)
    return section in config and field in config[section]


def images(vae_jax):
    """300 small grey images of two causes, with labels."""
    return from_factors(vae_jax, (6, 5, 1))


def colours(vae_jax):
    """300 small images with three channels."""
    return from_factors(vae_jax, (7, 8, 3))


def from_factors(vae_jax, shape: tuple[int, int, int]):
    rng = np.random.default_rng(0)
    code = rng.normal(size=(300, 2))
    logits = 2 * code @ rng.normal(size=(2, int(np.prod(shape))))
    x = (255 / (1 + np.exp(-logits))).astype(np.uint8).reshape(300, *shape)
    return from_arrays(vae_jax, x, (code[:, 0] > 0).astype(np.int64) + 2 * (code[:, 1] > 0))


def vectors(vae_jax):
    """300 vectors of two causes, each column with a mean and deviation of its own."""
    rng = np.random.default_rng(1)
    code = rng.normal(size=(300, 2))
    x = code @ rng.normal(size=(2, 7)) + 0.1 * rng.normal(size=(300, 7))
    x = (x * np.linspace(0.5, 2.0, 7) + np.linspace(-1.0, 1.0, 7)).astype(np.float32)
    return from_arrays(vae_jax, x, (code[:, 0] > 0).astype(np.int64))


def from_arrays(vae_jax, x: np.ndarray, label: np.ndarray):
    """A dataset of 200 training, 40 validation and 60 test examples."""
    parts = x[:240], x[240:], label[:240], label[240:]
    return vae_jax.data.from_arrays("blobs", *parts, num_valid=40)


DATA = {"images": images, "colours": colours, "vectors": vectors}


# What is compared.


def renamed(field: str) -> str:
    """The new name of a configuration field, or its name as it is."""
    if field.startswith("sweep."):
        listed = field.removeprefix("sweep.").replace("_", ".", 1)
        return f"sweep.{FIELDS[listed].replace('.', '_', 1)}" if listed in FIELDS else field
    return FIELDS.get(field, field)


def renamed_param(path: str) -> str:
    """The new path of a parameter, or its path as it is."""
    for old, new in PARAMS.items():
        if re.fullmatch(old, path):
            return re.sub(old, new, path)
    return path


def read_values(out: Path) -> dict[str, object]:
    """{path: value} of everything that a case has left, in new names."""
    values = {}
    with np.load(out / "params.npz") as params:
        for key, array in params.items():
            member, which, path = key.split("/", 2)
            values[f"params/{member}/{which}/{renamed_param(path)}"] = array
    lines = (out / "run" / "metrics.jsonl").read_text().splitlines()
    values |= flatten("metrics", [json.loads(line) for line in lines])
    return values | flatten("results", json.loads((out / "run" / "results.json").read_text()))


def flatten(path: str, value) -> dict[str, object]:
    """{path: leaf} of JSON; of a list also its length, so that none has become longer unseen."""
    if isinstance(value, dict):
        children = {renamed(key): child for key, child in value.items() if key not in LEFT_OUT}
    elif isinstance(value, list):
        children = {"length": len(value)} | {str(i): child for i, child in enumerate(value)}
    else:
        return {path: value}
    found = {}
    for name, child in children.items():
        found |= flatten(f"{path}/{name}", child)
    return found


def read_losses(out: Path) -> dict[str, float]:
    """{step and member: the loss of that training step}."""
    lines = (out / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "train"]
    kept = [row for row in rows if row["step"] <= STEPS]
    return {f"step {row['step']}, member {row['member']}: loss": row["loss"] for row in kept}


def same(a, b) -> bool:
    """Whether two leaves are equal in type, shape and bits."""
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    return repr(a) == repr(b)  # 1 is not 1.0, and 0.0 not -0.0


def close(tolerance: float, a, b) -> bool:
    return relative_difference(a, b) <= tolerance


def relative_difference(a, b) -> float:
    """max |a - b| / max |a|; infinite where the two cannot be subtracted."""
    try:
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.shape != b.shape:
            return np.inf
        difference = np.max(np.abs(a - b), initial=0.0)
        largest = np.max(np.abs(a), initial=0.0)
    except (TypeError, ValueError):
        return np.inf
    if np.isnan(difference):
        return np.inf
    return float(difference / largest) if largest else float(np.inf if difference else 0.0)


class Comparison(NamedTuple):
    num: int  # values that were compared
    differ: list[str]  # a line for each that is not equal
    largest: float  # relative difference
    notes: list[str]


def compare(old: dict, new: dict, equal=same) -> Comparison:
    differ, notes, largest = [], [], 0.0
    for path, value in old.items():
        if path not in new:
            (notes if re.fullmatch(MAY_GO, path) else differ).append(f"{path}: gone")
            continue
        difference = relative_difference(value, new[path])
        if not equal(value, new[path]):
            largest = max(largest, difference)
            differ.append(f"{path}: {show(value, new[path])}, relative difference {difference:.1e}")
    for path in new.keys() - old.keys():
        (differ if path.startswith("params/") else notes).append(f"{path}: new")
    notes = [re.sub(r"/\d+(?=/)", "/*", note) for note in notes]
    return Comparison(len(old), differ, largest, sorted(set(notes)))


def show(old, new) -> str:
    """Two values, or the first entry in which two arrays differ."""
    if not isinstance(old, np.ndarray):
        return f"{old!r} -> {new!r}"
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return f"{old.dtype} {old.shape} -> {new.dtype} {new.shape}"
    where = np.argwhere(old != new)
    if len(where) == 0:
        return "signs of zeros, or NaN"
    first = tuple(where[0].tolist())
    return f"{len(where)} of {old.size} entries, {list(first)}: {old[first]} -> {new[first]}"


# The two checkouts, side by side.


class Side(NamedTuple):
    name: str  # "old" or "new"
    checkout: Path
    folder: Path  # of what its cases leave


def folder_of(folder: Path, name: str, precision: str) -> Path:
    return folder / (f"{name}-{precision}" if precision else name)


def run_side(side: Side, names: list[str], precision: str, temporary: Path, compiled: Path) -> None:
    """Runs cases in a process of their own, whose imports and compilations they share."""
    env = os.environ | {
        "PYTHONPATH": str(side.checkout),
        "PYTHONDONTWRITEBYTECODE": "1",
        "VAE_JAX_CACHE": str(temporary / side.name),
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1" if precision == "float64" else "0",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {FAST_TO_COMPILE}".strip(),
    }
    command = [sys.executable, "-P", __file__, f"--run={','.join(names)}"]
    command += [f"--out={side.folder}", f"--precision={precision}"]
    with tempfile.TemporaryFile("w+") as log:
        if subprocess.run(command, env=env, stderr=log).returncode:
            log.seek(0)
            sys.exit(f"error: the {side.name} checkout does not run:\n{log.read()[-2000:]}")
    if not side.folder.name.endswith(digest(side.checkout)):
        shutil.rmtree(side.folder)
        sys.exit(f"error: the {side.name} checkout has changed while it ran: run it again")


def digest(checkout: Path) -> str:
    """Of the package in a checkout, and of all else that decides what a case leaves."""
    found = hashlib.blake2b(digest_size=6)
    for path in sorted((checkout / "vae_jax").rglob("*.py")):
        found.update(str(path.relative_to(checkout)).encode() + path.read_bytes())
    functions = [train_case, leaves, first_steps, make_config, set_fields, renamed, run_side]
    functions += [*DATA.values(), from_factors, from_arrays]
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    versions = [importlib.metadata.version(name) for name in names]
    rest = [*map(inspect.getsource, functions), BASE, CASES, FIELDS, FAST_TO_COMPILE, versions]
    found.update(repr(rest).encode())
    return found.hexdigest()


def commit(checkout: Path) -> str:
    """The commit of a checkout, and whether its files are that commit's."""
    git = ["git", "-C", str(checkout)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    return f"{head.stdout.strip() or 'no commit'}{' and changes' if changed.stdout else ''}"


def make_sides(against: Path, keep: Path | None, temporary: Path) -> list[Side]:
    """Both checkouts; with `keep` each state of the package has one folder, on either side."""
    checkouts = {"old": against.resolve(), "new": Path(__file__).resolve().parents[1]}
    digests = {name: digest(checkout) for name, checkout in checkouts.items()}
    if not keep or digests["old"] == digests["new"]:
        digests = {name: f"{name}-{text}" for name, text in digests.items()}
    folder = keep or temporary
    return [Side(name, path, folder / digests[name]) for name, path in checkouts.items()]


def run_all(sides: list[Side], runs: list[tuple], jobs: int, temporary: Path, keep: Path | None):
    """Runs the cases (name, precision) of both checkouts that have not been run before."""
    with ThreadPoolExecutor(jobs) as pool:
        started = []
        for precision in dict.fromkeys(precision for _, precision in runs):
            for side in sides:
                names = [name for name, p in runs if p == precision]
                names = [n for n in names if not is_done(folder_of(side.folder, n, precision))]
                work = side, names, precision, temporary, (keep or temporary) / "compiled"
                started += [pool.submit(run_side, *work)] if names else []
        for future in started:
            future.result()


def is_done(out: Path) -> bool:
    return (out / "seconds").exists() and not (out / "error").exists()


def compare_case(sides: list[Side], name: str, precision: str) -> bool:
    """Compares what a case has left, prints its row of the table, and says whether it passes."""
    title = f"{name}, {precision}" if precision else name
    outs = [folder_of(side.folder, name, precision) for side in sides]
    errors = [out / "error" for out in outs if (out / "error").exists()]
    if errors:
        print(f"{title:24}FAILED\n{errors[0].parent}:\n{errors[0].read_text()[-2000:]}")
        return False
    if precision:
        equal = functools.partial(close, TOLERANCE[precision])
        found = compare(*map(read_losses, outs), equal)
    else:
        found = compare(*map(read_values, outs))
    where, why = EXPECTED.get(name, ("", ""))
    expected = all(re.match(f"{where}: ", line) for line in found.differ)
    print(f"{title:24}{verdict(found, expected)}")
    if found.differ and expected:
        print(f"    expected: {why}")
    lines = found.differ[:SHOWN]
    if len(found.differ) > SHOWN:
        lines.append(f"and {len(found.differ) - SHOWN:,} more")
    for line in [*lines, *(f"note: {note}" for note in found.notes)]:
        print(f"    {line}")
    return expected


def verdict(found: Comparison, expected: bool) -> str:
    if not found.differ:
        return f"equal: {found.num:,} values"
    word = "differs as expected" if expected else "DIFFERS"
    largest = f"relative difference {found.largest:.1e} at most"
    return f"{word}: {len(found.differ):,} of {found.num:,} values, {largest}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="the other checkout, such as a git worktree")
    parser.add_argument("--cases", default="", help=f"of {','.join(CASES)}; default: all")
    parser.add_argument("--float64", action="store_true", help="equal but for rounding")
    parser.add_argument("--keep", type=Path, help="a folder for what the cases leave")
    parser.add_argument("--jobs", type=int, default=1, choices=(1, 2), help="processes at once")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        run_cases(args.run.split(","), args.out, args.precision)
        return
    if not args.against or not (args.against / "vae_jax").is_dir():
        parser.error(f"--against={args.against or ''} is no checkout")
    names = args.cases.split(",") if args.cases else list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    precisions = ["float64", "float32"] if args.float64 else [""]
    runs = [(name, p) for p in precisions for name in names if CASES[name].float64 or not p]
    keep = args.keep and args.keep.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        sides = make_sides(args.against, keep, Path(temporary))
        for side in sides:
            print(f"{side.name}: {side.checkout} ({commit(side.checkout)})", flush=True)
        run_all(sides, runs, args.jobs, Path(temporary), keep)
        passed = [compare_case(sides, *run) for run in runs]
    print("all equal" if all(passed) else f"{passed.count(False)} of {len(passed)} NOT EQUAL")
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
