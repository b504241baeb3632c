"""What a run draws: paths between codes, units in their order, the plane, and which files."""

import copy
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import untrained

from vae_jax import data
from vae_jax.data.kinds import KINDS
from vae_jax.data.kinds.kind import Look
from vae_jax.plots import (
    codes,
    examples,
    interpolation,
    manifold,
    member,
    rates,
    training_curves,
    traversal,
)
from vae_jax.plots.examples import Layout, Style
from vae_jax.plots.interpolation import on_the_line, on_the_sphere
from vae_jax.plots.scene import Scene
from vae_jax.run import Codes
from vae_jax.types import Example

RNG = np.random.default_rng(0)
T = np.linspace(0, 1, 5)


def norms(z):
    return np.linalg.norm(z, axis=-1)


@pytest.mark.quick
def test_on_the_sphere_direction_and_norm_change_evenly():
    a, b = RNG.normal(size=(2, 6, 4))
    path = on_the_sphere(a, b, T)
    np.testing.assert_allclose(path[:, 0], a, atol=1e-12)
    np.testing.assert_allclose(path[:, -1], b, atol=1e-12)
    np.testing.assert_allclose(norms(path), norms(a)[:, None] + T * (norms(b) - norms(a))[:, None])
    u = path / norms(path)[..., None]
    angles = np.arccos(np.sum(u[:, 1:] * u[:, :-1], -1))
    np.testing.assert_allclose(angles, np.broadcast_to(angles.mean(1, keepdims=True), angles.shape))
    quarter = on_the_sphere(np.array([[2.0, 0]]), np.array([[0, 2.0]]), T)[0]
    np.testing.assert_allclose(
        quarter, 2 * np.stack([np.cos(T * np.pi / 2), np.sin(T * np.pi / 2)], 1), atol=1e-12
    )


@pytest.mark.quick
def test_without_a_circle_the_sphere_is_the_line():
    a = np.array([[1.0, 2], [0, 0], [1, 0], [3, 3]])
    b = np.array(
        [[1.0, 2], [1, 1], [-2, 0], [6, 6]]
    )  # the same, from the origin, opposite, further out
    np.testing.assert_allclose(on_the_sphere(a, b, T), on_the_line(a, b, T))


class Drawn(dict):
    """What was handed to examples.draw, by the name of the file."""

    def __call__(self, path, x, title, style, layout=None):
        self[path.stem] = SimpleNamespace(x=x, title=title, **(layout or Layout())._asdict())


@pytest.fixture
def drawn(monkeypatch):
    monkeypatch.setattr(examples, "draw", made := Drawn())
    return made


@pytest.fixture
def blank(monkeypatch):
    """Charts of numbers are empty files: drawing them takes longer than all the rest."""
    for chart in (training_curves, rates, codes):
        monkeypatch.setattr(chart, "draw", lambda path, *_: path.touch())


def scene(means, prior=True, unit_rate=None, **other):
    """Codes that are decoded to themselves."""
    run = SimpleNamespace(decode=lambda z, condition: z)
    found = Codes(means, None, None, np.arange(len(means)))
    style = Style(KINDS["vector"], means.shape[1:], Look(-5, 5, False))
    made = Scene(run, Example(means[:40] + 100), found, unit_rate, style, "about", prior)
    return made._replace(**other)


@pytest.mark.parametrize(
    "active, prior, path",
    [
        (6, True, on_the_sphere),
        (3, True, on_the_sphere),
        (2, True, on_the_line),
        (6, False, on_the_line),
    ],
)
def test_the_path_is_the_one_that_the_title_states(drawn, tmp_path, active, prior, path):
    means = RNG.normal(size=(200, 6)) * (np.arange(6) < active)
    interpolation.draw(tmp_path / "interpolation.png", scene(means, prior))
    made = drawn["interpolation"]
    assert f"on the {'sphere' if path is on_the_sphere else 'line'}" in made.title.split("\n")[0]
    pairs, steps = len(made.x), made.x.shape[1] - 2
    np.testing.assert_array_equal(made.x[:, 0], means[:pairs] + 100)  # the examples themselves
    np.testing.assert_array_equal(made.x[:, -1], means[20 : 20 + pairs] + 100)
    np.testing.assert_allclose(
        made.x[:, 1:-1],
        path(means[:pairs], means[20 : 20 + pairs], np.linspace(0, 1, steps)),
        atol=1e-12,
    )
    assert made.columns[0] == "x" and made.columns[1] == "0" and made.columns[-2] == "1"


def test_one_example_has_nobody_to_be_interpolated_with(drawn, tmp_path):
    interpolation.draw(tmp_path / "x.png", scene(np.ones((1, 3))))
    assert not drawn


@pytest.mark.quick
def test_a_traversal_changes_one_unit_a_row_the_largest_kl_first(drawn, tmp_path):
    means = RNG.normal(size=(200, 5)) * [1, 0, 1, 1, 1]
    rate = np.array([0.5, 0.0, 2.0, 1.0, 3.25])
    traversal.draw(tmp_path / "traversal.png", scene(means, unit_rate=rate))
    made = drawn["traversal"]
    assert made.rows == [f"z[{u}]  KL {rate[u]:.2f} nats" for u in (4, 2, 3, 0, 1)]
    assert made.columns[0] == "-3" and made.columns[-1] == "+3" and made.columns[5] == "0"
    for row, unit in zip(made.x, (4, 2, 3, 0, 1), strict=True):
        np.testing.assert_allclose(row[:, unit], np.linspace(-3, 3, 11))
        others = np.arange(5) != unit
        np.testing.assert_array_equal(row[:, others], np.tile(means[0, others], (11, 1)))
    for row, column in made.outlined:
        unit = (4, 2, 3, 0, 1)[row]
        assert abs(made.x[row, column, unit] - means[0, unit]) <= 0.3 or abs(means[0, unit]) > 3


def test_a_traversal_shows_one_unused_unit_not_all(drawn, tmp_path):
    means = RNG.normal(size=(100, 30)) * (np.arange(30) < 2)
    traversal.draw(tmp_path / "traversal.png", scene(means, unit_rate=np.linspace(3, 0, 30)))
    assert len(drawn["traversal"].rows) == 3 and "3 of 30 units" in drawn["traversal"].title


def test_without_a_prior_units_are_ordered_by_variance_and_span_what_was_seen(drawn, tmp_path):
    means = RNG.normal(size=(500, 3)) * [1, 20, 5]
    traversal.draw(tmp_path / "traversal.png", scene(means, prior=False))
    made = drawn["traversal"]
    assert [row.split("]")[0] for row in made.rows] == [
        "z[1",
        "z[2",
        "z[0",
    ] and "variance" in made.rows[0]
    for row, unit in zip(made.x, (1, 2, 0), strict=True):
        np.testing.assert_allclose(row[[0, -1], unit], np.quantile(means[:, unit], (0.01, 0.99)))
    assert "quantile" in made.title and made.columns[0] == "1%" and made.columns[-1] == "99%"


def test_large_examples_are_traversed_in_three_values(drawn, tmp_path):
    style = Style(KINDS["image"], (250, 250, 3), Look(0.0, 1.0, False))
    for prior in (True, False):
        traversal.draw(tmp_path / "x.png", scene(RNG.normal(size=(100, 2)), prior, style=style))
        assert drawn["x"].x.shape[1] == len(drawn["x"].columns) == 3


def test_of_several_layers_the_one_nearest_to_x_is_traversed(drawn, tmp_path):
    z1, z2 = RNG.normal(size=(2, 100, 3))
    found = Codes({"z2": z2, "z1": z1}, None, None, np.arange(100))
    run = SimpleNamespace(decode=lambda z, condition: np.concatenate([z["z1"], z["z2"]], axis=1))
    rate = {"z1": [1.0, 2.0, 3.0], "z2": [9.0, 8.0, 7.0]}
    traversal.draw(tmp_path / "x.png", scene(z1, run=run, codes=found, unit_rate=rate))
    made = drawn["x"]
    assert [row.split()[0] for row in made.rows] == ["z1[2]", "z1[1]", "z1[0]"]
    np.testing.assert_array_equal(made.x[..., 3:], np.broadcast_to(z2[0], (3, 11, 3)))
    np.testing.assert_allclose(made.x[0, :, 2], np.linspace(-3, 3, 11))


def test_a_row_has_the_condition_of_its_example():
    shown = Example(np.zeros((4, 2)), {"label": np.arange(4)})
    run = SimpleNamespace(decode=lambda z, condition: z + condition["label"][:, None])
    made = scene(np.zeros((9, 2)), run=run, examples=shown).decode(np.zeros((2, 3, 2)), [3, 1])
    np.testing.assert_array_equal(made[:, :, 0], [[3, 3, 3], [1, 1, 1]])


def test_the_plane_is_evenly_spaced_in_the_priors_probability(drawn, tmp_path):
    means = RNG.normal(size=(100, 2))
    manifold.draw(tmp_path / "manifold.png", scene(means))
    made = drawn["manifold"]
    n = len(made.x)
    shares = [[NormalDist().cdf(v) for v in axis] for axis in (made.x[0, :, 0], made.x[::-1, 0, 1])]
    np.testing.assert_allclose(shares, [(np.arange(n) + 0.5) / n] * 2, atol=1e-9)
    assert np.ptp(made.x[:, :, 0], axis=0).max() == 0 == np.ptp(made.x[:, :, 1], axis=1).max()
    assert made.rows[0] == f"{made.x[0, 0, 1]:.2f}" == made.columns[-1]  # upwards, and to the right
    manifold.draw(tmp_path / "manifold.png", scene(means, prior=False))
    limits = np.quantile(means, (0.01, 0.99), axis=0)
    np.testing.assert_allclose(drawn["manifold"].x[[-1, 0], [0, -1]], limits)


def entry(num_units):
    """What results.json says of the member."""
    unit = [0.5] * num_units
    return {"epoch": 0.1, "test": {"rate": 1.0, "unit_rate": unit, "unit_activity": unit}}


ALWAYS = {"samples", "reconstructions", "curves", "interpolation", "traversal", "latents", "rates"}


@pytest.mark.parametrize(
    "shape, latent_dim, extra",
    [((7, 5, 1), 2, {"manifold"}), ((9, 6, 3), 3, set()), ((11,), 1, set())],
)
def test_every_kind_of_data_is_drawn(config, tmp_path, shape, latent_dim, extra):
    x = RNG.normal(size=(80, *shape))
    x = (255 / (1 + np.exp(-x))).astype(np.uint8) if len(shape) == 3 else x
    dataset = data.from_arrays("own", x[:60], x[60:], num_valid=10)
    config.hypers.latent_dim = latent_dim
    if len(shape) == 1:
        config.data.binarize, config.likelihood.name = "none", "gaussian"
    run = untrained(config, dataset, tmp_path)
    member.draw_pictures(run, dataset, tmp_path, "own (array)", entry(latent_dim))
    files = {path.stem for path in tmp_path.glob("*.png")}
    assert files == ALWAYS | extra
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.glob("*.png"))


@pytest.fixture(scope="module")
def made():
    """Holds the run of `untouched` once it is made: what is compiled for it serves all tests."""
    return {}


@pytest.fixture
def untouched(made, config, images, tmp_path_factory):
    """An untrained run on `images`, to be looked at but not changed."""
    if not made:
        made["run"] = untrained(config, images, tmp_path_factory.mktemp("untouched"))
    return made["run"]


@pytest.fixture
def run(untouched):
    """The same, to be changed."""
    return copy.copy(untouched)


def test_titles_say_what_on_which_data_and_when(untouched, images, tmp_path, drawn, blank):
    member.draw_pictures(untouched, images, tmp_path, "blobs (array)", entry(3))
    assert set(drawn) == {"samples", "reconstructions", "interpolation", "traversal"}
    for made in drawn.values():
        assert "blobs (array), epoch 0.1, beta 0.25" in made.title
    assert "z ~ p(z)" in drawn["samples"].title
    made = drawn["reconstructions"]
    x, decoded, difference = made.x[0::3], made.x[1::3], made.x[2::3]
    assert set(np.unique(x)) == {0.0, 1.0}  # as the encoder sees it
    np.testing.assert_allclose(difference, x - decoded)
    assert f"root mean square {np.sqrt(np.mean(difference**2)):.3g} " in made.title
    assert list(made.signed) == [2, 5]


def test_a_plain_autoencoder_has_no_prior_in_its_pictures(run, images, tmp_path, drawn, blank):
    run.model = run.model._replace(standard_normal=False)
    nothing = {"epoch": 0.1, "test": {"rate": None, "unit_rate": None, "unit_activity": None}}
    member.draw_pictures(run, images, tmp_path, "blobs (array)", nothing)
    assert drawn["samples"].title.startswith(
        "Decoded draws from a Gaussian fitted to the training codes"
    )
    assert (
        "on the line" in drawn["interpolation"].title and "by variance" in drawn["traversal"].title
    )
    assert not any("beta" in made.title for made in drawn.values())
    assert not (tmp_path / "rates.png").exists()
    drawn.clear()
    run.model = run.model._replace(sample_prior=None)
    member.draw_pictures(run, images, tmp_path, "blobs (array)", nothing)
    assert set(drawn) == {"reconstructions", "interpolation", "traversal"}


def test_a_prior_that_is_not_standard_normal_sets_no_range(run, images, tmp_path, drawn, blank):
    run.model = run.model._replace(standard_normal=False)
    member.draw_pictures(run, images, tmp_path, "blobs (array)", entry(3))
    assert "on the line" in drawn["interpolation"].title and "quantile" in drawn["traversal"].title


@pytest.mark.parametrize("num", [1, 3])
def test_few_test_examples_are_enough(untouched, images, tmp_path, drawn, num):
    few = images._replace(test=images.test._replace(rows=images.test.rows[:num]))
    member.draw_pictures(untouched, few, tmp_path, "blobs (array)", entry(3))
    assert drawn["reconstructions"].x.shape[:2] == (3, num)
    assert ("interpolation" in drawn) == (num > 1) and (tmp_path / "latents.png").exists()


def test_a_posterior_without_means_has_no_pictures_of_codes(run, images, tmp_path, drawn, blank):
    compute = run._compute
    run._compute = lambda name, rows, *a, **k: (
        (rows.x,) if name == "encode" else compute(name, rows, *a, **k)
    )
    member.draw_pictures(run, images, tmp_path, "blobs (array)", entry(3))
    assert set(drawn) == {"samples", "reconstructions"} and (tmp_path / "rates.png").exists()
