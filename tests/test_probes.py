import numpy as np
import pytest

from vae_jax.errors import UserError
from vae_jax.metrics.label_probes import linear_probe, nearest_neighbours

pytestmark = pytest.mark.quick

PROBES = [linear_probe, nearest_neighbours]


def blobs(num, seed, distance=10.0, classes=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=num)
    return (distance * np.eye(classes)[labels] + rng.normal(size=(num, classes))).astype(
        np.float32
    ), labels


@pytest.mark.parametrize("probe", PROBES)
def test_reads_what_is_there_and_nothing_else(probe):
    codes, labels = blobs(400, 0)
    test_codes, test_labels = blobs(1000, 1)
    assert probe(codes, labels, test_codes, test_labels) == 1.0
    shuffled = np.random.default_rng(2).permutation(labels)
    assert (
        abs(probe(codes, shuffled, test_codes, test_labels) - 0.25) < 0.15
    )  # four blobs, each one guess
    noise, test_noise = np.random.default_rng(3).normal(size=(2, 1000, 4))
    assert abs(probe(noise[:400], labels, test_noise, test_labels) - 0.25) < 4 * np.sqrt(
        0.25 * 0.75 / 1000
    )


def test_the_linear_probe_is_linear_and_blind_to_scale_and_offset():
    codes, labels = blobs(600, 0, distance=1.5)
    test_codes, test_labels = blobs(600, 1, distance=1.5)
    plain = linear_probe(codes, labels, test_codes, test_labels)
    scale, offset = np.array([1e-3, 1, 50, 2]), np.array([5, 0, -3, 1])
    assert (
        linear_probe(codes * scale + offset, labels, test_codes * scale + offset, test_labels)
        == plain
    )
    ring = np.linspace(0, 2 * np.pi, 200)
    circles = np.concatenate(
        [np.stack([np.cos(ring), np.sin(ring)], 1) * radius for radius in (1, 3)]
    )
    inner = np.arange(400) < 200
    assert linear_probe(circles, inner, circles, inner) < 0.6
    assert nearest_neighbours(circles, inner, circles, inner) == 1.0


@pytest.mark.parametrize("k", [1, 4, 10])
def test_neighbours_are_those_of_a_full_search(k):
    codes, labels = blobs(150, 0, distance=1.5)
    test_codes, test_labels = blobs(120, 1, distance=1.5)
    distance = np.linalg.norm(test_codes[:, None] - codes, axis=2)
    votes = labels[np.argsort(distance, axis=1)[:, :k]]
    expected = np.mean(
        [np.bincount(v).argmax() == label for v, label in zip(votes, test_labels, strict=True)]
    )
    assert nearest_neighbours(codes, labels, test_codes, test_labels, k) == expected


@pytest.mark.parametrize("probe", PROBES)
def test_without_labels_to_tell_apart_it_says_so(probe):
    codes, labels = blobs(20, 0)
    with pytest.raises(UserError, match="has none"):
        probe(codes, None, codes, None)
    with pytest.raises(UserError, match="the same"):
        probe(codes, np.zeros(20, int), codes, labels)
