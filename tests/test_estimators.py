"""Estimators on a run: what they write, that they go on where they were stopped, and what they
refuse."""

import copy
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from making import check, make_program, of_model

from vae_jax import api, data, default, estimators, main
from vae_jax.errors import UserError
from vae_jax.estimators import annealer, bdmc, features, iwae, task, words
from vae_jax.metrics import importance_bound
from vae_jax.metrics.annealing import Trace
from vae_jax.results import finish
from vae_jax.rng import of_split, roots
from vae_jax.training.signals import Interrupted
from vae_jax.workdir import files

ALL = tuple(estimators.ESTIMATORS)


# Estimates of seconds, of the runs that are trained here and of those that are not.
EVAL = {"bounds_examples": 6, "batch_size": 4, "samples_per_step": 4, "iwae_samples": (10, 100)}
EVAL |= {"ais_chains": 4, "ais_distributions": 20, "ais_leapfrog": 3}
EVAL |= {"gap_steps": 30, "gap_samples": 2, "feature_examples": 30, "nll_samples": 2}


@pytest.fixture
def small(config):
    config.eval.update(EVAL)
    return config


@pytest.fixture(scope="module")
def estimates_alone():
    """Of all pictures, only those of the estimates are drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "draw_pictures", lambda *_: None)
        for plot in (finish.rate_distortion, finish.heat_maps, finish.strips):
            patch.setattr(plot, "draw", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory, estimates_alone):
    """A finished sweep of two members, whose estimates come with the training."""
    folder, rng = tmp_path_factory.mktemp("trained"), np.random.default_rng(0)
    x, y = rng.integers(0, 256, (300, 6, 5), np.uint8), np.arange(300) % 4
    np.savez(folder / "x.npz", x=x, y=y)
    config = default()
    config.data.update(name="file", path=str(folder / "x.npz"), num_valid=40, num_test=60)
    config.network.hidden, config.train.batch_size = (16,), 20
    config.hypers.update(latent_dim=3, beta_warmup_epochs=0.0)
    config.train.num_epochs = 0.2
    config.eval.update(EVAL | {"estimators": ("ais", "bdmc", "gaps", "rate_distortion")})
    config.eval.all_members = True
    config.sweep.beta = (0.5, 1.0)
    api.train(config, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def one(trained):
    """A member of it: what is compiled for its model in one test serves all."""
    return api.load(trained, 0)


@pytest.fixture
def run_of(one, small, tmp_path):
    """Makes a run in a folder and with settings of its own; its model is the same in all tests."""

    def make(names=("ais",), folder="run", **fields):
        small.eval.update(estimators=names, **fields)
        path = tmp_path / folder
        path.mkdir()
        run = copy.copy(one)
        run.workdir, run.config = path, check(small)
        run.params = jax.tree.map(jnp.array, run.params)
        return run

    return make


def blocks_of(run):
    return sorted((run.workdir / "evaluation").iterdir())


def test_each_has_a_key_of_its_own_that_never_changes():
    names = ["iwae", "ais", "bdmc", "rate_distortion", "gaps", "latents", "probes", "samples"]
    assert list(ALL) == names
    for number, name in enumerate(names, start=1):
        estimator = estimators.ESTIMATORS[name]
        assert estimator.name == name
        expected = jax.random.fold_in(roots(7).estimate, number)
        assert (jax.random.key_data(estimator.rng(7)) == jax.random.key_data(expected)).all()


def test_every_estimate_of_a_run(run_of, images, monkeypatch, capsys):
    monkeypatch.setattr(features, "_num_steps", lambda num: 100)
    found = estimators.estimate(run_of(ALL), images)
    said = capsys.readouterr().out
    assert list(found) == ["seed", "examples", *ALL] and all(
        f"{name}: " in said and "about" in said for name in ALL
    )
    assert len(found["examples"]) == 6 and found["examples"] == sorted(set(found["examples"]))
    fewer, more = found["iwae"]["bounds"]
    assert fewer["samples"] == 10 and fewer["log_p"] < more["log_p"]
    assert 1 <= fewer["effective_samples"] <= 10 and more["noise_stderr"] < more["stderr"]
    assert found["gaps"]["log_p"] == pytest.approx(found["ais"]["log_p"])
    parts = found["gaps"]["approximation"] + found["gaps"]["amortization"]
    assert parts == pytest.approx(found["gaps"]["log_p"] - found["gaps"]["elbo"], abs=1e-4)
    curve = found["rate_distortion"]
    assert curve["beta"][-1] == pytest.approx(8.0) and np.diff(curve["distortion"])[-1] <= 0.05
    codes = found["latents"]
    whole = codes["mutual_information"] + codes["total_correlation"] + codes["dimension_wise_kl"]
    assert (
        whole == pytest.approx(codes["rate_sampled"], abs=1e-4)
        and len(codes["unit_mutual_information"]) == 3
    )
    assert codes["mutual_information"] <= np.log(images.test.num) + 1e-6
    assert 0 <= found["probes"]["linear_probe"] <= 1 and found["samples"]["test"]["coverage"] > 0.5
    for name, numbers, meaning in words.rows(found, estimators.ESTIMATORS):
        assert name in ALL and "nan" not in numbers and meaning
    json.dumps(found, allow_nan=False)
    assert 1.0 in curve["beta"] and curve["beta"].index(1.0) < len(curve["beta"]) - 1


def test_the_bound_is_that_of_the_evaluation(run_of, images):
    run = run_of(("iwae",))
    found = estimators.estimate(run, images)
    x = run.as_evaluated(images, "test", np.array(found["examples"]))
    args = (
        run.model,
        run.params,
        x,
        of_split(0, "test").epsilon,
        jnp.array(found["examples"]),
        run.hypers,
    )
    for bound in found["iwae"]["bounds"]:
        expected = importance_bound.bound(*args, bound["samples"], 7)
        assert bound["log_p"] == pytest.approx(float(expected.log_p.mean()), abs=1e-4)
        assert bound["effective_samples"] == pytest.approx(
            float(np.median(expected.effective)), rel=1e-4
        )


def test_numbers_depend_on_neither_blocks_nor_what_else_is_asked(run_of, images):
    whole = estimators.estimate(run_of(("iwae", "ais", "bdmc"), "a"), images)
    fields = {"batch_size": 3, "samples_per_step": 2, "iwae_samples": (100,)}
    parts = estimators.estimate(run_of(("iwae", "ais"), "b", **fields), images)
    assert parts["examples"] == whole["examples"]
    assert parts["iwae"]["bounds"][0]["log_p"] == pytest.approx(
        whole["iwae"]["bounds"][1]["log_p"], abs=1e-4
    )
    assert parts["ais"]["log_p"] == pytest.approx(whole["ais"]["log_p"], abs=1e-3)


def test_a_ladder_longer_than_one_call_is_tuned_in_several(run_of, images, monkeypatch):
    study = task.Study(run_of(), images, np.arange(3), lambda: None)
    of_ais = annealer.Annealer(study, estimators.ESTIMATORS["ais"])
    log_w, trace = of_ais.anneal(study.test_examples(), np.arange(3), annealer.TUNE)
    monkeypatch.setattr(annealer, "RUNGS", 7)
    assert of_ais.num_calls() == 3
    in_parts, of_parts = of_ais.anneal(study.test_examples(), np.arange(3), annealer.TUNE)
    np.testing.assert_allclose(in_parts, log_w, atol=1e-3)
    np.testing.assert_allclose(of_parts.step_size, trace.step_size, rtol=1e-3)
    np.testing.assert_allclose(of_parts.acceptance, trace.acceptance, atol=1e-3)


def test_what_is_done_is_not_done_again(run_of, images, monkeypatch):
    run = run_of(("ais", "bdmc", "gaps"))
    first = estimators.estimate(run, images)
    blocks = blocks_of(run)
    assert len(blocks) == 2 + 2 + 2
    monkeypatch.setattr(annealer, "_visit", None)
    assert estimators.estimate(run, images) == first  # nothing is computed
    of_ais = next(path for path in blocks if path.name.startswith("ais"))
    of_ais.unlink()
    with pytest.raises(TypeError):  # this block alone is missing
        estimators.estimate(run, images)
    monkeypatch.undo()
    blocks[-1].write_bytes(blocks[-1].read_bytes()[:-60])  # as a full disk may leave it
    assert estimators.estimate(run, images) == first
    assert blocks_of(run) == blocks


@pytest.fixture
def instant(monkeypatch):
    """Passes that take no time: for tests of when blocks are computed, not of what they hold."""

    def anneal(self, x, positions, number, step_sizes=None, z=None):
        trace = np.full((len(x.x), self.num_chains, len(self.rungs.t)), 0.5, np.float32)
        return np.zeros(trace.shape[:2], np.float32), Trace(*[trace] * 4)

    monkeypatch.setattr(annealer.Annealer, "anneal", anneal)
    monkeypatch.setattr(annealer.Annealer, "unit", lambda *_: None)


@pytest.mark.parametrize(
    "change",
    ["ais_chains", "seed", "params", "bounds_examples", "batch_size", "data", "binarize", "model"],
)
@pytest.mark.usefixtures("instant")
def test_blocks_of_anything_else_are_not_taken(small, run_of, images, change):
    run = run_of()
    examples = estimators.estimate(run, images)["examples"]
    before = blocks_of(run)
    fields = (
        {"batch_size": 2}
        if change == "batch_size"
        else {change: 5}
        if small.eval.get(change) in (0, 4, 6)
        else {}
    )
    if change == "binarize":
        small.data.binarize = "threshold"
    again = run_of(folder="other", **fields)
    again.workdir = run.workdir
    if change == "data":  # in the last example alone
        x_test = images.test.take(np.arange(60)).copy()
        x_test[examples[-1]] ^= 255
        images = data.from_arrays("new", images.train.x[:240], x_test, num_valid=40)
    if change == "model":  # of one's own, with the same parameters
        log_joint = again.model.log_joint
        again.model = again.model._replace(log_joint=lambda *args: log_joint(*args) - 100.0)
    if change == "params":
        again.params["encoder"]["mean"]["bias"] = again.params["encoder"]["mean"]["bias"] + 0.01
    estimators.estimate(again, images)
    new = set(blocks_of(run)) - set(before)
    assert len(new) == (3 if change == "batch_size" else len(before)) > 0


@pytest.mark.usefixtures("instant")
def test_blocks_of_the_same_are_taken(run_of, images, monkeypatch):
    run = run_of()
    first, before = estimators.estimate(run, images), blocks_of(run)
    monkeypatch.setattr(annealer.Annealer, "anneal", None)
    again = run_of(folder="other")
    again.workdir = run.workdir
    assert estimators.estimate(again, images) == first and blocks_of(run) == before


def test_an_interrupted_estimate_goes_on_with_the_same_numbers(run_of, images):
    run, calls = run_of(("ais", "iwae"), "a"), 0
    expected = estimators.estimate(run_of(("ais", "iwae"), "b"), images)

    def stop():
        nonlocal calls
        calls += 1
        if calls == 12:  # in the second block of ais, after all of iwae and one block
            raise Interrupted(2)

    with pytest.raises(Interrupted):
        estimators.estimate(run, images, stop)
    done = {path: path.stat().st_mtime_ns for path in blocks_of(run)}
    assert done
    assert estimators.estimate(run, images) == expected
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())


def program_of(config, dataset, parts=()):
    x_mean = np.full(dataset.example_shape, 0.5)
    return make_program(check(config, parts), x_mean, dataset.train.num, parts=parts)


def refusal(config, dataset, names):
    config.eval.estimators = names
    program = program_of(config, dataset)
    with pytest.raises(UserError) as refused:
        estimators.check(program, dataset)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_does_not_fit_the_model_is_refused_and_what_does_is_named(small, images):
    small.model.name = "ae"
    text = refusal(small, images, ("ais",))
    assert (
        "'ais' needs a density log p(x, z), which this model does not have; what fits is probes"
        in text
    )
    assert "'latents' needs" in refusal(small, images, ("latents",))
    assert "'samples' needs a prior to sample from" in refusal(small, images, ("samples",))
    small.model.code_sampler = "gaussian_fit"
    assert "what fits is probes, samples" in refusal(small, images, ("iwae",))


def test_errors_need_two_examples(small, images):
    small.eval.bounds_examples = 1
    assert "two test examples or more" in refusal(small, images, ("ais",))


def test_numbers_that_are_not_finite_are_a_warning(run_of, images):
    run = run_of(("iwae", "probes"), iwae_samples=(10,))
    log_joint, draw = run.model.log_joint, run.model.draw
    run.model = run.model._replace(
        log_joint=lambda *args: log_joint(*args) * jnp.nan,
        draw=lambda *args: (found := draw(*args))._replace(log_w=found.log_w * jnp.nan),
    )
    found = estimators.estimate(run, images)
    assert "not finite" in found["iwae"]["warning"] and found["probes"]["linear_probe"] > 0
    assert [name for name, *_ in words.rows(found, estimators.ESTIMATORS)] == ["probes"]
    (warning,) = words.warnings(found, estimators.ESTIMATORS)
    assert warning.startswith("iwae: its numbers are not finite")


def test_what_latents_and_samples_need_is_checked_before_training(small, images):
    program = program_of(small, images)

    def wide(params, z, hypers):
        return -jnp.sum(z**2) / 4 - z.size * jnp.log(4 * jnp.pi) / 2

    own = of_model(program.model._replace(log_prior=wide, standard_normal=False))
    assert estimators.properties(program, images)["the prior N(0, I)"]
    small.eval.feature_examples = 5
    assert "nearest neighbours" in refusal(small, images, ("samples",))
    small.eval.estimators = ("latents",)
    small.model.name = "own"
    alone = program_of(small, images, (own,))
    assert not estimators.properties(alone, images)["the prior N(0, I)"]
    with pytest.raises(UserError, match=r"'latents' needs the prior N\(0, I\), which this model"):
        estimators.check(alone, images)


def test_labels_that_are_missing_are_named(small, images):
    blind = data.from_arrays("blind", images.train.x[:200], images.test.x, num_valid=40)
    text = refusal(small, blind, ("ais", "probes"))
    assert "'probes' needs labels of several classes, which blind does not have" in text
    same = np.zeros(200, np.int64), np.zeros(len(images.test.x), np.int64)
    normal = data.from_arrays("normal", images.train.x[:200], images.test.x, *same, num_valid=40)
    assert "'probes' needs labels of several classes" in refusal(small, normal, ("probes",))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"estimators": ("gaps",)}, "name that, too"),
        ({"estimators": ("aiss",)}, "did you mean ais"),
        ({"estimators": ("ais", 3)}, "tuple of names"),
        ({"ais_initial": "posterior"}, "there are prior, encoder"),
        ({"ais_distributions": 0}, "more than 0"),
        ({"iwae_samples": (5, 0)}, "more than 0"),
        ({"iwae_samples": (), "estimators": ("iwae",)}, "at least one"),
        ({"iwae_samples": (), "estimators": ("bdmc",)}, "at least one"),
        ({"rate_distortion_max_beta": 0.5}, "1 or more"),
    ],
)
def test_impossible_settings_are_refused(config, fields, message):
    config.eval.update(fields)
    with pytest.raises(UserError, match=message):
        check(config)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("ais", ("ais",)),
        ("ais,bdmc", ("ais", "bdmc")),
        ("('ais','bdmc')", ("ais", "bdmc")),
        ("", ()),
    ],
)
def test_estimators_are_listed_as_one_would(given, meant):
    values = main.parse(["main", "--config=configs/mnist.py", f"--config.eval.estimators={given}"])
    assert check(values.config).eval.estimators == meant


def sandwich(lower, upper, iwae_bound):
    arrays = {
        "log_w": lower,
        "backward": upper,
        "iwae": iwae_bound,
        "effective": np.full(len(lower), 3.0),
    }
    return bdmc.sandwich(arrays, 50)


@pytest.mark.quick
def test_bounds_that_contradict_each_other_are_found():
    rng = np.random.default_rng(0)
    truth = rng.normal(-90, 20, size=(50, 1))

    def noise():
        return 0.3 * rng.normal(size=(50, 8))

    good = sandwich(truth - 0.1 + noise(), truth + 0.1 + noise(), truth[:, 0] - 1.0)
    assert bdmc.violation(good) is None and good["iwae_width"] > good["width"] > 0
    high = sandwich(truth + 0.5 + noise(), truth + noise(), truth[:, 0] - 1.0)
    assert "AIS exceeds" in bdmc.violation(high)
    high_iwae = sandwich(truth - 0.5 + noise(), truth + noise(), truth[:, 0] + 1.0)
    assert "IWAE-50 exceeds" in bdmc.violation(high_iwae)
    rounding = sandwich(truth + np.zeros(8), truth - 1e-4 + np.zeros(8), truth[:, 0])
    assert bdmc.violation(rounding) is None  # no noise at all, and the last digit
    unknown = sandwich(np.full((50, 8), np.nan), truth + noise(), truth[:, 0] - 1.0)
    assert "AIS exceeds" in bdmc.violation(unknown)
    chance = sandwich(truth + 0.02 + noise(), truth + noise(), truth[:, 0] - 1.0)
    assert -4 * chance["width_stderr"] < chance["width"] < 0 and bdmc.violation(chance) is None


def test_few_examples_do_not_contradict_each_other_by_chance():
    rng = np.random.default_rng(1)
    for _ in range(
        200
    ):  # forward and backward weights as a valid pair of passes may have them, of mean one
        lower, upper = 0.6 * rng.normal(size=(2, 2, 16)) + np.array([-0.18, 0.18])[:, None, None]
        assert bdmc.violation(sandwich(lower, upper, np.full(2, -9.0))) is None


@pytest.mark.quick
def test_a_sandwich_by_hand():
    lower, upper = np.log([[1.0, 3.0], [2.0, 4.0]]), np.log([[4.0, 12.0], [8.0, 8.0]])
    found = sandwich(lower, upper, np.log([1.0, 2.0]))
    expected = [
        np.log(6.0 / 2.0),
        np.log(8.0 / 3.0),
    ]  # the harmonic means of the upper, over the means of the lower
    assert found["width"] == pytest.approx(np.mean(expected)) and found["upper"][
        "log_p"
    ] == pytest.approx(np.log(48) / 2)
    assert found["iwae_width"] == pytest.approx(np.mean(np.log([6.0, 4.0])))


@pytest.mark.quick
def test_the_average_of_backward_weights_is_of_their_inverses():
    log_w = np.log(np.array([[1.0, 3.0]]))
    found = annealer.of_chains(log_w, sign=-1)
    assert found["log_p"] == pytest.approx(-np.log((1 + 1 / 3) / 2))
    assert annealer.of_chains(log_w)["log_p"] == pytest.approx(np.log(2.0))


@pytest.mark.quick
def test_chains_that_misbehave_are_reported():
    def of(acceptance, diverged):
        return annealer.judge(
            {"acceptance": np.full(4, acceptance), "diverged": np.full(4, diverged)}
        )

    assert of(0.65, 0.0)["warning"] is None
    assert (
        "acceptance is 0.20" in of(0.2, 0.0)["warning"]
        and "acceptance is 0.97" in of(0.97, 0.0)["warning"]
    )
    assert "diverged" in of(0.65, 0.02)["warning"]
    entry = {"ais": {"warning": "odd"}, "bdmc": {"warning": None}}
    assert words.warnings(entry, estimators.ESTIMATORS) == ["ais: odd"]


@pytest.mark.quick
def test_both_errors_of_a_bound():
    log_p, effective = np.array([-1.0, -3.0]), np.array([10.0, 5.0])
    found = iwae.of_log_means(log_p, effective, 100)
    assert found["log_p"] == -2.0 and found["stderr"] == pytest.approx(np.sqrt(2) / np.sqrt(2))
    assert found["noise_stderr"] == pytest.approx(np.sqrt(1 / 10 + 1 / 5 - 2 / 100) / 2)


def test_spans_of_time_are_read_easily():
    assert [task.span(s) for s in (0.2, 80, 200, 7200)] == [
        "about 1 s",
        "about 80 s",
        "about 3 min",
        "about 2.0 h",
    ]


@pytest.mark.quick
@pytest.mark.parametrize(("num", "size"), [(6, 4), (10, 10), (1, 7), (200, 62), (7, 3)])
def test_blocks_cover_every_example_once(num, size):
    each = task.even(num, size)
    num_blocks = -(-num // each)
    assert each <= size and num_blocks == -(-num // size)
    numbers = [task.of_block(np.arange(num), i, each) for i in range(num_blocks)]
    np.testing.assert_array_equal(np.concatenate(numbers)[:num], np.arange(num))
    assert all(len(some) == each for some in numbers)


def results_of(workdir):
    return json.loads((workdir / "results.json").read_text())


def test_estimates_of_every_member_come_with_training(trained):
    results = results_of(trained)
    assert [entry["member"] for entry in results["evaluation"]] == [0, 1] and results["complete"]
    for entry in results["evaluation"]:
        assert {"ais", "bdmc", "gaps", "rate_distortion"} <= entry.keys()
        assert (trained / "members" / str(entry["member"]) / "evaluation").is_dir()
    assert {"gaps.png", "rate_distortion_curves.png"} <= {path.name for path in trained.iterdir()}
    best = trained / "members" / str(results["best_member"])
    assert {"bounds.png", "gaps.png", "rate_distortion_curve.png"} <= {
        path.name for path in best.iterdir()
    }
    page = (trained / "report.html").read_text()
    assert (
        page.count("<h2>Estimates, ") == 2
        and "approximation gap" in page
        and "Bounds on log p(x)" in page
    )


def test_a_run_from_before_a_field_that_it_does_not_need_is_read(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "old")
    stored = json.loads((tmp_path / "old" / "config.json").read_text())
    del stored["config"]["eval"]["ais_chains"]
    files.write_json(tmp_path / "old" / "config.json", stored)
    del stored["config"]["model"]["widths"]  # of a model that the run is not made of
    files.write_json(tmp_path / "old" / "config.json", stored)
    old = api.load(tmp_path / "old").config
    assert old.eval.ais_chains == 16 and old.model.widths == (100,)
    del stored["config"]["network"]["hidden"]
    files.write_json(tmp_path / "old" / "config.json", stored)
    with pytest.raises(UserError, match=r"lacks the field 'network\.hidden'"):
        api.load(tmp_path / "old")


def evaluate(trained, *overrides):
    return main.run(
        [
            "main",
            "--mode=evaluate",
            f"--workdir={trained}",
            "--config=configs/digits.py",
            *overrides,
        ]
    )


def test_more_estimates_keep_what_is_known(trained, monkeypatch, capsys):
    before = results_of(trained)
    monkeypatch.setattr(finish.Outcome, "_evaluate", None)  # the bound of the whole split is known
    more = "--config.eval.estimators=latents"
    assert evaluate(trained, more, "--config.eval.all_members=False") == 0
    after = results_of(trained)
    assert after["members"] == before["members"]
    best, other = sorted(
        after["evaluation"], key=lambda entry: entry["member"] != after["best_member"]
    )
    assert {"ais", "latents"} <= best.keys() and "latents" not in other
    old = {entry["member"]: entry for entry in before["evaluation"]}
    assert best["ais"] == old[best["member"]]["ais"] and other == old[other["member"]]
    assert "latents: rate" in capsys.readouterr().out
    assert (trained / "members" / str(after["best_member"]) / "kl_spectrum.png").exists()


def test_bounds_that_contradict_each_other_fail_the_run(trained, undrawn, monkeypatch, capsys):
    def contradicts(found):
        return "the lower bound of AIS exceeds the upper one"

    found = bdmc.ESTIMATOR._replace(violation=contradicts)
    monkeypatch.setitem(estimators.ESTIMATORS, "bdmc", found)
    assert evaluate(trained) == 1
    assert (
        "error: member 0: the lower bound of AIS exceeds the upper one; do not trust"
        in capsys.readouterr().err
    )
    assert results_of(trained)["evaluation"]


def test_other_examples_replace_what_was_known(trained):
    other = "--config.eval.bounds_examples=3", "--config.eval.all_members=True"
    assert evaluate(trained, "--config.eval.estimators=('iwae',)", *other) == 0
    assert all(
        set(e) == {"member", "step", "params", "seed", "examples", "iwae"}
        for e in results_of(trained)["evaluation"]
    )
    assert not (trained / "gaps.png").exists()  # pictures of numbers that are gone, go
