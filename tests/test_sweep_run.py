"""A sweep as its user meets it: train, stop, resume, split, look at what it leaves, take out a
member."""

import collections
import csv
import json
import re
import shutil

import conftest
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from making import check, make_program, make_programs, of_objective, single
from oracles import float64
from test_train import stop_after

import vae_jax
from vae_jax.config import sweep
from vae_jax.data import scan, stream
from vae_jax.errors import UserError
from vae_jax.parallel import devices, population
from vae_jax.results import finish
from vae_jax.training import evaluation, loop, program, step
from vae_jax.types import Objective, TrainState
from vae_jax.workdir import files
from vae_jax.workdir.rows import read_rows

pytestmark = pytest.mark.usefixtures("undrawn")  # but for `finished`, which is made before
FILES = ("sweep.csv", "rate_distortion.png", "heat_maps.png", "strips.png", "report.html")


@pytest.fixture
def config():
    """2 betas x 2 latent dimensions x 2 seeds, in parts of 3, 3 and 2 members; the last is filled
    up, with a member that counts nowhere."""
    config = conftest.config.__wrapped__()
    config.train.num_epochs, config.train.schedule_epochs = 2.0, 3.0
    config.sweep.beta, config.sweep.latent_dim, config.sweep.seed = (0.5, 2.0), (3, 4), (0, 1)
    config.sweep.max_members = 3
    return config


def counted_traces(patch):
    """A list that grows with every trace of a member's training or evaluation step, whatever has
    been compiled before."""
    traces = []

    def counting(name, original):
        return lambda *args: traces.append(name) or original(*args)

    patch.setattr(step, "make_loss_fn", counting("train", step.make_loss_fn))
    patch.setattr(step, "bound", counting("evaluate", step.bound))
    loop._train_chunk.cache_clear()
    evaluation._block.cache_clear()
    return traces


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One finished sweep that the tests only read: (run, workdir, dataset), {step: its traces} and
    of whom and where the pictures of a single model were to be drawn (test_train.py has them)."""
    workdir, drawn = tmp_path_factory.mktemp("finished") / "sweep", []
    images = conftest.images.__wrapped__()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            finish, "draw_pictures", lambda run, _data, folder, *_: drawn.append((run, folder))
        )
        traces = counted_traces(patch)
        run = vae_jax.train(config.__wrapped__(), workdir, dataset=images)
    return (run, workdir, images), collections.Counter(traces), drawn


@pytest.fixture(scope="module")
def finished(made):
    return made[0]


def programs_of(config, images):
    """The programs that training makes of them."""
    return make_programs(check(config), scan.mean(images.train), images.train.num)


def numbers(run):
    return [member["test"] for member in run.results["members"]]


def assert_close(a, b, rtol=2e-3):
    for ours, theirs in zip(a, b, strict=True):
        for name in ("nll", "elbo", "distortion", "rate"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=rtol, atol=2e-3)


def assert_same_sweep(a, b, config, images):
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    assert results(a)["members"] == results(b)["members"]
    assert (a / "sweep.csv").read_bytes() == (b / "sweep.csv").read_bytes()
    for part in programs_of(config, images):
        trees = [loop.restore(part, workdir) for workdir in (a, b)]
        jax.tree.map(np.testing.assert_array_equal, *trees)


def results(workdir):
    return json.loads((workdir / "results.json").read_text())


def test_it_leaves_what_the_contract_says(made):
    (run, workdir, _), _, drawn = made
    found = results(workdir)
    assert found["complete"] and len(found["members"]) == 8
    assert [m["member"] for m in found["members"]] == list(range(8))
    assert found["members"][6]["swept"] == {
        "hypers.beta": 2.0,
        "hypers.latent_dim": 4,
        "hypers.seed": 0,
    }
    assert found["members"][6]["hypers"]["latent_dim"] == 4
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == [
        "part0",
        "part1",
        "part2",
    ]
    valid = [m["valid"]["nll"] for m in found["members"]]
    assert found["best_member"] == run.member == int(np.argmin(valid))
    assert all(m["step"] == 20 and m["diverged_at"] is None for m in found["members"])
    for m in found["members"]:  # as narrow as the single run, not as the population
        assert (
            len(m["test"]["unit_rate"])
            == len(m["test"]["unit_activity"])
            == m["hypers"]["latent_dim"]
        )
        assert sum(m["test"]["unit_rate"]) == pytest.approx(m["test"]["rate"], rel=1e-4)
    for name in FILES:
        assert (workdir / name).stat().st_size > 0, name
    ((best, folder),) = drawn
    assert best.member == run.member and folder == workdir / "members" / str(run.member)
    assert folder.is_dir() and best.latent_dim == run.latent_dim
    jax.tree.map(np.testing.assert_array_equal, best.params, run.params)
    rows = read_rows(workdir / "metrics.jsonl")
    assert {(r["member"], r["step"]) for r in rows if r["split"] == "train"} == {
        (member, step) for member in range(8) for step in (5, 10, 15, 20)
    }
    with (workdir / "sweep.csv").open() as file:
        table = list(csv.DictReader(file))
    for row, member in zip(table, found["members"], strict=True):
        assert float(row["test_nll"]) == member["test"]["nll"] and row["hypers.beta"] == str(
            member["hypers"]["beta"]
        )
        assert row["hypers.seed"] == str(member["swept"]["hypers.seed"])


def test_per_example_numbers_are_those_of_the_means(finished):
    _, workdir, _ = finished
    examples = files.read_arrays(workdir / "examples.npz")
    for member in results(workdir)["members"]:
        log_p, elbo = (examples[f"{name}/{member['member']}"] for name in ("log_p", "elbo"))
        assert log_p.shape == elbo.shape == (60,)
        np.testing.assert_allclose(-log_p.mean(), member["test"]["nll"], rtol=1e-5)
        np.testing.assert_allclose(elbo.mean(), member["test"]["elbo"], rtol=1e-5)


def test_a_member_is_its_single_run(finished, config, tmp_path, member=5):
    run, workdir, images = finished
    config = check(config)
    alone = vae_jax.train(
        single(config, sweep.members(config)[member]), tmp_path / "run", dataset=images
    )
    ours = vae_jax.load(workdir, member)
    assert ours.config.to_dict() == alone.config.to_dict()
    assert_close([numbers(run)[member]], numbers(alone))
    shapes = [jax.tree.map(jnp.shape, r.params) for r in (ours, alone)]
    assert shapes[0] == shapes[1]  # of its own latent dimension, not of the widest member's
    for a, b in zip(*(jax.tree.leaves(r.params) for r in (ours, alone)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)
    x = images.test.take(slice(0, 9))
    assert (
        ours.encode(x).mean.shape
        == (9, ours.latent_dim)
        == (9, sweep.members(config)[member]["hypers.latent_dim"])
    )
    np.testing.assert_allclose(ours.encode(x).mean, alone.encode(x).mean, atol=5e-3)
    for pictures in (
        lambda r: r.sample(jax.random.key(0), 5),
        lambda r: r.reconstruct(jax.random.key(0), x),
    ):
        np.testing.assert_allclose(pictures(ours), pictures(alone), atol=5e-3)


def test_there_is_no_member_beyond_the_last(finished):
    with pytest.raises(UserError, match=r"member 8 of .*: it has members 0 to 7"):
        vae_jax.load(finished[1], 8)


@pytest.mark.parametrize("chunks", [2, 7])
def test_stopping_in_any_part_and_resuming_changes_no_bit(
    finished, config, tmp_path, monkeypatch, chunks
):
    _, straight, images = finished
    with monkeypatch.context() as patch:
        stop_after(patch, chunks)
        with pytest.raises(loop.Interrupted):
            vae_jax.train(config, tmp_path / "sweep", dataset=images)
    assert not (tmp_path / "sweep" / "sweep.csv").exists()
    vae_jax.train(config, tmp_path / "sweep", dataset=images)
    assert_same_sweep(straight, tmp_path / "sweep", config, images)


def test_a_part_that_was_evaluated_is_not_evaluated_again(finished, config, tmp_path, monkeypatch):
    _, straight, images = finished
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(loop.Interrupted):
            vae_jax.train(config, tmp_path / "sweep", dataset=images)
    partly = results(tmp_path / "sweep")
    assert not partly["complete"] and [m["member"] for m in partly["members"]] == [0, 1, 2]
    evaluated = []
    original = finish.Outcome._evaluate
    monkeypatch.setattr(
        finish.Outcome,
        "_evaluate",
        lambda self, evaluator, params: (
            evaluated.extend(evaluator.program.members) or original(self, evaluator, params)
        ),
    )
    vae_jax.train(config, tmp_path / "sweep", dataset=images)
    assert evaluated == [3, 4, 5, 6, 7]
    assert_same_sweep(straight, tmp_path / "sweep", config, images)


def test_parts_change_no_number_and_traces_grow_with_neither_settings_nor_parts(
    made, config, tmp_path, monkeypatch
):
    (parts, workdir, images), traces, _ = made
    assert traces == {"train": 1, "evaluate": 2}  # validations of one sample, and the final one
    first = [row["member"] for row in read_rows(workdir / "metrics.jsonl") if row["step"] == 5]
    assert len(numbers(parts)) == 8 and first == list(range(8))
    config.sweep.max_members = 0
    monkeypatch.setattr(program, "make_steps", program.make_steps.__wrapped__)
    traces = counted_traces(monkeypatch)
    whole = vae_jax.train(config, tmp_path / "whole", dataset=images)
    # One more trace finds out how many members the memory holds.
    assert collections.Counter(traces) == {"train": 2, "evaluate": 2}
    assert_close(numbers(whole), numbers(parts))
    stored = json.loads((tmp_path / "whole" / "config.json").read_text())["config"]["sweep"]
    # What this machine's memory allowed is on record, and holds on a machine with less.
    assert stored["max_members"] == 8


def test_parts_share_their_steps(config, images, monkeypatch):
    made, make = [], program.make_steps
    monkeypatch.setattr(program, "make_steps", lambda *args: made.append(1) or make(*args))
    assert len(programs_of(config, images)) == 3 and len(made) == 1
    config.sweep.network_hidden = ((16,), (8, 4))
    assert len(programs_of(config, images)) == 6 and len(made) == 1 + 2


def test_static_fields_are_swept_one_program_each(config, images, tmp_path):
    config.sweep.latent_dim, config.sweep.seed, config.hypers.latent_dim = (), (), 4
    config.sweep.beta, config.sweep.network_hidden = (0.5, 1.0, 2.0), ((16,), (8, 4))
    config.sweep.max_members = 0
    run = vae_jax.train(config, tmp_path / "run", dataset=images)
    swept = [member["swept"] for member in run.results["members"]]
    assert swept[3] == {"network.hidden": [8, 4], "hypers.beta": 0.5} and len(swept) == 6
    assert vae_jax.load(tmp_path / "run", 5).params["encoder"]["Dense_1"]["kernel"].shape == (4, 8)
    assert vae_jax.load(tmp_path / "run", 1).config.network.hidden == (16,)


def fitted(part, images, workdir):
    """The parameters of a program's members at the end."""
    workdir.mkdir()
    with loop.catch_signals() as stop:
        return loop.fit(part, images, workdir, stop).params


def test_members_with_their_own_order_of_examples(finished, config, tmp_path, member=5):
    _, straight, images = finished
    config.sweep.shared_data = False
    _, middle, last = programs_of(config, images)
    assert middle.members[2] == member and last.members == [6, 7]
    many, filled = (fitted(part, images, tmp_path / part.name) for part in (middle, last))
    config.data.resident = "no"
    streamed = fitted(programs_of(config, images)[2], images, tmp_path / "streamed")
    jax.tree.map(np.testing.assert_array_equal, filled, streamed)
    config.data.resident = "auto"
    alone = single(check(config), sweep.members(config)[member])
    (alone,) = programs_of(alone, images)
    alone = population.member(fitted(alone, images, tmp_path / "alone"), 0)
    ours = population.narrow(population.member(many, 2), alone)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), ours, alone)
    shared = vae_jax.load(straight, member).params
    apart = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), alone, shared)
    assert max(jax.tree.leaves(apart)) > 1e-2


def test_own_orders_differ_between_members_and_from_the_shared_one():
    shared = stream.order(0, 50, 0, 50)
    own = [stream.order(0, 50, 0, 50, seed) for seed in range(5)]
    assert len({tuple(o) for o in [shared, *own]}) == 6
    assert all(sorted(o) == list(range(50)) for o in own)
    ((_, index),) = stream.chunks(
        conftest.images.__wrapped__().train,
        bounds=[(3, 7)],
        batch_size=10,
        seed=0,
        resident=True,
        member_seeds=[2, 0, 2],
    )
    assert index.shape == (4, 3, 10)
    np.testing.assert_array_equal(index[:, 0], index[:, 2])
    np.testing.assert_array_equal(index[:, 1].ravel(), stream.order(0, 200, 30, 40, 0))


def test_a_member_that_diverges_is_frozen_and_named_everywhere(
    config, images, tmp_path, caplog, capsys
):
    config.sweep.seed, config.sweep.latent_dim, config.hypers.latent_dim = (), (), 4
    config.sweep.mode, config.sweep.beta, config.sweep.max_members = "zip", (0.5, 1.0, 2.0), 0
    config.sweep.learning_rate, config.hypers.lr_warmup_epochs = (0.01, 1e30, 0.01), 0.0
    run = vae_jax.train(config, tmp_path / "sweep", dataset=images)
    members = run.results["members"]
    assert [m["diverged_at"] is None for m in members] == [True, False, True]
    assert run.results["complete"] and run.results["best_member"] in (0, 2)
    assert "member 1 (beta 1, learning_rate 1e+30) diverged at step 1: not finite: " in caplog.text
    assert "member 1 (beta 1, learning_rate 1e+30) diverged at step 1" in capsys.readouterr().out
    with (tmp_path / "sweep" / "sweep.csv").open() as file:
        assert [row["diverged_at"] for row in csv.DictReader(file)] == ["", "1", ""]
    assert members[1]["hypers"]["learning_rate"] == 1e30
    config.sweep.learning_rate = (0.01, 0.01, 0.01)
    good = vae_jax.train(config, tmp_path / "good", dataset=images)
    assert_close(numbers(run)[::2], numbers(good)[::2])
    config.sweep.learning_rate = (1e30, 1e30, 1e30)
    with pytest.raises(
        UserError, match=r"the loss is not finite at step 1; the last good parameters are saved"
    ):
        vae_jax.train(config, tmp_path / "all", dataset=images)


def test_a_part_that_diverges_whole_ends_early_at_the_same_step_and_leaves_the_others_alone(
    config, images, tmp_path, monkeypatch
):
    config.sweep.beta, config.sweep.latent_dim, config.sweep.seed = (), (), ()
    config.sweep.learning_rate, config.sweep.max_members = (1e30, 0.01), 1
    config.eval.params, config.hypers.lr_warmup_epochs = (
        "best",
        0.0,
    )  # the first has no best parameters
    straight = vae_jax.train(config, tmp_path / "straight", dataset=images)
    assert [m["diverged_at"] is None for m in straight.results["members"]] == [False, True]
    assert [m["step"] for m in straight.results["members"]] == [10, 20] and straight.results[
        "complete"
    ]
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(loop.Interrupted):
            vae_jax.train(config, tmp_path / "resumed", dataset=images)
    resumed = vae_jax.train(config, tmp_path / "resumed", dataset=images)
    assert resumed.results["members"] == straight.results["members"]


def test_a_swept_field_that_an_objective_of_ones_own_does_not_have(config, images, tmp_path):
    own = of_objective(Objective(init=lambda rng, hypers: {}, loss=None))
    config.objective.name, config.sweep.beta, config.sweep.gamma = "own", (), (1.0, 10.0)
    told = r"hypers.gamma is of objective.name capacity, but objective.name is 'own'"
    with pytest.raises(UserError, match=told):
        vae_jax.train(config, tmp_path / "run", parts=(own,), dataset=images)


def test_a_different_sweep_is_a_different_run(finished, config):
    _, workdir, images = finished
    config.sweep.beta = (0.5, 3.0)
    with pytest.raises(
        UserError, match=r"different run: .*sweep.beta \(0.5, 2.0\) -> \(0.5, 3.0\)"
    ):
        vae_jax.train(config, workdir, dataset=images)


def test_evaluating_a_sweep_again_loses_nothing_when_it_is_interrupted(
    finished, config, tmp_path, monkeypatch
):
    _, straight, images = finished
    shutil.copytree(straight, tmp_path / "sweep")
    config.eval.nll_samples = 50
    before = results(straight)
    with monkeypatch.context() as patch:
        done, evaluate = [], finish.Outcome._evaluate
        patch.setattr(
            finish.Outcome,
            "_evaluate",
            lambda self, *args: (
                evaluate(self, *args) if not done.append(1) and len(done) < 2 else 1 / 0
            ),
        )
        with pytest.raises(ZeroDivisionError):
            vae_jax.evaluate(tmp_path / "sweep", config, dataset=images)
    assert results(tmp_path / "sweep") == before
    shutil.move(tmp_path / "sweep" / "checkpoints" / "part1", tmp_path / "part1")
    with pytest.raises(UserError, match="has no checkpoint of part1 yet"):
        vae_jax.evaluate(tmp_path / "sweep", config, dataset=images)
    shutil.move(tmp_path / "part1", tmp_path / "sweep" / "checkpoints" / "part1")
    again = vae_jax.evaluate(tmp_path / "sweep", config, dataset=images)
    for ours, theirs in zip(
        numbers(again), (m["test"] for m in results(straight)["members"]), strict=True
    ):
        assert ours["nll_samples"] == 50 and ours["nll"] < theirs["nll"] + 0.05


# --- devices


def a_program(config, num_members):
    changes = [{"hypers.beta": 0.5 + i, "hypers.seed": i} for i in range(num_members)]
    x_mean = np.full((6, 5, 1), 0.4, np.float32)
    return make_program(check(config), x_mean, 200, changes)


def chunk_on(mesh, many, state, images, steps=5):
    """(result of a chunk from `state`, the text of its compiled program)."""
    state, hypers = (devices.place(mesh, tree, "member") for tree in (state, many.hypers))
    store = devices.place(mesh, stream.store(images.train))
    batch_size = many.config.train.batch_size
    ((_, index),) = stream.chunks(
        images.train, bounds=[(0, steps)], batch_size=batch_size, seed=0, resident=True
    )
    arguments = state, hypers, store, devices.place(mesh, index, None, "data")
    compiled = loop.make_train_chunk(many, mesh).lower(*arguments).compile()
    return compiled(*arguments), compiled.as_text()


@pytest.fixture
def plain():
    config = conftest.config.__wrapped__()
    config.train.batch_size = 24
    return config


@pytest.mark.parametrize(
    ("num_members", "shape", "encoder"),
    [(16, (8, 1), "mlp"), pytest.param(4, (4, 2), "conv", marks=pytest.mark.slow)],
)
def test_members_and_batch_over_eight_devices(plain, images, num_members, shape, encoder):
    """Of convolutions this also compares members side by side with members one by one, as a
    single CPU has them."""
    plain.network.name, plain.network.channels = encoder, (8,)
    # Adam makes a step of a gradient's rounding.
    plain.optimizer.name, plain.hypers.learning_rate = "sgd", 3e-3
    many = a_program(plain, num_members)
    mesh, one = (devices.make_mesh(num_members, 24, jax.devices()[:n]) for n in (8, 1))
    assert tuple(mesh.shape.values()) == shape
    start = jax.tree.map(np.array, loop.initial_state(many, mesh))
    (state, metrics, diverged_at), text = chunk_on(mesh, many, start, images)
    (expected, expected_metrics, _), alone = chunk_on(one, many, start, images)
    assert alone.count("while(") - text.count("while(") == (
        encoder == "conv"
    )  # a loop over members in that over steps
    np.testing.assert_allclose(metrics["loss"], expected_metrics["loss"], rtol=1e-4)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert (np.asarray(diverged_at) == -1).all()
    collectives = re.findall(
        r"(all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)[\w-]*\(", text
    )
    assert bool(collectives) == (shape[1] > 1), collectives


@pytest.mark.parametrize(("first", "then"), [(6, 1), (1, 6)])
def test_a_sweep_begun_on_some_devices_goes_on_on_others(
    finished, config, tmp_path, monkeypatch, first, then
):
    """Of its first part of 3 members: six devices share the members and the batch."""
    _, straight, images = finished
    many = programs_of(config, images)[0]
    for num_devices, chunks in ((first, 3), (then, None)):
        with monkeypatch.context() as patch, loop.catch_signals() as stop:
            mesh = conftest._make_mesh(3, 20, jax.devices()[:num_devices])
            assert mesh.size == num_devices
            patch.setattr(devices, "make_mesh", lambda *_, mesh=mesh: mesh)
            if chunks:
                stop_after(patch, chunks)
                with pytest.raises(loop.Interrupted):
                    loop.fit(many, images, tmp_path, stop)
            else:
                state = loop.fit(many, images, tmp_path, stop)
    assert isinstance(state, TrainState)
    (step, saved, _), (_, expected, _) = (loop.restore(many, path) for path in (tmp_path, straight))
    assert step == 20
    for a, b, c in zip(*(jax.tree.leaves(s.params) for s in (state, saved, expected)), strict=True):
        np.testing.assert_array_equal(np.asarray(a), b)
        np.testing.assert_allclose(np.asarray(a), c, atol=2e-3)


# --- the latent mask


def in_float64(config, changes, images, steps):
    """The parameters of the members at the start and after so many steps, in float64."""
    many = make_program(check(config), np.full((6, 5, 1), 0.4), 200, changes)

    def cast(tree):
        return jax.tree.map(
            lambda a: jnp.asarray(a, np.float64) if a.dtype == jnp.float32 else a, tree
        )

    store = jax.tree.map(jnp.asarray, stream.store(images.train))
    index = stream.order(0, 200, 0, steps * 20).reshape(steps, 20)
    train = population.lift(many.steps.train, (0, 0, None, None))

    @jax.jit
    def run(hypers):
        hypers = cast(hypers)
        start = cast(population.lift(many.steps.init)(hypers))
        end, _ = jax.lax.scan(
            lambda state, i: (cast(train(state, hypers, store, i)[0]), None), start, index
        )
        return start.params, end.params

    return devices.fetch(run(many.hypers))


def test_a_narrow_member_of_a_wide_run_equals_the_narrow_run(images):
    """To the rounding of float64; test_a_member_is_its_single_run compares in float32."""
    config = conftest.config.__wrapped__()
    config.hypers.learning_rate = 3e-3
    narrow = {"hypers.latent_dim": 3, "hypers.beta": 2.0, "hypers.seed": 1}
    with float64():
        _, wide = in_float64(config, [{"hypers.latent_dim": 11}, narrow], images, 120)
        first, alone = in_float64(config, [narrow], images, 120)
    first, alone = population.member(first, 0), population.member(alone, 0)
    inside = population.narrow(population.member(wide, 1), alone)
    moved = 0.0
    for a, b, start in zip(*map(jax.tree.leaves, (inside, alone, first)), strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, atol=1e-12)
        moved = max(moved, np.max(np.abs(b - start)))
    assert moved > 0.03  # it has learned


def test_equal_parts_fit_into_the_memory_of_their_devices(plain, monkeypatch):
    many = a_program(plain, 37)
    monkeypatch.setattr(vae_jax.api, "members_that_fit", lambda *_: 5)
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    size = vae_jax.api._max_members([many])
    parts = sweep.equal_parts(list(range(37)), size)
    assert len(parts[0]) / devices.member_axis(len(parts[0]), 4) <= 5 and len(parts) == 4


def test_what_a_member_needs_of_the_memory_grows_with_the_model(plain):
    plain.hypers.latent_dim = 4
    small = program.members_that_fit(a_program(plain, 2), 10**9)
    plain.network.hidden = (160,)
    large = program.members_that_fit(a_program(plain, 2), 10**9)
    assert 1 < large < small and program.members_that_fit(a_program(plain, 2), 1) == 1
