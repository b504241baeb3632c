"""The one training loop: steps in compiled chunks, for a population that may be of one."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vae_jax.data import Dataset, stream
from vae_jax.parallel import devices, population
from vae_jax.parallel.processes import say
from vae_jax.training.evaluation import Evaluator, summarize
from vae_jax.training.log import Log
from vae_jax.training.program import Program, device_memory
from vae_jax.training.signals import Interrupted, catch_signals
from vae_jax.training.step import averaged
from vae_jax.types import TrainState
from vae_jax.workdir import checkpoints, record


def make_train_chunk(program: Program, mesh) -> Callable:
    """Jitted (state, hypers, store [n, D], index) -> (state, metrics {name: [T, N]}, diverged_at
    [N]).

    index is [T, B], or [T, N, B] where members have orders of their own.
    """
    # Members that are spread over devices go side by side.
    on_cpu = mesh.devices.flat[0].platform == "cpu" and mesh.shape["member"] == 1
    one_by_one = program.one_by_one_on_cpu and on_cpu
    return _train_chunk(program.steps.train, program.config.sweep.shared_data, mesh, one_by_one)


@functools.lru_cache(
    maxsize=2
)  # the parts of a sweep that share their steps share what is compiled
def _train_chunk(train_step: Callable, shared_data: bool, mesh, one_by_one: bool) -> Callable:
    step = population.lift(train_step, (0, 0, None, None if shared_data else 0), one_by_one)

    def train_chunk(state: TrainState, hypers, store, index):
        state, metrics = jax.lax.scan(lambda state, i: step(state, hypers, store, i), state, index)
        return state, metrics, state.diverged_at

    members, of_steps = NamedSharding(mesh, P("member")), NamedSharding(mesh, P(None, "member"))
    return jax.jit(train_chunk, donate_argnums=0, out_shardings=(members, of_steps, members))


@functools.lru_cache(maxsize=2)
def _after_validation(step: Callable) -> Callable:
    return jax.jit(population.lift(step), donate_argnums=0)


def is_resident(config, dataset: Dataset) -> bool:
    """Whether the training set goes to the device whole: "auto" allows it a quarter of the
    device's memory."""
    if config.data.resident != "auto":
        return config.data.resident == "yes"
    value_bytes = dataset.dtype.itemsize + (dataset.train.observed is not None)
    num_bytes = dataset.train.num * int(np.prod(dataset.example_shape)) * value_bytes
    return num_bytes <= device_memory() / 4


def fit(
    program: Program,
    dataset: Dataset,
    workdir: Path,
    stop: catch_signals,
    params=None,
    on_row: Callable[[dict], None] | None = None,
) -> TrainState:
    """Trains to the end, from the newest checkpoint in `workdir` or else from `params` or a fresh
    start.

    The end comes early when every member has diverged or been stopped.

    Args:
      on_row: called with every row of metrics as it is written.

    Raises:
      Interrupted: a signal came; the chunk was finished and saved.
      UserError: the disk is full, every checkpoint is damaged.
    """
    config = program.config
    mesh = devices.make_mesh(population.size(program.hypers), config.train.batch_size)
    train_chunk, evaluator = make_train_chunk(program, mesh), Evaluator(program)
    resident = is_resident(config, dataset)
    hypers = devices.place(mesh, program.hypers, "member")
    restored = restore(program, workdir, mesh, set_aside=True)
    start, state = restored[:2] if restored else (0, initial_state(program, mesh, params))
    log = Log(workdir, program, start, on_row)
    folder = checkpoint_folder(program, workdir)
    if restored:
        log.check_rows(restored.about["rows"])
    bounds = chunk_bounds(start, program.total_steps, program.steps_per_call)
    log.diverged_at, log.stopped_at = (
        devices.fetch(at)[: len(program.members)] for at in (state.diverged_at, state.stopped_at)
    )
    validation = program.interval(config.eval.every_epochs)
    saving = program.interval(config.checkpoint.every_epochs)
    before = start - program.steps_per_call
    if not bounds or (is_due(before, start, validation, saving) and log.nobody_runs()):
        return state
    steps = f"from step {start:,} to {program.total_steps:,}"
    say(f"{workdir}: training {_what(program)} {steps} on {_where(mesh)}")
    store = devices.place(mesh, stream.store(dataset.train)) if resident else None
    batches = _batches(program, dataset, bounds, resident)
    axes = (None, "data") if config.sweep.shared_data else (None, "member", "data")
    about_run = record.read_record(workdir)
    with checkpoints.Writer(folder, config.checkpoint.keep, about_run) as writer:
        for (begin, end), (rows, index) in zip(bounds, batches, strict=True):
            rows = store if resident else devices.place(mesh, rows)
            index = devices.place(mesh, index, *axes)
            state, metrics, diverged_at = train_chunk(state, hypers, rows, index)
            log.chunk(begin, end, metrics, diverged_at)
            last = end == program.total_steps
            if last or is_due(begin, end, validation):
                log.flush()
                state = validate(evaluator, hypers, state, dataset, end, log, mesh)
            if is_due(begin, end, validation, saving):
                log.flush()  # and only then look: a run that was interrupted ends at the same step
                last |= log.nobody_runs()
            signum = stop.arrived()
            if last or signum or is_due(begin, end, saving):
                log.flush()
                writer.save(end, state, log.num_rows)
            if signum:
                raise Interrupted(signum)
            if last:
                break
    log.progress.close()
    return state


def _batches(program: Program, dataset: Dataset, bounds: list[tuple[int, int]], resident: bool):
    """`stream.chunks` of the training set, in the order that the program's members share, or in
    their own."""
    config = program.config
    return stream.chunks(
        dataset.train,
        bounds=bounds,
        batch_size=config.train.batch_size,
        seed=config.data.seed,
        resident=resident,
        member_seeds=None if config.sweep.shared_data else np.asarray(program.hypers["seed"]),
        shuffle=config.data.shuffle,
    )


def is_due(begin: int, end: int, *intervals: int) -> bool:
    """Whether a multiple of one of `intervals` lies in steps begin + 1 to end."""
    return any(begin // every < end // every for every in intervals)


def checkpoint_folder(program: Program, workdir: Path) -> Path:
    return workdir / "checkpoints" / program.name


def restore(
    program: Program, workdir: Path, mesh=None, set_aside: bool = False
) -> checkpoints.Saved | None:
    """The newest undamaged checkpoint; None where there is none.

    Args:
      mesh: where the state is to lie; None: whole, on the first device.

    Raises:
      UserError: none can be read, or it is of another run than config.json says.
    """
    abstract, folder = program.abstract_state(), checkpoint_folder(program, workdir)
    if mesh is not None:
        abstract = devices.abstract(mesh, abstract, "member")
    found = checkpoints.restore(folder, abstract, set_aside)
    if found is not None:
        record.check_saved(workdir, found.about["record"])
    return found


def _what(program: Program) -> str:
    name, num = program.name and f"{program.name}, ", len(program.members)
    return name + ("a model" if num == 1 else f"{num} members at once")


def _where(mesh) -> str:
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{mesh.size} x {jax.devices()[0].device_kind}{processes}"


def initial_state(program: Program, mesh, params=None) -> TrainState:
    """A fresh state of the population, with one model's `params` for every member where given."""
    hypers = devices.place(mesh, program.hypers, "member")
    init = population.lift(program.steps.init)
    state = jax.jit(init, out_shardings=NamedSharding(mesh, P("member")))(hypers)
    if params is not None:
        size = population.size(program.hypers)
        params = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (size, *np.shape(leaf))), params)
        params = devices.place(mesh, params, "member")
        average = None if state.average is None else params
        best = state.best._replace(params=params)
        state = state._replace(params=params, average=average, best=best)
    # A donated state must own each of its buffers.
    return jax.tree.map(jnp.copy, state)


def chunk_bounds(start: int, total: int, steps_per_call: int) -> list[tuple[int, int]]:
    """[(begin, end)] from `start` to `total`, the ends at multiples of `steps_per_call` and at
    `total`."""
    ends = [*range((start // steps_per_call + 1) * steps_per_call, total, steps_per_call), total]
    return list(zip([start, *ends[:-1]], ends, strict=True)) if start < total else []


def validate(
    evaluator: Evaluator, hypers, state: TrainState, dataset: Dataset, step: int, log: Log, mesh
) -> TrainState:
    """Logs the ELBO of the validation split, at beta = 1, keeps the best parameters and stops
    members that no longer improve."""
    program = evaluator.program
    by_bound = program.config.eval.select == "bound"
    num_samples = program.config.objective.num_samples if by_bound else 1
    found = evaluator.evaluate(averaged(state), dataset.valid, "valid", num_samples)
    numbers = summarize(program, found, num_samples)
    for i, values in enumerate(numbers[: len(program.members)]):
        if log.stopped_at[i] < 0:
            shown = ("elbo", "distortion", "rate", "active_units")
            row = {k: values[k] for k in shown}
            log.row(step, "valid", i, row | ({"bound": -values["nll"]} if by_bound else {}))
    judged = devices.place(
        mesh, np.asarray([_judged(n, by_bound) for n in numbers], np.float32), "member"
    )
    state = _after_validation(program.steps.after_validation)(state, hypers, judged)
    log.stopped_at = devices.fetch(state.stopped_at)[: len(program.members)]
    return state


def _judged(numbers: dict, by_bound: bool) -> float:
    """What the best parameters have the most of. Without a rate the distortion is all there is."""
    if by_bound:
        return -numbers["nll"]
    return -numbers["distortion"] if numbers["elbo"] is None else numbers["elbo"]
