"""Neighbourhoods small enough to count by eye, and against a loop that sorts everything."""

import math

import pytest
import torch

from gmail_kedro.method.neighbours import knn_mixing, neighbour_overlap, similarity_correlation, source_preservation


def on_circle(*degrees):
    return torch.tensor([[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in degrees])


def gaussian(seed, rows, width=6):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def naive_neighbours(rows, k):
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    cosines = (unit @ unit.T).tolist()
    return [
        set(sorted((j for j in range(len(rows)) if j != i), key=lambda j: -cosines[i][j])[:k]) for i in range(len(rows))
    ]


def test_mixing_by_eye():
    assert knn_mixing(on_circle(0, 1, 2), on_circle(90, 91, 92), neighbour_count=2) == 0.0
    assert knn_mixing(on_circle(0, 90), on_circle(1, 91), neighbour_count=1) == 1.0
    # 0: 4 and 10 are nearest, both real, one place; 4: 0 (generated); 10: 4 (real).
    assert knn_mixing(on_circle(0), on_circle(4, 10), neighbour_count=1) == pytest.approx(2 / 3)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_mixing_equals_a_loop(k):
    generated, real = gaussian(0, 30) + 0.3, gaussian(1, 25)
    neighbours = naive_neighbours(torch.cat([generated, real]), k)
    other = sum((i < 30) != (j < 30) for i, row in enumerate(neighbours) for j in row)
    assert knn_mixing(generated, real, neighbour_count=k) == pytest.approx(other / k / 55)


def test_ties_share_their_places():
    # All rows equal: of the 5 other rows 3 are of the other side, for any k.
    for k in (1, 2, 5):
        assert knn_mixing(torch.ones(3, 4), torch.ones(3, 4), neighbour_count=k) == pytest.approx(3 / 5)


def test_one_distribution_mixes_to_about_a_half():
    cloud = gaussian(2, 600)
    assert knn_mixing(cloud[:300], cloud[300:]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("chunk_rows", [1, 7, 64])
def test_chunks_do_not_matter(chunk_rows):
    first, second = gaussian(3, 40), gaussian(4, 40)
    assert knn_mixing(first, second, chunk_rows=chunk_rows) == pytest.approx(knn_mixing(first, second), abs=1e-14)
    for measure in (neighbour_overlap, similarity_correlation):
        assert measure(first, second, chunk_rows=chunk_rows) == pytest.approx(measure(first, second), abs=1e-12)


def test_overlap_equals_a_loop():
    before = gaussian(5, 40)
    after = before + 0.5 * gaussian(6, 40)
    pairs = zip(naive_neighbours(before, 8), naive_neighbours(after, 8), strict=True)
    expected = sum(len(first & second) for first, second in pairs) / 8 / 40
    assert neighbour_overlap(before, after, neighbour_count=8) == pytest.approx(expected)


def test_similarity_correlation_equals_corrcoef():
    before = gaussian(7, 30)
    after = before + 0.5 * gaussian(8, 30)
    cosines = []
    for rows in (before, after):
        unit = torch.nn.functional.normalize(rows.double(), dim=1)
        cosines.append((unit @ unit.T)[~torch.eye(30, dtype=torch.bool)])
    expected = float(torch.corrcoef(torch.stack(cosines))[0, 1])
    assert similarity_correlation(before, after) == pytest.approx(expected, abs=1e-7)


def test_a_rotation_keeps_the_inside_and_not_the_place():
    rows = gaussian(9, 50)
    rotation = torch.linalg.qr(gaussian(10, 6)).Q
    kept = source_preservation(rows, 3 * rows @ rotation)
    assert kept["preserved_similarity"] == pytest.approx(1.0, abs=1e-6)
    assert kept["preserved_neighbours"] == pytest.approx(1.0, abs=1e-3)
    assert kept["preserved_cosine"] < 0.6
    assert source_preservation(rows, rows) == pytest.approx(
        {"preserved_cosine": 1.0, "preserved_similarity": 1.0, "preserved_neighbours": 1.0}
    )


def test_a_collapsed_cloud_keeps_nothing_to_correlate():
    assert similarity_correlation(gaussian(11, 9), torch.ones(9, 6)) == 0.0


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda: knn_mixing(gaussian(0, 3), gaussian(1, 3), neighbour_count=6), "number of rows, 6. Got 6"),
        (lambda: knn_mixing(gaussian(0, 3), gaussian(1, 3), neighbour_count=0), "Got 0 instead"),
        (lambda: knn_mixing(gaussian(0, 3), gaussian(1, 3, 2)), "same width. Got 6 and 2"),
        (lambda: neighbour_overlap(gaussian(0, 3), gaussian(1, 4)), "Got 3 before and 4 after"),
        (lambda: similarity_correlation(gaussian(0, 1), gaussian(1, 1)), "at least 2 rows"),
        (lambda: similarity_correlation(torch.zeros(2, 2), gaussian(1, 2)), "first embeddings.*row 0"),
    ],
)
def test_wrong_values_are_refused(measure, message):
    with pytest.raises(ValueError, match=message):
        measure()
