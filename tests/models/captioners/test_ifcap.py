"""IFCap: exact retrieval, the entity filter, the two prompts, and a folder that holds all of it."""

from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from gmail_kedro.models.captioners.ifcap import (
    CaptionMemory,
    EntityFilter,
    IfcapDetails,
    build_ifcap,
    build_memory,
    hard_prompt,
)
from gmail_kedro.models.captioners.known_captioners import load_captioner
from gmail_kedro.models.captioners.prefix_mappers import MapperSpec
from gmail_kedro.models.fingerprints import CHECKSUMS_FILE
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.vision_language.language_models import prepare_language_model
from gmail_kedro.models.weight_sources import MissingWeightsError

CPU = torch.device("cpu")
FUSION = MapperSpec("fusion", 16, 3, 128, layers=2, heads=8, constant_count=4, normalize=True)
COUNT = EntityFilter(captions=4, kind="count", threshold=2, alpha=1.0, limit=3)
CAPTIONS = ["a red 7 on paper.", "a red 7 on a page.", "a blue 3.", "the number 42.", "a red digit.", "a green 9."]
NOUNS = [["red", "7"], ["red", "7", "page"], ["blue", "3"], ["number", "42"], ["red", "digit"], ["green", "9"]]
FULL = TuningSpec(kind="full", rank=4, alpha=8, dropout=0.0, targets=())


def random_rows(count: int, seed: int, width: int = 16) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def memory() -> CaptionMemory:
    return build_memory(random_rows(6, 1), CAPTIONS, NOUNS)


@pytest.fixture
def captioner(memory):
    details = IfcapDetails(retrieved_count=3, entities=COUNT, nouns_from="grammar")
    language = prepare_language_model("mini_gpt2", None, FULL, seed=0)
    return build_ifcap(language, FUSION, memory, details, caption_end="end_token", origin=None, seed=0)


@pytest.mark.parametrize("rows", [3, 64, 1000])
def test_the_nearest_captions_are_those_of_a_full_sort(rows):
    features = random_rows(200, 0) * torch.rand(200, 1) * 10
    memory = build_memory(features, [""] * 200, [[]] * 200)
    queries, excluded = random_rows(50, 2), torch.arange(50)
    excluded[::5] = -1
    cosines = F.normalize(queries, dim=-1) @ F.normalize(features.half().float(), dim=-1).T
    for row, other in enumerate(excluded.tolist()):
        if other >= 0:
            cosines[row, other] = -2
    expected = cosines.argsort(dim=1, descending=True)[:, :7]
    assert torch.equal(memory.nearest(queries, count=7, excluded=excluded, rows=rows), expected)


def test_a_caption_does_not_retrieve_itself_but_its_double_under_another_id():
    features = random_rows(4, 0)[[0, 0, 1, 2]]
    memory = build_memory(features, ["same", "same", "b", "c"], [[]] * 4)
    found = memory.nearest(features, count=1, excluded=torch.arange(4))
    assert found[:2].flatten().tolist() == [1, 0]
    assert memory.nearest(features[2:], count=1).flatten().tolist() == [2, 3]


def test_a_memory_says_what_does_not_fit():
    memory = build_memory(random_rows(4, 0), ["a"] * 4, [[]] * 4)
    with pytest.raises(ValueError, match="4 captions are to be retrieved, and the memory holds 4"):
        memory.nearest(random_rows(2, 1), count=4, excluded=torch.tensor([0, -1]))
    with pytest.raises(ValueError, match="embeddings of width 16. Got 8"):
        memory.nearest(random_rows(2, 1, width=8), count=1)
    with pytest.raises(ValueError, match="4 rows of features, 3 captions and 4 lists"):
        build_memory(random_rows(4, 0), ["a"] * 3, [[]] * 4)
    with pytest.raises(ValueError, match="float16 and finite"):
        build_memory(random_rows(4, 0) * 1e6, ["a"] * 4, [[]] * 4)


def test_the_filter_keeps_what_occurs_often_enough_the_most_frequent_first():
    nouns = ["dog", "cat", "dog", "ball", "cat", "dog", "tree", "tree", "sky", "sky"]
    assert COUNT.keep(nouns) == ["dog", "cat", "tree"]
    assert EntityFilter(9, "count", 3, 1.0, 10).keep(nouns) == ["dog"]
    assert EntityFilter(9, "count", 5, 1.0, 10).keep(nouns) == [] and COUNT.keep([]) == []


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_the_adaptive_filter_is_mean_plus_alpha_deviations(alpha):
    nouns = ["dog"] * 6 + ["cat"] * 4 + ["ball"] * 2 + ["sky", "tree"]
    counts = Counter(nouns)
    bound = np.mean(list(counts.values())) + alpha * np.std(list(counts.values()))
    expected = [noun for noun, count in counts.most_common() if count > bound]
    assert EntityFilter(9, "adaptive", 99, alpha, 10).keep(nouns) == expected
    assert len(expected) == {0.0: 2, 0.5: 2, 2.0: 0}[alpha]


def test_the_hard_prompt_names_the_entities():
    assert hard_prompt(["dog", "ball"]) == "There are dog, ball in image."
    assert hard_prompt([]) == "There are something in image."


def test_the_hard_prompt_stands_between_soft_prompt_and_caption_and_is_not_learnt(captioner):
    captions, entities, retrieved = CAPTIONS[:2], [["red", "7"], []], torch.tensor([[1, 4, 0], [0, 4, 1]])
    embeddings, tokens = random_rows(2, 3), captioner.tokenize(captions, max_tokens=20)
    loss = captioner.loss_with(embeddings, tokens, retrieved, entities)
    total, count = 0.0, 0
    prefix = captioner.mapper(embeddings, captioner.memory.features[retrieved])
    for row, (caption, named) in enumerate(zip(captions, entities, strict=True)):
        prompt = captioner.tokenizer(hard_prompt(named)).input_ids
        own_ids = [*captioner.tokenizer(caption).input_ids, captioner.tokenizer.eos_token_id]
        ids = torch.tensor([prompt + own_ids])
        read = torch.cat([prefix[row : row + 1], captioner.language_model.get_input_embeddings()(ids)], dim=1)
        logits = captioner.language_model(inputs_embeds=read).logits[0, -len(own_ids) - 1 : -1]
        total += float(F.cross_entropy(logits, torch.tensor(own_ids), reduction="sum").detach())
        count += len(own_ids)
    assert float(loss.detach()) == pytest.approx(total / count, rel=1e-4)


def test_every_part_of_the_fusion_mapper_learns(captioner):
    tokens = captioner.tokenize(CAPTIONS[:2], max_tokens=20)
    captioner.loss_with(random_rows(2, 3), tokens, torch.ones(2, 3).long(), [[], []]).backward()
    without = {name for name, parameter in captioner.mapper.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in captioner.mapper.named_parameters() if name.endswith("in_proj_bias")}


def test_retrieved_features_change_the_prefix(captioner):
    embeddings = random_rows(1, 3)
    first, second = (captioner.mapper(embeddings, random_rows(3, seed)[None]) for seed in (4, 5))
    assert not torch.allclose(first, second, atol=1e-3)


def test_captions_do_not_depend_on_what_else_is_captioned(captioner):
    """Prompts differ in length, so rows are padded on the left; the padding must not be seen."""
    embeddings = captioner.memory.features.float()
    named = captioner.find_entities(captioner.memory.nearest(embeddings, count=4))
    assert len({len(names) for names in named}) > 1
    together = captioner.eval().caption(embeddings, beam_size=3, max_tokens=12)
    alone = [captioner.caption(embeddings[i : i + 1], beam_size=3, max_tokens=12)[0] for i in range(len(embeddings))]
    assert together == alone


def test_entities_come_from_the_retrieved_captions_alone(captioner):
    rows = torch.tensor([[0, 1, 4, 2, 5], [3, 5, 2, 0, 1]])
    assert captioner.find_entities(rows) == [["red", "7"], []]


def test_a_prompt_that_leaves_no_room_loses_its_last_entities(captioner):
    many = [f"thing{number}" for number in range(40)]
    room = captioner.language.position_count - 3 - 20
    (ids,) = captioner._prompt_ids([many], 20)
    assert room - 8 < len(ids) <= room
    assert captioner.tokenizer.decode(ids).startswith("There are thing0, thing1,")
    assert captioner.tokenizer.decode(ids).endswith(" in image.")


def test_its_folder_holds_the_memory_and_gives_the_same_captions(captioner, tmp_path):
    embeddings = random_rows(3, 9)
    written = captioner.eval().caption(embeddings, beam_size=2, max_tokens=10)
    captioner.save_pretrained(tmp_path)
    stored = load_captioner(tmp_path, device=CPU)
    assert stored.caption(embeddings, beam_size=2, max_tokens=10) == written
    assert stored.memory.captions == CAPTIONS and stored.memory.nouns == NOUNS
    assert torch.equal(stored.memory.features, captioner.memory.features)
    assert asdict(stored.details) == asdict(captioner.details)
    (tmp_path / CHECKSUMS_FILE).unlink()  # a folder of before there were checksums
    save_file({"features": stored.memory.features[1:].clone()}, tmp_path / "caption_memory.safetensors")
    with pytest.raises(
        MissingWeightsError, match=rf"Got {len(CAPTIONS) - 1} rows of features, {len(CAPTIONS)} captions"
    ):
        load_captioner(tmp_path, device=CPU)
    (tmp_path / "caption_memory.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match=r"no caption_memory\.safetensors"):
        load_captioner(tmp_path, device=CPU)
