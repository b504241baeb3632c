"""The loop as a user meets it: train, stop, resume, load. Everything is compared bit for bit
where that is promised."""

import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from making import check, make_program, of_model, of_objective, read_config
from oracles import float64

import vae_jax
from vae_jax.data import scan, stream
from vae_jax.errors import UserError
from vae_jax.parallel import devices, population
from vae_jax.training import loop, step
from vae_jax.training.evaluation import Evaluator, summarize
from vae_jax.types import Field, Objective
from vae_jax.workdir import checkpoints

pytestmark = pytest.mark.usefixtures("undrawn")  # but for `finished`, which is made before


def leaves(workdir):
    """Every array of the newest checkpoint."""
    record = json.loads((workdir / "config.json").read_text())
    x_mean = np.zeros(record["dataset"]["example_shape"])
    program = make_program(read_config(record), x_mean, record["dataset"]["num_train"])
    step, state, _ = checkpoints.restore(workdir / "checkpoints", program.abstract_state())
    return step, jax.tree.leaves(state)


def assert_same_run(a, b):
    (step_a, leaves_a), (step_b, leaves_b) = leaves(a), leaves(b)
    assert step_a == step_b
    for x, y in zip(leaves_a, leaves_b, strict=True):
        np.testing.assert_array_equal(x, y)
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()


def rows_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def program_of(config, images):
    """The program that training makes of them."""
    return make_program(check(config), scan.mean(images.train), images.train.num)


def fitted(config, images, workdir):
    """(program, state at the end), without the evaluation that `train` adds."""
    program = program_of(config, images)
    workdir.mkdir()
    with loop.catch_signals() as stop:
        return program, loop.fit(program, images, workdir, stop)


class stop_after:
    """Makes the loop believe that SIGTERM came while it trained chunk number `chunks`."""

    def __init__(self, monkeypatch, chunks):
        original, self.count = loop.make_train_chunk, 0

        def counting(*args):
            train_chunk = original(*args)

            def call(*args):
                self.count += 1
                if self.count == chunks:
                    signal.raise_signal(signal.SIGTERM)
                return train_chunk(*args)

            return call

        monkeypatch.setattr(loop, "make_train_chunk", counting)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run that the tests only read."""
    import conftest

    workdir = tmp_path_factory.mktemp("finished") / "run"
    config, images = conftest.config.__wrapped__(), conftest.images.__wrapped__()
    return vae_jax.train(config, workdir, dataset=images), workdir, images


def test_it_learns_and_writes_what_the_contract_says(finished):
    _, workdir, _ = finished
    for name in ("config.json", "metrics.jsonl", "timing.jsonl", "results.json"):
        assert (workdir / name).stat().st_size > 0
    for name in (
        "samples",
        "reconstructions",
        "interpolation",
        "traversal",
        "latents",
        "rates",
        "curves",
    ):
        assert (workdir / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (workdir / "report.html").read_text().count("<img ") == 7
    rows = rows_of(workdir)
    train = [r for r in rows if r["split"] == "train"]
    assert [r["step"] for r in train] == [5, 10, 15, 20, 25, 30]
    assert [r["step"] for r in rows if r["split"] == "valid"] == [10, 20, 30]
    assert {
        "step",
        "epoch",
        "split",
        "member",
        "loss",
        "elbo",
        "distortion",
        "rate",
        "grad_norm",
        "clipped",
    } <= set(train[0])
    assert train[-1]["epoch"] == 3.0
    assert not any("time" in key for row in rows for key in row)
    assert train[-1]["elbo"] > train[0]["elbo"] + 1
    results = json.loads((workdir / "results.json").read_text())
    assert results["complete"] and results["step"] == 30
    assert results["dataset"] | {"fingerprint": ""} == {
        "name": "blobs", "source": "array", "num_train": 200, "num_valid": 40, "num_test": 60,
        "binarization": "dynamic", "example_shape": [6, 5, 1], "fingerprint": "", "preparation": "",
        "kind": "image", "labels": ["label"], "label_names": [], "value_names": [], "condition": {},
        "missing": False, "scaling": None, "stored_range": [0, 255], "value_range": [0.0, 1.0],
    }  # fmt: skip
    (member,) = results["members"]
    assert member["hypers"]["latent_dim"] == 3 and member["diverged_at"] is None
    for split in ("valid", "test"):
        n = member[split]
        assert n["elbo"] == pytest.approx(-n["distortion"] - n["rate"])
        assert n["nll"] < -n["elbo"] and n["nll_samples"] == 20 and n["nll_stderr"] > 0
        assert n["bits_per_dim"] == pytest.approx(n["nll"] / 30 / np.log(2))
        assert 0 <= n["active_units"] <= 3
    assert member["test"]["num_examples"] == 60 and member["valid"]["num_examples"] == 40


def test_results_are_those_of_numpy(finished):
    run, _, images = finished
    evaluator = Evaluator(program_of(run.config, images))
    params = jax.tree.map(lambda a: a[None], run.params)
    for name in ("valid", "test"):
        split = getattr(images, name)
        bound = evaluator.evaluate(params, split, name, 20, decode=True)
        log_p = np.asarray(bound.log_p[0], np.float64)
        found = run.results["members"][0][name]
        np.testing.assert_allclose(found["nll"], -log_p.mean(), rtol=1e-6)
        np.testing.assert_allclose(
            found["nll_stderr"], log_p.std(ddof=1) / np.sqrt(len(log_p)), rtol=1e-6
        )
        np.testing.assert_allclose(found["rate"], bound.rate[0].mean(), rtol=1e-5)
        x = np.asarray(run.as_evaluated(images, name, np.arange(split.num)).x)
        x = x.reshape(-1, *run.example_shape)
        mse = np.mean((x - run.decode(run.encode(x).mean)) ** 2)
        np.testing.assert_allclose(found["mse"], mse, rtol=1e-5)
        np.testing.assert_allclose(bound.unit_rate[0].sum(), bound.rate[0].mean(), rtol=1e-5)


def test_last_and_best_are_what_they_say(finished):
    _, workdir, _ = finished
    last, best = (jax.tree.leaves(vae_jax.load(workdir, params=p).params) for p in ("last", "best"))
    rows = rows_of(workdir)
    elbos = {r["step"]: r["elbo"] for r in rows if r["split"] == "valid"}
    best_step = max(elbos, key=elbos.get)
    assert vae_jax.load(workdir).results["members"][0]["best_step"] == best_step
    same = all((a == b).all() for a, b in zip(last, best, strict=True))
    assert same == (best_step == 30)
    with pytest.raises(UserError, match="bset"):
        vae_jax.load(workdir, params="bset")


def test_test_data_changes_nothing_but_the_test_numbers(finished, config, images, tmp_path):
    _, straight, _ = finished
    blank = images._replace(test=images.test._replace(x=np.zeros_like(images.test.x)))
    vae_jax.train(config, tmp_path / "run", dataset=blank)
    assert_same_run(straight, tmp_path / "run")


def test_the_order_of_examples_belongs_to_the_data_seed(finished, config, images, tmp_path):
    _, straight, _ = finished
    config.data.seed, config.train.num_epochs, config.train.schedule_epochs = 1, 0.5, 3.0
    fitted(config, images, tmp_path / "run")
    ours, theirs = (rows_of(workdir)[0] for workdir in (tmp_path / "run", straight))
    assert ours["step"] == theirs["step"] and ours["loss"] != theirs["loss"]


def test_results_agree_with_the_run_in_python(finished):
    run, workdir, images = finished
    test = run.results["members"][0]["test"]
    nll = -np.mean(
        run.log_likelihood(jax.random.key(0), images.test.take(slice(None)), num_samples=20)
    )
    assert nll == pytest.approx(test["nll"], abs=0.5)  # other noise, another binarization
    assert vae_jax.load(workdir).results == run.results


def test_run_has_the_shapes_it_says(finished):
    run, workdir, images = finished
    x = images.test.take(slice(0, 7))
    q = run.encode(x)
    assert q.mean.shape == q.logvar.shape == (7, 3)
    assert run.decode(q.mean).shape == run.reconstruct(jax.random.key(0), x).shape == (7, 6, 5, 1)
    assert run.sample(jax.random.key(0), 4).shape == (4, 6, 5, 1)
    assert set(np.unique(run.sample(jax.random.key(0), 4, noise=True))) == {0.0, 1.0}
    assert run.log_likelihood(jax.random.key(0), x, num_samples=11).shape == (7,)
    np.testing.assert_allclose(run.encode(x / 255.0).mean, q.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run.encode(x.reshape(7, 30)).mean, q.mean)
    assert repr(run) == f"Run({str(workdir)!r}, member=0, step=30, latent_dim=3)"
    for bad in (lambda: run.encode(x[:, :5]), lambda: run.decode(np.zeros((2, 4)))):
        with pytest.raises(UserError, match="expected"):
            bad()


def test_reconstructions_are_nearer_than_other_examples(finished):
    run, _, images = finished
    x = images.train.take(slice(0, 100)) / 255.0
    decoded = np.asarray(run.decode(run.encode(x).mean))
    distance = np.mean((decoded[:, None] - x[None]) ** 2, axis=(2, 3, 4))  # [decoded, x]
    assert np.mean(np.diag(distance)) < 0.8 * np.mean(distance)


@pytest.mark.parametrize("chunks", [1, pytest.param(3, marks=pytest.mark.quick), 6])
def test_stopping_and_resuming_changes_no_bit(
    finished, config, images, tmp_path, monkeypatch, chunks
):
    _, straight, _ = finished
    with monkeypatch.context() as patch:
        stop_after(patch, chunks)
        with pytest.raises(loop.Interrupted):
            vae_jax.train(config, tmp_path / "run", dataset=images)
    assert checkpoints.steps(tmp_path / "run" / "checkpoints")[0] == 5 * chunks
    assert vae_jax.load(tmp_path / "run").step == 5 * chunks
    vae_jax.train(config, tmp_path / "run", dataset=images)
    assert_same_run(straight, tmp_path / "run")


def test_the_same_call_again_says_that_it_is_complete(finished, config, images, caplog):
    _, workdir, _ = finished
    before = (workdir / "results.json").read_bytes()
    vae_jax.train(config, workdir, dataset=images)
    assert "is complete" in caplog.text
    assert (workdir / "results.json").read_bytes() == before


def test_training_longer_with_the_same_schedule_is_training_on(finished, config, images, tmp_path):
    _, straight, _ = finished
    config.train.num_epochs, config.train.schedule_epochs = 2.0, 3.0
    assert vae_jax.train(config, tmp_path / "run", dataset=images).step == 20
    config.train.num_epochs = 3.0
    vae_jax.train(config, tmp_path / "run", dataset=images)
    assert_same_run(straight, tmp_path / "run")


def test_evaluating_again_with_other_settings(finished, config, images, tmp_path):
    import shutil

    _, straight, _ = finished
    shutil.copytree(straight, tmp_path / "run")
    config.eval.nll_samples, config.eval.params, config.eval.batch_size = 50, "best", 13
    again = vae_jax.evaluate(tmp_path / "run", config, dataset=images)
    first = vae_jax.load(straight).results["members"][0]["test"]
    test = again.results["members"][0]["test"]
    assert test["nll_samples"] == 50 and again.results["eval"]["params"] == "best"
    assert (
        test["nll"] < first["nll"] + 0.05
    )  # more samples, a tighter bound on the same binarized images
    assert test["rate"] == pytest.approx(first["rate"], rel=0.05)


def test_evaluation_depends_on_no_block_size(finished, config, images):
    run, _, _ = finished
    bounds = []
    for batch_size, samples_per_step in ((100, 10), (7, 3), (60, 20)):
        config.eval.batch_size, config.eval.samples_per_step = batch_size, samples_per_step
        evaluator = Evaluator(program_of(config, images))
        params = jax.tree.map(lambda a: a[None], run.params)
        bounds.append(evaluator.evaluate(params, images.test, "test", 20, decode=True))
    for other in bounds[1:]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5), bounds[0], other
        )
    assert bounds[0].log_p.shape == (1, 60)


def test_starting_from_another_runs_parameters(finished, config, images, tmp_path):
    run, workdir, _ = finished
    config.train.init_from, config.hypers.learning_rate = str(workdir), 1e-9
    config.train.num_epochs, config.train.schedule_epochs = 0.5, 3.0
    new = vae_jax.train(config, tmp_path / "new", dataset=images)
    for a, b in zip(jax.tree.leaves(run.params), jax.tree.leaves(new.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert new.step == 5
    recorded = json.loads((tmp_path / "new" / "config.json").read_text())["init_from"]
    assert recorded == {"workdir": str(workdir), "member": 0, "step": 30, "params": "last"}
    config.network.hidden = (17,)
    with pytest.raises(UserError, match=r"train.init_from=.*shapes"):
        vae_jax.train(config, tmp_path / "other", dataset=images)


def test_streamed_data_gives_the_same_bits_as_resident(finished, config, images, tmp_path):
    _, straight, _ = finished
    config.data.resident = "no"
    vae_jax.train(config, tmp_path / "run", dataset=images)
    assert_same_run(straight, tmp_path / "run")


@pytest.mark.parametrize("setting", [float64, lambda: jax.default_prng_impl("rbg")])
def test_training_does_not_depend_on_settings_of_jax(config, images, tmp_path, undrawn, setting):
    config.train.num_epochs = 0.5
    with setting():
        vae_jax.train(config, tmp_path / "set", dataset=images)
    vae_jax.train(config, tmp_path / "plain", dataset=images)
    found, plain = (vae_jax.load(tmp_path / name) for name in ("set", "plain"))
    assert found.results["members"] == plain.results["members"]
    for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(plain.params), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)


def test_at_most_two_traces_for_a_run(config, images, tmp_path, monkeypatch):
    traces, original = [], step.make_loss_fn

    def counting(*args):  # called as often as the step is traced
        return traces.append(1) or original(*args)

    monkeypatch.setattr(step, "make_loss_fn", counting)
    loop._train_chunk.cache_clear()  # what other tests have compiled
    # 32 steps: six full chunks and one of two steps.
    config.train.num_epochs, config.train.schedule_epochs = 3.2, 3.0
    vae_jax.train(config, tmp_path / "run", dataset=images)
    assert len(traces) == 2


def chunk_on(some, program, state, images):
    batch_size = program.config.train.batch_size
    mesh = devices.make_mesh(1, batch_size, some)
    assert mesh.size == len(some)
    state = devices.place(mesh, state, "member")
    store = devices.place(mesh, stream.store(images.train))
    ((_, index),) = stream.chunks(
        images.train, bounds=[(0, 20)], batch_size=batch_size, seed=0, resident=True
    )
    index = devices.place(mesh, index, None, "data")
    return loop.make_train_chunk(program, mesh)(state, program.hypers, store, index)


def test_eight_devices_give_the_numbers_of_one(config, images):
    config.train.batch_size = 24
    assert jax.device_count() == 8
    # Of 240 examples an epoch has as many steps as in the other tests.
    program = make_program(check(config), scan.mean(images.train), 240)
    start = jax.tree.map(np.array, loop.initial_state(program, devices.make_mesh(1, 24)))
    one, many = (chunk_on(jax.devices()[:n], program, start, images) for n in (1, 8))
    np.testing.assert_allclose(one[1]["loss"], many[1]["loss"], rtol=1e-4)
    for a, b in zip(jax.tree.leaves(one[0].params), jax.tree.leaves(many[0].params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    assert len(many[0].step.sharding.device_set) == 8


def test_a_loss_that_is_not_finite_ends_the_run_and_is_named(config, images, tmp_path, caplog):
    config.hypers.learning_rate, config.hypers.lr_warmup_epochs = 1e20, 0.0
    with pytest.raises(UserError, match=r"not finite at step \d+.*saved.*learning_rate"):
        vae_jax.train(config, tmp_path / "run", dataset=images)
    assert "diverged at step" in caplog.text and "loss" in caplog.text
    run = vae_jax.load(tmp_path / "run")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.params))
    assert run.results is None
    with pytest.raises(UserError, match="not finite"):  # and it stays so
        vae_jax.train(config, tmp_path / "run", dataset=images)


def test_gaussian_likelihood_with_a_learned_sigma(config, images, tmp_path):
    config.likelihood.name, config.likelihood.learn_sigma = "gaussian", True
    config.data.binarize = "none"
    program, state = fitted(config, images, tmp_path / "run")
    assert state.params["decoder"]["likelihood"]["log_sigma"] < -0.05
    evaluation = Evaluator(program).evaluate(state.params, images.valid, "valid", 1)
    (numbers,) = summarize(program, evaluation, 1)
    assert numbers["nll"] is not None and numbers["bits_per_dim"] is None


def test_a_model_and_an_objective_from_outside_the_package(config, images, tmp_path):
    """Objects that a notebook cell could define, with a hyper-parameter of their own."""

    def my_model(dim=30, latent_dim=2):
        """A VAE with linear networks and a unit-variance posterior, written from scratch."""
        from vae_jax.distributions import Gaussian
        from vae_jax.models.ingredients import as_example
        from vae_jax.types import Draw, Model

        def init(rng, hypers):
            a, b = jax.random.split(rng)
            return {
                "encoder": 0.01 * jax.random.normal(a, (latent_dim, dim)),
                "decoder": 0.01 * jax.random.normal(b, (dim, latent_dim)),
                "prior": {},
            }

        def encode(params, x, hypers, rng=None):
            return Gaussian(params["encoder"] @ as_example(x).x.ravel(), jnp.zeros(latent_dim))

        def log_normal(z, mean):
            return -0.5 * jnp.sum((z - mean) ** 2 + jnp.log(2 * jnp.pi))

        def log_q(params, x, z, hypers):
            return log_normal(z, encode(params, x, hypers).mean)

        def log_likelihood(params, x, z):
            logits = params["decoder"] @ z
            return jnp.sum(as_example(x).x.ravel() * logits - jax.nn.softplus(logits))

        def log_joint(params, x, z, hypers):
            return log_likelihood(params, x, z) + log_normal(z, 0.0)

        def draw(params, x, rng, hypers, path_weight=None, score=None):
            q = encode(params, x, hypers)
            z = q.mean + jax.random.normal(rng, (latent_dim,))
            log_w = log_joint(params, x, z, hypers) - log_q(params, x, z, hypers)
            return Draw(-log_likelihood(params, x, z), 0.5 * q.mean**2, log_w, z, q)

        def decode(params, z, condition=None, rng=None):
            return jax.nn.sigmoid(params["decoder"] @ z).reshape(6, 5, 1)

        def sample_prior(params, rng, hypers, condition=None):
            return jax.random.normal(rng, (latent_dim,))

        return Model(init, encode, log_q, log_joint, draw, decode, sample_prior)

    def loss(params, draws, x, rng, hypers):
        draw = draws(params)
        rate = jnp.mean(jnp.sum(draw.rate, -1))
        distortion = jnp.mean(draw.distortion)
        excess = jax.nn.relu(rate - hypers["most_rate"])
        return distortion + rate + 10 * excess, {
            "elbo": -distortion - rate,
            "distortion": distortion,
            "rate": rate,
        }

    mine = Objective(init=lambda rng, hypers: {}, loss=loss)
    most_rate = Field(1.0, "nats that cost no more than their rate", least=0)
    parts = of_model(my_model()), of_objective(mine, hypers={"most_rate": most_rate})
    config.model.name = config.objective.name = "own"
    config.hypers.latent_dim, config.hypers.learning_rate = 2, 1e-2
    config.train.num_epochs, config.schedule.learning_rate = 20.0, "constant"
    config.eval.every_epochs = config.checkpoint.every_epochs = 20.0
    config.train.steps_per_call, config.sweep.max_members = 50, 2
    config.sweep.most_rate = (0.05, 100.0)  # a hyper-parameter of one's own is swept like any other
    workdir = tmp_path / "run"
    run = vae_jax.train(config, workdir, parts, images)
    tight, loose = run.results["members"]
    assert tight["swept"] == {"hypers.most_rate": 0.05} and run.results["best_command"] is None
    assert tight["test"]["rate"] < 0.3 < 0.6 < loose["test"]["rate"]
    again = vae_jax.load(workdir, 0, parts)
    assert again.encode(images.test.take(slice(0, 3))).mean.shape == (3, 2)
    for given, missing in (((), "model"), (parts[:1], "objective")):
        told = f"the {missing} 'own' of .* is one of your own: give it again, in parts="
        with pytest.raises(UserError, match=told):
            vae_jax.load(workdir, parts=given)
    assert vae_jax.load(workdir, parts=parts).latent_dim == 2


def test_validations_and_saves_come_when_they_are_due(config, images, tmp_path, monkeypatch):
    """Every 7 and every 12 steps, at the end of the chunk of 5 steps in which they fall."""
    config.eval.every_epochs, config.checkpoint.every_epochs = 0.7, 1.2
    saved, save = [], checkpoints.Writer.save
    monkeypatch.setattr(
        checkpoints.Writer,
        "save",
        lambda self, step, *rest: saved.append(step) or save(self, step, *rest),
    )
    fitted(config, images, tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    assert [row["step"] for row in rows if row["split"] == "valid"] == [10, 15, 25, 30]
    assert saved == [15, 25, 30]


def test_what_lies_on_the_device(config, images, monkeypatch):
    num_bytes = 200 * 30  # uint8
    for memory, resident in ((4 * num_bytes, True), (4 * num_bytes - 1, False)):
        monkeypatch.setattr(loop, "device_memory", lambda memory=memory: memory)
        assert loop.is_resident(config, images) == resident
        for choice in ("yes", "no"):
            config.data.resident = choice
            assert loop.is_resident(config, images) == (choice == "yes")
        config.data.resident = "auto"


def test_every_value_counts_for_the_range(images):
    x = np.full((5000, 1, 1, 1), 0.5, np.float32)
    x[4500], x[4501] = 2.0, -1.0
    train = images.train._replace(x=x, rows=np.arange(5000))
    assert scan.value_range(images._replace(train=train, valid=train, test=train)) == (-1.0, 2.0)


def test_the_best_of_a_member_that_diverged_stays(config, images):
    program = program_of(config, images)
    hypers = population.member(program.hypers, 0)
    state = jax.jit(program.steps.init)(hypers)._replace(step=jnp.int32(30))
    judge = jax.jit(program.steps.after_validation)
    for diverged_at, kept in ((-1, True), (12, False)):
        after = judge(state._replace(diverged_at=jnp.int32(diverged_at)), hypers, jnp.float32(-5.0))
        assert (int(after.best.step) == 30) == kept


@pytest.mark.parametrize(
    ("name", "value", "pattern"),
    [
        (
            "hypers.latent_dim",
            10**8,
            "the model with its optimizer .* or hypers.latent_dim",
        ),
        (
            "network.hidden",
            (10**7, 10**7),
            "the model with its optimizer takes .* GiB, where a",
        ),
        ("objective.num_samples", 10**8, "a training step .* train.batch_size or objective.num_s"),
        ("eval.batch_size", 10**9, "a block of the evaluation .*make eval.batch_size or"),
        ("train.num_epochs", 1e9, "train.num_epochs 1e.09 are 1e.10 steps: at most 2,147,483,647"),
    ],
)
def test_what_no_memory_holds_is_refused_before_anything_is_made(
    config, images, tmp_path, name, value, pattern
):
    section, field = name.split(".")
    config[section][field] = value
    with pytest.raises(UserError, match=pattern):
        vae_jax.train(config, tmp_path / "run", dataset=images)
    assert not (tmp_path / "run").exists()
