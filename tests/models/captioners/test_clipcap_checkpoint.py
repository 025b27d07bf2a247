"""Published ClipCap checkpoints: a tiny one in exactly their layout computes what its own formulas say."""

import pytest
import torch
import torch.nn.functional as F

from gmail_kedro.commands import main
from gmail_kedro.models.captioners.clipcap_checkpoint import convert_clipcap
from gmail_kedro.models.captioners.known_captioners import load_captioner
from gmail_kedro.models.vision_language.language_models import build_language_model
from gmail_kedro.models.weight_sources import MissingWeightsError, UnknownModelError

CPU = torch.device("cpu")
D, L, C, W, HEADS = 16, 3, 4, 128, 8
EMBEDDINGS = 3 * torch.randn(2, D, generator=torch.Generator().manual_seed(1))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(name: str, rows: int, columns: int, *, seed: int, bias: bool = True) -> dict[str, torch.Tensor]:
    weight = {f"{name}.weight": random(rows, columns, seed=seed)}
    return weight | ({f"{name}.bias": random(rows, seed=seed + 50)} if bias else {})


def gpt_state() -> dict[str, torch.Tensor]:
    model, _ = build_language_model("mini_gpt2", None)
    state = {f"gpt.{name}": value for name, value in model.state_dict().items()}
    mask = torch.ones(1, 1, 128, 128, dtype=torch.bool).tril()
    for block in (f"gpt.transformer.h.{number}.attn" for number in range(4)):  # buffers of transformers in 2021
        state |= {f"{block}.bias": mask.clone(), f"{block}.masked_bias": torch.tensor(-1e4)}
    return state


def mlp_state() -> dict[str, torch.Tensor]:
    hidden = W * L // 2
    return linear("clip_project.model.0", hidden, D, seed=1) | linear("clip_project.model.2", W * L, hidden, seed=2)


def transformer_state(layers: int = 2) -> dict[str, torch.Tensor]:
    state = {"clip_project.prefix_const": random(L, W, seed=3)} | linear("clip_project.linear", C * W, D, seed=4)
    for layer in range(layers):
        home, seed = f"clip_project.transformer.layers.{layer}", 10 * layer
        for number, norm in enumerate(("norm1", "norm2")):
            state |= {f"{home}.{norm}.weight": 1 + random(W, seed=seed + number), f"{home}.{norm}.bias": random(W)}
        state |= linear(f"{home}.attn.to_queries", W, W, seed=seed + 2, bias=False)
        state |= linear(f"{home}.attn.to_keys_values", 2 * W, W, seed=seed + 3, bias=False)
        state |= linear(f"{home}.attn.project", W, W, seed=seed + 4)
        state |= linear(f"{home}.mlp.fc1", 2 * W, W, seed=seed + 5) | linear(f"{home}.mlp.fc2", W, 2 * W, seed=seed + 6)
    return state


def published_transformer(state: dict[str, torch.Tensor], embeddings: torch.Tensor) -> torch.Tensor:
    """The mapper as the paper writes it, head by head."""

    def apply(name: str, value: torch.Tensor) -> torch.Tensor:
        return F.linear(value, state[f"{name}.weight"], state.get(f"{name}.bias"))

    spread = apply("clip_project.linear", embeddings).view(-1, C, W)
    tokens = torch.cat([spread, state["clip_project.prefix_const"].expand(len(spread), L, W)], dim=1)
    for layer in range(2):
        home = f"clip_project.transformer.layers.{layer}"
        seen = F.layer_norm(tokens, (W,), state[f"{home}.norm1.weight"], state[f"{home}.norm1.bias"])
        queries = apply(f"{home}.attn.to_queries", seen).view(-1, C + L, HEADS, W // HEADS)
        both = apply(f"{home}.attn.to_keys_values", seen).view(-1, C + L, 2, HEADS, W // HEADS)
        found = torch.empty_like(queries)
        for head in range(HEADS):
            scores = queries[:, :, head] @ both[:, :, 0, head].transpose(1, 2) / (W // HEADS) ** 0.5
            found[:, :, head] = scores.softmax(-1) @ both[:, :, 1, head]
        tokens = tokens + apply(f"{home}.attn.project", found.reshape(-1, C + L, W))
        seen = F.layer_norm(tokens, (W,), state[f"{home}.norm2.weight"], state[f"{home}.norm2.bias"])
        tokens = tokens + apply(f"{home}.mlp.fc2", apply(f"{home}.mlp.fc1", seen).relu())
    return tokens[:, C:]


def published_mlp(state: dict[str, torch.Tensor], embeddings: torch.Tensor) -> torch.Tensor:
    first, second = ((state[f"clip_project.model.{n}.weight"], state[f"clip_project.model.{n}.bias"]) for n in (0, 2))
    return F.linear(F.linear(embeddings, *first).tanh(), *second).view(-1, L, W)


def convert(state: dict[str, torch.Tensor], folder, **settings):
    torch.save(state, folder / "weights.pt")
    settings = {"encoder": "mini_clip", "language_model": "mini_gpt2"} | settings
    return convert_clipcap(folder / "weights.pt", folder / "captioner", **settings)


@pytest.mark.parametrize(
    ("mapper", "formula", "normalize"),
    [(mlp_state, published_mlp, False), (transformer_state, published_transformer, True)],
    ids=["mlp", "transformer"],
)
def test_a_converted_checkpoint_computes_what_was_published(mapper, formula, normalize, tmp_path):
    state = gpt_state() | mapper()
    convert(state, tmp_path)
    captioner = load_captioner(tmp_path / "captioner", device=CPU)
    given = F.normalize(EMBEDDINGS, dim=-1) if normalize else EMBEDDINGS
    assert captioner.spec.mapper.normalize == normalize and captioner.spec.mapper.prefix_length == L
    assert torch.allclose(captioner.mapper(EMBEDDINGS), formula(state, given), atol=1e-5)
    for name, value in captioner.language_model.state_dict().items():
        assert torch.equal(value, state[f"gpt.{name}"])
    assert captioner.spec.caption_end == "period" and captioner.spec.origin.encoder == "mini_clip"
    assert len(captioner.caption(EMBEDDINGS, beam_size=5, max_tokens=8)) == 2


def test_the_command_converts(tmp_path, caplog):
    torch.save(gpt_state() | mlp_state(), tmp_path / "weights.pt")
    words = ["convert", "clipcap", str(tmp_path / "weights.pt"), str(tmp_path / "captioner"), "--encoder", "mini_clip"]
    assert main([*words, "--language-model", "mini_gpt2", "--normalize", "yes"]) == 0
    assert load_captioner(tmp_path / "captioner", device=CPU).spec.mapper.normalize
    assert main([*words, "--language-model", "mini_gpt2"]) == 1
    assert "is there already" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("clip_project.model.2.bias"), r"1 tensors are missing \(clip_project.model.2.bias\)"),
        (
            lambda state: state.update({"clip_project.extra": random(2)}),
            r"1 do not belong there \(clip_project.extra\)",
        ),
        (lambda state: state.update({"decoder.weight": random(2)}), r"begin neither with gpt. .*decoder.weight"),
        (lambda state: state.pop("gpt.transformer.wpe.weight"), r"1 of \d+ tensors missing .transformer.wpe.weight"),
        (lambda state: state.update({"gpt.transformer.h.9.ln_1.bias": random(2)}), "1 unexpected .transformer.h.9"),
        (lambda state: state.update({"clip_project.model.0.bias": random(2)}), "of another shape .layers.0.bias"),
        (lambda state: state.clear(), "is no ClipCap checkpoint|missing"),
    ],
)
def test_what_is_missing_or_does_not_belong_is_named(change, message, tmp_path):
    state = gpt_state() | mlp_state()
    change(state)
    with pytest.raises(MissingWeightsError, match=message):
        convert(state, tmp_path)
    assert not (tmp_path / "captioner").exists()


def test_a_transformer_without_its_keys_is_refused_by_name(tmp_path):
    state = gpt_state() | transformer_state()
    del state["clip_project.transformer.layers.1.attn.to_keys_values.weight"]
    with pytest.raises(MissingWeightsError, match=r"missing \(clip_project.transformer.layers.1.attn.to_keys_values"):
        convert(state, tmp_path)


def test_an_unknown_encoder_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(UnknownModelError, match="no encoder 'RN50x4'"):
        convert_clipcap(tmp_path / "absent.pt", tmp_path / "captioner", encoder="RN50x4")
