"""Tables of examples drawn as one image, and the plots of units and codes: what is drawn is what was given."""

import numpy as np
import pytest
from matplotlib.image import imread

from vae_jax.plots import base, latent_units

RNG = np.random.default_rng(0)
PAPER = base.Look(0.0, 1.0, ink=True)
PHOTO = base.Look(0.0, 1.0, ink=False)


@pytest.fixture
def page(monkeypatch):
    """The axis of each table, and the figure of each plot, that is drawn."""
    made, table, plot = [], base._page, base._figure

    def keep(make):
        def call(*args):
            made.append(make(*args))
            return made[-1]

        return call

    monkeypatch.setattr(base, "_page", keep(table))
    monkeypatch.setattr(base, "_figure", keep(plot))
    return lambda: made[-1]


@pytest.mark.quick
def test_values_in_the_unit_interval_keep_their_shades_and_others_span_theirs():
    assert base.look(np.array([0.2, 0.4])) == base.Look(0.0, 1.0, True)  # mostly dark: ink on paper
    assert base.look(np.array([0.2, 0.9])) == base.Look(0.0, 1.0, False)  # as it is
    assert base.look(np.array([-3.0, 5.0])) == base.Look(-3.0, 5.0, False)
    assert base.look(np.array([7.0, 7.0])) == base.Look(7.0, 8.0, True)  # no division by zero


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 1), (33, 47, 3), (64, 64, 3), (5, 41, 2), (218, 178, 3)])
def test_small_images_grow_by_whole_numbers_and_large_ones_are_fewer(shape):
    height, width, zoom = base.tile_size(shape)
    assert zoom >= 1 and height == zoom * shape[0] and width == zoom * shape[1] * (2 if shape[2] == 2 else 1)
    assert max(height, width) >= 60
    assert base.tile_size(shape, 20)[1] <= max(width, base.WIDEST / 20)
    assert 3 <= base.that_fit(shape, 10) <= 10
    assert base.that_fit(shape, 10) * (width + 2) <= base.WIDEST or base.that_fit(shape, 10) == 3
    assert base.that_fit((218, 178, 3), 10) < base.that_fit((28, 28, 1), 10)


def test_huge_images_shrink():
    height, width, zoom = base.tile_size((600, 500, 3))
    assert (height, width, zoom) == (200, 167, -3)
    assert base.pixels(np.zeros((1, 600, 500, 3)), PHOTO, zoom).shape == (1, 200, 167, 3)


@pytest.mark.quick
def test_pixels_have_the_colours_they_should():
    grey = np.array([0.0, 0.25, 2.0]).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(base.pixels(grey, PHOTO, 1)[0, 0, :, 0], [0, 0.25, 1])  # clipped
    np.testing.assert_allclose(base.pixels(grey, PAPER, 2)[0, 1, ::2, 1], [1, 0.75, 0])
    colour = RNG.uniform(size=(1, 2, 2, 3))
    np.testing.assert_array_equal(base.pixels(colour, PAPER, 1), colour)  # colours are never inverted
    wide = base.pixels(np.stack([np.zeros((1, 2, 2)), np.ones((1, 2, 2))], -1), PHOTO, 1)
    np.testing.assert_array_equal(wide[0, :, :, 0], [[0, 0, 1, 1]] * 2)  # two channels, side by side
    low, zero, high = base.pixels(np.array([-1.0, 0, 1]).reshape(1, 1, 3, 1), PAPER, 1, signed=True)[0, 0]
    assert low[0] > low[2] and high[2] > high[0] and np.ptp(zero) < 0.02 < zero.min()
    np.testing.assert_allclose(base.pixels(np.zeros((1, 1, 1, 3)), PHOTO, 1, signed=True), 0.5)


@pytest.mark.quick
@pytest.mark.parametrize("shape", [(7, 5, 1), (6, 9, 3)])
def test_a_table_shows_every_example_at_its_place(tmp_path, page, shape):
    x = RNG.uniform(size=(3, 4, *shape))
    x[1, 2] = np.nan
    base.tiles(tmp_path / "x.png", x, "a title\nof two lines", PHOTO, ["a", "b", "c"], list("0123"), ((2,), (1, 3)))
    figure, axis = page()
    canvas, (height, width, zoom) = axis.images[0].get_array(), base.tile_size(shape, 4)
    for r, row in enumerate(x):
        for c, one in enumerate(row):
            top = r * (height + base.GAP) + base.BREAK * (r >= 2) + 1
            left = c * (width + base.GAP) + base.BREAK * ((c >= 1) + (c >= 3)) + 1
            seen = canvas[top : top + height, left : left + width]
            wanted = 1.0 if (r, c) == (1, 2) else one.repeat(zoom, 0).repeat(zoom, 1)
            np.testing.assert_allclose(seen, np.broadcast_to(wanted, seen.shape))
    assert [text.get_text() for text in axis.texts] == ["a", "b", "c", "0", "1", "2", "3"]
    assert [text.get_text() for text in figure.texts] == ["a title", "of two lines"]
    # A pixel of the canvas is exactly SHARPNESS pixels of the file, so nothing is resampled.
    drawn = axis.get_window_extent().size
    np.testing.assert_allclose(drawn, base.SHARPNESS * np.array(canvas.shape[1::-1]), atol=0.01)
    assert imread(tmp_path / "x.png").shape[:2] == tuple(figure.bbox.size[::-1].round())


def test_the_file_holds_the_pixels(tmp_path, page):
    x = np.zeros((1, 2, 4, 4, 3))
    x[0, 1] = (1.0, 0.0, 0.0)
    base.tiles(tmp_path / "x.png", x, "", PHOTO)
    size = base.tile_size((4, 4, 3), 2)[0] * base.SHARPNESS
    found = imread(tmp_path / "x.png")[..., :3]
    assert np.sum((found == (1, 0, 0)).all(-1)) == size**2 == np.sum((found == (0, 0, 0)).all(-1))


def test_labels_that_do_not_belong_to_the_rows_are_refused(tmp_path):
    with pytest.raises(ValueError):
        base.tiles(tmp_path / "x.png", np.zeros((2, 2, 4, 4, 1)), "", PAPER, rows=["only one"])


def test_vectors_are_curves_within_their_tiles(tmp_path, page):
    x = RNG.normal(size=(2, 3, 9))
    base.tiles(tmp_path / "x.png", x, "", base.look(x), marked=[(1, 2)])
    axis = page()[1]
    height, width, _ = base.tile_size((9,))
    curves = axis.collections[0].get_segments()
    assert len(curves) == 6
    for i, (curve, values) in enumerate(zip(curves, x.reshape(6, 9), strict=True)):
        r, c = divmod(i, 3)
        assert np.all(curve[:, 0] > c * (width + 2)) and np.all(curve[:, 0] < c * (width + 2) + width)
        assert np.all(curve[:, 1] >= r * (height + 2)) and np.all(curve[:, 1] <= r * (height + 2) + height)
        np.testing.assert_allclose(np.corrcoef(-curve[:, 1], values)[0, 1], 1.0)
    (mark,) = axis.patches
    assert mark.get_xy() == (2 * (width + 2) + 1, height + 2 + 1)


def test_curves_leave_out_what_a_model_does_not_have(tmp_path, page):
    row = {"step": 1, "epoch": 1.0, "split": "train", "elbo": None, "distortion": 2.0, "loss": 2.0, "grad_norm": 1.0}
    base.curves(tmp_path / "x.png", [row, row | {"epoch": 2.0}, row | {"split": "valid", "loss": None}], "title")
    figure, _ = page()
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["distortion: lower is better", "loss, which training minimizes", "gradient norm"]
    train, valid = figure.axes[0].lines
    assert list(train.get_xdata()) == [1, 2] and list(valid.get_xdata()) == [1]


def test_rates_are_sorted_bars_and_active_units_stand_apart(tmp_path, page):
    rate, activity = np.array([0.1, 2.0, 0.0, 0.5]), np.array([0.005, 0.9, 0.0, 0.3])
    latent_units.rates(tmp_path / "x.png", rate, activity, "title")
    axis = page()[0].axes[0]
    bars = {round(bar.get_x() + 0.4): bar for bar in axis.patches}
    assert [bars[i].get_height() for i in range(4)] == [2.0, 0.5, 0.1, 0.0]
    colours = [bars[i].get_facecolor() for i in range(4)]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "3", "0", "2"]
    legend = [text.get_text() for text in axis.get_legend().get_texts()]
    assert legend == ["active: 2 units", "inactive: 2 units"]
    latent_units.rates(tmp_path / "x.png", rate, activity + 1, "title")
    assert [text.get_text() for text in page()[0].axes[0].get_legend().get_texts()] == ["active: 4 units"]


def test_of_many_units_the_small_ones_are_summed_up(tmp_path, page):
    rate = np.arange(150.0)
    latent_units.rates(tmp_path / "x.png", rate, None, "")
    axis = page()[0].axes[0]
    assert len(axis.patches) == 100 and "50 more, 1.22e+03 nats together" in axis.get_xlabel()  # 0 + 1 + ... + 49


def test_codes_of_one_dimension_are_a_histogram_and_of_two_are_themselves(tmp_path, page):
    z, labels = RNG.normal(size=(60, 2)), np.arange(60) % 3
    latent_units.latents(tmp_path / "x.png", z, labels, "", prior=True)
    axis = page()[0].axes[0]
    for kind, drawn in enumerate(axis.collections):
        np.testing.assert_allclose(drawn.get_offsets(), z[labels == kind])
    assert {patch.get_radius() for patch in axis.patches} >= {1.0}
    latent_units.latents(tmp_path / "x.png", z, labels, "", prior=False, label_names=("cat", "dog"))
    axis = page()[0].axes[0]
    assert not axis.patches
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["cat", "dog", "2"]
    latent_units.latents(tmp_path / "x.png", z[:, :1], labels, "", prior=True)
    axis = page()[0].axes[0]
    assert axis.get_xlabel() == "z[0]" and axis.get_ylabel() == "test examples"
    heights = [bar.get_height() + bar.get_y() for container in axis.containers for bar in container]
    assert max(heights) <= 60 and sum(bar.get_height() for c in axis.containers for bar in c) == 60


def test_more_dimensions_are_shown_in_the_plane_that_tells_most(tmp_path, page):
    labels = np.repeat([0, 1, 2], 40)
    corners = np.array([[0, 0, 9, 0], [0, 0, 0, 9], [0, 0, 0, 0]])[labels]
    z = corners + RNG.normal(size=(120, 4)) * [5, 1, 1, 1]
    latent_units.latents(tmp_path / "x.png", z, labels, "", prior=True)
    assert "discriminant 1" in page()[0].axes[0].get_xlabel()
    latent_units.latents(tmp_path / "x.png", z, None, "", prior=True)
    assert page()[0].axes[0].get_xlabel().startswith("principal component 1")
    latent_units.latents(tmp_path / "x.png", z, np.arange(120), "", prior=True)  # too many labels for a legend
    assert len(page()[0].axes) == 2
