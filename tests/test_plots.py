"""Tables of examples and the plots of units and codes: what is drawn is what was given."""

import matplotlib
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from vae_jax.data.kinds import KINDS, kind_of
from vae_jax.data.kinds.kind import GAP, WIDEST, Look, look_at
from vae_jax.plots import base, codes, examples, rates, training_curves
from vae_jax.plots.examples import Layout, Style

RNG = np.random.default_rng(0)
PAPER = Look(0.0, 1.0, ink=True)
PHOTO = Look(0.0, 1.0, ink=False)


def style(shape, look=PHOTO):
    return Style(KINDS[kind_of(shape)], shape, look)


@pytest.fixture
def page(monkeypatch):
    """The axis of each table, and the figure of each plot, that is drawn."""
    made, table, plot = [], examples._page, base.figure

    def keep(make):
        def call(*args):
            made.append(make(*args))
            return made[-1]

        return call

    monkeypatch.setattr(examples, "_page", keep(table))
    monkeypatch.setattr(base, "figure", keep(plot))
    return lambda: made[-1]


@pytest.mark.quick
def test_values_in_the_unit_interval_keep_their_shades_and_others_span_theirs():
    assert look_at(np.array([0.2, 0.4])) == Look(0.0, 1.0, True)  # mostly dark: ink on paper
    assert look_at(np.array([0.2, 0.9])) == Look(0.0, 1.0, False)  # as it is
    assert look_at(np.array([-3.0, 5.0])) == Look(-3.0, 5.0, False)
    assert look_at(np.array([7.0, 7.0])) == Look(7.0, 8.0, True)  # no division by zero


@pytest.mark.parametrize(
    "shape", [(28, 28, 1), (8, 8, 1), (33, 47, 3), (64, 64, 3), (5, 41, 2), (218, 178, 3)]
)
def test_small_images_grow_by_whole_numbers_and_large_ones_are_fewer(shape):
    height, width = style(shape).tile_size()
    zoom = height // shape[0]
    assert (
        zoom >= 1
        and height == zoom * shape[0]
        and width == zoom * shape[1] * (2 if shape[2] == 2 else 1)
    )
    assert max(height, width) >= 60
    assert style(shape).tile_size(20)[1] <= max(width, WIDEST / 20)
    columns = examples.columns_that_fit(style(shape), 10)
    assert 3 <= columns <= 10
    assert columns * (width + GAP) <= WIDEST or columns == 3
    large, small = style((218, 178, 3)), style((28, 28, 1))
    assert examples.columns_that_fit(large, 10) < examples.columns_that_fit(small, 10)
    assert examples.rows_that_fit(large, 10) < examples.columns_that_fit(
        large, 10
    )  # they are upright


@pytest.mark.parametrize(
    "shape, size", [((600, 500, 3), (200, 167)), ((4, 600, 1), (2, 200)), ((257, 9, 2), (129, 9))]
)
def test_huge_images_shrink(shape, size):
    look = style(shape)
    assert look.tile_size() == size
    assert look.show(np.zeros(shape), size).pixels.shape == (*size, 3)


def pixels(x, look, size=None, signed=False):
    return style(x.shape, look).show(x, size, signed).pixels


@pytest.mark.quick
def test_pixels_have_the_colours_they_should():
    grey = np.array([0.0, 0.25, 2.0]).reshape(1, 3, 1)
    np.testing.assert_allclose(pixels(grey, PHOTO)[0, :, 0], [0, 0.25, 1])  # clipped
    np.testing.assert_allclose(pixels(grey, PAPER, (2, 6))[1, ::2, 1], [1, 0.75, 0])
    colour = RNG.uniform(size=(2, 2, 3))
    np.testing.assert_array_equal(pixels(colour, PAPER), colour)  # colours are never inverted
    wide = pixels(np.stack([np.zeros((2, 2)), np.ones((2, 2))], -1), PHOTO)
    np.testing.assert_array_equal(wide[:, :, 0], [[0, 0, 1, 1]] * 2)  # two channels, side by side


@pytest.mark.quick
def test_differences_are_red_below_zero_and_blue_above():
    values = np.linspace(-1, 1, 257).reshape(1, -1, 1)
    found = pixels(values, PAPER, signed=True)[0]
    np.testing.assert_allclose(
        found, colormaps["RdBu"](values[0, :, 0] / 2 + 0.5)[:, :3], atol=1e-12
    )
    low, zero, high = found[[0, 128, 256]]
    assert low[0] > low[2] and high[2] > high[0] and np.ptp(zero) < 0.02 < zero.min()
    np.testing.assert_allclose(pixels(np.zeros((1, 1, 3)), PHOTO, signed=True), 0.5)
    assert "blue above" in KINDS["image"].zero((5, 5, 1)) and "grey" in KINDS["image"].zero(
        (5, 5, 3)
    )


@pytest.mark.quick
@pytest.mark.parametrize("shape", [(7, 5, 1), (6, 9, 3)])
def test_a_table_shows_every_example_at_its_place(tmp_path, page, shape):
    x = RNG.uniform(size=(3, 4, *shape))
    x[1, 2] = np.nan
    layout = Layout(["a", "b", "c"], list("0123"), row_breaks=(2,), column_breaks=(1, 3))
    examples.draw(tmp_path / "x.png", x, "a title\nof two lines", style(shape), layout)
    figure, axis = page()
    canvas, (height, width) = axis.images[0].get_array(), style(shape).tile_size(4)
    zoom = height // shape[0]
    for r, row in enumerate(x):
        for c, one in enumerate(row):
            top = r * (height + GAP) + examples.BREAK * (r >= 2) + 1
            left = c * (width + GAP) + examples.BREAK * ((c >= 1) + (c >= 3)) + 1
            seen = canvas[top : top + height, left : left + width]
            wanted = 1.0 if (r, c) == (1, 2) else one.repeat(zoom, 0).repeat(zoom, 1)
            np.testing.assert_allclose(seen, np.broadcast_to(wanted, seen.shape))
    assert [text.get_text() for text in axis.texts] == ["a", "b", "c", "0", "1", "2", "3"]
    assert [text.get_text() for text in figure.texts] == ["a title", "of two lines"]
    # A pixel of the canvas is exactly SHARPNESS pixels of the file, so nothing is resampled.
    drawn = axis.get_window_extent().size
    np.testing.assert_allclose(drawn, examples.SHARPNESS * np.array(canvas.shape[1::-1]), atol=0.01)
    pixels = np.array(imread(tmp_path / "x.png").shape[:2])
    # Matplotlib before 3.11 cuts a size off that rounding has left just below an integer.
    assert (np.abs(pixels - figure.bbox.size[::-1]) <= 1).all()


def test_the_file_holds_the_pixels(tmp_path, page):
    x = np.zeros((1, 2, 4, 4, 3))
    x[0, 1] = (1.0, 0.0, 0.0)
    examples.draw(tmp_path / "x.png", x, "", style((4, 4, 3)))
    size = style((4, 4, 3)).tile_size(2)[0] * examples.SHARPNESS
    found = imread(tmp_path / "x.png")[..., :3]
    assert np.sum((found == (1, 0, 0)).all(-1)) == size**2 == np.sum((found == (0, 0, 0)).all(-1))


def test_labels_that_do_not_belong_to_the_rows_are_refused(tmp_path):
    with pytest.raises(ValueError):
        x = np.zeros((2, 2, 4, 4, 1))
        examples.draw(tmp_path / "x.png", x, "", style((4, 4, 1)), Layout(rows=["only one"]))


def test_vectors_are_curves_within_their_tiles(tmp_path, page):
    x = RNG.normal(size=(2, 3, 9))
    examples.draw(tmp_path / "x.png", x, "", style((9,), look_at(x)), Layout(outlined=[(1, 2)]))
    axis = page()[1]
    height, width = style((9,)).tile_size()
    curves = axis.collections[0].get_segments()
    assert len(curves) == 6
    for i, (curve, values) in enumerate(zip(curves, x.reshape(6, 9), strict=True)):
        r, c = divmod(i, 3)
        assert np.all(curve[:, 0] > c * (width + 2)) and np.all(
            curve[:, 0] < c * (width + 2) + width
        )
        assert np.all(curve[:, 1] >= r * (height + 2)) and np.all(
            curve[:, 1] <= r * (height + 2) + height
        )
        np.testing.assert_allclose(np.corrcoef(-curve[:, 1], values)[0, 1], 1.0)
    (mark,) = axis.patches
    assert mark.get_xy() == (2 * (width + 2) + 1, height + 2 + 1)


def test_curves_leave_out_what_a_model_does_not_have(tmp_path, page):
    row = {
        "step": 1,
        "epoch": 1.0,
        "split": "train",
        "elbo": None,
        "distortion": 2.0,
        "loss": 2.0,
        "grad_norm": 1.0,
    }
    training_curves.draw(
        tmp_path / "x.png",
        [row, row | {"epoch": 2.0}, row | {"split": "valid", "loss": None}],
        "title",
    )
    figure, _ = page()
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        "distortion: lower is better",
        "loss, which training minimizes",
        "gradient norm",
    ]
    train, valid = figure.axes[0].lines
    assert list(train.get_xdata()) == [1, 2] and list(valid.get_xdata()) == [1]


def test_rates_are_sorted_bars_and_active_units_stand_apart(tmp_path, page):
    rate, activity = np.array([0.1, 2.0, 0.0, 0.5]), np.array([0.005, 0.9, 0.0, 0.3])
    rates.draw(tmp_path / "x.png", rate, activity, "title")
    axis = page()[0].axes[0]
    bars = {round(bar.get_x() + 0.4): bar for bar in axis.patches}
    assert [bars[i].get_height() for i in range(4)] == [2.0, 0.5, 0.1, 0.0]
    colours = [bars[i].get_facecolor() for i in range(4)]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "3", "0", "2"]
    legend = [text.get_text() for text in axis.get_legend().get_texts()]
    assert legend == ["active: 2 units", "inactive: 2 units"]
    rates.draw(tmp_path / "x.png", rate, activity + 1, "title")
    assert [text.get_text() for text in page()[0].axes[0].get_legend().get_texts()] == [
        "active: 4 units"
    ]


def test_of_many_units_the_small_ones_are_summed_up(tmp_path, page):
    rate = np.arange(150.0)
    rates.draw(tmp_path / "x.png", rate, None, "")
    axis = page()[0].axes[0]
    assert (
        len(axis.patches) == 100 and "50 more, 1.22e+03 nats together" in axis.get_xlabel()
    )  # 0 + 1 + ... + 49


def test_pictures_do_not_depend_on_settings_of_matplotlib():
    with matplotlib.rc_context({"image.origin": "lower", "text.usetex": True}):
        with base.own_style():
            assert matplotlib.rcParams["image.origin"] == "upper"
            assert not matplotlib.rcParams["text.usetex"]
        assert matplotlib.rcParams["image.origin"] == "lower"


def test_codes_of_one_dimension_are_a_histogram_and_of_two_are_themselves(tmp_path, page):
    z, labels = RNG.normal(size=(60, 2)), np.arange(60) % 3
    codes.draw(tmp_path / "x.png", z, labels, "", standard_normal=True)
    axis = page()[0].axes[0]
    for kind, drawn in enumerate(axis.collections):
        np.testing.assert_allclose(drawn.get_offsets(), z[labels == kind])
    assert {patch.get_radius() for patch in axis.patches} >= {1.0}
    codes.draw(tmp_path / "x.png", z, labels, "", standard_normal=False, label_names=("cat", "dog"))
    axis = page()[0].axes[0]
    assert not axis.patches
    odd = ("$x_{$", "\u732b", "a_b^c")  # no mathematics
    codes.draw(tmp_path / "x.png", z, labels, "$\\frac{$\n$", True, label_names=odd)
    codes.draw(tmp_path / "x.png", z, labels, "", standard_normal=False, label_names=("cat", "dog"))
    axis = page()[0].axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["cat", "dog", "2"]
    codes.draw(tmp_path / "x.png", z[:, :1], labels, "", standard_normal=True)
    axis = page()[0].axes[0]
    assert axis.get_xlabel() == "z[0]" and axis.get_ylabel() == "test examples"
    heights = [bar.get_height() + bar.get_y() for container in axis.containers for bar in container]
    assert max(heights) <= 60 and sum(bar.get_height() for c in axis.containers for bar in c) == 60


def test_more_dimensions_are_shown_in_the_plane_that_tells_most(tmp_path, page):
    labels = np.repeat([0, 1, 2], 40)
    corners = np.array([[0, 0, 9, 0], [0, 0, 0, 9], [0, 0, 0, 0]])[labels]
    z = corners + RNG.normal(size=(120, 4)) * [5, 1, 1, 1]
    codes.draw(tmp_path / "x.png", z, labels, "", standard_normal=True)
    assert "discriminant 1" in page()[0].axes[0].get_xlabel()
    codes.draw(tmp_path / "x.png", z, None, "", standard_normal=True)
    assert page()[0].axes[0].get_xlabel().startswith("principal component 1")
    codes.draw(
        tmp_path / "x.png", z, np.arange(120), "", standard_normal=True
    )  # too many labels for a legend
    assert len(page()[0].axes) == 2
