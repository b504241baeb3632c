import itertools
import math

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from vae_jax.data.kinds import KINDS, kind_of
from vae_jax.data.kinds.kind import Look
from vae_jax.plots import base, heat_maps, rate_distortion, strips, sweep
from vae_jax.plots.examples import Style

pytestmark = pytest.mark.filterwarnings("error")


def member(number, diverged_at=None, active_units=3, **swept):
    """Rate 30 / (1 + beta), distortion 70 + 10 beta + 80 / latent_dim, a little apart by seed."""
    beta, latent_dim, seed = (
        swept.get(name, default)
        for name, default in (("beta", 1.0), ("latent_dim", 8), ("seed", 0))
    )
    rate, distortion = 30 / (1 + beta) + 0.1 * seed, 70 + 10 * beta + 80 / latent_dim + 0.2 * seed
    numbers = {
        "rate": rate,
        "distortion": distortion,
        "elbo": -rate - distortion,
        "nll": rate + distortion - 3,
    }
    numbers |= {"active_units": active_units}
    swept = {("model." if name == "encoder" else "hypers.") + name: x for name, x in swept.items()}
    return {
        "member": number,
        "swept": swept,
        "diverged_at": diverged_at,
        "valid": numbers,
        "test": numbers,
    }


def grid(diverged=(), **axes):
    settings = [
        dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
    ]
    return [
        member(i, 120 if i in diverged else None, **setting) for i, setting in enumerate(settings)
    ]


SWEEPS = {
    "beta x latent_dim x seed": grid(beta=(0.0, 1.0, 4.0), latent_dim=(2, 8), seed=(0, 1)),
    "diverged": grid((1, 2, 3, 7), beta=(0.5, 1.0), latent_dim=(2, 8), seed=(0, 1)),
    "all diverged": grid(range(4), beta=(0.5, 1.0), latent_dim=(2, 8)),
    "beta": grid((1,), beta=(0.1, 1.0, 4.0)),
    "latent_dim": grid(latent_dim=(2, 8, 32), seed=(0, 1)),
    "seed": grid(seed=(0, 1, 2)),
    "words": grid(encoder=("mlp", "conv"), seed=(0, 1)),
    "zip": [member(i, beta=float(i), latent_dim=2 + i) for i in range(20)],
    "one": grid(),
    "no active units": [
        m | {"test": m["test"] | {"active_units": None}}
        for m in grid(beta=(1.0, 2.0), latent_dim=(2, 4))
    ],
}


@pytest.fixture
def figures(monkeypatch):
    """The figures that are made."""
    made, make = [], base.figure

    def record(*args):
        made.append(make(*args))
        return made[-1]

    monkeypatch.setattr(base, "figure", record)
    return made


def texts(axis):
    return [text.get_text() for text in axis.texts]


def points(axis):
    """What was scattered, but for the ring."""
    found = [
        c.get_offsets()
        for c in axis.collections
        if isinstance(c, PathCollection) and len(c.get_facecolors())
    ]
    return np.concatenate([np.asarray(offsets) for offsets in found])


def rings(axis):
    found = [
        c for c in axis.collections if isinstance(c, PathCollection) and not len(c.get_facecolors())
    ]
    return [np.asarray(c.get_offsets())[0].tolist() for c in found]


@pytest.mark.parametrize("draw", [rate_distortion.draw, heat_maps.draw])
@pytest.mark.parametrize("name", SWEEPS)
def test_every_kind_of_sweep_is_drawn_without_a_warning(tmp_path, draw, name):
    draw(tmp_path / "x.png", SWEEPS[name], name)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_rate_distortion_has_a_point_per_member_lines_of_means_and_the_best_ringed(
    tmp_path, figures
):
    members = SWEEPS["beta x latent_dim x seed"]
    rate_distortion.draw(tmp_path / "x.png", members, "a title")
    figure, axes = figures[0]
    whole = axes[0, 0]
    expected = [[m["test"]["rate"], m["test"]["distortion"]] for m in members]
    np.testing.assert_allclose(np.sort(points(whole), axis=0), np.sort(expected, axis=0))
    best = min(members, key=lambda m: m["valid"]["nll"])
    assert rings(whole) == [[best["test"]["rate"], best["test"]["distortion"]]] == rings(axes[0, 1])
    lines = [line.get_xydata() for line in whole.lines if len(line.get_xydata()) == 3]
    np.testing.assert_allclose(
        lines[0], [[30.05, 110.1], [15.05, 120.1], [6.05, 150.1]], err_msg="latent_dim 2"
    )
    assert len(lines) == 2
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries[:3] == ["latent_dim", "2", "8"] and entries[3].startswith(
        "best by validation NLL: member"
    )
    bar = figure.axes[-1]
    assert [text.get_text() for text in bar.get_yticklabels()] == [
        "0",
        "1",
        "4",
    ] and bar.get_ylabel() == "beta"


def test_lines_of_equal_elbo_are_where_they_say(tmp_path, figures):
    rate_distortion.draw(tmp_path / "x.png", SWEEPS["beta x latent_dim x seed"], "")
    axis = figures[0][1][0, 0]
    labels = [text for text in axis.texts if text.get_text().startswith("ELBO")]
    assert len(labels) >= 3
    totals = [
        line.get_xdata() + line.get_ydata() for line in axis.lines if line.get_color() == "0.8"
    ]
    for text in labels:
        elbo = float(text.get_text().removeprefix("ELBO "))
        assert math.isclose(sum(text.get_position()), -elbo) and any(
            np.allclose(total, -elbo) for total in totals
        )


def test_rate_distortion_marks_and_names_the_diverged_and_leaves_them_out_of_the_means(
    tmp_path, figures
):
    members = SWEEPS["diverged"]
    members[1]["test"] = members[1]["test"] | {"distortion": 1e9}
    rate_distortion.draw(tmp_path / "x.png", members, "")
    figure, axes = figures[0]
    assert len(points(axes[0, 0])) == 4 and axes[0, 0].get_ylim()[1] < 200, (
        "a diverged member sets no limit"
    )
    crosses = [
        line for line in axes[0, 0].lines if line.get_marker() == "x" and len(line.get_xdata())
    ]
    assert len(crosses) == 4
    entry = figure.legends[0].get_texts()[-1].get_text().replace("\n", " ")
    assert (
        "member 1 (beta 0.5, latent_dim 2, seed 1)" in entry
        and "member 7 (beta 1, latent_dim 8, seed 1)" in entry
    )


def test_colours_are_by_the_logarithm_beyond_a_decade_unless_there_is_a_zero():
    np.testing.assert_allclose(sweep.places([0.1, 1.0, 100.0], "hypers.beta"), [-1, 0, 2])
    np.testing.assert_allclose(sweep.places([1, 2, 10], "hypers.beta"), [1, 2, 10])
    np.testing.assert_allclose(sweep.places([0, 0.01, 1], "hypers.beta"), [0, 1, 2])
    np.testing.assert_allclose(sweep.places(["b", "a"], "network.name"), [0, 1])
    np.testing.assert_allclose(sweep.places([1, 1000, 1001], "hypers.seed"), [0, 1, 2])


def test_heat_maps_hold_the_numbers_say_what_is_better_and_outline_the_best(tmp_path, figures):
    members = SWEEPS["beta x latent_dim x seed"]
    heat_maps.draw(tmp_path / "x.png", members, "a title")
    figure, axes = figures[0]
    assert [axis.get_title().rpartition(": ")[2] for axis in axes.flat] == [
        "lower is better",
        "higher is better",
        "neither end is better",
        "neither end is better",
    ]
    assert texts(axes[1, 0]) == [f"{x}\n±0.07" for x in ("30.05", "15.05", "6.05")] * 2
    assert [t.get_text() for t in axes[0, 0].get_yticklabels()] == ["2", "8"]
    shades = [np.asarray(axis.images[0].get_array()) for axis in axes[0]]
    assert shades[0].argmax() == 4 and shades[1].argmax() == 4, (
        "beta 1, latent_dim 8 has the lowest NLL"
    )
    for axis in axes.flat:
        (outline,) = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
        assert outline.get_xy() == (0.5, 0.5)
    title = figure.get_suptitle()
    assert title.startswith(
        "a title\noutlined: best by validation NLL: member 6 (beta 1, latent_dim 8, seed 0)"
    )
    assert "mean ± sd over seed, 2 members per cell" in title.replace("\n", " ")


@pytest.mark.parametrize("colours", ["YlGn", "viridis", "gray", "gray_r"])
def test_the_numbers_of_heat_maps_can_be_read_in_any_colours(
    tmp_path, figures, monkeypatch, colours
):
    monkeypatch.setattr(heat_maps, "COLOURS_TO_THE_BEST", colours)
    heat_maps.draw(tmp_path / "x.png", SWEEPS["beta x latent_dim x seed"], "")
    axis = figures[0][1][0, 0]
    (image,) = axis.images
    cells = image.to_rgba(image.get_array())[..., :3].reshape(-1, 3)
    numbers = [text for text in axis.texts if "±" in text.get_text()]
    assert len(numbers) == len(cells)
    for text, cell in zip(numbers, cells, strict=True):
        contrast = np.array(to_rgb(text.get_color())) - cell
        assert abs(contrast @ [0.299, 0.587, 0.114]) >= 0.5


def test_heat_maps_leave_empty_cells_blank_and_mark_the_diverged(tmp_path, figures):
    members = [
        member(0, beta=1.0, latent_dim=2),
        member(1, beta=2.0, latent_dim=4),
        member(2, 5, beta=2.0, latent_dim=2),
    ]
    heat_maps.draw(tmp_path / "x.png", members, "")
    axis = figures[0][1][0, 0]
    assert np.ma.getmaskarray(axis.images[0].get_array()).tolist() == [[False, True], [True, False]]
    assert texts(axis) == ["132.00", "diverged", "×1", "117.00"]


def test_one_axis_gives_curves_with_every_member(tmp_path, figures):
    heat_maps.draw(tmp_path / "x.png", SWEEPS["latent_dim"], "")
    axis = figures[0][1][1, 0]
    assert len(points(axis)) == 6 and len(rings(axis)) == 1
    assert any(
        np.allclose(line.get_ydata(), [15.05] * 3)
        for line in axis.lines
        if len(line.get_ydata()) == 3
    )
    np.testing.assert_allclose(axis.get_xticks(), np.log10([2, 8, 32]))
    assert texts(axis) == ["15.050\n±0.071"] * 3


def test_seeds_alone_give_their_mean_and_spread(tmp_path, figures):
    heat_maps.draw(tmp_path / "x.png", SWEEPS["seed"], "")
    assert figures[0][1][1, 0].get_title().endswith("(15.10 ± 0.10)")


def style(shape):
    return Style(KINDS[kind_of(shape)], shape, Look(0.0, 1.0, ink=True))


@pytest.mark.parametrize("shape", [(6, 5, 1), (6, 5, 3), (7,)])
def test_strips_have_a_row_per_member_in_order(tmp_path, figures, shape):
    members = grid((1,), beta=(1.0, 4.0), latent_dim=(2, 8))
    images = np.random.default_rng(0).uniform(size=(4, 3, *shape))
    images[1] = np.nan
    strips.draw(tmp_path / "x.png", members, images, "", style(shape))
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    axes = figures[0][1]
    labels = [
        "beta 1, latent_dim 2",
        "beta 1, latent_dim 8",
        "beta 4, latent_dim 2",
        "beta 4, latent_dim 8",
    ]
    labels[3] += " (best)"
    labels[1] += " (diverged)"
    assert [texts(axis) for axis in axes[:, 0]] == [[label] for label in labels]
    if len(shape) == 3:
        drawn = [np.asarray(axis.images[0].get_array()) for axis in axes[:, 0]]
        row = np.concatenate(list(images[2]), 1)
        np.testing.assert_array_equal(
            drawn[2], np.broadcast_to(row if shape[2] == 3 else 1 - row, drawn[2].shape)
        )
        assert np.all(drawn[1] == 1)  # without finite values it stays empty
    else:
        np.testing.assert_array_equal([line.get_ydata() for line in axes[2, 0].lines], images[2])


def test_many_strips_are_cut_evenly_and_the_title_says_so(tmp_path, figures):
    members = grid(beta=tuple(float(i) for i in range(1, 71)))
    strips.draw(
        tmp_path / "x.png", members, np.zeros((70, 1, 2, 2, 1)), "samples", style((2, 2, 1))
    )
    figure, axes = figures[0]
    assert (
        axes.shape == (32, 2)
        and figure.get_suptitle() == "samples\n64 of 70 members, evenly picked"
    )
    assert texts(axes[0, 0]) == ["beta 1 (best)"] and texts(axes[31, 1]) == ["beta 70"]
