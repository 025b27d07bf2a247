"""Bad input ends with one clear sentence, before any work is lost."""

import json
import re
import shutil

import pandas as pd
import pytest
from PIL import Image

from .conftest import make_project

CAPTIONS = ["a dog runs.", "Zwei Hunde – „spielen“ 🐕!!", "two dogs; one ball?", "dogs " * 120, "un café à l'ombre"]


@pytest.fixture
def real_images(tmp_path):
    """Thirty small real images with free captions, in Karpathy's layout."""
    folder = tmp_path / "photographs"
    (folder / "images").mkdir(parents=True)
    images = []
    for number in range(30):
        name = f"photo_{number}.jpg"
        Image.effect_noise((70 + number, 50), 60).convert("RGB").save(folder / "images" / name)
        images.append(
            {
                "filename": name,
                "imgid": number,
                "split": "train" if number < 24 else "val",
                "sentences": [{"raw": raw, "sentid": 5 * number + i} for i, raw in enumerate(CAPTIONS)],
            }
        )
    (folder / "dataset.json").write_text(json.dumps({"images": images}, ensure_ascii=False), encoding="utf-8")
    return folder


@pytest.fixture
def own(tmp_path, repository, run_in, real_images, monkeypatch):
    """Runs a pipeline on the real images as a user of the own_corpus profile would."""
    (tmp_path / "project").mkdir()
    project = make_project(tmp_path / "project", repository)
    monkeypatch.chdir(project)

    def run(*pipelines, **parameters):
        places = {"annotations": str(real_images / "dataset.json"), "images": str(real_images / "images")}
        run_in(project, *pipelines, env="own_corpus", set="own", run_id="own", **(places | parameters))
        return project

    return run


def test_own_real_images_go_all_the_way(own):
    project = own("gmail", pairing={"val_fraction": 0.5}, generation={"image_count": 24, "captions_per_image": 4})
    scores = json.loads((project / "data/08_reporting/own/scores.json").read_text())
    assert scores["protocol"]["corpus"] == "own" and scores["protocol"]["split"] == "val"
    assert scores["retrieval"]["image_count"] == 6
    assert scores["retrieval"]["truncated_caption_count"] == 6
    assert scores["classification"]["unavailable"]["all"].startswith("the corpus 'own' has no labels, and")
    described = json.loads((project / "data/02_intermediate/own/shards/set.json").read_text())
    assert described["image_count"] == 96
    assert described["truncated_prompt_count"] > 0


def test_missing_real_images_are_counted_and_left_out_as_the_message_says(own, real_images, tmp_path):
    for number in (3, 25):  # of train and of val
        (real_images / f"images/photo_{number}.jpg").unlink()
    with pytest.raises(Exception, match=r"2 of the 30 images of the corpus 'own'.*skip_missing: true.*\n.*photo_3.jpg"):
        own("generation")
    catalog = tmp_path / "project/conf/own_corpus/catalog_corpus.yml"
    catalog.write_text(f"{catalog.read_text()}    skip_missing: true\n")
    home = own("generation", generation={"image_count": 24}) / "data/02_intermediate/own"
    assert set(pd.read_parquet(home / "captions.parquet")["image_id"]) == {str(n) for n in range(30)} - {"3", "25"}


def test_corrupt_real_image(own, real_images):
    path = real_images / "images/photo_4.jpg"
    path.write_bytes(path.read_bytes()[:400])
    told = r"1 of the 24 training images of the corpus 'own' cannot be used \(4.17%\)(.|\n)*image '4'"
    with pytest.raises(Exception, match=told):
        own("generation")
    project = own("generation", quality={"max_unreadable": 0.05})
    assert "4," in (project / "data/02_intermediate/own/unreadable_photographs.csv").read_text()


def test_empty_captions_file(own, real_images):
    (real_images / "dataset.json").write_text("")
    with pytest.raises(Exception, match="dataset.json"):
        own("generation")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"run": {"encoder": "clip_vit_b_31"}}, "no encoder 'clip_vit_b_31'. Known names: clip_vision_b_32"),
        ({"generation": {"generator": "sd9"}}, "no generator 'sd9'. Known names: .*mini_stable_diffusion"),
        ({"alignment": {"temperature": -0.1}}, "alignment.temperature must be greater than 0. Got -0.1"),
        ({"alignment": {"lora_rnak": 8}}, "lora_rnak"),
        ({"alignment": {"align_form": "eq2"}}, "alignment.align_form must be 'softmax', 'sigmoid' or 'cosine'"),
        ({"alignment": {"lora": {"rank": "four"}}}, "alignment.lora.rank must be a valid integer. Got 'four'"),
    ],
)
def test_bad_parameters_stop_the_run_before_its_first_node(own, real_images, parameters, message):
    with pytest.raises(Exception, match=message):
        own("gmail", **parameters)
    assert not (real_images.parent / "project/data").exists()


def test_a_split_of_one_real_image_stops_the_run_before_its_first_node(own, real_images):
    content = json.loads((real_images / "dataset.json").read_text())
    content["images"] = content["images"][:25]
    (real_images / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(Exception, match=r"split 'val' of the corpus 'own' has 1 images.*'train': 24, 'val': 1"):
        own("gmail")
    assert not (real_images.parent / "project/data").exists()


@pytest.mark.parametrize("pipeline", ["align", "evaluation"])
def test_what_other_pipelines_make_is_named_with_the_commands(own, pipeline):
    told = {
        "align": r"generated_images \(.*02_intermediate/own/shards\), pairs \(.*03_primary/own/pairs.parquet\). "
        r"Make it first.*: kedro run --pipeline=generation, then kedro run --pipeline=pairing$",
        "evaluation": r"adapter \(.*06_models/own/adapter\).*: kedro run --pipeline=generation, .*--pipeline=alignment",
    }
    with pytest.raises(FileNotFoundError, match=told[pipeline]):
        own(pipeline)


def test_nothing_is_generated_where_pairing_would_find_no_real_image_for_val(own, real_images):
    told = r"val_fraction=0.0001 and pairing.seed=0 put (\d+) .* into train and 0 into val; .*=(0.\d\d), or (.*)\.$"
    for image_count, remedy in ((5, "raise generation.image_count"), (25, "add real images to the corpus")):
        with pytest.raises(Exception, match=told) as refusal:
            own("generation", "pairing", pairing={"val_fraction": 0.0001}, generation={"image_count": image_count})
        count, fraction, advice = re.search(told, str(refusal.value)).groups()
        assert (int(count), advice) == (min(image_count, 24), remedy)
        assert not (real_images.parent / "project/data/02_intermediate/own/shards").exists()
    project = own("generation", "pairing", pairing={"val_fraction": float(fraction)}, generation={"image_count": 25})
    pairs = pd.read_parquet(project / "data/03_primary/own/pairs.parquet")
    assert pairs.groupby("split")["image_id"].nunique().to_dict()["val"] >= 1


def test_copies_are_refused_then_left_out_and_merged(own, real_images):
    folder = real_images / "images"
    shutil.copy(folder / "photo_25.jpg", folder / "photo_3.jpg")  # of val, in train
    shutil.copy(folder / "photo_8.jpg", folder / "photo_9.jpg")  # of train, in train
    with pytest.raises(Exception, match=r"1 of the 24 training images .*'3' is '25'.*quality.max_unreadable=0.042 "):
        own("generation")
    assert not (real_images.parent / "project/data/02_intermediate/own/shards").exists()
    project = own("generation", "pairing", quality={"max_unreadable": 0.042}, generation={"image_count": 24})
    home = project / "data/02_intermediate/own"
    captions = pd.read_parquet(home / "captions.parquet")
    assert "'3' has the very bytes of '25' in val" in (home / "unreadable_photographs.csv").read_text()
    assert not {"3", "9"} & {*captions["image_id"]}
    assert (captions["image_id"] == "8").sum() == 2 * len(CAPTIONS)
    pairs = pd.read_parquet(project / "data/03_primary/own/pairs.parquet")
    assert not {"3", "9"} & {*pairs["image_id"]} and pairs.groupby("image_id")["split"].nunique().max() == 1
