"""The project from Python: `train`, `evaluate` and `load`."""

from pathlib import Path

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax import config as settings
from vae_jax import estimators
from vae_jax.config import sweep
from vae_jax.data import Dataset, scan
from vae_jax.errors import UserError
from vae_jax.estimators.estimation import raise_violations
from vae_jax.parallel import devices, population, processes
from vae_jax.report.finish import Outcome, has_ended, print_summary
from vae_jax.run import Run
from vae_jax.training import tensorboard
from vae_jax.training.loop import checkpoint_folder, fit, restore
from vae_jax.training.program import (
    Program,
    chosen_params,
    device_memory,
    make_programs,
    members_that_fit,
    which_params,
)
from vae_jax.training.signals import catch_signals
from vae_jax.training.suitability import check_data
from vae_jax.types import Model, Objective
from vae_jax.workdir import checkpoints, files, record


def train(
    config: ConfigDict,
    workdir: str | Path,
    model: Model | None = None,
    objective: Objective | None = None,
    dataset: Dataset | None = None,
) -> Run:
    """Trains, evaluates and draws; resumes what `workdir` holds of the same run.

    Args:
      config: from `vae_jax.config.default()` or a file in configs/. With a model or objective of your own,
        config.hypers may have keys of its own.
      workdir: where everything is written; made if it does not exist.
      model: a Model instead of the one config.model names.
      objective: an Objective instead of the one config.objective names.
      dataset: from `vae_jax.data.from_arrays`, instead of the one config.data names.

    Raises:
      UserError: something the user can mend, in one line.
      train.Interrupted: SIGTERM or SIGINT; everything is saved, and the same call goes on.
    """
    workdir = Path(workdir)
    programs, dataset, now = _prepare(config, workdir, model, objective, dataset)
    stored, results = record.read_record(workdir), files.read_json(workdir / "results.json")
    reached = results and results["step"] >= max(program.total_steps for program in programs)
    if stored and results and results["complete"] and (reached or all(map(has_ended, results["members"]))):
        record.check_same_run(workdir, stored, now)
        logging.warning("%s is complete; to evaluate it with other settings, use --mode=evaluate", workdir)
        print_summary(results, workdir)
        raise_violations(results.get("evaluation", []))
    else:
        params, init_from = _initial_params(programs, workdir)
        processes.wait_for_all("read")  # nobody writes before everybody has read
        now = record.open_workdir(workdir, now | {"init_from": init_from})
        if results:  # of a shorter training, which goes on
            files.write_json(workdir / "results.json", results | {"complete": False})
        with catch_signals() as stop:
            outcome = Outcome(workdir, now["dataset"], dataset, stop.check, resume=True)
            for program in programs:
                outcome.add(program, fit(program, dataset, workdir, stop, params))
            outcome.finish(now["own"])
    return load(workdir, model=model, objective=objective)


def evaluate(
    workdir: str | Path,
    config: ConfigDict | None = None,
    model: Model | None = None,
    objective: Objective | None = None,
    dataset: Dataset | None = None,
) -> Run:
    """Evaluates the newest checkpoint in `workdir` again, with the eval section of `config` where it is given."""
    workdir = Path(workdir)
    stored = _read_record(workdir)
    config = record.read_config(stored) if config is None else config
    programs, dataset, now = _prepare(config, workdir, model, objective, dataset)
    record.check_same_run(workdir, stored, now)
    for program in programs:
        _check_saved(program, workdir)
    now = record.open_workdir(workdir, now)
    with catch_signals() as stop:
        # Whoever asks for estimates asks for more, not for the numbers there are once again.
        more = bool(config.eval.estimators)
        outcome = Outcome(workdir, now["dataset"], dataset, stop.check, resume=more)
        for program in programs:
            outcome.add(program, restore(program, workdir)[1])
        outcome.finish(now["own"])
    return load(workdir, model=model, objective=objective)


def load(
    workdir: str | Path,
    member: int | None = None,
    model: Model | None = None,
    objective: Objective | None = None,
    params: str | None = None,
) -> Run:
    """The newest undamaged checkpoint of a run, or of one member of a sweep.

    Args:
      workdir: of a run that has saved at least once.
      member: of a sweep; by default the best by validation, or the first before any has been evaluated.
      model, objective: the same objects that the run was trained with, where it was not with named ones.
      params: "last", "ema" or "best"; by default what the config's eval.params says.
    """
    workdir = Path(workdir)
    stored, results = _read_record(workdir), files.read_json(workdir / "results.json")
    _check_own(workdir, stored, model, objective)
    shape, num_train = tuple(stored["dataset"]["example_shape"]), stored["dataset"]["num_train"]
    programs = make_programs(record.read_config(stored), np.zeros(shape), num_train, model, objective)
    if member is None:
        member = (results or {}).get("best_member") or 0
    program = next((program for program in programs if member in program.members), None)
    if program is None:
        last = max(program.members[-1] for program in programs)
        raise UserError(f"member {member} of {workdir}: it has members 0 to {last}")
    _check_saved(program, workdir)
    step, state = restore(program, workdir)
    i = program.members.index(member)
    which = which_params(program.config, params)
    chosen = devices.fetch(population.member(chosen_params(state, which), i))
    if program.model.fit_prior is not None:
        chosen = _with_fitted_prior(chosen, workdir, results, {"member": member, "step": step, "params": which})
    return Run(workdir, program.alone(program.changes[i]), member, chosen, step, results)


def _with_fitted_prior(params, workdir: Path, results: dict | None, about: dict):
    """The parameters with the prior that was fitted to the codes they give, if an evaluation has done that."""
    evaluated = any(about.items() <= entry.items() for entry in (results or {}).get("members", ()))
    arrays = files.read_arrays(workdir / "fitted_prior.npz") if evaluated else {}
    names = {name: f"{name}/{about['member']}" for name in params["prior"]}
    if not arrays.keys() >= set(names.values()):
        return params
    return params | {"prior": {name: arrays[key] for name, key in names.items()}}


def _prepare(config, workdir: Path, model, objective, dataset) -> tuple[list[Program], Dataset, dict]:
    """Checks everything that can be checked before work begins."""
    given = {"model": model, "objective": objective, "dataset": dataset}
    own = [name for name, value in given.items() if value is not None]
    stored = record.read_record(workdir)
    if stored and "dataset" in stored["own"] and dataset is None:
        raise UserError(f"the dataset of {workdir} is one of your own: give it again, as dataset=")
    config = settings.check(config, own_hypers=model is not None or objective is not None)
    tensorboard.check(config)
    for field in sweep.swept(config):
        if field.split(".")[0] in own:
            raise UserError(f"the sweep varies {field}, but the {field.split('.')[0]} is one of your own")
    dataset = dataset or record.load_dataset(config, workdir)
    arguments = scan.mean(dataset.train), dataset.train.num, model, objective
    programs = make_programs(config, *arguments)
    low, high = scan.value_range(dataset)
    for program in {id(program.steps): program for program in programs}.values():
        check_data(program.config, dataset, own, low, high)
        estimators.check(program, dataset)
    if sweep.swept(config) and config.sweep.max_members == 0:
        known = stored and stored["config"].get("sweep", {}).get("max_members")
        config.sweep.max_members = known or _max_members(programs)
        programs = make_programs(config, *arguments)
    now = record.describe_run(config, record.describe_dataset(dataset, config.data.binarize), own, None)
    if not processes.agree(repr((now["config"], now["dataset"]["fingerprint"]))):
        raise UserError(
            "the processes of this command have different configs or data: give all the same, on every host"
        )
    for program in programs:  # what the devices cannot divide is refused before the first part trains
        for batch_size in (program.config.train.batch_size, program.config.eval.batch_size):
            devices.make_mesh(population.size(program.hypers), batch_size)
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


def _read_record(workdir: Path) -> dict:
    stored = record.read_record(workdir)
    if stored is None:
        raise UserError(f"{workdir} holds no run (no config.json); train first, or correct --workdir")
    return stored


def _check_own(workdir: Path, stored: dict, model, objective) -> None:
    for name, value in (("model", model), ("objective", objective)):
        if (name in stored["own"]) != (value is not None):
            need = f"give it again, as {name}=" if name in stored["own"] else f"do not give {name}="
            whose = "one of your own" if name in stored["own"] else "the one its config names"
            raise UserError(f"the {name} of {workdir} is {whose}: {need}")


def _check_saved(program: Program, workdir: Path) -> None:
    if not checkpoints.steps(checkpoint_folder(program, workdir)):
        part = f" of {program.name}" if program.name else ""
        raise UserError(f"{workdir} has no checkpoint{part} yet; train first")


def _initial_params(programs: list[Program], workdir: Path):
    """(one model's parameters, what config.json records of them) of train.init_from; (None, None) without it."""
    source = programs[0].config.train.init_from
    if not source or all(checkpoints.steps(checkpoint_folder(program, workdir)) for program in programs):
        return None, None
    run = load(source)
    given = jax.tree.map(np.shape, run.params)
    for program in programs:
        wanted = jax.tree.map(lambda leaf: leaf.shape[1:], program.abstract_state().params)
        if wanted != given:
            raise UserError(f"train.init_from={source}: its parameters do not have the shapes of this config's model")
    about = {"workdir": source, "member": run.member, "step": run.step, "params": which_params(run.config)}
    return run.params, about
