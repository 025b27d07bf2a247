"""ClipCap: what it learns from, how it stores itself, and a memorised caption."""

import pytest
import torch

from gmail_kedro.zoo.captioner import IGNORED, build_captioner, load_captioner
from gmail_kedro.zoo.language_models import build_language_model
from gmail_kedro.zoo.registry import MissingWeightsError, UnknownModelError

CPU = torch.device("cpu")


@pytest.fixture
def captioner():
    model, tokenizer = build_language_model("mini_gpt2", None)
    return build_captioner(model, tokenizer, embed_dim=16, prefix_length=3, seed=0)


def test_padding_is_neither_read_nor_learnt(captioner):
    embeddings = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    tokens = captioner.tokenize(["a red 7.", "the number 42 in blue ink on lined paper."], max_tokens=40)
    assert tokens[0, -1] == IGNORED and tokens[1, -1] == captioner.tokenizer.eos_token_id
    longer = torch.cat([tokens, torch.full((2, 5), IGNORED)], dim=1)
    assert torch.allclose(captioner.loss(embeddings, tokens), captioner.loss(embeddings, longer))
    alone = captioner.loss(embeddings[:1], tokens[:1])
    both = [captioner.loss(embeddings[i : i + 1], tokens[i : i + 1]) * (tokens[i] != IGNORED).sum() for i in (0, 1)]
    assert torch.allclose(captioner.loss(embeddings, tokens), sum(both) / (tokens != IGNORED).sum(), atol=1e-4)
    assert torch.isfinite(alone)


def test_scale_of_the_embedding_does_not_matter(captioner):
    embeddings = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(captioner.mapper(embeddings), captioner.mapper(5 * embeddings), atol=1e-6)


def test_it_learns_which_caption_belongs_to_which_embedding_and_stores_it(captioner, tmp_path):
    embeddings = torch.eye(16)[:2]
    captions = ["a small red 7.", "the number 42 in blue ink."]
    tokens = captioner.tokenize(captions, max_tokens=20)
    optimizer = torch.optim.AdamW(captioner.parameters(), lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        captioner.loss(embeddings, tokens).backward()
        optimizer.step()
    assert captioner.eval().caption(embeddings, beam_size=3, max_tokens=20) == captions
    captioner.save_pretrained(tmp_path)
    assert load_captioner(tmp_path, device=CPU).caption(embeddings, beam_size=3, max_tokens=20) == captions
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.pt"))


def test_errors_name_the_model_and_the_remedy(tmp_path):
    with pytest.raises(UnknownModelError, match="no language model 'gpt5'. Known names: gpt2, mini_gpt2"):
        build_language_model("gpt5", None)
    with pytest.raises(MissingWeightsError, match="kedro run --pipeline=downstream"):
        load_captioner(tmp_path, device=CPU)
