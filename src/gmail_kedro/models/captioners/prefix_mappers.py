"""Mappers from an image embedding to the soft tokens that a language model reads before it writes.

ClipCap's two (arXiv 2111.09734): an MLP, and a transformer that lets learned queries look at the embedding. IFCap's
fusion module (EMNLP 2024) looks at the features of retrieved captions first. B embeddings, D their width, C the tokens
one is spread over, L the prefix, W the language model's width, K retrieved captions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

MLP_RATIO = 2


@dataclass(frozen=True)
class MapperSpec:
    """What a mapper consists of; with its weights it can be built again."""

    kind: str  # a key of MAPPERS
    embed_dim: int  # D
    prefix_length: int  # L
    width: int  # W
    layers: int  # transformer blocks; not for mlp, nor are the next two
    heads: int  # attention heads of a block
    constant_count: int  # C
    normalize: bool  # whether embeddings are brought to unit length first


class MlpMapper(torch.nn.Module):
    """Two linear layers with a tanh between them."""

    def __init__(self, spec: MapperSpec) -> None:
        super().__init__()
        self.spec = spec
        hidden, size = spec.width * spec.prefix_length // 2, spec.width * spec.prefix_length
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(spec.embed_dim, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, size)
        )

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Maps embeddings [B, D] to a prefix [B, L, W]."""
        mapped = self.layers(_prepare(embeddings, self.spec))  # [B, L * W]
        return mapped.view(-1, self.spec.prefix_length, self.spec.width)


class TransformerMapper(torch.nn.Module):
    """The embedding spread over C tokens, L learned queries behind them, self-attention; what became of the queries."""

    def __init__(self, spec: MapperSpec) -> None:
        super().__init__()
        self.spec = spec
        self.linear = torch.nn.Linear(spec.embed_dim, spec.constant_count * spec.width)
        self.queries = torch.nn.Parameter(torch.randn(spec.prefix_length, spec.width))
        self.blocks = _self_attention(spec)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Maps embeddings [B, D] to a prefix [B, L, W]."""
        return _ask(self.blocks, _spread(self.linear, embeddings, self.spec), self.queries)


class FusionMapper(torch.nn.Module):
    """IFCap's: the embedding's C tokens look at the retrieved features, then learned queries look at the result."""

    def __init__(self, spec: MapperSpec) -> None:
        super().__init__()
        self.spec = spec
        self.linear = torch.nn.Linear(spec.embed_dim, spec.constant_count * spec.width)
        self.retrieved_linear = torch.nn.Linear(spec.embed_dim, spec.width)
        self.look = CrossAttentionBlock(spec.width, spec.heads)
        self.queries = torch.nn.Parameter(torch.randn(spec.prefix_length, spec.width))
        self.blocks = _self_attention(spec)

    def forward(self, embeddings: torch.Tensor, retrieved: torch.Tensor) -> torch.Tensor:
        """Maps embeddings [B, D] and retrieved features [B, K, D], used as they are, to a prefix [B, L, W]."""
        spread = _spread(self.linear, embeddings, self.spec)  # [B, C, W]
        informed = self.look(spread, self.retrieved_linear(retrieved.float()))  # [B, C, W]
        return _ask(self.blocks, informed, self.queries)


class CrossAttentionBlock(torch.nn.Module):
    """One pre-norm block in which tokens look at others: attention, then an MLP of ratio 2 with a ReLU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.attention = torch.nn.MultiheadAttention(width, heads, batch_first=True)
        _fix_entry_bias(self.attention)
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(width, MLP_RATIO * width), torch.nn.ReLU(), torch.nn.Linear(MLP_RATIO * width, width)
        )

    def forward(self, tokens: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Maps tokens [B, N, W], with others [B, K, W] as keys and values, to [B, N, W]."""
        tokens = tokens + self.attention(self.norm1(tokens), others, others, need_weights=False)[0]
        return tokens + self.mlp(self.norm2(tokens))


# An entry is built from a MapperSpec and maps embeddings [B, D], brought to unit length by `_prepare`, to [B, L, W].
MAPPERS: dict[str, Callable[[MapperSpec], torch.nn.Module]] = {
    "mlp": MlpMapper,
    "transformer": TransformerMapper,
    "fusion": FusionMapper,
}


def build_mapper(spec: MapperSpec, *, seed: int = 0) -> torch.nn.Module:
    """Returns a fresh mapper, its weights drawn from the seed.

    Raises:
        ValueError: If there is no such kind, or the width cannot be shared out among the heads.
    """
    if spec.kind not in MAPPERS:
        raise ValueError(f"The mapper must be one of {sorted(MAPPERS)}. Got {spec.kind!r} instead.")
    if spec.kind != "mlp" and spec.width % spec.heads:
        raise ValueError(
            f"The language model's width {spec.width} cannot be shared out among {spec.heads} heads of the mapper. "
            "Set downstream.mapper_heads to one of its divisors."
        )
    with torch.random.fork_rng(devices=[]):  # the caller's stream of numbers stays where it was
        torch.manual_seed(seed)
        return MAPPERS[spec.kind](spec)


def _prepare(embeddings: torch.Tensor, spec: MapperSpec) -> torch.Tensor:
    """Returns float32 embeddings, of unit length where the spec says so."""
    if embeddings.shape[-1] != spec.embed_dim:
        raise ValueError(
            f"The captioner reads embeddings of width {spec.embed_dim}. Got {embeddings.shape[-1]} instead: they are "
            "another encoder's. Set run.encoder to the one it was trained with."
        )
    return F.normalize(embeddings.float(), dim=-1) if spec.normalize else embeddings.float()


def _spread(linear: torch.nn.Module, embeddings: torch.Tensor, spec: MapperSpec) -> torch.Tensor:
    """Returns each embedding [B, D] as the tokens [B, C, W] it is spread over."""
    return linear(_prepare(embeddings, spec)).view(-1, spec.constant_count, spec.width)


def _self_attention(spec: MapperSpec) -> torch.nn.Sequential:
    """Returns pre-norm blocks with a ReLU and an MLP of ratio 2; queries, keys and values have no bias."""
    blocks = [
        torch.nn.TransformerEncoderLayer(
            spec.width,
            spec.heads,
            dim_feedforward=MLP_RATIO * spec.width,
            dropout=0.0,
            activation="relu",
            batch_first=True,
            norm_first=True,
        )
        for _ in range(spec.layers)
    ]
    for block in blocks:
        _fix_entry_bias(block.self_attn)
    return torch.nn.Sequential(*blocks)


def _fix_entry_bias(attention: torch.nn.MultiheadAttention) -> None:
    """Keeps the bias of queries, keys and values at zero: ClipCap's attention has none."""
    attention.in_proj_bias.requires_grad_(False).zero_()


def _ask(blocks: torch.nn.Module, spread: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Returns what becomes of the queries [L, W] behind the tokens [B, C, W]: [B, L, W]."""
    asked = blocks(torch.cat([spread, queries.expand(len(spread), -1, -1)], dim=1))  # [B, C + L, W]
    return asked[:, spread.shape[1] :]
