"""Captioners: what they learn from, how each kind stores itself, and whose features they refuse."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from gmail_kedro.interfaces import FeatureOrigin
from gmail_kedro.models.captioners import captioner as captioners
from gmail_kedro.models.captioners.captioner import CONFIG_FILE, IGNORE_INDEX, build_captioner, parts_by_length
from gmail_kedro.models.captioners.known_captioners import load_captioner
from gmail_kedro.models.captioners.prefix_mappers import MapperSpec, build_mapper
from gmail_kedro.models.fingerprints import CHECKSUMS_FILE, finish_folder
from gmail_kedro.models.student.adapters import TuningSpec, trainable_parameters
from gmail_kedro.models.vision_language.language_models import build_language_model, prepare_language_model
from gmail_kedro.models.weight_sources import MissingWeightsError, UnknownModelError

from ...precision import assert_equal_but_rounding
from ..tiny import promising_nothing, save_tiny_llama
from ..tiny_llava import save_vicuna

CPU = torch.device("cpu")
CAPTIONS = ["a small red 7.", "the number 42 in blue ink."]
EMBEDDINGS = torch.eye(16)[:2]
MLP = MapperSpec("mlp", 16, 3, 128, layers=2, heads=8, constant_count=4, normalize=True)
TRANSFORMER = replace(MLP, kind="transformer")
FULL = TuningSpec(kind="full", rank=4, alpha=8, dropout=0.0, targets=())
LORA, NONE = replace(FULL, kind="lora"), replace(FULL, kind="none")
REAL = FeatureOrigin("mini_clip", ("real",), real_route="a" * 64, student="s", feature_map="none 0")


def make(mapper=MLP, tuning=FULL, *, name="mini_gpt2", path=None, **settings):
    language = prepare_language_model(name, path, tuning, seed=0)
    return build_captioner(language, replace(mapper, width=language.width), seed=0, **settings)


def memorise(captioner, *, steps=60, learning_rate=2e-3):
    tokens = captioner.tokenize(CAPTIONS, max_tokens=20)
    optimizer = torch.optim.AdamW(trainable_parameters(captioner.train()), lr=learning_rate, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        captioner.loss(EMBEDDINGS, tokens).backward()
        optimizer.step()
    return captioner.eval()


def write(captioner, **settings):
    return captioner.caption(EMBEDDINGS, **({"beam_size": 3, "max_tokens": 20} | settings))


@pytest.fixture(scope="module", autouse=True)
def stand_ins():
    with promising_nothing("llama_3_8b", "vicuna_7b"):
        yield


@pytest.fixture
def captioner():
    return make()


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return save_tiny_llama(tmp_path_factory.mktemp("llama"), CAPTIONS)


def test_padding_is_neither_read_nor_learnt(captioner):
    embeddings = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    tokens = captioner.tokenize(["a red 7.", "the number 42 in blue ink on lined paper."], max_tokens=40)
    assert tokens[0, -1] == IGNORE_INDEX and tokens[1, -1] == captioner.tokenizer.eos_token_id
    longer = torch.cat([tokens, torch.full((2, 5), IGNORE_INDEX)], dim=1)
    assert torch.allclose(captioner.loss(embeddings, tokens), captioner.loss(embeddings, longer))
    counts = (tokens != IGNORE_INDEX).sum(1)
    both = [captioner.loss(embeddings[i : i + 1], tokens[i : i + 1]) * counts[i] for i in (0, 1)]
    assert torch.allclose(captioner.loss(embeddings, tokens), sum(both) / counts.sum(), atol=1e-4)


def test_loss_is_the_mean_of_every_next_token_by_hand(captioner):
    tokens = captioner.tokenize(CAPTIONS[:1], max_tokens=20)
    prefix, table = captioner.mapper(EMBEDDINGS[:1]), captioner.language_model.get_input_embeddings()
    total = 0.0
    for position, token in enumerate(tokens[0].tolist()):
        read = torch.cat([prefix, table(tokens[:, :position])], dim=1)
        total -= float(captioner.language_model(inputs_embeds=read).logits[0, -1].log_softmax(-1)[token].detach())
    assert float(captioner.loss(EMBEDDINGS[:1], tokens).detach()) == pytest.approx(total / tokens.shape[1], rel=1e-4)


def test_a_batch_in_parts_has_the_gradient_of_the_whole(monkeypatch):
    captions = ["a 7.", "a small red 7.", *CAPTIONS, "the number 42 in blue ink on lined paper."]
    embeddings = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    gradients = []
    for _ in range(2):
        captioner = make()
        captioner.loss(embeddings, captioner.tokenize(captions, max_tokens=40)).backward()
        learned = trainable_parameters(captioner)
        gradients.append([parameter.grad for parameter in learned if parameter.grad is not None])
        monkeypatch.setattr(captioners, "parts_by_length", lambda lengths: [torch.arange(len(lengths))])
    for in_parts, whole in zip(*gradients, strict=True):
        assert_equal_but_rounding(in_parts, whole, steps=256)


def test_short_and_long_captions_are_computed_apart():
    parts = parts_by_length(torch.tensor([9, 2, 7, 3, 8]))
    assert [part.tolist() for part in parts] == [[1, 3, 2], [4, 0]]
    assert [part.tolist() for part in parts_by_length(torch.tensor([4]))] == [[0]]


def test_gpt_2_has_torchs_own_gelu_and_says_the_same(tmp_path):
    from transformers import AutoModelForCausalLM

    model, tokenizer = build_language_model("mini_gpt2", None)
    model.save_pretrained(tmp_path)
    published = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(model.transformer.h[0].mlp.act, torch.nn.GELU)
    assert not isinstance(published.transformer.h[0].mlp.act, torch.nn.GELU)
    assert published.config.activation_function == "gelu_new"
    ids = torch.tensor([tokenizer(CAPTIONS[1]).input_ids])
    torch.testing.assert_close(model(ids).logits, published(ids).logits, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("mapper", [MLP, TRANSFORMER], ids=["mlp", "transformer"])
def test_scale_of_the_embedding_matters_only_without_normalisation(mapper):
    normalised, plain = (build_mapper(replace(mapper, normalize=normalize)).eval() for normalize in (True, False))
    assert torch.allclose(normalised(EMBEDDINGS), normalised(5 * EMBEDDINGS), atol=1e-5)
    assert torch.equal(plain(EMBEDDINGS), normalised(EMBEDDINGS))
    assert not torch.allclose(plain(EMBEDDINGS), plain(5 * EMBEDDINGS), atol=1e-2)


def test_a_transformer_mapper_has_no_bias_on_queries_keys_and_values_and_layers_of_its_own():
    mapper = build_mapper(TRANSFORMER)
    mapper(EMBEDDINGS).square().mean().backward()
    without = {name for name, parameter in mapper.named_parameters() if parameter.grad is None}
    assert without == {f"blocks.{layer}.self_attn.in_proj_bias" for layer in range(2)}
    assert not any(block.self_attn.in_proj_bias.any() for block in mapper.blocks)
    assert not torch.equal(mapper.blocks[0].linear1.weight, mapper.blocks[1].linear1.weight)


@pytest.mark.parametrize(
    ("mapper", "tuning"), [(MLP, FULL), (MLP, LORA), (TRANSFORMER, NONE)], ids=["mlp", "mlp_lora", "transformer"]
)
def test_it_learns_which_caption_belongs_to_which_embedding_and_stores_it(mapper, tuning, tmp_path):
    captioner = make(mapper, tuning, origin=REAL)
    tokens = captioner.tokenize(CAPTIONS, max_tokens=20)
    before = float(captioner.loss(EMBEDDINGS, tokens).detach())
    captions = write(memorise(captioner))
    if tuning.kind == "none":  # a frozen mini GPT-2 cannot be made to say anything
        assert captions[0] != captions[1] and float(captioner.loss(EMBEDDINGS, tokens).detach()) < 0.5 * before
    else:
        assert captions == CAPTIONS
    captioner.save_pretrained(tmp_path)
    stored = load_captioner(tmp_path, device=CPU)
    assert write(stored) == captions and stored.spec == captioner.spec
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.pt"))
    weights = {path.name for path in (tmp_path / "language_model").glob("*.safetensors")}
    expected = {"full": {"model.safetensors"}, "lora": {"adapter_model.safetensors"}, "none": set()}
    assert weights == expected[tuning.kind]


@pytest.mark.reliability(21)
@pytest.mark.parametrize("tuning", [LORA, NONE], ids=lambda tuning: tuning.kind)
def test_what_is_frozen_stays_as_it_is_and_everything_else_gets_a_gradient(tuning):
    captioner = make(tuning=tuning)
    frozen = {name: value.clone() for name, value in captioner.named_parameters() if not value.requires_grad}
    learned = {name for name, value in captioner.named_parameters() if value.requires_grad}
    memorise(captioner, steps=2)
    assert all(torch.equal(value, frozen[name]) for name, value in captioner.named_parameters() if name in frozen)
    assert all(value.grad is not None for name, value in captioner.named_parameters() if name in learned)
    assert any("lora_" in name for name in learned) == (tuning.kind == "lora")
    assert not captioner.train().language_model.training or tuning.kind == "lora"


def test_a_llama_in_its_own_format_writes_captions_after_lora(llama, tmp_path):
    tuning = replace(LORA, rank=16, targets=("q_proj", "v_proj"))
    captioner = memorise(make(tuning=tuning, name="llama_3_8b", path=str(llama)), steps=200, learning_rate=1e-2)
    learned = [name for name, value in captioner.language_model.named_parameters() if value.requires_grad]
    assert {name.split(".")[-4] for name in learned} == {"q_proj", "v_proj"}
    assert all(value.dtype == torch.float32 for value in trainable_parameters(captioner))
    assert next(captioner.language_model.get_input_embeddings().parameters()).dtype == torch.bfloat16
    assert write(captioner) == CAPTIONS
    captioner.save_pretrained(tmp_path / "captioner")
    assert write(load_captioner(tmp_path / "captioner", device=CPU)) == CAPTIONS
    config = json.loads((tmp_path / "captioner/language_model/adapter_config.json").read_text())
    assert config["r"] == 16 and set(config["target_modules"]) == {"q_proj", "v_proj"}


def test_a_llama_starts_no_caption_with_its_start_token(llama):
    captioner = make(name="llama_3_8b", path=str(llama))
    assert captioner.tokenizer(CAPTIONS[0]).input_ids[0] == captioner.tokenizer.bos_token_id
    assert captioner.tokenizer.bos_token_id not in captioner.tokenize(CAPTIONS, max_tokens=20)


@pytest.mark.parametrize("name", ["mini_gpt2", "mini_llama", "llama_3_8b", "vicuna_7b"])
def test_the_end_token_written_inside_a_caption_is_text(name, llama, tmp_path):
    path = str(llama) if name == "llama_3_8b" else None
    if name == "vicuna_7b":
        save_vicuna(tmp_path)
        path = str(tmp_path)
    captioner = make(name=name, path=path)
    written, end = f"a dog {captioner.tokenizer.eos_token} on grass", captioner.stop_id
    assert end in captioner.tokenizer(written, add_special_tokens=False).input_ids  # what transformers does by itself
    tokens = captioner.tokenize([written, "a dog"], max_tokens=60)
    assert (tokens == end).sum(1).tolist() == [1, 1]  # each caption's own end
    ids = tokens[0][tokens[0] != IGNORE_INDEX]
    assert ids[-1] == end and captioner.tokenizer.decode(ids[:-1], skip_special_tokens=True).strip() == written


@pytest.mark.parametrize("captions", [["a red 7", "a red 7."], ["a red 7...", "a red 7 . "]])
def test_a_period_closes_every_caption_and_ends_the_search(captions):
    captioner = make(caption_end="period")
    tokens = captioner.tokenize(captions, max_tokens=20)
    stop = captioner.tokenizer(".").input_ids[-1]
    lasts = [row[row != IGNORE_INDEX][-1] for row in tokens]
    assert lasts == [stop, stop] and torch.equal(tokens[0], tokens[1])
    assert captioner.tokenize(["number " * 30], max_tokens=6)[0].tolist()[-1] == stop
    assert write(memorise(captioner, steps=60)) == CAPTIONS


@pytest.mark.reliability(9)
def test_other_base_weights_are_refused(tmp_path):
    captioner = make(tuning=NONE)
    captioner.save_pretrained(tmp_path)
    facts = json.loads((tmp_path / CONFIG_FILE).read_text())
    facts["language_model"]["fingerprint"] = "0" * 64
    finish_folder(tmp_path, CONFIG_FILE, facts)
    with pytest.raises(MissingWeightsError, match="trained on another 'mini_gpt2' .*hash 000000000000"):
        load_captioner(tmp_path, device=CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sides": ("generated",)}, r"real images on the real route. Got features of \['generated'\]"),
        ({"encoder": "mini_siglip"}, "another encoder .mini_clip. than .* mini_siglip|another encoder"),
        ({"real_route": "b" * 64}, "another real route .a{40}. than the one .*b{40}"),
        ({"feature_map": "c3 1"}, "another feature map .none 0. than the one .*c3 1"),
    ],
)
def test_features_of_another_route_are_refused(changes, message, tmp_path):
    captioner = make(origin=replace(REAL, sides=("generated",)))
    captioner.save_pretrained(tmp_path)
    for model in (captioner, load_captioner(tmp_path, device=CPU)):
        assert len(write(model, origin=REAL, max_tokens=3)) == 2
        with pytest.raises(ValueError, match=message):
            write(model, origin=replace(REAL, **changes))


def test_what_nobody_knows_is_not_compared():
    converted = make(origin=FeatureOrigin("mini_clip", ("real",)))
    assert len(write(converted, origin=REAL, max_tokens=3)) == 2
    with pytest.raises(ValueError, match="another encoder"):
        write(converted, origin=replace(REAL, encoder="mini_siglip"))


def drop(path, part):
    """Takes the tensors out of a file whose names have the part in them; returns how many."""
    state = load_file(path)
    kept = {name: value for name, value in state.items() if part not in name}
    save_file(kept, path, {"format": "pt"})
    return len(state) - len(kept)


@pytest.mark.parametrize(
    ("tuning", "file", "part", "owner"),
    [
        (FULL, "language_model/model.safetensors", "ln_f", "mini_gpt2"),
        (LORA, "language_model/adapter_model.safetensors", "h.0.", r"mini_gpt2 \(its adapter\)"),
        (NONE, "prefix_mapper.safetensors", "bias", r"clipcap \(its mapper\)"),
    ],
)
def test_a_stored_captioner_without_some_of_its_tensors_is_refused(tmp_path, tuning, file, part, owner):
    make(tuning=tuning).save_pretrained(tmp_path)
    lost = drop(tmp_path / file, part)
    (tmp_path / CHECKSUMS_FILE).unlink()  # as another tool leaves it
    assert lost > 0
    with pytest.raises(MissingWeightsError, match=rf"do not fit '{owner}': {lost} of \d+ tensors missing"):
        load_captioner(tmp_path, device=CPU)


def test_a_captioner_of_an_unknown_kind_is_refused(tmp_path):
    make(tuning=NONE).save_pretrained(tmp_path)
    facts = json.loads((tmp_path / CONFIG_FILE).read_text())
    finish_folder(tmp_path, CONFIG_FILE, facts | {"kind": "decap"})
    with pytest.raises(UnknownModelError, match="no captioner 'decap'. Known names: clipcap, ifcap"):
        load_captioner(tmp_path, device=CPU)


def test_errors_name_the_model_and_the_remedy(tmp_path, captioner):
    with pytest.raises(UnknownModelError, match="no language model 'gpt5'. Known names: gpt2, .*mini_gpt2"):
        build_language_model("gpt5", None)
    with pytest.raises(MissingWeightsError, match="kedro run --pipeline=downstream"):
        load_captioner(tmp_path, device=CPU)
    (tmp_path / CONFIG_FILE).write_text('{"embed_dim": 16}')
    with pytest.raises(MissingWeightsError, match="stored in another layout .*language_model.*Train it again"):
        load_captioner(tmp_path, device=CPU)
    with pytest.raises(ValueError, match="reads embeddings of width 16. Got 12 instead"):
        captioner.caption(torch.ones(1, 12), beam_size=1, max_tokens=3)
    with pytest.raises(ValueError, match="width 128 cannot be shared out among 5 heads"):
        make(replace(TRANSFORMER, heads=5))
    with pytest.raises(ValueError, match=r"targets \['wq'\] are not in .*'mini_gpt2'.*Set downstream.lora.targets"):
        make(tuning=replace(LORA, targets=("wq",)))
