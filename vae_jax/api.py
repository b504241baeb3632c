"""The project from Python: `train`, `evaluate`, `load`, `encode`, `report` and `table`."""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax import config as settings
from vae_jax import estimators
from vae_jax.config import Catalogue, sweep
from vae_jax.data import Dataset, Split, load_examples, scan
from vae_jax.data.arrays import in_order
from vae_jax.errors import UserError
from vae_jax.estimators.members import raise_violations
from vae_jax.parallel import devices, population, processes
from vae_jax.parts import catalogue as catalogue_of
from vae_jax.results import page
from vae_jax.results.finish import Outcome, has_ended, print_summary
from vae_jax.results.frame import frame
from vae_jax.run import Run, Scores, named
from vae_jax.training import tensorboard
from vae_jax.training.evaluation import Evaluator
from vae_jax.training.loop import checkpoint_folder, fit, restore
from vae_jax.training.program import (
    Facts,
    Program,
    chosen_params,
    device_memory,
    facts_of,
    make_programs,
    members_that_fit,
    which_params,
)
from vae_jax.training.signals import catch_signals
from vae_jax.training.suitability import check_data, check_memory
from vae_jax.types import TrainState
from vae_jax.workdir import checkpoints, files, owner, record


@devices.own_settings()
def train(
    config: ConfigDict,
    workdir: str | Path,
    parts: tuple = (),
    dataset: Dataset | None = None,
    on_row: Callable[[dict], None] | None = None,
    asked: tuple[str, ...] = (),
) -> Run:
    """Trains, evaluates and draws; resumes what `workdir` holds of the same run.

    Args:
      config: from `vae_jax.default(parts)` or a file in configs/.
      workdir: where everything is written; made if it does not exist.
      parts: of your own (`vae_jax.types.Part`, `vae_jax.estimators.Estimator`), which the config
        may then choose by name.
      dataset: from `vae_jax.data.from_arrays`, instead of the one config.data names.
      on_row: called with every row of metrics.jsonl as it is written.
      asked: the fields that were set one by one: it is an error if no chosen part has them.

    Returns:
      The run, as `load` gives it.

    Raises:
      UserError: something the user can mend, in one line.
      Interrupted: SIGTERM or SIGINT; everything is saved, and the same call goes on.
    """
    workdir, catalogue = folder_of(workdir), catalogue_of(tuple(parts))
    programs, dataset, now = _prepare(config, workdir, catalogue, dataset, asked)
    stored, results = record.read_record(workdir), files.read_json(workdir / "results.json")
    if stored and results and _is_whole(programs, workdir, results):
        record.check_same_run(workdir, stored, now, catalogue)
        logging.warning(
            "%s is complete; to evaluate it with other settings, use --mode=evaluate", workdir
        )
        print_summary(results, workdir, catalogue)
        raise_violations(results.get("evaluation", []), catalogue.parts["estimator"])
        return load(workdir, parts=parts)
    params, init_from = _initial_params(programs, workdir, catalogue)
    processes.wait_for_all("read")  # nobody writes before everybody has read
    with owner.owning(workdir), catch_signals() as stop:
        now = record.open_workdir(workdir, now | {"init_from": init_from}, catalogue)
        results = files.read_json(workdir / "results.json")
        if results:  # of a shorter training, which goes on
            files.write_json(workdir / "results.json", results | {"complete": False})
        outcome = Outcome(workdir, now["dataset"], dataset, stop, resume=True)
        for program in programs:
            state = fit(program, dataset, workdir, stop, params, on_row)
            outcome.add(Evaluator(program), state)
        outcome.finish(now["own"])
    return load(workdir, parts=parts)


@devices.own_settings()
def evaluate(
    workdir: str | Path,
    config: ConfigDict | None = None,
    parts: tuple = (),
    dataset: Dataset | None = None,
    asked: tuple[str, ...] = (),
) -> Run:
    """Evaluates the newest checkpoint in `workdir` again, with the eval section of `config` where
    it is given.

    Args:
      parts, dataset: those that the run was trained with, and estimators of your own.
      asked: as in `train`.

    Raises:
      UserError: the workdir holds no checkpoint, or those of another run.
    """
    workdir, catalogue = folder_of(workdir), catalogue_of(tuple(parts))
    stored = _read_record(workdir, catalogue)
    config = record.read_config(stored, catalogue) if config is None else config
    programs, dataset, now = _prepare(config, workdir, catalogue, dataset, asked)
    record.check_same_run(workdir, stored, now, catalogue)
    for program in programs:
        _check_saved(program, workdir)
    with owner.owning(workdir), catch_signals() as stop:
        now = record.open_workdir(workdir, now, catalogue)
        # Whoever asks for estimates asks for more, not for the numbers there are once again.
        more = bool(config.eval.estimators)
        outcome = Outcome(workdir, now["dataset"], dataset, stop, resume=more)
        for program in programs:
            evaluator = Evaluator(program)
            _, state = _restored(program, workdir, evaluator.mesh)
            outcome.add(evaluator, state)
        outcome.finish(now["own"])
    return load(workdir, parts=parts)


@devices.own_settings()
def load(
    workdir: str | Path,
    member: int | None = None,
    parts: tuple = (),
    params: str | None = None,
) -> Run:
    """Inference with the newest undamaged checkpoint of a run, or of one member of a sweep.

    Args:
      workdir: of a run that has saved at least once.
      member: of a sweep; by default the best by validation, or the first before any has been
        evaluated.
      parts: those of your own that the run was trained with.
      params: "last", "ema" or "best"; by default what the config's eval.params says.

    Raises:
      UserError: there is no such run, member or checkpoint.
    """
    workdir, catalogue = folder_of(workdir), catalogue_of(tuple(parts))
    stored = _read_record(workdir, catalogue)
    config = record.read_config(stored, catalogue)
    return _loaded(workdir, stored, config, catalogue, member, params)


@devices.own_settings()
def encode(
    workdir: str | Path,
    examples: str | Path,
    output: str | Path,
    member: int | None = None,
    config: ConfigDict | None = None,
    parts: tuple = (),
    asked: tuple[str, ...] = (),
) -> Scores:
    """Encodes and scores new examples, prepared as the run's own data was: cropped and resized, and
    binarized as in the evaluation.

    Args:
      workdir, member: see `load`.
      examples: an .npy or .npz file as of `data.name="file"`, or a folder of images. Of a file with
        x_train and x_test both are taken, in this order.
      output: the file that is written. .npz: arrays with the names of `Scores`, those there are.
        .csv: a row for each example, mean_0, mean_1, ..., logvar_0, ..., elbo, log_p.
      config: its eval section says how they are evaluated, by default that of the run.
      parts: those of your own that the run was trained with.
      asked: as in `train`.

    Raises:
      UserError: there is no such run, the examples are not such as it was trained on, or the file
        cannot be written; then it is not.
    """
    workdir, output, catalogue = folder_of(workdir), Path(output), catalogue_of(tuple(parts))
    stored = _read_record(workdir, catalogue)
    config = record.read_config(stored, catalogue) if config is None else config
    config = settings.check(config, catalogue, asked)
    _, fields = catalogue.recorded(config)
    record.check_same_run(workdir, stored, stored | {"config": fields}, catalogue)
    _check_output(output, Path(examples))
    run = _loaded(workdir, stored, config, catalogue, member, None)
    found = [run.score(split) for split in _new_examples(run, examples, stored)]
    scores = jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
    if output.suffix == ".npz":
        files.write_arrays(output, named(scores))
    else:
        files.write_text(output, _csv(named(scores)))
    return scores


def _check_output(output: Path, examples: Path) -> None:
    if output.suffix not in (".npz", ".csv"):
        raise UserError(f"output {output} is neither .npz nor .csv")
    if output.is_dir() or output.absolute() == examples.absolute():
        raise UserError(f"output {output} is there already and would be lost: choose another name")
    with files.clear_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output.parent).close()


def _new_examples(run: Run, path: str | Path, stored: dict) -> list[Split]:
    """The examples at `path` as splits, prepared as the data of the run that recorded `stored`."""
    fields, about = run.config.data, stored["dataset"]
    how = {"resize": fields.resize, "crop": fields.crop, "skip_broken": fields.skip_broken}
    how["scale"] = fields.scale
    if fields.scale == stored["config"]["data"]["scale"] and about["stored_range"]:
        low, high = about["stored_range"]
        if fields.scale != "type":
            how["scale"] = f"{low}:{high}"
        elif (low, high) != (0, 255):
            how["scale"] = f"type:{low}:{high}"
    try:
        splits, names = load_examples(path, **how)
        known = tuple(about["value_names"]) or names
        order = in_order(known, names or known, f"input {path}")
    except UserError as error:
        raise UserError(str(error).replace("data.path", "input")) from error
    if order:
        splits = [split._replace(x=split.x[:, order]) for split in splits]
        masks = [None if s.observed is None else s.observed[:, order] for s in splits]
        splits = [s._replace(observed=m) for s, m in zip(splits, masks, strict=True)]
    if run.example_shape[-1] == 3:  # a folder of gray pictures only
        splits = [split._replace(x=_in_colour(split.x)) for split in splits]
    for split in splits:
        if missing := [name for name in fields.condition if name not in split.columns]:
            raise UserError(f"input: {path} has no labels {missing[0]!r}, which the model is given")
    return [split._replace(condition=tuple(fields.condition)) for split in splits]


def _in_colour(x: np.ndarray) -> np.ndarray:
    return np.broadcast_to(x, (*x.shape[:3], 3)) if x.ndim == 4 and x.shape[-1] == 1 else x


def _csv(arrays: dict[str, np.ndarray]) -> str:
    """A line for each row of the arrays, below the names of the columns."""
    names = []
    for name, values in arrays.items():
        names += [name] if values.ndim == 1 else [f"{name}_{i}" for i in range(values.shape[1])]
    text, header = io.StringIO(), ",".join(names)
    table = np.column_stack(list(arrays.values()))
    np.savetxt(text, table, "%.9g", ",", header=header, comments="")  # all digits of float32
    return text.getvalue()


def _loaded(
    workdir: Path,
    stored: dict,
    config: ConfigDict,
    catalogue: Catalogue,
    member: int | None,
    params: str | None,
) -> Run:
    results = files.read_json(workdir / "results.json")
    programs = make_programs(config, _facts_of_record(stored["dataset"]), catalogue)
    number = (results or {}).get("best_member") or 0 if member is None else member
    program = next((program for program in programs if number in program.members), None)
    if program is None:
        last = max(program.members[-1] for program in programs)
        raise UserError(f"member {number} of {workdir}: it has members 0 to {last}")
    step, state = _restored(program, workdir)
    i = program.members.index(number)
    which = which_params(program.config, params)
    chosen = devices.fetch(population.member(chosen_params(state, which), i))
    if program.model.fit_prior is not None:
        about = {"member": number, "step": step, "params": which}
        chosen = _with_fitted_prior(chosen, workdir, results, about)
    return Run(workdir, program.alone(program.changes[i]), number, chosen, step, results)


def report(workdir: str | Path, parts: tuple = ()) -> Path:
    """The path of report.html, written anew from the files beside it.

    Args:
      parts: those of your own that the run was trained with.

    Raises:
      UserError: `workdir` holds no results yet.
    """
    workdir, catalogue = folder_of(workdir), catalogue_of(tuple(parts))
    stored = record.read_record(workdir)
    if stored is not None:
        _check_own(workdir, stored, catalogue)
    return page.write(workdir, catalogue)


def folder_of(workdir: str | Path) -> Path:
    """The path of a workdir; ~ is the home folder.

    Raises:
      UserError: it has characters that checkpoints cannot be saved under.
    """
    path = Path(workdir).expanduser()
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"workdir {str(path)!a} is not UTF-8: choose another name") from error
    return path


def table(run: Run | str | Path, split: str = "test"):
    """The numbers of a run, or of all members of a sweep, a row each.

    A pandas DataFrame, with what is swept and the metrics of the split as columns; where pandas is
    not installed a list of dicts.

    Args:
      run: or the workdir.
      split: "test" or "valid".

    Raises:
      UserError: there are no results yet, or no such split.
    """
    if split not in ("valid", "test"):
        raise UserError(f'split is {split!r}, but results are of "valid" and "test"')
    workdir = run.workdir if isinstance(run, Run) else folder_of(run)
    results = run.results if isinstance(run, Run) else files.read_json(workdir / "results.json")
    if not results:
        raise UserError(f"{workdir} has no results yet: train, or evaluate")
    return frame(results["members"], split)


def _facts_of_record(dataset: dict) -> Facts:
    return Facts(
        np.zeros(tuple(dataset["example_shape"])),
        dataset["num_train"],
        record.scaling_of(dataset),
        dataset["missing"],
        tuple(dataset["condition"].items()),
        dataset.get("value_range"),
    )


def _with_fitted_prior(params, workdir: Path, results: dict | None, about: dict):
    """The parameters with the prior that was fitted to the codes they give, if an evaluation did
    that."""
    entries = (results or {}).get("members", ())
    evaluated = any(about.items() <= entry.items() for entry in entries)
    arrays = files.read_arrays(workdir / "fitted_prior.npz") if evaluated else {}
    names = {name: f"{name}/{about['member']}" for name in params["prior"]}
    if not arrays.keys() >= set(names.values()):
        return params
    return params | {"prior": {name: arrays[key] for name, key in names.items()}}


def _prepare(
    config: ConfigDict, workdir: Path, catalogue: Catalogue, dataset: Dataset | None, asked: tuple
) -> tuple[list[Program], Dataset, dict]:
    """Checks everything that can be checked before work begins."""
    owner.check_free(workdir)
    stored = record.read_record(workdir)
    own_dataset = ["dataset"] if dataset is not None else []
    if stored and "dataset" in stored["own"] and dataset is None:
        raise UserError(f"the dataset of {workdir} is one of your own: give it again, as dataset=")
    config = settings.check(config, catalogue, asked)
    settings.warn_of_unused(config, catalogue, asked)
    tensorboard.check(config)
    if dataset is None:
        dataset = record.load_dataset(config, workdir)
    else:
        dataset = dataset.conditioned(tuple(config.data.condition))
    facts = facts_of(dataset)
    programs = make_programs(config, facts, catalogue)
    low, high = scan.value_range(dataset)
    for program in {id(program.steps): program for program in programs}.values():
        check_memory(program, device_memory())
        check_data(program, dataset, low, high)
        estimators.check(program, dataset)
    if sweep.swept(config) and config.sweep.max_members == 0:
        known = stored and stored["config"].get("sweep", {}).get("max_members")
        config.sweep.max_members = known or _max_members(programs)
        programs = make_programs(config, facts, catalogue)
    described = record.describe_dataset(dataset, config.data.binarize, facts.scaling)
    described |= {"value_range": [low, high]}
    own, recorded = catalogue.recorded(config)
    now = record.describe_run(recorded, described, own + own_dataset, None)
    if not processes.agree(repr((now["config"], now["dataset"]["fingerprint"]))):
        raise UserError(
            "the processes of this command have different configs or data: give all the same, on "
            "every host"
        )
    for program in programs:  # what devices cannot divide is refused before the first part trains
        for batch_size in (program.config.train.batch_size, program.config.eval.batch_size):
            size = population.size(program.hypers)
            devices.mesh_shape(size, batch_size, jax.device_count())
    return programs, dataset, now


def _max_members(programs: list[Program]) -> int:
    """How many members train at once: as many as the devices' memory holds, in equal parts."""
    fit = min(members_that_fit(program, device_memory()) for program in programs)
    num = max(len(program.members) for program in programs)

    def fits(size: int) -> bool:
        size = len(sweep.equal_parts(list(range(num)), size)[0])
        return size <= fit * devices.member_axis(size, jax.device_count())

    sizes = (-(-num // parts) for parts in range(1, num + 1))
    return -processes.largest(-next((size for size in sizes if fits(size)), 1))


def _read_record(workdir: Path, catalogue: Catalogue) -> dict:
    stored = record.read_record(workdir)
    if stored is None:
        raise UserError(
            f"{workdir} holds no run (no config.json); train first, or correct --workdir"
        )
    _check_own(workdir, stored, catalogue)
    return stored


def _check_own(workdir: Path, stored: dict, catalogue: Catalogue) -> None:
    """Whether the parts of one's own that the run was trained with have been given again."""
    for name in stored["own"]:
        if name != "dataset" and name not in catalogue.own:
            kind, _, part = name.partition(":")
            raise UserError(
                f"the {kind} {part!r} of {workdir} is one of your own: give it again, in parts="
            )


def _restored(program: Program, workdir: Path, mesh=None) -> tuple[int, TrainState]:
    """(step, state) of the newest undamaged checkpoint."""
    found = restore(program, workdir, mesh)
    if found is None:
        part = f" of {program.name}" if program.name else ""
        raise UserError(f"{workdir} has no checkpoint{part} yet; train first")
    return found.step, found.state


def _check_saved(program: Program, workdir: Path) -> None:
    if not checkpoints.steps(checkpoint_folder(program, workdir)):
        part = f" of {program.name}" if program.name else ""
        raise UserError(f"{workdir} has no checkpoint{part} yet; train first")


def _is_whole(programs: list[Program], workdir: Path, results: dict) -> bool:
    """Whether a run has nothing left to do: it is complete, and so are the files that it made."""
    reached = results["step"] >= max(program.total_steps for program in programs)
    ended = reached or all(map(has_ended, results["members"]))
    if not results["complete"] or results["failed"] or not ended:
        return False
    broken = files.changed(workdir, results["files"])
    if not broken:
        return True
    saved = all(checkpoints.steps(checkpoint_folder(program, workdir)) for program in programs)
    then = "made again" if saved else "and there is no checkpoint to make that from"
    logging.warning("%s: %s missing or changed: %s", workdir, ", ".join(broken), then)
    return not saved


def _initial_params(programs: list[Program], workdir: Path, catalogue: Catalogue):
    """(one model's parameters, what config.json records of them) of train.init_from; else Nones."""
    source = programs[0].config.train.init_from
    saved = (checkpoints.steps(checkpoint_folder(program, workdir)) for program in programs)
    if not source or all(saved):
        return None, None
    run = load(source, parts=catalogue.given)
    given = jax.tree.map(np.shape, run.params)
    for program in programs:
        wanted = jax.tree.map(lambda leaf: leaf.shape[1:], program.abstract_state().params)
        if wanted != given:
            raise UserError(
                f"train.init_from={source}: its parameters do not have the shapes of this config's "
                "model"
            )
    which = which_params(run.config)
    about = {"workdir": source, "member": run.member, "step": run.step, "params": which}
    return run.params, about
