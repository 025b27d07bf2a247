"""Training-free maps against a dense oracle typed from the paper, closed forms, and what they must refuse."""

import math
import weakref

import pytest
import torch

from gmail_kedro.method.probe import probe_auc
from gmail_kedro.method.realign import KINDS, FeatureMap, fit_feature_map


def normalized(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def clouds(seed=0, *, source_count=400, target_count=300, width=16):
    """Unpaired float64 clouds of unequal spread and shape around different means, any norm."""
    rng = torch.Generator().manual_seed(seed)
    scales = torch.linspace(1.0, 0.1, width, dtype=torch.float64)
    source = torch.randn(source_count, width, generator=rng, dtype=torch.float64) * scales
    target = torch.randn(target_count, width, generator=rng, dtype=torch.float64) * scales.flip(0)
    source[:, 0] += 3.0
    target[:, 1] += 2.0
    return 5 * source, 0.3 * target


def stream(rows, chunk_size=1000):
    return lambda: iter(rows.split(chunk_size))


def fit(kind, source, target, chunk_size=1000):
    return fit_feature_map(kind, stream(source, chunk_size), stream(target, chunk_size))


def naive_realign(source, target, steps=("anchor", "trace", "centroid")):
    """The paper's steps, one after the other, on dense matrices."""
    y, x = normalized(source), normalized(target)
    source_mean, target_mean = y.mean(0), x.mean(0)
    source_trace = (y - source_mean).square().sum(1).mean()
    target_trace = (x - target_mean).square().sum(1).mean()
    scale = torch.sqrt(target_trace / (source_trace + 1e-10)) if "trace" in steps else 1.0
    moved = normalized(target_mean + scale * (y - source_mean))
    if "centroid" in steps:
        moved = normalized(moved - moved.mean(0) + target_mean)
    return moved


def centroid_gap(source, target):
    return float((normalized(source).mean(0) - normalized(target).mean(0)).norm())


def test_realign_equals_the_dense_oracle():
    source, target = clouds()
    mapped = fit("realign", source, target, chunk_size=37).source(source)
    assert mapped.dtype == torch.float64
    assert torch.allclose(mapped, naive_realign(source, target), rtol=0, atol=1e-12)


def test_c3_and_mean_shift_equal_their_formulas():
    source, target = clouds(1)
    y, x = normalized(source), normalized(target)
    c3, shift = fit("c3", source, target, 50), fit("mean_shift", source, target, 50)
    assert torch.allclose(c3.source(source), normalized(y - y.mean(0)), rtol=0, atol=1e-12)
    assert torch.allclose(c3.target(target), normalized(x - x.mean(0)), rtol=0, atol=1e-12)
    assert torch.allclose(shift.source(source), normalized(y - y.mean(0) + x.mean(0)), rtol=0, atol=1e-12)


def test_the_scale_follows_from_the_means():
    # On unit vectors T = 1 - ||mu||^2.
    source, target = clouds(2)
    fitted = fit("realign", source, target)
    traces = [1 - float(mean @ mean) for mean in (fitted.statistics["target_mean"], fitted.statistics["source_mean"])]
    assert float(fitted.statistics["scale"]) == pytest.approx(math.sqrt(traces[0] / traces[1]), rel=1e-9)
    unit = normalized(source)
    spread = float((unit - unit.mean(0)).square().sum(1).mean())
    assert spread == pytest.approx(1 - float(unit.mean(0).square().sum()), abs=1e-12)


def test_each_step_brings_the_centroids_closer():
    source, target = clouds(3, source_count=5000, target_count=5000)
    gaps = [centroid_gap(source, target)]
    for steps in (["anchor"], ["anchor", "trace"], ["anchor", "trace", "centroid"]):
        gaps.append(centroid_gap(naive_realign(source, target, steps), target))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[3] < 0.1 * gaps[2] < gaps[0]
    assert centroid_gap(fit("realign", source, target).source(source), target) == pytest.approx(gaps[3], abs=1e-12)


@pytest.mark.parametrize("kind", ["realign", "c3", "mean_shift"])
@pytest.mark.parametrize("chunk_size", [1, 7, 399, 400])
def test_chunks_do_not_matter(kind, chunk_size):
    source, target = clouds(4)
    whole, parts = fit(kind, source, target), fit(kind, source, target, chunk_size)
    for name, value in whole.statistics.items():
        assert torch.allclose(parts.statistics[name], value, rtol=0, atol=1e-13), name


def test_empty_chunks_are_passed_over():
    source, target = clouds(4)
    fitted = fit_feature_map("realign", lambda: [source[:0], source, source[:0]], stream(target))
    assert torch.equal(fitted.statistics["output_mean"], fit("realign", source, target).statistics["output_mean"])


@pytest.mark.parametrize("kind", ["none", "realign", "mean_shift"])
def test_the_target_keeps_its_directions(kind):
    source, target = clouds(5)
    assert torch.equal(fit(kind, source, target).target(target), normalized(target))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_unit_float32_and_the_input_is_left_alone(kind):
    source, target = (side.float() for side in clouds(6))
    before = source.clone(), target.clone()
    fitted = fit(kind, source, target)
    for mapped in (fitted.source(source, noise_seed=0), fitted.target(target)):
        assert mapped.dtype == torch.float32
        assert mapped.norm(dim=1).tolist() == pytest.approx([1.0] * len(mapped), abs=1e-6)
    assert torch.equal(source, before[0]) and torch.equal(target, before[1])


def test_none_reads_nothing():
    def refuse():
        raise AssertionError("the stream was read")

    source, _ = clouds()
    assert torch.equal(fit_feature_map("none", refuse, refuse).source(source), normalized(source))


def test_noise_is_for_training_with_c3_only():
    source, target = clouds(7, source_count=2000)
    fitted = fit("c3", source, target)
    assert not torch.equal(fitted.source(source, noise_seed=1), fitted.source(source))
    assert torch.equal(fitted.source(source, noise_seed=1), fitted.source(source, noise_seed=1))
    assert not torch.equal(fitted.source(source, noise_seed=1), fitted.source(source, noise_seed=2))
    for kind in ("none", "realign", "mean_shift"):
        other = fit(kind, source, target)
        assert torch.equal(other.source(source, noise_seed=1), other.source(source))


def test_noise_has_the_stated_variance_in_each_coordinate():
    # At the mean itself only the noise is left, so its direction is uniform and its cosines with a far row are known.
    rng = torch.Generator().manual_seed(0)
    drawn = torch.randn(3, 8, generator=rng, dtype=torch.float64) * math.sqrt(0.25)
    source = torch.tensor([[1.0, 0, 0, 0, 0, 0, 0, 0]] * 3, dtype=torch.float64)
    target = torch.eye(8, dtype=torch.float64)
    fitted = fit_feature_map("c3", lambda: [source], lambda: [target], noise_variance=0.25)
    assert torch.allclose(fitted.source(source, noise_seed=0), normalized(drawn), rtol=0, atol=1e-12)
    assert float(fit("c3", source, target).statistics["noise_variance"]) == 0.016


def test_a_map_closes_the_gap_of_rows_it_was_not_fitted_on():
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(400, 64, generator=rng)
    generated = real + 0.5 * torch.randn(400, 64, generator=rng)
    generated[:, 0] += 4.0
    groups, half = list(range(200)), (slice(0, 200), slice(200, 400))
    aucs = {"none": probe_auc(generated[half[1]], real[half[1]], groups, seed=0).auc}
    for name, fitted_on in (("others", half[0]), ("themselves", half[1])):
        fitted = fit("realign", generated[fitted_on], real[fitted_on])
        aucs[name] = probe_auc(fitted.source(generated[half[1]]), real[half[1]], groups, seed=0).auc
    assert aucs["none"] > 0.8
    assert 0.4 < aucs["others"] < 0.6
    assert aucs["themselves"] < 0.45  # the artefact that the documentation warns of


def test_one_chunk_is_held_at_a_time():
    _, target = clouds()
    seen, most = weakref.WeakSet(), 0

    def chunks():
        nonlocal most
        for seed in range(50):
            chunk = torch.randn(4, 16, generator=torch.Generator().manual_seed(seed)) + 1
            seen.add(chunk)
            most = max(most, len(seen))
            yield chunk
            del chunk

    fit_feature_map("realign", chunks, stream(target))
    assert most <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_map_is_the_map(kind, tmp_path):
    from safetensors.torch import load_file, save_file

    source, target = clouds(8)
    fitted = fit(kind, source, target)
    save_file(fitted.statistics, tmp_path / "map.safetensors", metadata={"kind": kind})
    stored = FeatureMap(kind, load_file(tmp_path / "map.safetensors"))
    assert stored.statistics.keys() == fitted.statistics.keys()
    assert torch.equal(stored.source(source, noise_seed=3), fitted.source(source, noise_seed=3))
    assert torch.equal(stored.target(target), fitted.target(target))


def bad(rows, row, value):
    changed = rows.clone()
    changed[row] = value
    return changed


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda s, t: fit("procrustes", s, t), r"must be one of \['none', 'realign', 'c3', 'mean_shift'\]. Got 'proc"),
        (lambda s, t: fit_feature_map("c3", list, stream(t)), "source stream of fit_feature_map is empty"),
        (lambda s, t: fit_feature_map("c3", stream(s), lambda: [t[:0]]), "target stream of fit_feature_map is empty"),
        (lambda s, t: fit("realign", s, t[:, :9]), "width 16. Got 9 in the target stream"),
        (lambda s, t: fit_feature_map("c3", lambda: [s, s[:, :3]], stream(t)), "width 16. Got 3 in the source stream"),
        (lambda s, t: fit("mean_shift", bad(s, 7, 0.0), t), "source embeddings.*norm 0.0 at row 7"),
        (lambda s, t: fit("mean_shift", s, bad(t, 9, torch.inf)), "target embeddings.*norm inf at row 9"),
        (lambda s, t: fit("realign", s[0], t), r"source embeddings must have shape \[N, D\]"),
        (lambda s, t: fit_feature_map("c3", stream(s), stream(t), noise_variance=-1), "noise_variance.*Got -1"),
        (lambda s, t: fit("realign", s, t).source(s[:, :5]), "width 16 that the map was fitted on. Got 5"),
        (lambda s, t: fit("c3", s, t).target(t[:, :5]), "target features.*Got 5"),
        (lambda s, t: fit("c3", s[:1], t).source(s[:1]), "mapped source embeddings.*norm 0.0 at row 0"),
        (lambda s, t: FeatureMap("c3"), r"'c3' needs the statistics \['noise_variance', 'source_mean', 'target_m"),
        (lambda s, t: FeatureMap("none", {"source_mean": s[0]}), r"needs the statistics \[\]. Got \['source_mean'\]"),
        (lambda s, t: FeatureMap("realign", {"scale": s[0, 0]}), r"Got \['scale'\] instead"),
        (lambda s, t: FeatureMap("whiten", {}), "Got 'whiten' instead"),
    ],
)
def test_wrong_values_are_refused(build, message):
    source, target = clouds()
    with pytest.raises(ValueError, match=message):
        build(source, target)


def test_a_generator_that_is_used_up_is_refused():
    source, target = clouds()
    once = iter(source.split(100))
    with pytest.raises(ValueError, match="400 rows in its first pass and 0 in a later one. Give a function"):
        fit_feature_map("realign", lambda: once, stream(target))
