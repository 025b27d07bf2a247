"""Long-CLIP: stretching keeps what CLIP knows, both tables are used, and only a whole checkpoint is taken."""

import pytest
import torch

from gmail_kedro.mini.pretraining.pretrain_long_clip import long_clip_config
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.encoders.long_clip import stretch_clip, stretch_positions
from gmail_kedro.models.encoders.open_clip_encoder import build_clip
from gmail_kedro.models.weight_sources import MissingWeightsError

from ..tiny import promising_nothing, save_long_clip

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def stand_ins():
    with promising_nothing("long_clip_b"):
        yield


@pytest.fixture
def clip():
    torch.manual_seed(0)
    return build_clip(long_clip_config(774)).eval()


def test_77_positions_become_248_by_the_formula():
    table = torch.randn(77, 3, generator=torch.Generator().manual_seed(0))
    stretched = stretch_positions(table)
    assert stretched.shape == (248, 3)
    assert torch.equal(stretched[:20], table[:20])
    for i in range(20, 76):
        for k in range(4):
            expected = ((4 - k) * table[i] + k * table[i + 1]) / 4
            assert torch.allclose(stretched[20 + 4 * (i - 20) + k], expected, atol=1e-6)
    for k in range(4):
        assert torch.allclose(stretched[244 + k], table[76] + k * (table[76] - table[75]) / 4, atol=1e-6)


def test_too_short_a_table_is_refused():
    with pytest.raises(ValueError, match="at least 22 positions can be stretched. Got 21"):
        stretch_positions(torch.zeros(21, 2))


def test_stretching_keeps_the_embeddings_of_short_texts_and_changes_those_of_long_ones(clip):
    short, long = torch.full((2, 77), 773), torch.full((2, 77), 773)
    short[:, :10] = torch.arange(20).view(2, 10)
    long[:, :40] = torch.arange(80).view(2, 40)
    with torch.no_grad():
        before = [clip.encode_text(tokens) for tokens in (short, long)]
        stretch_clip(clip)
        after = [clip.encode_text(tokens) for tokens in (short, long)]
    assert clip.context_length == 248
    assert torch.allclose(after[0], before[0], atol=1e-5)
    assert not torch.allclose(after[1], before[1], atol=1e-4)


def test_of_the_two_tables_only_the_second_learns(clip):
    text = stretch_clip(clip).text
    tokens = torch.full((1, 60), 773)
    tokens[:, :50] = torch.arange(50)
    text(tokens).sum().backward()
    assert text.positional_embedding.grad is None
    gradient = text.positional_embedding_res.grad
    assert torch.equal(gradient[:20], torch.zeros_like(gradient[:20])) and float(gradient[20:50].abs().sum()) > 0


def test_first_table_serves_the_first_20_positions_and_the_second_the_others(tmp_path):
    state = save_long_clip(tmp_path)
    encoder = build_encoder("long_clip_b", str(tmp_path), device=CPU)
    tokens = encoder.tokenize(["7 " * 40])
    before = encoder.encode_text(tokens)
    for key, used in (("positional_embedding", slice(20, None)), ("positional_embedding_res", slice(0, 20))):
        state[key][used] = 9.0  # never read
    torch.save(state, tmp_path / "longclip-B.pt")
    assert torch.equal(build_encoder("long_clip_b", str(tmp_path), device=CPU).encode_text(tokens), before)
    state["positional_embedding_res"][30] = 9.0
    torch.save(state, tmp_path / "longclip-B.pt")
    assert not torch.equal(build_encoder("long_clip_b", str(tmp_path), device=CPU).encode_text(tokens), before)


def test_a_clip_is_not_taken_for_a_long_clip(tmp_path):
    state = save_long_clip(tmp_path)
    del state["positional_embedding_res"]
    state["positional_embedding"] = state["positional_embedding"][:77]
    torch.save(state, tmp_path / "longclip-B.pt")
    with pytest.raises(
        MissingWeightsError,
        match=r"1 of \d+ tensors missing \(text.positional_embedding_res\), 1 of another shape "
        r"\(text.positional_embedding \[77, 96\] instead of \[248, 96\]\)",
    ):
        build_encoder("long_clip_b", str(tmp_path), device=CPU)


def test_safetensors_file_with_the_same_tensors_is_the_same_encoder(tmp_path):
    from safetensors.torch import save_file

    state = save_long_clip(tmp_path)
    first = build_encoder("mini_long_clip", str(tmp_path), device=CPU)
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "longclip.safetensors")
    assert build_encoder("mini_long_clip", str(tmp_path), device=CPU).fingerprint == first.fingerprint
