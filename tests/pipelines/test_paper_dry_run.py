"""The paper's profile from real images to scores: true formats and layouts, tiny weights, a few steps."""

import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from gmail_kedro.commands import main
from gmail_kedro.commands.project import Project
from gmail_kedro.commands.runs import run_pipelines
from gmail_kedro.corpora.classification_sets import CLASS_SETS

from ..models.tiny import promising_nothing
from .conftest import make_project
from .paper_files import WEIGHTS, save_class_sets, save_corpora, save_weights, write_profile, write_short_profile

pytestmark = pytest.mark.slow
SHORT = {
    "run": {"image_batch_size": 8, "encoder_path": f"{WEIGHTS}/clip_vit_b_32", "precision": "float32"},
    "generation": {
        "generator_path": f"{WEIGHTS}/stable_diffusion_2_base",
        "steps": 2, "resolution": 32, "batch_size": 8, "shard_size": 20,
    },
    "pairing": {"val_fraction": 0.25},
    "alignment": {"training": {"steps": 3, "batch_size": 6}},
    "downstream": {"language_model_path": f"{WEIGHTS}/gpt2", "training": {"steps": 3, "batch_size": 6}},
    "diagnostics": {"codec_size": 32, "tsne_count": 20, "bootstrap_count": 20},
    "evaluation": {"retrieval_protocol": None, "beam_size": 2, "bootstrap_count": 20, "meteor": False},
    "fine_tuning": {
        "epochs": 2, "warmup_epochs": 1, "batch_size": 4, "micro_batch_size": 2, "loader_workers": 1, "ema_decay": 0.5,
    },
    "transfer": {"flickr_protocol": None, "long_caption_protocol": None},
    "vision_language": {
        "model_path": f"{WEIGHTS}/llava_1_5_7b",
        "dtype": "float32", "max_tokens": 4, "training": {"steps": 2, "batch_size": 4, "micro_batch_size": 2},
    },
}  # fmt: skip
STAND_INS = (
    "clip_vit_b_32", "synclr_vit_b_16", "gpt2", "long_clip_b", "clip_vision_l_14_336", "llava_1_5_7b",
    "llama_3_8b_instruct", "stable_diffusion_2_base",
)  # fmt: skip
ACC1 = [f"{name}_acc1" for name in CLASS_SETS]
BENCHMARKS = {"coco_val2017": 3, "flickr30k_whole": 4, "sharegpt4v_1k": 4}


def run(project: Path, profile: str, *pipelines: str, **changes: object) -> None:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    given = {name: {**group, **changes.pop(name, {})} for name, group in SHORT.items()}
    bootstrap_project(project)
    with KedroSession.create(project_path=project, env=profile, runtime_params=given | changes) as session:
        session.run(pipeline_names=list(pipelines))


def read(project: Path, file: str) -> dict:
    return json.loads((project / "data/08_reporting" / file).read_text())


def assert_scored(group: dict, *names: str) -> None:
    assert set(names) <= set(group["scores"])
    assert all(math.isfinite(value) for value in group["scores"].values())


@pytest.fixture(scope="module", autouse=True)
def stand_ins(attention_in_bfloat16):
    with promising_nothing(*STAND_INS):
        yield


@pytest.fixture(scope="module")
def dry(tmp_path_factory, repository):
    """A project in which table 1's ClipCap row ran at the paper's settings, but for length and counts."""
    project = make_project(tmp_path_factory.mktemp("paper"), repository)
    save_weights(project)
    save_corpora(project)
    save_class_sets(project)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        tokenizer = {"caption_tokenizer": "ptb" if shutil.which("java") else "simple"}
        run(project, write_profile(project), "gmail", run_id="coco", set="coco", evaluation=tokenizer)
    return project


@pytest.fixture(scope="module")
def short(dry):
    """A profile in which the short settings are written down, but for paths: `gmail-kedro run` can be told none."""
    told = {group: {key: value for key, value in SHORT[group].items() if "path" not in key} for group in SHORT}
    told["evaluation"] = told["evaluation"] | {"caption_tokenizer": "simple"}
    return write_short_profile(dry, "dry", told)


def test_every_stage_leaves_scores_that_say_what_they_are_of(dry):
    scores = read(dry, "coco/scores.json")
    assert_scored(scores["captioning"], "bleu_4", "cider", "rouge_l")
    assert {"spice", "wmd"} <= scores["captioning"]["unavailable"].keys() | scores["captioning"]["scores"].keys()
    assert_scored(scores["retrieval"], "i2t_r1", "t2i_r10")
    assert_scored(scores["gap"], "paired_cosine_before", "paired_cosine_after")
    protocol = scores["protocol"]
    assert protocol["corpus"] == "coco" and protocol["image_count"] == 3 and protocol["encoder"] == "clip_vit_b_32"
    assert protocol["generator"] == "stable_diffusion_2_base" and protocol["generated_image_count"] == 40
    cost = read(dry, "coco/cost.json")
    assert cost["alignment"]["scores"]["steps"] == 3 and cost["captioner"]["scores"]["steps"] == 3


def test_the_run_had_the_papers_settings(dry):
    adapter = json.loads((dry / "data/06_models/coco/adapter/adapter_config.json").read_text())
    assert adapter["r"] == 4
    card = json.loads((dry / "data/02_intermediate/coco/card.json").read_text())
    assert "RAIL" in json.dumps(card)


@pytest.mark.parametrize(("benchmark", "count"), BENCHMARKS.items())
def test_other_corpora_are_measured_on(benchmark, count, dry, monkeypatch):
    monkeypatch.chdir(dry)
    run(dry, "dry", "evaluation", run_id="coco", set="coco", benchmark_corpus=benchmark)
    scores = read(dry, "coco/scores.json")
    assert scores["protocol"]["image_count"] == count
    assert_scored(scores["retrieval"], "i2t_r1", "t2i_r1")


def test_retrieval_is_measured_on_both_other_corpora_at_once(dry, monkeypatch):
    monkeypatch.chdir(dry)
    run(dry, "dry", "transfer", run_id="coco", set="coco")
    scores = read(dry, "coco/transfer.json")
    assert_scored(scores["flickr"], "i2t_r1", "t2i_r10")
    assert_scored(scores["long_captions"], "i2t_r1", "t2i_r1")
    assert scores["flickr"]["image_count"] == 4 and scores["long_captions"]["caption_count"] == 4


def test_a_larger_corpus_is_generated_for_and_aligned_on(dry, monkeypatch):
    monkeypatch.chdir(dry)
    run(dry, "dry", "generation", "pairing", "align", run_id="cc3m", set="cc3m", corpus="cc3m")
    card = json.loads((dry / "data/02_intermediate/cc3m/card.json").read_text())
    assert "cc3m" in json.dumps(card)
    assert (dry / "data/06_models/cc3m/adapter/adapter_model.safetensors").is_file()


def test_another_encoder_goes_the_same_way(dry, monkeypatch):
    monkeypatch.chdir(dry)
    encoder = {"encoder": "long_clip_b", "encoder_path": f"{WEIGHTS}/long_clip_b"}
    run(dry, "dry", "experiment", run_id="long_clip", set="coco", run=encoder)
    scores = read(dry, "long_clip/scores.json")
    assert_scored(scores["retrieval"], "i2t_r1", "t2i_r1")
    assert scores["protocol"]["encoder"] == "long_clip_b" and scores["retrieval"]["truncated_caption_count"] == 0


def test_all_eight_classification_sets_are_measured_zero_shot(dry, monkeypatch):
    """Table 4 with a text tower; the other tables measure none of them."""
    monkeypatch.chdir(dry)
    assert read(dry, "coco/scores.json")["classification"]["unavailable"] == {"all": "evaluation.class_sets is empty"}
    run(dry, "dry", "evaluation", run_id="coco", set="coco", evaluation={"class_sets": None})
    scores = read(dry, "coco/scores.json")
    assert_scored(scores["classification"], *ACC1)
    assert len(scores["classification"]["scores"]) == 16
    items = pd.read_parquet(dry / "data/08_reporting/coco/item_scores.parquet")
    assert set(ACC1) <= set(items["measure"])


def test_without_a_text_tower_imagenet_is_fine_tuned_on_and_the_others_are_probed(dry, short, monkeypatch):
    """Table 4's SynCLR row, as experiments.yml has it."""
    monkeypatch.chdir(dry)
    assert main(["run", "synclr_frozen", "--env", short]) == 0
    folder = "repro_paper/synclr_frozen-0"
    scores = read(dry, f"{folder}/scores.json")
    assert "reads no texts" in scores["classification"]["unavailable"]["all"]
    assert set(scores["fine_tuning"]["intervals"]) == {"imagenet_acc1"}
    assert set(scores["linear_probe"]["intervals"]) == set(ACC1) - {"imagenet_acc1"}
    assert_scored(scores["linear_probe"], "dtd_acc1")
    assert len(pd.read_csv(dry / f"data/08_reporting/{folder}/fine_tuning_history.csv")) == 2
    assert (dry / "data/06_models/repro_paper/synclr_frozen-0/classifiers/imagenet.safetensors").is_file()


def test_missing_sets_stop_the_run_before_anything_is_encoded(dry, monkeypatch):
    """Fault test 25: all of them in one message."""
    monkeypatch.chdir(dry)
    raw = dry / "data/01_raw"
    for name in ("dtd", "SUN397"):
        (raw / name).rename(raw / f"{name}_elsewhere")
    try:
        with pytest.raises(FileNotFoundError, match=r"(?s)2 of the 8 .*'dtd' should be.*'sun397' should be the folder"):
            run(dry, "dry", "experiment", run_id="stopped", set="coco", evaluation={"class_sets": None})
    finally:
        for name in ("dtd", "SUN397"):
            (raw / f"{name}_elsewhere").rename(raw / name)
    assert not (dry / "data/08_reporting/stopped").exists() and not (dry / "data/06_models/stopped").exists()


@pytest.mark.parametrize("model", ["llava_1_5_7b", "clip_llama_3_8b"])
def test_a_llava_answers_the_questions_of_both_benchmarks(model, dry, monkeypatch):
    monkeypatch.chdir(dry)
    tower = {"encoder": "clip_vision_l_14_336", "encoder_path": f"{WEIGHTS}/clip_vision_l_14_336"}
    language = {"model": model, "model_path": f"{WEIGHTS}/{model}"}
    run(dry, "dry", "align", "vision_language", run_id=model, set="coco", run=tower, vision_language=language)
    scores = read(dry, f"{model}/vision_language.json")
    assert_scored(scores["captioning"], "cider")
    assert_scored(scores["scienceqa"], "accuracy")
    assert_scored(scores["mmmu"], "accuracy")
    assert scores["protocol"]["encoder"] == "clip_vision_l_14_336" and scores["protocol"]["model"] == model


def test_preflight_finds_what_is_there_and_names_what_is_short(dry, monkeypatch, capsys):
    monkeypatch.chdir(dry)
    monkeypatch.setenv("HF_HUB_CACHE", str(dry / "no_cache"))
    assert main(["preflight", "--env", "dry", "--table", "1", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    here = {one["name"] for one in found["findings"] if one["is_here"]}
    weights = {"clip_vit_b_32", "clip_vision_l_14_336", "stable_diffusion_2_base", "gpt2", "llava_1_5_7b"}
    assert weights | {"clip_llama_3_8b"} <= here
    missing = {one["name"]: one["detail"] for one in found["findings"] if not one["is_here"]}
    assert "train2014/*.jpg (6 of 82,783)" in missing["coco_karpathy"]
    assert weights.isdisjoint(missing)


def test_a_row_is_one_command_and_the_tables_find_it(dry, short, monkeypatch, capsys):
    """No weights, set, corpus or encoder is named: the row, the profile and the folder of weights say it all."""
    monkeypatch.chdir(dry)
    assert main(["run", "clip_frozen", "--env", short]) == 0
    receipt = read(dry, "repro_paper/clip_frozen-0/run.json")
    assert receipt["set"] == "coco" and receipt["generator"] == "stable_diffusion_2_base"
    assert read(dry, "repro_paper/clip_frozen-0/scores.json")["protocol"]["encoder"] == "clip_vit_b_32"
    assert main(["table", "14", "--env", short, "--dry-run"]) == 0
    done = [line for line in capsys.readouterr().out.splitlines() if "# done; " in line]
    assert [line.split()[:3] for line in done] == [
        ["gmail-kedro", "set", "make"],
        ["kedro", "run", "--env"],
        ["gmail-kedro", "run", "clip_frozen"],
    ]
    run_pipelines(Project(dry, short), ["tables"], {})
    cells = pd.read_parquet(dry / "data/08_reporting/tables_paper/tables.parquet").set_index(["table", "row"])
    assert cells.loc[(14, "without alignment"), "run_ids"] == "repro_paper/clip_frozen-0"
    assert cells.loc[(3, "CLIP"), "reason"].iloc[0] == "not run: gmail-kedro run clip_b_16_frozen --seed 0 --env paper"
    assert 102 not in cells.index.get_level_values("table")


CHANGED = ("catalog_class_sets.yml", "catalog_corpus.yml", "catalog_questions.yml")


def test_the_profile_differs_from_the_papers_only_in_counts(dry):
    for file in (dry / "conf/paper").iterdir():
        ours, papers = (yaml.safe_load((dry / "conf" / env / file.name).read_text()) for env in ("dry", "paper"))
        assert (ours == papers) == (file.name not in CHANGED)
