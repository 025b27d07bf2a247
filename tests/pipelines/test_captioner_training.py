"""Every captioner trains on every source, resumes to the same bytes, and remembers what it was trained on."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from kedro.config import OmegaConfigLoader

from gmail_kedro.engine.checkpoint import Checkpoints
from gmail_kedro.interfaces import Corpus, FeatureOrigin
from gmail_kedro.mini.world.grammar import GRAMMAR
from gmail_kedro.models.captioners.captioner import Captioner
from gmail_kedro.models.captioners.ifcap import IfcapCaptioner
from gmail_kedro.models.inventory import check_models
from gmail_kedro.models.weight_sources import MissingWeightsError
from gmail_kedro.params.base import ParameterError
from gmail_kedro.params.downstream import DownstreamParams, IfcapParams
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.downstream.captioner_training import CaptionExamples, add_noise, prepare_captioner
from gmail_kedro.pipelines.downstream.nodes import train_captioner
from gmail_kedro.pipelines.downstream.training_features import TrainingFeatures, gather
from gmail_kedro.pipelines.evaluation.nodes import write_captions
from gmail_kedro.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
BASE = OmegaConfigLoader(str(ROOT / "conf"), env="base", **CONFIG_LOADER_ARGS)["parameters"]
RUN = RunParams(**{**BASE["run"], "precision": "float32", "device": "cpu"})
RUNS = yaml.safe_load((ROOT / "conf/base/experiments.yml").read_text())["runs"]
COUNT, D = 24, 12
TRAINING = {"training.steps": 6, "training.batch_size": 8, "training.checkpoint_every": 2}
TINY = TRAINING | {"mapper_layers": 2, "max_tokens": 16}
CORPUS = Corpus("tiny", pd.DataFrame(), images=None, labels={}, grammar=GRAMMAR)
ORIGIN = FeatureOrigin("mini_clip", ("generated",), real_route="a" * 64, student="s", feature_map="none 0")
KINDS = {
    "mlp": {},
    "transformer": {"mapper": "transformer", "tune_language_model": "none"},
    "lora": {"tune_language_model": "lora", "lora.rank": 4, "lora.dropout": 0.2},
    "ifcap": {"model": "ifcap"},
}


def downstream(**changes) -> DownstreamParams:
    return DownstreamParams(**BASE["downstream"]).replace(**TINY | changes)


def ifcap(**changes) -> IfcapParams:
    return IfcapParams(
        **{**BASE["ifcap"], "retrieved_count": 3, "entity_captions": 4, "entity_threshold": 2, **changes}
    )


def random_rows(seed: int) -> torch.Tensor:
    return torch.randn(COUNT, D, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def pairs() -> pd.DataFrame:
    inks = ("red", "blue", "green")
    return pd.DataFrame(
        {
            "caption_id": [f"c{number}" for number in range(COUNT)],
            "image_id": [f"i{number // 2}" for number in range(COUNT)],
            "caption": [f"a {inks[number % 3]} {number} on a page." for number in range(COUNT)],
            "real_key": [f"i{number // 2}" for number in range(COUNT)],
            "generated_key": [f"c{number}/0" for number in range(COUNT)],
            "split": ["val" if number >= COUNT - 4 else "train" for number in range(COUNT)],
        }
    )


@pytest.fixture
def features() -> TrainingFeatures:
    return TrainingFeatures(random_rows(0), np.arange(COUNT), ORIGIN, random_rows(1))


def weights_of(captioner: Captioner, folder: Path) -> dict[str, bytes]:
    captioner.save_pretrained(folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_training_that_was_stopped_goes_on_to_the_same_bytes(kind, pairs, features, tmp_path, monkeypatch):
    params = downstream(**KINDS[kind])
    settings = ifcap(train_source="text_noise")  # the one with noise
    straight, history = train_captioner(pairs, CORPUS, features, Checkpoints(tmp_path / "a"), params, settings, RUN)
    calls, loss_after = [], Captioner.loss_after

    def stop_in_step_5(self, *args):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return loss_after(self, *args)

    monkeypatch.setattr(Captioner, "loss_after", stop_in_step_5)
    with pytest.raises(KeyboardInterrupt):
        train_captioner(pairs, CORPUS, features, Checkpoints(tmp_path / "b"), params, settings, RUN)
    assert (tmp_path / "b/captioner.safetensors").exists()
    torch.rand(7)  # whatever else happened in the meantime
    checkpoints = Checkpoints(tmp_path / "b")
    resumed, again = train_captioner(pairs, CORPUS, features, checkpoints, params, settings, RUN)
    assert len(calls) < 6 + 6 + 1 + 1  # two steps and the validation, not all six steps
    assert weights_of(straight, tmp_path / "straight") == weights_of(resumed, tmp_path / "resumed")
    assert list(history["loss"]) == list(again["loss"]) and len(history) == 6
    assert history["val_loss"].iloc[-1] == again["val_loss"].iloc[-1]
    checkpoints.remove_opened()
    assert not list((tmp_path / "b").iterdir())


def test_a_checkpoint_of_other_ifcap_settings_is_refused(pairs, features, tmp_path):
    params = downstream(model="ifcap")
    train_captioner(pairs, CORPUS, features, Checkpoints(tmp_path), params, ifcap(), RUN)
    with pytest.raises(ValueError, match=r"ifcap.entity_drop was '0.4' and is now '0.1'"):
        train_captioner(pairs, CORPUS, features, Checkpoints(tmp_path), params, ifcap(entity_drop=0.1), RUN)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_stored_captioner_knows_its_origin_and_can_be_taken_without_training(kind, pairs, features, tmp_path):
    captioner, _ = train_captioner(
        pairs, CORPUS, features, Checkpoints(tmp_path), downstream(**KINDS[kind]), ifcap(), RUN
    )
    captioner.save_pretrained(tmp_path / "captioner")
    params = downstream(pretrained=str(tmp_path / "captioner"), language_model="gpt2")  # not at hand, not needed
    taken, history = train_captioner(pairs, CORPUS, features, Checkpoints(tmp_path), params, ifcap(), RUN)
    assert history.empty and list(history.columns) == ["step", "loss"]
    assert taken.spec == captioner.spec and taken.spec.origin == ORIGIN
    assert weights_of(taken, tmp_path / "again") == weights_of(captioner, tmp_path / "first")
    real = FeatureOrigin(**{**asdict(ORIGIN), "sides": ("real",)})
    texts = taken.caption(random_rows(3)[:2], beam_size=2, max_tokens=4, origin=real)
    assert texts == captioner.caption(random_rows(3)[:2], beam_size=2, max_tokens=4)
    with pytest.raises(ValueError, match="another real route"):
        taken.caption(random_rows(3), beam_size=2, max_tokens=4, origin=FeatureOrigin("mini_clip", ("real",), "b" * 64))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_training_goes_on_from_a_stored_captioner(kind, pairs, features, tmp_path):
    first, before = train_captioner(
        pairs,
        CORPUS,
        features,
        Checkpoints(tmp_path),
        downstream(**KINDS[kind], **{"training.steps": 20}),
        ifcap(),
        RUN,
    )
    first.save_pretrained(tmp_path / "captioner")
    changes = {**KINDS[kind], "start_from": str(tmp_path / "captioner")}
    second, after = train_captioner(
        pairs, CORPUS, features, Checkpoints(tmp_path / "b"), downstream(**changes), ifcap(), RUN
    )
    assert len(after) == TINY["training.steps"] and after["loss"].iloc[0] < before["loss"].iloc[0]
    assert weights_of(second, tmp_path / "second") != weights_of(first, tmp_path / "first")
    assert [name for name, value in second.named_parameters() if value.requires_grad]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"mapper": "transformer"}, "its mapper is"), ({"tune_language_model": "lora"}, "its tuned part of the language")],
)
def test_training_refuses_to_go_on_from_another_kind(changes, message, pairs, features, tmp_path):
    first, _ = train_captioner(pairs, CORPUS, features, Checkpoints(tmp_path), downstream(), ifcap(), RUN)
    first.save_pretrained(tmp_path / "captioner")
    params = downstream(**changes, start_from=str(tmp_path / "captioner"))
    with pytest.raises(ValueError, match=f"Training cannot go on from .*{message}"):
        train_captioner(pairs, CORPUS, features, Checkpoints(tmp_path), params, ifcap(), RUN)


def prepare(pairs, features, **changes):
    return prepare_captioner(pairs, CORPUS, features, downstream(model="ifcap"), ifcap(**changes), RUN, device=CPU)


def retrieved_by(examples: CaptionExamples) -> torch.Tensor:
    """The rows of the memory that each example sees, [M, K]."""
    return examples.loss.args[3]


def test_ifcap_remembers_training_captions_only_each_once(pairs, features):
    twice = pd.concat([pairs, pairs.iloc[:4]], ignore_index=True)  # four captions with a second image
    doubled = TrainingFeatures(
        features.embeddings[[*range(COUNT), 0, 1, 2, 3]], np.arange(COUNT + 4), ORIGIN,
        features.texts[[*range(COUNT), 0, 1, 2, 3]],
    )  # fmt: skip
    examples = prepare(twice, doubled)
    assert isinstance(examples.captioner, IfcapCaptioner)
    assert examples.captioner.memory.captions == list(pairs["caption"][:20])
    assert examples.captioner.memory.nouns[4] == ["blue", "4", "page"]
    retrieved = retrieved_by(examples)
    own = [*range(20), -1, -1, -1, -1, 0, 1, 2, 3]
    assert all(row not in found for row, found in zip(own, retrieved.tolist(), strict=True))


def test_generated_images_are_queries_without_noise_and_captions_are_queries_with_it(pairs, features):
    memory = prepare(pairs, features).captioner.memory
    excluded = torch.tensor([*range(20), -1, -1, -1, -1])
    plain = memory.nearest(features.embeddings, count=3, excluded=excluded)
    assert torch.equal(retrieved_by(prepare(pairs, features)), plain)
    noisy = retrieved_by(prepare(pairs, features, train_source="text_noise"))
    assert not torch.equal(noisy, plain)
    assert torch.equal(noisy, retrieved_by(prepare(pairs, features, train_source="text_noise")))
    assert torch.equal(retrieved_by(prepare(pairs, features, train_source="text_noise", query_noise_std=0.0)), plain)


def test_noise_and_dropped_entities_change_with_the_step_and_with_nothing_else(pairs, features, monkeypatch):
    seen = []

    def remember(self, embeddings, tokens, retrieved, entities):
        seen.append((embeddings, entities))
        return torch.zeros(())

    monkeypatch.setattr(IfcapCaptioner, "loss_with", remember)
    rows = np.arange(20)
    examples = prepare(pairs, features, train_source="text_noise")
    for step in (3, 3, 4, None):
        examples.loss(rows, step)
    (first, named), (same, named_again), (other, named_otherwise), (clean, everything) = seen
    assert torch.equal(first, same) and named == named_again
    assert not torch.equal(first, other) and named != named_otherwise
    assert torch.equal(clean, features.embeddings[rows])
    assert torch.allclose(first.norm(dim=-1), torch.ones(20))
    dropped = 1 - sum(map(len, named + named_otherwise)) / (2 * sum(map(len, everything)))
    assert 0.25 < dropped < 0.55  # 0.4 of 120
    assert all(set(some) <= set(every) for some, every in zip(named, everything, strict=True))
    silent = prepare(pairs, features)  # generated images: no noise
    silent.loss(rows, 3)
    assert torch.equal(seen[-1][0], features.embeddings[rows])


def test_noise_has_the_spread_it_is_asked_for():
    rows = torch.nn.functional.one_hot(torch.zeros(400, dtype=torch.long), 64).float() * 5
    noisy = add_noise(rows, 0.1, np.random.default_rng(0))
    # N(e + noise): the first coordinate is 1 / sqrt(1 + 64 * 0.01) in the mean
    assert float(noisy[:, 0].mean()) == pytest.approx(1 / (1 + 64 * 0.01) ** 0.5, rel=0.02)
    assert add_noise(rows, 0.0, np.random.default_rng(0)) is rows


class Sides:
    """A feature source that says which side it was asked for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __len__(self) -> int:
        return COUNT

    def __getattr__(self, name):
        def answer(*args, **kwargs):
            self.calls.append(name)
            return random_rows(len(self.calls))

        return answer

    def origin(self, *sides):
        return FeatureOrigin("mini_clip", sides)


@pytest.mark.parametrize(
    ("params", "settings", "calls", "sides"),
    [
        ({"model": "clipcap"}, {"train_source": "text_noise"}, ["generated"], ("generated",)),
        ({"model": "clipcap", "train_on": "real"}, {}, ["real"], ("real",)),
        ({"model": "ifcap"}, {}, ["captions", "generated"], ("generated",)),
        ({"model": "ifcap", "train_on": "real"}, {}, ["captions", "real"], ("real",)),
        ({"model": "ifcap", "train_on": "mixed"}, {}, ["captions", "real", "generated"], ("generated", "real")),
        ({"model": "ifcap"}, {"train_source": "text_noise"}, ["captions"], ("text",)),
    ],
)
def test_each_source_is_what_it_says_for_both_captioners(params, settings, calls, sides):
    source = Sides()
    found = gather(source, downstream(**params), ifcap(**settings), seed=0)
    assert source.calls == calls and found.origin.sides == sides
    assert (found.texts is None) == (params["model"] == "clipcap")
    assert len(found.embeddings) == len(found.rows) == (2 * COUNT if params.get("train_on") == "mixed" else COUNT)


def distinct_captioners() -> list[str]:
    """One run for each way to build and train a captioner."""
    ways = {}
    for name, row in RUNS.items():
        own = {key: value for key, value in row.items() if key.split(".")[0] in ("downstream", "ifcap")}
        ways.setdefault(str(sorted(own.items(), key=str)), name)
    return sorted(ways.values())


@pytest.mark.parametrize("name", distinct_captioners())
def test_every_named_run_builds_its_captioner_and_learns_from_it(name, pairs, features):
    changes: dict[str, dict] = {"downstream": {}, "ifcap": {}}
    for key, value in RUNS[name].items():
        group, _, field = key.partition(".")
        changes.get(group, {})[field] = value
    params = DownstreamParams(**BASE["downstream"]).replace(**changes["downstream"])
    settings = IfcapParams(**BASE["ifcap"]).replace(**changes["ifcap"])
    examples = prepare_captioner(pairs, CORPUS, features, params, settings, RUN, device=CPU)
    examples.loss(np.arange(4), 0).backward()
    learned = dict(examples.captioner.named_parameters())
    assert all(value.grad is not None for value in learned.values() if value.requires_grad)
    moves = any(name.startswith("language_model") for name, value in learned.items() if value.requires_grad)
    assert moves == (params.tune_language_model != "none")


def test_captions_without_any_noun_are_refused(pairs, features):
    other = pairs.assign(caption="so quickly and again")
    with pytest.raises(ValueError, match="ifcap.nouns: grammar finds no noun in any of 24 captions.*textblob"):
        prepare(other, features)


def test_nouns_of_a_grammar_need_a_corpus_that_has_one(pairs, features):
    written = replace(CORPUS, grammar=None)
    with pytest.raises(ValueError, match="ifcap.nouns: grammar needs a corpus.* 'tiny' has none.*textblob"):
        prepare_captioner(pairs, written, features, downstream(model="ifcap"), ifcap(), RUN, device=CPU)


def test_evaluation_refuses_a_captioner_from_beside_another_real_route(pairs, features, tmp_path):
    captioner, _ = train_captioner(pairs, CORPUS, features, Checkpoints(tmp_path), downstream(), ifcap(), RUN)
    captioner.save_pretrained(tmp_path / "captioner")
    params = EvaluationParams(**{**BASE["evaluation"], "beam_size": 2})

    def write(origin: FeatureOrigin):
        benchmark = SimpleNamespace(image=random_rows(5)[:3], image_ids=["a", "b", "c"], origin=origin)
        return write_captions(tmp_path / "captioner", benchmark, params, RUN, 4)

    real = replace(ORIGIN, sides=("real",))
    assert [row["image_id"] for row in write(real)] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="trained beside another real route"):
        write(replace(real, real_route="b" * 64))
    with pytest.raises(ValueError, match=r"Got features of \['generated'\] images"):
        write(ORIGIN)


def test_a_stored_captioner_of_another_encoder_stops_the_run_before_its_first_node(pairs, features, tmp_path):
    captioner, _ = train_captioner(pairs, CORPUS, features, Checkpoints(tmp_path), downstream(), ifcap(), RUN)
    captioner.save_pretrained(tmp_path / "captioner")
    taken = downstream(pretrained=str(tmp_path / "captioner"))
    check_models({"run": RUN, "downstream": taken, "ifcap": ifcap()})
    with pytest.raises(ValueError, match="trained with the encoder 'mini_clip'; this run's is 'mini_siglip'"):
        check_models({"run": RUN.replace(encoder="mini_siglip"), "downstream": taken})
    with pytest.raises(MissingWeightsError, match="There is no captioner at nowhere"):
        check_models({"run": RUN, "downstream": downstream(pretrained="nowhere")})
    with pytest.raises(MissingWeightsError, match="vocabulary of nouns was to be read from words.txt"):
        check_models({"downstream": downstream(model="ifcap"), "ifcap": ifcap(nouns="nltk", vocabulary="words.txt")})
    check_models({"downstream": downstream(), "ifcap": ifcap(nouns="nltk", vocabulary="words.txt")})  # not IFCap


def test_what_the_language_model_cannot_read_is_refused_before_training(pairs, features):
    with pytest.raises(ValueError, match=r"4 \+ 200 tokens; the language model 'mini_gpt2' reads 128"):
        prepare_captioner(pairs, CORPUS, features, downstream(max_tokens=200), ifcap(), RUN, device=CPU)


def test_settings_that_contradict_one_another_are_refused():
    with pytest.raises(ParameterError, match="downstream.normalize_prefix must be true with model: ifcap"):
        downstream(model="ifcap", normalize_prefix=False)
    with pytest.raises(ParameterError, match="ifcap.vocabulary must be a file with nouns: vocabulary"):
        ifcap(nouns="vocabulary")
    with pytest.raises(ParameterError, match="ifcap.vocabulary must be null with nouns: grammar"):
        ifcap(vocabulary="words.txt")
