"""Recall at k against hand-checked matrices and a full sort."""

import numpy as np
import pytest
import torch

from gmail_kedro.metrics.retrieval import RetrievalResult, retrieval_scores

KS = (1, 2, 5, 10)


def naive_hits(image, text, owner, k):
    """Sorts the whole matrix: by falling cosine, then by rising index."""
    unit_image, unit_text = (torch.nn.functional.normalize(side.double(), dim=1) for side in (image, text))
    cosines = (unit_image @ unit_text.T).tolist()
    owner = owner.tolist()
    i2t = [
        any(owner[t] == i for t in sorted(range(len(owner)), key=lambda t, row=row: (-row[t], t))[:k])
        for i, row in enumerate(cosines)
    ]
    columns = list(zip(*cosines, strict=True))
    t2i = [
        owner[t] in sorted(range(len(column)), key=lambda i, column=column: (-column[i], i))[:k]
        for t, column in enumerate(columns)
    ]
    return i2t, t2i


def random_problem(seed, image_count=37, text_count=111, width=8):
    rng = torch.Generator().manual_seed(seed)
    image = torch.randn(image_count, width, generator=rng)
    extra = torch.randint(0, image_count, (text_count - image_count,), generator=rng)
    owner = torch.cat([torch.arange(image_count), extra])[torch.randperm(text_count, generator=rng)]
    text = image[owner] + 1.5 * torch.randn(text_count, width, generator=rng)
    return image * 3, text, owner


def hits_of(result: RetrievalResult):
    return {(side, k): hits.tolist() for side in ("i2t_hits", "t2i_hits") for k, hits in getattr(result, side).items()}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.reliability(23)
def test_equals_a_full_sort(seed):
    image, text, owner = random_problem(seed)
    result = retrieval_scores(image, text, owner, ks=KS)
    for k in KS:
        i2t, t2i = naive_hits(image, text, owner, k)
        assert result.i2t_hits[k].tolist() == i2t
        assert result.t2i_hits[k].tolist() == t2i


def test_hand_checked_ranks():
    # Texts at 0, 30, 60 and 90 degrees; images at 10 and 80 degrees. Image 0 owns the texts at 60 and 90.
    angles = torch.deg2rad(torch.tensor([10.0, 80.0, 0.0, 30.0, 60.0, 90.0]))
    rows = torch.stack([angles.cos(), angles.sin()], dim=1)
    result = retrieval_scores(rows[:2], rows[2:], torch.tensor([1, 1, 0, 0]), ks=(1, 2, 3))
    assert {k: hits.tolist() for k, hits in result.i2t_hits.items()} == {
        1: [False, False],
        2: [False, False],
        3: [True, True],
    }
    assert result.t2i_hits[1].tolist() == [False, False, False, False]
    assert result.scores() == {
        "i2t_r1": 0.0, "i2t_r2": 0.0, "i2t_r3": 100.0, "t2i_r1": 0.0, "t2i_r2": 100.0, "t2i_r3": 100.0,
    }  # fmt: skip


def test_five_captions_an_image_where_a_diagonal_would_be_wrong():
    image = torch.eye(5)
    owner = torch.arange(5).repeat_interleave(5)
    result = retrieval_scores(image, image[owner], owner)
    assert result.scores()["i2t_r1"] == 100.0
    assert result.scores()["t2i_r1"] == 100.0
    diagonal = ((image @ image[owner].T).argmax(dim=1) == torch.arange(5)).float().mean()
    assert diagonal == pytest.approx(0.2)  # what the recall of one-to-one pairs reads here


def test_one_good_caption_of_five_is_enough_for_image_to_text():
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    good, bad = torch.tensor([1.0, 0.1]), torch.tensor([0.2, 1.0])
    text = torch.stack([bad, bad, bad, bad, good, torch.tensor([0.1, 1.0])])
    result = retrieval_scores(image, text, torch.tensor([0, 0, 0, 0, 0, 1]), ks=(1,))
    assert result.i2t_hits[1].tolist() == [True, True]
    assert result.t2i_hits[1].tolist() == [False, False, False, False, True, True]


@pytest.mark.reliability(23)
def test_ties_go_to_the_lower_index():
    image, owner = torch.ones(3, 7), torch.tensor([2, 0, 1])
    result = retrieval_scores(image, torch.ones(3, 7) * 0.3, owner, ks=(1, 2, 3))
    assert result.i2t_hits[1].tolist() == [False, False, True]  # text 0 is best for all, and belongs to image 2
    assert result.i2t_hits[2].tolist() == [True, False, True]
    assert result.t2i_hits[1].tolist() == [False, True, False]  # image 0 is best for all
    assert result.t2i_hits[3].all()


def test_an_image_uses_the_lower_of_two_equal_captions():
    # Three equal texts: image 0 owns texts 0 and 2, image 1 owns text 1.
    result = retrieval_scores(torch.ones(2, 3), torch.ones(3, 3), torch.tensor([0, 1, 0]), ks=(1,))
    assert result.i2t_hits[1].tolist() == [True, False]


@pytest.mark.parametrize("block", [1, 2, 7, 36, 37, 38, 1000])
@pytest.mark.reliability(23)
def test_the_block_size_changes_nothing(block):
    image, text, owner = random_problem(9)
    image[5:9], text[20:40] = image[3], text[11]  # plenty of exact ties
    assert hits_of(retrieval_scores(image, text, owner, ks=KS, block=block)) == hits_of(
        retrieval_scores(image, text, owner, ks=KS, block=64)
    )


@pytest.mark.reliability(23)
def test_rows_may_have_any_norm_and_precision():
    image, text, owner = random_problem(3)
    scale = torch.linspace(0.1, 50, len(image))[:, None]
    expected = hits_of(retrieval_scores(image, text, owner))
    assert hits_of(retrieval_scores(image * scale, text * 4, owner)) == expected
    assert hits_of(retrieval_scores(image.double(), text.double(), owner)) == expected


@pytest.mark.reliability(23)
def test_a_cut_off_beyond_the_candidates_makes_every_query_a_hit():
    image, text, owner = random_problem(0)
    result = retrieval_scores(image, text, owner, ks=(500,))
    assert result.scores() == {"i2t_r500": 100.0, "t2i_r500": 100.0}


def test_chance_level():
    rng = torch.Generator().manual_seed(0)
    image, text = torch.randn(300, 16, generator=rng), torch.randn(300, 16, generator=rng)
    scores = retrieval_scores(image, text, torch.arange(300), ks=(30,)).scores()
    assert scores["t2i_r30"] == pytest.approx(10.0, abs=6.0)


def test_hits_are_boolean_arrays_of_one_entry_a_query():
    image, text, owner = random_problem(0)
    result = retrieval_scores(image, text, owner)
    assert list(result.i2t_hits) == [1, 5, 10]
    assert result.i2t_hits[1].dtype == np.bool_
    assert (result.i2t_hits[1].shape, result.t2i_hits[1].shape) == ((37,), (111,))


INDEX = torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    ("image", "text", "index", "options", "message"),
    [
        (torch.eye(2) * torch.tensor([[1.0], [0.0]]), torch.ones(3, 2), INDEX, {}, "image embeddings.*row 1"),
        (torch.eye(2), torch.full((3, 2), torch.nan), INDEX, {}, "text embeddings.*row 0"),
        (torch.eye(2), torch.ones(3, 4), INDEX, {}, "same width. Got 2 and 4"),
        (torch.eye(2), torch.ones(3, 2), torch.tensor([0, 1]), {}, "one entry for each of the 3 texts"),
        (torch.eye(2), torch.ones(3, 2), torch.tensor([0, 1, 2]), {}, "between 0 and 1. Got 2 for text 2"),
        (torch.eye(2), torch.ones(3, 2), torch.tensor([0, -1, 1]), {}, "Got -1 for text 1"),
        (torch.eye(2), torch.ones(3, 2), torch.tensor([1, 1, 1]), {}, "Image 0 has none"),
        (torch.eye(2), torch.ones(3, 2), INDEX, {"ks": ()}, "cut-offs ks must be positive"),
        (torch.eye(2), torch.ones(3, 2), INDEX, {"ks": (0, 1)}, "cut-offs ks must be positive"),
        (torch.eye(2), torch.ones(3, 2), INDEX, {"block": 0}, "block size must be positive"),
    ],
)
def test_wrong_values_are_refused(image, text, index, options, message):
    with pytest.raises(ValueError, match=message):
        retrieval_scores(image, text, index, **options)


def test_a_float_index_is_refused():
    with pytest.raises(TypeError, match="must hold integers"):
        retrieval_scores(torch.eye(2), torch.ones(3, 2), INDEX.float())


def one_hot_recall(image, text, owner, k):
    """Recall as CLIP_benchmark counts it: one-hot top-k rows times a matrix of positives, one direction at a time."""
    unit_image, unit_text = (torch.nn.functional.normalize(side.double(), dim=1) for side in (image, text))
    scores = unit_text @ unit_image.T
    positives = torch.zeros_like(scores, dtype=torch.bool)
    positives[torch.arange(len(text)), owner] = True
    recalls = {}
    for name, side, truth in (("t2i", scores, positives), ("i2t", scores.T, positives.T)):
        best = torch.nn.functional.one_hot(side.topk(min(k, side.shape[1]), dim=1).indices, side.shape[1])
        found = (best * truth[:, None, :]).sum(dim=(1, 2)) > 0
        recalls[f"{name}_r{k}"] = 100 * found.double().mean().item()
    return recalls


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 5, 10, 200])
def test_equals_the_dense_one_hot_way_of_the_reference_tool(seed, k):
    image, text, owner = random_problem(seed, image_count=60, text_count=300, width=16)
    scores = retrieval_scores(image, text, owner, ks=(k,)).scores()
    assert scores == pytest.approx(one_hot_recall(image, text, owner, k))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("block", [1, 3, 16, 1024])
@pytest.mark.reliability(23)
def test_hostile_embeddings_rank_as_a_full_sort_ranks_them(dtype, block):
    """Fault test 23: duplicates, near-duplicates below float32's error, half precision, k > N, any block size."""
    image, text, owner = random_problem(5, image_count=24, text_count=72, width=64)
    image, text = image.to(dtype), text.to(dtype)
    image[7:12], text[10:30] = image[2], text[4]
    text[40:50] = image[owner[40]] * 3  # a cosine of one, several times
    text[50:54] = text[4] * (1 + 1e-7)
    result = retrieval_scores(image, text, owner, ks=(1, 5, 10, 500), block=block)
    reference = _exact_hits(image, text, owner)
    for k in (1, 5, 10, 500):
        assert result.i2t_hits[k].tolist() == [rank < k for rank in reference[0]]
        assert result.t2i_hits[k].tolist() == [rank < k for rank in reference[1]]


def _exact_hits(image, text, owner):
    """Returns the rank of every query's best positive from one exact matrix."""
    from gmail_kedro.metrics.cosine import grid_rows

    cosines = (grid_rows(image) @ grid_rows(text).T).numpy()
    by_image = [
        min(np.lexsort((np.arange(len(row)), -row)).tolist().index(t) for t in np.flatnonzero(owner.numpy() == i))
        for i, row in enumerate(cosines)
    ]
    by_text = [
        np.lexsort((np.arange(len(column)), -column)).tolist().index(int(owner[t]))
        for t, column in enumerate(cosines.T)
    ]
    return by_image, by_text


def test_collapsed_embeddings_take_the_exact_path_for_whole_blocks():
    """Fault test 23: every candidate ties with every positive, the worst case of the float32 screening."""
    image, owner = torch.ones(90, 33), torch.arange(90).repeat_interleave(2)
    result = retrieval_scores(image, torch.ones(180, 33), owner, ks=(1, 10), block=200)
    assert result.scores() == pytest.approx(
        {"i2t_r1": 100 / 90, "i2t_r10": 500 / 90, "t2i_r1": 100 / 90, "t2i_r10": 1000 / 90}
    )


def test_one_image_is_found_by_its_captions():
    """Fault test 23: one image, and a cut-off larger than the number of candidates."""
    scores = retrieval_scores(torch.ones(1, 4), torch.randn(3, 4).abs(), torch.zeros(3, dtype=torch.long)).scores()
    assert set(scores.values()) == {100.0}


@pytest.mark.reliability(23)
def test_memory_above_the_embeddings_is_bounded():
    """Fault test 23: a score matrix of 300 MB is never made; the peak stays below a fifth of it."""
    import subprocess
    import sys

    if not sys.platform.startswith("linux"):
        pytest.skip("The peak of the resident set is read from /proc.")
    script = """
import re, torch
from pathlib import Path
from gmail_kedro.metrics.retrieval import retrieval_scores
resident = lambda name: int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
image, text = torch.randn(4000, 16), torch.randn(20000, 16)
retrieval_scores(image[:10], text[:10], torch.arange(10))
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
retrieval_scores(image, text, torch.arange(20000) % 4000)
print(resident("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60


def test_a_float32_cosine_is_never_further_off_than_the_bound():
    from gmail_kedro.metrics.cosine import GRID, grid_rows
    from gmail_kedro.metrics.retrieval import _float32_error, _unit_rows

    rng = torch.Generator().manual_seed(1)
    for width in (2, 64, 768):
        first, second = torch.randn(300, width, generator=rng), torch.rand(300, width, generator=rng)
        exact = (grid_rows(first) @ grid_rows(second).T).numpy() / GRID**2
        off = np.abs(_unit_rows(first) @ _unit_rows(second).T - exact).max()
        assert 0 < off < _float32_error(width) < 1e-4
