import jax
import numpy as np
import pytest

from vae_jax import data
from vae_jax.errors import UserError
from vae_jax.estimators import features
from vae_jax.metrics.sample_quality import frechet, neighbourhood
from vae_jax.types import Example


def normal(num, dim=2, seed=0):
    return np.random.default_rng(seed).normal(size=(num, dim))


def whitened(num, dim, seed=0):
    """Points whose mean is 0 and whose covariance is the identity, exactly."""
    x = normal(num, dim, seed)
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T


def from_the_papers(real, fake, k):
    """Point by point, as the definitions stand."""

    def distance(a, b):
        return np.sqrt(sum((a - b) ** 2))

    def radius(i, points):
        return sorted(distance(points[i], points[j]) for j in range(len(points)) if j != i)[k - 1]

    real_radius = [radius(i, real) for i in range(len(real))]
    fake_radius = [radius(j, fake) for j in range(len(fake))]
    in_real = [[distance(y, x) <= r for x, r in zip(real, real_radius, strict=True)] for y in fake]
    in_fake = [[distance(x, y) <= r for y, r in zip(fake, fake_radius, strict=True)] for x in real]
    precision = sum(any(row) for row in in_real) / len(fake)
    recall = sum(any(row) for row in in_fake) / len(real)
    density = sum(sum(row) for row in in_real) / (k * len(fake))
    return (
        precision,
        recall,
        density,
        sum(any(column) for column in zip(*in_real, strict=True)) / len(real),
    )


@pytest.mark.quick
@pytest.mark.parametrize(("n", "m", "k"), [(40, 40, 5), (60, 25, 3), (25, 60, 1), (8, 30, 3)])
def test_neighbourhood_is_what_the_papers_define(n, m, k):
    real, fake = normal(n), 0.7 * normal(m, seed=1) + 1.2
    found = neighbourhood(real, fake, k)
    np.testing.assert_allclose(found, from_the_papers(real, fake, k), rtol=1e-12)
    assert 0 < found.precision < 1 or 0 < found.recall < 1


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_identical_sets_are_precise_and_complete(offset):
    points = (normal(200, 5) + offset).astype(np.float32)
    # Every one of the n balls holds its centre and its k neighbours: (k + 1) n over k n.
    np.testing.assert_allclose(
        neighbourhood(points, points[::-1], k=4), (1.0, 1.0, 5 / 4, 1.0), rtol=1e-12
    )


def test_points_on_the_surface_of_a_ball_lie_in_it():
    rng = np.random.default_rng(0)
    real, fake = (
        rng.integers(0, 12, (40, 3)),
        rng.integers(3, 15, (30, 3)),
    )  # many equal distances, none of them exact
    np.testing.assert_allclose(
        neighbourhood(real, fake, 4), from_the_papers(real, fake, 4), rtol=1e-12
    )


@pytest.mark.quick
def test_density_of_a_perfect_model_is_1_in_expectation():
    found = [
        neighbourhood(normal(50, seed=2 * i), normal(30, seed=2 * i + 1), k=3).density
        for i in range(400)
    ]
    assert abs(np.mean(found) - 1.0) < 4 * np.std(found) / np.sqrt(len(found)) < 0.1


def test_duplicates_lie_in_balls_without_extent():
    found = neighbourhood(
        np.repeat(normal(5, 8) + 7, 4, axis=0), np.repeat(normal(5, 8) + 7, 6, axis=0), k=3
    )
    np.testing.assert_allclose(found, (1.0, 1.0, 4 / 3, 1.0))


def test_disjoint_sets_share_nothing():
    assert neighbourhood(normal(50), normal(50, seed=1) + 1000) == (0.0, 0.0, 0.0, 0.0)


def test_a_mode_that_is_dropped_costs_recall_and_coverage_alone():
    modes = np.repeat([[0.0, 0.0], [100.0, 0.0]], 200, axis=0)
    real, fake = normal(400) + modes, normal(400, seed=1)
    found = neighbourhood(real, fake)
    assert found.precision > 0.95 and found.density > 0.9
    assert found.recall < 0.52 and found.coverage < 0.52


def test_an_outlier_inflates_precision_but_not_density():
    """Figure 1 of Naeem et al.: the ball of one stray example holds all samples between it and
    the others."""
    real, fake = np.vstack([normal(200), [[10.0, 0.0]]]), 0.1 * normal(100, seed=1) + [9.0, 5.0]
    assert neighbourhood(real[:-1], fake).precision == 0.0
    found = neighbourhood(real, fake)
    assert found.precision == 1.0
    assert found.density == pytest.approx(1 / 5)  # one ball of the five that are to be expected
    assert found.coverage == pytest.approx(1 / 201)


@pytest.mark.parametrize("block", [1, 7, 64, 130])
def test_neighbourhood_depends_on_no_block(block):
    real, fake = normal(130, 20), normal(90, 20, seed=1)
    assert neighbourhood(real, fake, block=block) == neighbourhood(real, fake)
    assert neighbourhood(real, real, block=block) == (1.0, 1.0, 6 / 5, 1.0)


@pytest.mark.parametrize("sizes", [(5, 50), (50, 5)])
def test_too_few_points_are_refused_in_one_line(sizes):
    with pytest.raises(UserError, match="5 nearest neighbours need more than 5 examples") as caught:
        neighbourhood(*(normal(num) for num in sizes), k=5)
    assert "\n" not in str(caught.value)
    neighbourhood(normal(6), normal(6), k=5)


@pytest.mark.quick
def test_frechet_is_the_closed_form_of_diagonal_gaussians():
    sigma, tau = np.array([1.0, 2.0, 0.5]), np.array([3.0, 2.0, 0.1])
    real, fake = sigma * whitened(500, 3), tau * whitened(300, 3, seed=1) + [1.0, -2.0, 0.5]
    assert frechet(real, fake) == pytest.approx(5.25 + np.sum((sigma - tau) ** 2), rel=1e-10)


@pytest.mark.quick
def test_frechet_of_covariances_that_do_not_commute():
    scipy_linalg = pytest.importorskip("scipy.linalg")
    real, fake = (normal(400, 4, seed=i) @ normal(4, 4, seed=i + 2) for i in (0, 1))
    a, b = np.cov(real.T), np.cov(fake.T)
    expected = np.trace(a + b - 2 * scipy_linalg.sqrtm(a @ b).real) + np.sum(
        (real.mean(0) - fake.mean(0)) ** 2
    )
    assert frechet(real, fake) == pytest.approx(expected, rel=1e-9)
    assert frechet(fake, real) == pytest.approx(expected, rel=1e-9)


def test_frechet_does_not_depend_on_the_axes():
    real, fake = normal(200, 6) * np.arange(1, 7), normal(100, 6, seed=1) + 1
    rotation = np.linalg.qr(normal(6, 6, seed=2))[0]
    assert frechet(real @ rotation + 3, fake @ rotation + 3) == pytest.approx(
        frechet(real, fake), rel=1e-10
    )


def test_frechet_of_singular_covariances():
    line = whitened(300, 2)[:, :1]
    real, fake = line * [[3.0, 4.0, 0.0]], line * [[6.0, 8.0, 0.0]] + [0.0, 0.0, 2.0]
    assert frechet(real, fake) == pytest.approx(2.0**2 + (10 - 5) ** 2, rel=1e-12)
    assert frechet(real, line * [[0.0, 0.0, 7.0]]) == pytest.approx(
        5**2 + 7**2, rel=1e-12
    )  # no common direction
    assert frechet(normal(10, 50), normal(10, 50)) == pytest.approx(
        0.0, abs=1e-10
    )  # fewer points than dimensions


def test_frechet_of_a_set_with_itself_is_zero():
    for points in (normal(100, 8), normal(100, 8).astype(np.float32), np.ones((5, 3))):
        assert 0.0 <= frechet(points, points.copy()) < 1e-10


def test_frechet_needs_two_points_and_finite_ones():
    with pytest.raises(UserError, match="a covariance needs two examples"):
        frechet(normal(10), normal(1))
    assert np.isnan(frechet(normal(10), np.full((10, 2), np.nan)))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache of a test's own, and a training of few steps."""
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(features, "_num_steps", lambda num: 100)
    return tmp_path


def in_range(split):
    return Example(np.float32(split.take(slice(None)).reshape(split.num, -1)) / 255)


def test_features_tell_classes_apart_and_are_trained_once(images, own_cache, monkeypatch):
    made = features.make_features(images, "none")
    assert made.accuracy > 0.9  # of four classes
    x = in_range(images.test)
    found, label = made.apply(x), images.test.labels(slice(None))
    assert found.shape == (60, 64) and found.dtype == np.float32
    distance = np.linalg.norm(found[:, None] - found, axis=-1) + np.where(np.eye(60), np.inf, 0.0)
    assert np.mean(label[distance.argmin(1)] == label) > 0.9

    (file,) = (own_cache / "features").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(features, "_train", lambda *_: pytest.fail("trained again"))
        again = features.make_features(images, "none")
        assert again[1:] == made[1:]
        np.testing.assert_array_equal(again.apply(x), found)

    for damage in (
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:5000] + b"damage" + whole[5006:],
    ):
        file.write_bytes(damage(file.read_bytes()))
        assert features.make_features(images, "none")[1:] == made[1:]


def test_training_is_of_ten_epochs_within_limits():
    assert [features._num_steps(num) for num in (200, 55_000, 10**9)] == [1_000, 2_800, 20_000]


def test_features_depend_on_no_block(images, own_cache, monkeypatch):
    made, x = features.make_features(images, "dynamic"), in_range(images.test)
    whole = made.apply(x)
    monkeypatch.setattr(features, "_BLOCK", 25)
    np.testing.assert_allclose(made.apply(x), whole, rtol=1e-5, atol=1e-5)
    shaped = Example(x.x.reshape(-1, 6, 5, 1))
    np.testing.assert_allclose(made.apply(shaped), whole, rtol=1e-5, atol=1e-5)


def binarization_of(view):
    """What the view makes of grey values just below one half."""
    grey = Example(np.full((1, 100), 120, np.uint8))
    found = np.unique(view.to_example(grey, jax.random.split(jax.random.key(0), 1)).x)
    return {(0.0, 1.0): "dynamic", (0.0,): "threshold"}[tuple(found.tolist())]


def with_parity(split):
    return split._replace(columns=split.columns | {"parity": split.label % 2})


def test_each_data_binarization_label_and_seed_has_a_space_of_its_own(
    images, own_cache, monkeypatch
):
    trained = []

    def train(about):
        given = about.dataset, binarization_of(about.view), about.label, about.seed
        trained.append(given)
        params = about.encoder.init(jax.random.key(len(trained)), 64)
        return jax.tree.map(np.asarray, params), 0.5

    monkeypatch.setattr(features, "_train", train)
    images = images._replace(train=with_parity(images.train), valid=with_parity(images.valid))
    fewer = images._replace(valid=images.valid._replace(rows=images.valid.rows[:30]))
    calls = [(images, "dynamic", "", 0), (images, "threshold", "", 0), (images, "dynamic", "", 1)]
    calls += [(fewer, "dynamic", "", 0), (images, "dynamic", "parity", 0)]
    digests = [features.make_features(*call).digest for call in calls]
    assert trained == calls and len(set(digests)) == 5
    assert [features.make_features(*call).digest for call in calls] == digests
    assert features.make_features(images, "dynamic", "label").digest == digests[0]
    assert trained == calls


def test_labels_may_be_any_integers(images, own_cache):
    label = np.array([-7, 3, 100, 12])[images.train.label]
    columns = {"label": label}
    renamed = images._replace(
        train=images.train._replace(columns=columns), valid=images.valid._replace(columns=columns)
    )
    assert features.make_features(renamed, "none").accuracy > 0.9


def test_a_cache_that_cannot_be_written_costs_only_time(images, own_cache):
    (own_cache / "features").write_text("in the way")
    assert features.make_features(images, "none").apply(in_range(images.test)).shape == (60, 64)


def test_a_dataset_without_labels_has_no_features():
    x = np.zeros((20, 4), np.uint8)
    with pytest.raises(UserError) as caught:
        features.make_features(data.from_arrays("plain", x, x, num_valid=5), "none")
    assert (
        str(caught.value)
        == "sample quality and label metrics need labels, which plain does not have"
    )
