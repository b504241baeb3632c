"""What a notebook shows: progress in one line, live curves, runs and results, tables, sliders."""

import json
import signal
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import untrained

import vae_jax
from vae_jax import data, run
from vae_jax.errors import UserError
from vae_jax.plots import sliders
from vae_jax.results.frame import Rows, frame
from vae_jax.training.signals import Interrupted
from vae_jax.workdir import card, notebook
from vae_jax.workdir.progress import Progress


class Handle:
    """A display that keeps what it was given."""

    def __init__(self):
        self.shown = []

    def display(self, shown, display_id):
        assert display_id
        self.shown.append(shown)
        return self

    def update(self, shown):
        self.shown.append(shown)


@pytest.fixture
def kernel(monkeypatch):
    """As in the kernel of a notebook; what it displays."""
    handle = Handle()
    shell = SimpleNamespace(kernel=object())
    ipython = SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=handle.display))
    return handle


def rows(num, member=0):
    return [
        {
            "step": i,
            "epoch": i / 10,
            "split": split,
            "member": member,
            "elbo": -9.0 + i,
            "rate": 1.0,
        }
        for i in range(1, num)
        for split in ("train", "valid")
    ]


MEMBER = {
    "member": 0,
    "swept": {},
    "diverged_at": None,
    "valid": {"nll": 90.5, "nll_stderr": 0.25, "elbo": -95.0, "active_units": 2},
    "test": {"nll": 91.5, "nll_stderr": 0.25, "elbo": -96.0, "active_units": 2},
}
RESULTS = {"members": [MEMBER], "best_member": 0, "complete": True}


@pytest.mark.quick
def test_only_a_kernel_is_a_notebook(monkeypatch, kernel):
    assert notebook.is_running()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not notebook.is_running()
    terminal = SimpleNamespace(get_ipython=lambda: SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython", terminal)
    assert not notebook.is_running()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not notebook.is_running()


@pytest.mark.quick
def test_progress_in_a_notebook_is_one_line_that_changes(monkeypatch, kernel, capsys):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = Progress(total=100, start=0, examples=10)
    for step, now in ((25, 1.0), (50, 1.1), (75, 2.0), (100, 2.1)):  # noqa: B007
        progress.update(step, step / 10, [(1.0, -2.0)])
    monkeypatch.undo()
    lines = [repr(shown) for shown in kernel.shown]
    assert [line.split("  ")[1] for line in lines] == ["epoch 2.5", "epoch 7.5", "epoch 10.0"]
    assert lines[0].startswith("█" * 5 + "░" * 15)
    assert lines[-1].startswith("█" * 20 + "  ") and lines[-1].endswith("00:00:00 left")
    assert capsys.readouterr().err == ""


@pytest.mark.quick
def test_live_draws_at_most_every_second_and_once_more_at_the_end(monkeypatch, kernel):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with vae_jax.Live(panels=("elbo", "rate")) as live:
        for i, row in enumerate(rows(21)):
            now = i / 10
            live(row)
        drawn = len(kernel.shown)
    monkeypatch.undo()
    assert 3 <= drawn <= 4 and len(kernel.shown) == drawn + 1
    assert set(kernel.shown) == {live}
    png = live._repr_png_()
    assert png.startswith(b"\x89PNG") and len(png) < 40_000


@pytest.mark.quick
def test_live_outside_of_a_notebook_keeps_the_rows(capsys):
    with vae_jax.Live() as live:
        assert live._repr_png_() is None
        for row in rows(3) + rows(3, member=1):
            live(row)
    axes = live.figure().axes
    assert [len(axis.lines) for axis in axes] == [4, 4]  # elbo and rate of two members and splits
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["train", "valid"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.quick
def test_results_are_a_dict_with_a_table():
    results = run.Results(RESULTS)
    assert results == RESULTS and json.loads(json.dumps(results)) == RESULTS
    html = results._repr_html_()
    assert html.count("<tr>") == 3 and "91.50 ± 0.25" in html and "rate" not in html
    assert run.Results({})._repr_html_() == "<div><p></p></div>"


@pytest.mark.quick
def test_results_of_a_sweep_list_the_best_first_and_the_diverged_last():
    def member(i, nll, name):
        numbers = None if nll is None else {"nll": nll}
        about = {"member": i, "swept": {"hypers.beta": 0.5 * i, "network.name": name}}
        return about | {
            "diverged_at": 3 if nll is None else None,
            "valid": numbers,
            "test": numbers,
        }

    members = [member(0, None, "mlp"), member(1, 92.0, "<b>"), member(2, 91.0, "mlp")]
    html = card.of_results({"members": members})
    first, second, third = (html.index(text) for text in ("91.00", "92.00", "diverged"))
    assert first < second < third
    assert "<b>91.00</b>" in html and "&lt;b&gt;" in html and "<th>beta</th>" in html
    many = [member(i, 100.0 - i, "mlp") for i in range(30)]
    assert card.of_results({"members": many}).count("<tr>") == 1 + card.MOST_ROWS


@pytest.mark.quick
def test_a_run_shows_what_it_is_before_and_after_its_evaluation(images, config, tmp_path):
    config.network.activation = "tanh"
    one = untrained(config, images, tmp_path / "run")
    html = one._repr_html_()
    assert "not evaluated yet" in html and "<img" not in html
    assert "hidden (16,), activation tanh" in html
    assert "latent_dim 3" in html and "gamma" not in html  # of another objective
    one.results = run.Results(RESULTS | {"dataset": described("a <b>")})
    (one.folder() / "samples.png").write_bytes(vae_png())
    html = one._repr_html_()
    assert "on a &lt;b&gt;" in html and "91.50 ± 0.25" in html
    assert '<img src="data:image/png;base64,' in html and html == one._repr_html_()
    (one.folder() / "samples.png").write_bytes(b"half a picture")
    assert "<img" not in one._repr_html_()


def described(name):
    counts = {"num_train": 200, "num_valid": 40, "num_test": 60}
    return {"name": name, "source": "array"} | counts


def vae_png():
    live = vae_jax.Live()
    for row in rows(3):
        live(row)
    return live._repr_png_()


@pytest.mark.quick
def test_an_autoencoder_shows_what_it_has(images, config, tmp_path):
    config.model.name = "ae"
    one = untrained(config, images, tmp_path / "run")
    html = one._repr_html_()
    assert "<th" in html and ">prior<" not in html
    assert one.entry() is None


@pytest.mark.quick
def test_the_table_is_a_data_frame_where_pandas_is_there(monkeypatch):
    pandas = pytest.importorskip("pandas")
    swept = {"swept": {"hypers.beta": 2.0}}
    members = [MEMBER | swept, MEMBER | swept | {"member": 1, "test": None}]
    table = frame(members, "test")
    assert list(table.columns) == ["beta", "nll", "nll_stderr", "elbo", "active_units"]
    assert table["nll"][0] == 91.5 and pandas.isna(table["nll"][1])
    monkeypatch.setitem(sys.modules, "pandas", None)
    plain = frame(members, "test")
    assert isinstance(plain, Rows) and plain[0]["nll"] == 91.5 and plain[1]["nll"] is None
    assert plain._repr_html_().count("<tr>") == 3
    assert Rows()._repr_html_() == "<table><thead><tr></tr></thead><tbody></tbody></table>"


@pytest.mark.quick
def test_a_table_needs_results_and_a_split(images, config, tmp_path):
    one = untrained(config, images, tmp_path / "run")
    for what in (one, tmp_path / "run"):
        with pytest.raises(UserError, match=r"has no results yet: train, or evaluate"):
            vae_jax.table(what)
    with pytest.raises(UserError, match=r"split is 'train'"):
        vae_jax.table(one, "train")
    one.results = run.Results(RESULTS)
    assert vae_jax.table(one, "valid")["nll"].tolist() == [90.5]


@pytest.fixture
def one(images, config, tmp_path):
    return untrained(config, images, tmp_path / "run")


def test_without_ipywidgets_the_units_are_a_picture(one, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    shown = vae_jax.explore(one, num_units=2)
    assert shown._repr_png_().startswith(b"\x89PNG")
    assert "ipywidgets is not installed" in capsys.readouterr().out


def test_sliders_move_the_units_and_the_image(one, images):
    widgets = pytest.importorskip("ipywidgets")
    x = images.test.take(slice(0, 2))
    box = vae_jax.explore(one, x, num_units=2)
    left, image = box.children
    *sliders, buttons = left.children
    code = np.asarray(one.encode(x).mean)[0]
    units = [int(slider.description[2:-1]) for slider in sliders]
    assert [slider.value for slider in sliders] == pytest.approx(code[units].tolist(), abs=1e-6)
    before = image.value
    sliders[0].value = 2.5
    assert image.value != before
    draw, back = buttons.children
    assert isinstance(draw, widgets.Button)
    draw.click()
    assert sliders[0].value != 2.5
    back.click()
    assert image.value == before
    assert sliders[0].value == pytest.approx(code[units[0]], abs=1e-6)


def test_the_space_of_an_autoencoder_is_that_of_its_examples(images, config, tmp_path):
    config.model.name = "ae"
    run = untrained(config, images, tmp_path / "run")
    with pytest.raises(UserError, match=r"no prior to draw from: give some examples, as x="):
        vae_jax.explore(run)
    x = images.test.take(slice(0, 20))
    space = sliders._Space(run, x)
    means = np.asarray(run.encode(x).mean)
    low, high = space.reach(1)
    assert means[:, 1].min() <= low < high <= means[:, 1].max()
    assert space.units(2)[0] == means.var(0).argmax()


def test_vectors_are_drawn_as_curves(config, tmp_path):
    config.data.binarize, config.likelihood.name = "none", "gaussian"
    x = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32)
    vectors = data.from_arrays("vectors", x, num_valid=20, num_test=20)
    run = untrained(config, vectors, tmp_path / "run")
    space = sliders._Space(run)
    assert space.png(space.start).startswith(b"\x89PNG")
    assert space.png(space.moved(space.start, 0, 3.0)) != space.png(space.start)
    assert jax.tree.leaves(space.start)[0].shape == (3,)


def test_an_interrupted_cell_shows_one_line():
    """IPython asks for the method of this name."""
    (line,) = Interrupted(signal.SIGINT)._render_traceback_()
    assert line == "SIGINT: everything is saved; the same cell goes on where it stopped"
