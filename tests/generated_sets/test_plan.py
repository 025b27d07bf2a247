import time

import numpy as np
import pandas as pd
import pytest

from gmail_kedro.generated_sets.plan import PLAN_COLUMNS, hash_plan, image_seed, plan_images

from .painting import SETTINGS, generation_params, make_captions


def table(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["caption_id", "image_id", "caption", "split"])


def test_one_row_an_image_by_sample_then_rank_then_real_image() -> None:
    plan = plan_images(make_captions(3), params=generation_params(samples_per_caption=2, shard_size=2))
    assert tuple(plan.columns) == PLAN_COLUMNS
    assert plan["key"].tolist() == [
        f"cap_{image}_{order}/{n}" for n in (0, 1) for order in (0, 1) for image in range(3)
    ]
    assert plan["image_id"].tolist() == ["img_0.jpg", "img_1.jpg", "img_2.jpg"] * 4
    assert plan["prompt"].tolist()[3:5] == ["photograph 0, caption 1", "photograph 1, caption 1"]
    lanes = (("00000", "00001"), ("100000", "100001"), ("100000000", "100000001"), ("100100000", "100100001"))
    assert plan["shard_id"].tolist() == [name for first, second in lanes for name in (first, first, second)]
    assert plan["seed"].is_unique


def test_takes_the_first_captions_of_each_real_image_even_if_they_are_scattered() -> None:
    captions = table(
        ("a0", "a", "u", "train"),
        ("b0", "b", "v", "train"),
        ("v0", "v", "w", "val"),
        ("c0", "c", "w", "train"),
        ("b1", "b", "x", "train"),
        ("a1", "a", "y", "train"),
        ("a2", "a", "z", "train"),
    )
    plan = plan_images(captions, params=generation_params(captions_per_image=2))
    assert plan["caption_id"].tolist() == ["a0", "b0", "c0", "a1", "b1"]


def full_shards(plan: pd.DataFrame, shard_size: int) -> dict[str, str]:
    shards = {name: rows for name, rows in plan.groupby("shard_id") if len(rows) == shard_size}
    return {name: hash_plan(rows, SETTINGS) for name, rows in shards.items()}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", ["image_count", "captions_per_image", "samples_per_caption"])
def test_a_larger_plan_keeps_every_full_shard(name: str, shared: bool) -> None:
    rng = np.random.default_rng(0)
    captions = make_captions(23, captions_per_image=4).sample(frac=0.9, random_state=0)  # scattered and ragged
    if shared and name != "image_count":  # the one extension that shared prompts cannot promise
        captions["caption"] = rng.choice([f"text {n}" for n in range(30)], len(captions))
    sizes = {"image_count": 13, "captions_per_image": 2, "samples_per_caption": 2, "dedupe_prompts": shared}
    small = plan_images(captions, params=generation_params(**sizes))
    large = plan_images(captions, params=generation_params(**(sizes | {name: sizes[name] + 2})))
    kept = full_shards(small, 4)
    assert len(kept) >= 6 and len(large) > len(small)
    assert kept.items() <= full_shards(large, 4).items()
    assert set(small["key"]) < set(large["key"])


def test_with_one_caption_and_one_sample_more_real_images_only_add_rows() -> None:
    small, large = (
        plan_images(make_captions(5), params=generation_params(captions_per_image=1, image_count=count))
        for count in (2, 4)
    )
    pd.testing.assert_frame_equal(small, large.iloc[: len(small)])


def test_equal_captions_of_a_real_image_count_once() -> None:
    captions = table(
        ("a0", "a", "a cat", "train"),
        ("a1", "a", " a\tcat\n", "train"),
        ("a2", "a", "A cat", "train"),
        ("b0", "b", "a cat", "train"),
    )
    plan = plan_images(captions, params=generation_params(captions_per_image=2))
    assert plan["caption_id"].tolist() == ["a0", "b0", "a2"]
    shared = plan_images(captions, params=generation_params(captions_per_image=2, dedupe_prompts=True))
    assert shared["caption_id"].tolist() == ["a0", "a2"]


def test_seeds_are_those_of_the_first_release_and_depend_on_their_row_alone() -> None:
    assert image_seed(7, "cap_0_0", 0) == 499427378875107866
    plan = plan_images(make_captions(3), params=generation_params(samples_per_caption=2))
    expected = [image_seed(7, row.caption_id, row.sample_index) for row in plan.itertuples()]
    assert plan["seed"].tolist() == expected
    assert plan["seed"].dtype == np.int64
    assert min(expected) >= 0
    assert image_seed(1, "2/c", 3) != image_seed(1, "c", 32)


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        (table(), "captions table is empty"),
        (make_captions().drop(columns="split"), r"lacks \['split'\]"),
        (make_captions().query("split != 'train'"), r"No caption has split 'train'.*\['test', 'val'\]"),
        (table(("a", "i", "x", "train"), ("a", "j", "y", "val")), "caption_id 'a' occurs more than once"),
        (table(("a", "i", "x", "train"), ("b", "i", " \r\n\t", "train")), "caption 'b' is blank"),
        (table(("b", "i", "", "train")), "caption 'b' is blank"),
        (table(("b", "i", None, "train")), "caption 'b' is blank"),
        (table(("b", "i", "\ufeff", "train")), "caption 'b' is blank"),
        (table(("b", "i", "a \0 cat", "train")), "caption 'b' has a NUL"),
        (table((1, "i", "x", "train")), r"caption_id must be text. Got 1 \(int\) in row 0"),
        (table(("a", None, "x", "train")), "image_id must be text"),
        (table(("a", "i", "x", "restval")), "split of caption 'a' is 'restval'"),
        (table(("a" * 200, "i", "x", "train")), "shorter caption ids"),
    ],
)
@pytest.mark.reliability(8)
def test_refuses_a_table_that_cannot_be_planned(captions: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_images(captions, params=generation_params())


@pytest.mark.reliability(8)
def test_keeps_odd_captions_as_they_are() -> None:
    texts = ["\ufeffa cat", "a cat\r\n", "a 🐈\ttab", "long " * 200_000]
    captions = table(*[(f"c{n}", "i", text, "train") for n, text in enumerate(texts)])
    assert plan_images(captions, params=generation_params(captions_per_image=9))["prompt"].tolist() == texts


def test_the_hash_covers_rows_and_settings_and_survives_parquet(tmp_path) -> None:
    plan = plan_images(make_captions(), params=generation_params(samples_per_caption=2))
    plan.to_parquet(tmp_path / "plan.parquet")
    wanted = hash_plan(plan, SETTINGS)
    assert hash_plan(pd.read_parquet(tmp_path / "plan.parquet"), dict(reversed(SETTINGS.items()))) == wanted
    others = [hash_plan(plan, SETTINGS | {"steps": 2}), hash_plan(plan.iloc[:-1], SETTINGS)]
    others += [
        hash_plan(plan.assign(**{name: plan[name].iloc[::-1].to_numpy()}), SETTINGS) for name in PLAN_COLUMNS[:5]
    ]
    assert wanted not in others


def test_the_hash_tells_rows_apart_and_does_not_see_how_they_lie_in_memory() -> None:
    plan = plan_images(make_captions(6), params=generation_params())
    wanted = hash_plan(plan, SETTINGS)
    in_pieces = pd.concat([plan.iloc[:5], plan.iloc[5:7], plan.iloc[7:]])
    assert hash_plan(in_pieces, SETTINGS) == hash_plan(plan.astype({"prompt": object}), SETTINGS) == wanted
    moved = plan.copy()
    moved.loc[[0, 1], "prompt"] = [plan["prompt"][0][:-1], plan["prompt"][0][-1] + plan["prompt"][1]]
    assert "".join(moved["prompt"]) == "".join(plan["prompt"]) and hash_plan(moved, SETTINGS) != wanted


def test_refuses_more_captions_than_have_shards_of_their_own() -> None:
    rows = [(f"c{n}", "i", f"text {n}", "train") for n in range(1001)]
    params = generation_params(captions_per_image=2000)
    assert len(plan_images(table(*rows[:1000]), params=params)) == 1000
    with pytest.raises(ValueError, match="At most 1000 captions a real image"):
        plan_images(table(*rows), params=params)


def test_refuses_shards_too_small_for_the_corpus() -> None:
    captions = make_captions(100_001, captions_per_image=1)
    with pytest.raises(ValueError, match="100001 images make more than 100000 shards of 1"):
        plan_images(captions, params=generation_params(shard_size=1))


def test_plans_a_large_corpus_in_reasonable_time() -> None:
    started = time.perf_counter()
    plan = plan_images(make_captions(50_000), params=generation_params(shard_size=1000))
    hash_plan(plan, SETTINGS)
    assert len(plan) == 100_000
    assert time.perf_counter() - started < 10
