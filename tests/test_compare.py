"""--mode=compare: what it takes for a run, what differs, and differences with errors paired over
examples."""

import contextlib
import gc
import json
import math
import re
import warnings

import numpy as np
import pytest

from vae_jax.data import user_file
from vae_jax.errors import UserError
from vae_jax.results import compare as comparing
from vae_jax.results.compare import compare, effective_config, paired_difference, split, verdict
from vae_jax.workdir import files

pytestmark = pytest.mark.quick

# -log p of four test examples: hard ones are hard for both, which only pairing sees.
NLL_A, NLL_B = [10.0, 20.0, 30.0, 40.0], [9.0, 18.0, 29.0, 38.0]
CONFIG = {
    "data": {"name": "mnist", "binarize": "dynamic"},
    "network": {"hidden": [200, 200]},
    "likelihood": {"name": "bernoulli"},
    "model": {"name": "vae"},
    "hypers": {"beta": 1.0, "latent_dim": 50, "seed": 0},
    "eval": {"nll_samples": 500, "params": "last", "seed": 0},
}
DATASET = {
    "name": "mnist",
    "source": "embedded",
    "num_train": 40,
    "num_valid": 6,
    "num_test": 4,
    "binarization": "dynamic",
    "example_shape": [28, 28, 1],
    "fingerprint": "aa",
}


def member(i, nll, swept, samples=500):
    nll = np.asarray(nll)
    test = {
        "num_examples": len(nll),
        "elbo": -float(nll.mean()) - 1,
        "distortion": 20.5,
        "rate": 5.5,
        "nll": float(nll.mean()),
        "nll_stderr": float(nll.std(ddof=1) / len(nll) ** 0.5),
        "nll_samples": samples,
        "active_units": 17,
        "bits_per_dim": 0.0456,
    }
    return {
        "member": i,
        "swept": swept,
        "hypers": {},
        "diverged_at": None,
        "step": 1200,
        "valid": {},
        "test": test,
    }


def write(folder, nlls, *, config=None, dataset=None, seed=0, samples=500, swept=None, **results):
    """A workdir by hand: a run of its own, or a sweep if there are several `nlls`. The ELBO is
    -(NLL + 1)."""
    folder.mkdir(parents=True)
    sections = {s: fields | (config or {}).get(s, {}) for s, fields in CONFIG.items()}
    swept = swept or [{}] * len(nlls)
    if swept[0]:
        sections["sweep"] = {"beta": [1.0, 4.0, 9.0], "mode": "product"}
    data = DATASET | (dataset or {})
    record = {"config": sections, "dataset": data, "own": [], "versions": {}}
    files.write_json(folder / "config.json", record)
    members = [
        member(i, nll, s, samples) for i, (nll, s) in enumerate(zip(nlls, swept, strict=True))
    ]
    evaluation = {"params": "last", "seed": seed, "nll_samples": samples}
    results = {
        "dataset": data,
        "step": 1200,
        "complete": True,
        "eval": evaluation,
        "best_member": 0,
        "members": members,
    } | results
    files.write_json(folder / "results.json", results)
    arrays = {f"log_p/{i}": -np.float32(nll) for i, nll in enumerate(nlls)}
    arrays |= {f"elbo/{i}": -np.float32(nll) - 1 for i, nll in enumerate(nlls)}
    np.savez(folder / "examples.npz", **arrays)
    return folder


@pytest.fixture
def a(tmp_path):
    return write(tmp_path / "A", [NLL_A])


@pytest.fixture
def sweep(tmp_path):
    swept = [{"hypers.beta": beta, "network.hidden": [8]} for beta in (1.0, 4.0, 9.0)]
    return write(
        tmp_path / "sweep", [NLL_A, NLL_B, [n + 5 for n in NLL_A]], swept=swept, best_member=1
    )


def report(*runs):
    return compare(",".join(map(str, runs)))


def row(text, start):
    """The cells of the one line that begins with `start`, without it."""
    (line,) = [line for line in text.splitlines() if re.match(rf"\s*{re.escape(start)}( |$)", line)]
    return re.split(r"  +", line.strip().removeprefix(start).strip())


# --- which runs


def test_names_hold_commas_and_the_longest_run_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("r/m", "r/m,x=4.0", "r/m,x=4.0,y=(1,2)", "z"):
        write(tmp_path / name, [NLL_A])

    def names(text):
        return [str(path) for path, _ in split(text)]

    assert names("r/m,r/m,x=4.0") == ["r/m", "r/m,x=4.0"]
    assert names("r/m,x=4.0,y=(1,2),r/m") == ["r/m,x=4.0,y=(1,2)", "r/m"]
    assert names("z, r/m,x=4.0 ,z,") == ["z", "r/m,x=4.0", "z"]
    assert names(",".join(["r/m,x=4.0"] * 26)) == ["r/m,x=4.0"] * 26
    write(tmp_path / ("n" * 200), [NLL_A])
    assert (
        names(f"{'n' * 200},{'n' * 200}") == ["n" * 200] * 2
    )  # joined they are too long for any file


def test_a_member_is_named_after_a_colon(sweep, tmp_path):
    assert split(f"{sweep}:2,{sweep}") == [(sweep, 2), (sweep, None)]
    folder = write(tmp_path / "sweep:2", [NLL_A])
    assert split(f"{sweep}:2,{sweep}") == [(folder, None), (sweep, None)]
    folder = write(tmp_path / "s,x=1", [NLL_A])
    assert split(f"{folder}:0,{folder}:13") == [(folder, 0), (folder, 13)]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("A,B", r"^B holds no run \(no config.json\)"),
        ("A,empty", r"^empty holds no run"),
        ("empty:0,A", r"^empty:0 holds no run"),
        ("A,x=3,A", r"^x=3 holds no run"),
        ("A:x,A", r"^A:x holds no run"),
        ("A:0,A", r"^A:0 holds no run"),
        ("A", r"takes 2 to 26 runs.*'A' names 1"),
        ("A,", r"names 1"),
        ("", r"names 0"),
        (",".join(["A"] * 27), r"names 27"),
        ("A,new", r"^new has not been evaluated; .*--mode=evaluate --workdir=new"),
        ("A,A:1", r"^A has no member 1; name one of 0 to 0"),
        ("A,lost", r"^lost has no best member; name one of 0 to 1, as lost:N"),
        ("A,torn", r"^torn/results.json cannot be read"),
        ("A,bad", r"^bad/examples.npz cannot be read.*--mode=evaluate"),
        ("A,cut", r"^cut/examples.npz cannot be read"),
        ("A,other", r"^other/config.json cannot be read \(it is not a run's"),
    ],
)
def test_mistakes(a, tmp_path, monkeypatch, text, pattern):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "A:0").mkdir()
    (write(tmp_path / "new", [NLL_A]) / "results.json").unlink()
    write(tmp_path / "lost", [NLL_A, NLL_B], best_member=None)
    (write(tmp_path / "torn", [NLL_A]) / "results.json").write_text('{"mem')
    (write(tmp_path / "bad", [NLL_A]) / "examples.npz").write_bytes(b"not an archive")
    cut = write(tmp_path / "cut", [NLL_A]) / "examples.npz"
    cut.write_bytes(cut.read_bytes()[:-40])
    (write(tmp_path / "other", [NLL_A]) / "config.json").write_text('{"name": 1}')
    with pytest.raises(UserError, match=pattern) as caught:
        compare(text)
    assert "\n" not in str(caught.value)


def comparing_reads(path):
    comparing.read_examples(path, 0, {"num_examples": 3})


@pytest.mark.quick
@pytest.mark.parametrize(
    "read", [files.read_arrays, comparing_reads, lambda path: user_file._read_npz(path, "type")]
)
def test_a_damaged_archive_is_closed(tmp_path, read):
    path = tmp_path / "examples.npz"
    np.savez(path, x=np.arange(3.0))
    path.write_bytes(path.read_bytes()[:-40])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(UserError):
            read(path)
        gc.collect()
    assert not [warning for warning in caught if warning.category is ResourceWarning]


# --- configs


def test_only_the_fields_that_differ_are_shown(a, tmp_path):
    changed = {"hypers": {"beta": 4.0, "own": 2}, "network": {"hidden": []}}
    b = write(tmp_path / "B", [NLL_B], config=changed)
    text = report(a, b, a)
    assert row(text, "config, where it differs") == ["A", "B", "C"]
    assert row(text, "hypers.beta") == ["1.0", "4.0", "1.0"]
    assert row(text, "hypers.own") == ["unset", "2", "unset"]
    assert row(text, "network.hidden") == ["[200, 200]", "[]", "[200, 200]"]
    assert not re.search("latent_dim|binarize|eval.seed", text)
    assert "their configs do not differ" in report(a, a)


def test_a_members_config_is_its_own(a, sweep):
    text = report(a, f"{sweep}:2", sweep)
    assert row(text, "hypers.beta") == ["1.0", "9.0", "4.0"]
    assert row(text, "network.hidden") == ["[200, 200]", "[8]", "[8]"]
    assert "sweep.mode" not in text and "sweep.beta" not in text
    assert (
        f"A  {a}\nB  {sweep}\n   member 2, as named: hypers.beta=9.0, network.hidden=[8]\n" in text
    )
    best = "member 1, the best of 3 by validation: hypers.beta=4.0, network.hidden=[8]"
    assert f"C  {sweep}\n   {best}\n" in text
    alone = write(sweep.with_name("alone"), [NLL_A], swept=[{"hypers.beta": 2.0}])
    text = report(a, alone)
    assert row(text, "hypers.beta") == ["1.0", "2.0"] and "member 0, the best of 1" in text


def test_effective_config():
    config = {
        "hypers": {"beta": 1.0, "seed": 0},
        "eval": {"seed": 0},
        "sweep": {"beta": [1, 2], "mode": "zip"},
    }
    given = effective_config(config, {"hypers.beta": 2}, {"seed": 7, "params": "best"})
    same = {"hypers.beta": 2, "hypers.seed": 0, "eval.seed": 7, "eval.params": "best"}
    assert given == same | {"sweep.shared_data": True}
    config["sweep"]["shared_data"] = (
        False  # the one field of the sweep that changes how a member is trained
    )
    config["train"] = {"num_epochs": 3.0, "schedule_epochs": 0.0}
    given = effective_config(config, {"train.num_epochs": 5.0}, {"seed": 7, "params": "best"})
    assert given["sweep.shared_data"] is False and given["train.schedule_epochs"] == 5.0


def test_the_evaluations_fields_are_those_of_the_results(a, tmp_path):
    b = write(
        tmp_path / "B", [NLL_B], config={"eval": {"nll_samples": 9}}
    )  # set since, and not yet evaluated with
    assert "their configs do not differ" in report(a, b)


# --- numbers


def test_paired_errors_are_those_of_the_differences(a, tmp_path):
    # By hand: the differences are -1, -2, -1, -2; mean -1.5, their variance 4 * 0.25 / 3, over 4
    # examples.
    error = math.sqrt(1 / 3 / 4)
    assert paired_difference(np.array(NLL_B), np.array(NLL_A)) == pytest.approx((-1.5, error))
    assert error == pytest.approx(0.288675, abs=1e-6)
    text = report(a, write(tmp_path / "B", [NLL_B]))
    assert row(text, "paired differences to A")[-1] == "over examples; better: nll < 0, elbo > 0"
    assert row(text, "B - A  nll") == ["-1.500", "+- 0.289", "better"]
    assert row(text, "B - A  elbo") == ["+1.500", "+- 0.289", "better"]
    assert row(text, "nll_stderr") == [
        "6.45",
        "6.33",
    ]  # sqrt(500 / 3 / 4), sqrt(481 / 3 / 4): far more
    assert not re.search("not paired|WARNING|note:", text)


def test_each_run_is_compared_to_the_first(a, sweep, tmp_path):
    text = report(write(tmp_path / "B", [NLL_B]), a, f"{sweep}:2", sweep)
    assert row(text, "B - A  nll") == ["+1.500", "+- 0.289", "worse"]
    assert row(text, "B - A  elbo") == ["-1.500", "+- 0.289", "worse"]
    assert row(text, "C - A  nll") == ["+6.500", "+- 0.289", "worse"]
    assert row(text, "D - A  nll") == [
        "+0.000",
        "+- 0.000",
        "no difference beyond 2 standard errors",
    ]
    assert "C - B" not in text


def test_nll_and_elbo_have_each_their_numbers(a, tmp_path):
    b = write(tmp_path / "B", [NLL_B])
    arrays = dict(np.load(b / "examples.npz")) | {"elbo/0": np.float32([-11, -21, -31, -45])}
    np.savez(b / "examples.npz", **arrays)
    results = json.loads((b / "results.json").read_text())
    results["members"][0]["test"]["elbo"] = -27.0
    files.write_json(b / "results.json", results)
    text = report(a, b)
    assert row(text, "B - A  nll") == ["-1.500", "+- 0.289", "better"]
    assert row(text, "B - A  elbo") == [
        "-1.000",
        "+- 1.000",
        "no difference beyond 2 standard errors",
    ]


def test_verdict_needs_more_than_two_standard_errors():
    small = "no difference beyond 2 standard errors"
    assert [verdict(d, 0.5, True) for d in (-1.001, -1.0, 0.0, 1.0, 1.001)] == [
        "better",
        small,
        small,
        small,
        "worse",
    ]
    assert [verdict(d, 0.5, False) for d in (-1.001, 1.001)] == ["worse", "better"]
    assert paired_difference(np.ones(1), np.zeros(1)) == (
        1.0,
        math.inf,
    )  # one example tells no error
    assert verdict(1.0, math.inf, True) == small


def test_metrics(a, tmp_path):
    text = report(a, write(tmp_path / "B", [NLL_B], samples=5000))
    assert row(text, "nll") == ["25.00", "23.50"] and row(text, "elbo") == ["-26.00", "-24.50"]
    assert row(text, "distortion") == ["20.50", "20.50"] and row(text, "rate") == ["5.50", "5.50"]
    assert row(text, "active_units") == ["17", "17"] and row(text, "bits_per_dim") == [
        "0.0456",
        "0.0456",
    ]
    assert row(text, "nll_samples") == ["500", "5,000"] and "note: nll_samples differ" in text
    assert row(text, "eval.nll_samples") == ["500", "5000"]
    assert "A, B: a SUBSET, 4 test examples of mnist (embedded), binarization dynamic" in text


def test_incomplete_and_diverged_runs_are_marked(a, tmp_path):
    b = write(tmp_path / "B", [NLL_B], complete=False)
    lost = {"member": 0, "swept": {"hypers.beta": 9.0}, "diverged_at": 1100}
    lost["test"] = dict.fromkeys(member(0, NLL_A, {})["test"])
    text = report(a, b, write(tmp_path / "C", [NLL_A], members=[lost]))
    assert (
        f"B  {b}\n   INCOMPLETE: numbers of step 1,200, before the end" in text
        and text.count("INCOMPLETE") == 1
    )
    assert "DIVERGED at step 1,100" in text and text.count("DIVERGED") == 1
    assert row(text, "nll") == ["25.00", "23.50", "-"] and row(text, "active_units") == [
        "17",
        "17",
        "-",
    ]
    assert "C - A not paired" in text and "note:" not in text


# --- what cannot be compared


@pytest.mark.parametrize(
    ("change", "pattern", "warned"),
    [
        ({"seed": 1}, r"other noise .* \(eval.seed 0 and 1\)", False),
        ({"dataset": {"fingerprint": "bb"}}, r"other data \(fingerprint aa and bb\)", True),
        (
            {"dataset": {"fingerprint": "bb", "source": "tfds"}},
            r"other data \(source embedded and tfds; finger",
            True,
        ),
        (
            {"dataset": {"fingerprint": "bb", "name": "digits"}},
            r"other data \(name mnist and digits\)",
            True,
        ),
        (
            {"dataset": {"fingerprint": "bb", "num_train": 38, "num_valid": 8}},
            r"other data \(num_train 40 and 38; num_valid 6 and 8\)",
            False,  # the test examples may well be the same ones
        ),
        (
            {"dataset": {"fingerprint": "bb", "num_train": 38, "num_valid": 8, "name": "file"}},
            r"other data \(name mnist and file\)",
            True,
        ),
        (
            {"dataset": {"binarization": "threshold"}},
            r"other binarization \(binarization dynamic and threshold\)",
            True,
        ),
        (
            {"nlls": [NLL_B[:3]], "dataset": {"num_test": 3}},
            r"other data \(num_test 4 and 3\)",
            True,
        ),
    ],
)
def test_other_test_images_are_not_paired(a, tmp_path, change, pattern, warned):
    text = report(a, write(tmp_path / "B", **({"nlls": [NLL_B]} | change)), a)
    flat = re.sub(r"\s+", " ", text)
    assert re.search(r"B - A not paired: " + pattern, flat), text
    assert ("WARNING: the numbers of A and B must not be compared at all" in flat) == warned
    assert not re.search(r"B - A  (nll|elbo)", text)
    assert row(text, "C - A  nll")[0] == "+0.000"  # the others are paired all the same


def test_another_seed_matters_only_where_noise_binarizes(tmp_path):
    still = {"binarization": "threshold"}
    text = report(
        write(tmp_path / "A", [NLL_A], dataset=still),
        write(tmp_path / "B", [NLL_B], dataset=still, seed=1),
    )
    assert row(text, "B - A  nll") == ["-1.500", "+- 0.289", "better"]


def test_a_density_is_not_compared_with_a_probability(a, tmp_path):
    config = {"likelihood": {"name": "gaussian"}}
    b = write(tmp_path / "B", [NLL_B], config=config)
    assert "B - A  nll" in report(a, b)  # both have bits per dimension, so both are probabilities
    results = json.loads((b / "results.json").read_text())
    results["members"][0]["test"]["bits_per_dim"] = None
    files.write_json(b / "results.json", results)
    for text in (report(a, b), report(b, a)):
        told = "B - A not paired: densities are not probabilities (likelihood.name"
        assert told in text and "WARNING" in text
    assert "B - A  nll" in report(b, b)


def test_a_plain_autoencoder_has_a_squared_error_and_nothing_to_pair(a, tmp_path):
    b = write(tmp_path / "B", [NLL_B], config={"model": {"name": "ae"}})
    results = json.loads((b / "results.json").read_text())
    results["members"][0]["test"] |= {"nll": None, "elbo": None, "mse": 0.01234}
    files.write_json(b / "results.json", results)
    text = report(a, b)
    assert row(text, "mse")[-1] == "0.0123" and row(text, "nll")[-1] == "-"
    assert "B is of a plain autoencoder, without NLL or ELBO" in re.sub(r"\s+", " ", text)


@pytest.mark.parametrize(
    "flaw", ["none", "of another evaluation", "too short", "without the member"]
)
def test_examples_that_do_not_fit_the_results(a, sweep, flaw):
    path, arrays = sweep / "examples.npz", dict(np.load(sweep / "examples.npz"))
    path.unlink()
    if flaw == "of another evaluation":
        arrays["log_p/1"] = arrays["log_p/1"] - np.float32(0.1)
    elif flaw == "too short":
        arrays["elbo/1"] = np.full(3, arrays["elbo/1"].mean())
    elif flaw == "without the member":
        del arrays["log_p/1"]
    if flaw != "none":
        np.savez(path, **arrays)
    for text in (report(a, sweep), report(sweep, a), report(sweep, f"{sweep}:2")):
        flat = re.sub(r"\s+", " ", text)
        assert (
            f"B - A not paired: {sweep} has no examples.npz that fits its results.json (--mode=eval"
            in flat
        )
        assert "B - A  nll" not in text
    if flaw != "none":
        assert "B - A  nll" in report(a, f"{sweep}:2")


# --- how it looks


def test_long_values_stay_within_the_page_and_whole(tmp_path):
    paths = ["/data/" + "x" * 60 + f"{i}/images.npy" for i in range(4)]
    folders = [
        tmp_path / f"mnist,hypers.beta={i}.0,data.path=_data_{'x' * 60}{i}" for i in range(4)
    ]
    for folder, path in zip(folders, paths, strict=True):
        write(folder, [NLL_A], config={"data": {"path": path}})
    text = report(*folders)
    legend, config, *rest = text.split("\n\n")
    assert [line.split("  ")[1] for line in legend.splitlines()] == list(map(str, folders))
    assert (
        max(len(line) for part in (config, *rest) for line in part.splitlines()) <= comparing.WIDTH
    )
    lines = [line[len("config, where it differs") :].split() for line in config.splitlines()[1:]]
    assert ["".join(column) for column in zip(*lines, strict=True)] == paths
    (folders[1] / "examples.npz").unlink()
    assert f"{folders[1]} has no" in report(*folders).replace("\n  ", " ")


def test_columns_are_aligned(a, sweep):
    lines = report(a, sweep).splitlines()
    shown = [
        line
        for line in lines
        if line.startswith(("test", *(f"{name} " for name in comparing.METRICS)))
    ]
    assert len(shown) == 1 + len(comparing.METRICS)
    ends = [[m.end() for m in re.finditer(r"\S+", line)][-2:] for line in shown]
    assert all(pair == ends[0] for pair in ends), shown
