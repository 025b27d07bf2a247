"""Long-CLIP: a CLIP whose text tower reads 248 tokens, from the published state dicts or by stretching a CLIP.

Of its two tables of text positions ``positional_embedding`` serves the first 20, ``positional_embedding_res`` all
others (Zhang et al., ECCV 2024, section 3.1).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.models.encoders.open_clip_encoder import (
    OpenClipSource,
    adapt_names,
    assemble,
    build_clip,
    find_tokenizer,
    read_source,
)
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.strict_loading import load_strictly, read_state_dict
from gmail_kedro.models.weight_sources import fetch_from_hub, find_checkpoint

if TYPE_CHECKING:
    from open_clip import CustomTextCLIP

KEPT_POSITIONS, STRETCH = 20, 4
LONG_CONTEXT = 248
CHECKPOINT_SUFFIXES, OWN_FILES = (".safetensors", ".pt"), "longclip"


def stretch_positions(table: torch.Tensor) -> torch.Tensor:
    """Returns a table of text positions [L, W] stretched to [20 + 4 (L - 20), W]: 77 become 248.

    The first 20 positions are copied: most captions CLIP was trained on end there, so these are what it knows. Between
    position i and i + 1 of the others three are interpolated, and behind the last one three are extrapolated.

    Example:
        >>> stretch_positions(torch.arange(22.0)[:, None])[19:, 0].tolist()
        [19.0, 20.0, 20.25, 20.5, 20.75, 21.0, 21.25, 21.5, 21.75]

    Raises:
        ValueError: If there are fewer than 22 positions.
    """
    if len(table) < KEPT_POSITIONS + 2:
        raise ValueError(
            f"A table of at least {KEPT_POSITIONS + 2} positions can be stretched. Got {len(table)} instead."
        )
    rest = table[KEPT_POSITIONS:]  # [L - 20, W]
    steps = torch.cat([rest[1:] - rest[:-1], rest[-1:] - rest[-2:-1]])  # the last step is taken once more
    parts = torch.arange(STRETCH, dtype=table.dtype, device=table.device).view(1, STRETCH, 1) / STRETCH
    stretched = rest[:, None] + parts * steps[:, None]  # [L - 20, 4, W]
    return torch.cat([table[:KEPT_POSITIONS], stretched.flatten(0, 1)])


class LongTextTower(torch.nn.Module):
    """A text tower with two tables of positions, made of the parts of open_clip's causal ``TextTransformer``.

    Both tables start as ``positions``, float of shape [L, W]; the first one stays frozen.
    """

    def __init__(self, tower: Any, positions: torch.Tensor) -> None:
        super().__init__()
        self.token_embedding, self.transformer, self.ln_final = tower.token_embedding, tower.transformer, tower.ln_final
        self.text_projection = tower.text_projection
        self.positional_embedding = torch.nn.Parameter(positions.clone(), requires_grad=False)
        self.positional_embedding_res = torch.nn.Parameter(positions.clone())
        self.context_length, self.vocab_size, self.pool_type = len(positions), tower.vocab_size, "argmax"
        mask = torch.full((len(positions), len(positions)), float("-inf")).triu(1)
        self.attn_mask = torch.nn.Buffer(mask, persistent=False)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Maps token ids [B, L], L up to the table's length, to embeddings [B, D]."""
        length = text.shape[1]
        late = self.positional_embedding_res[KEPT_POSITIONS:]
        positions = torch.cat([self.positional_embedding[:KEPT_POSITIONS], late])[:length]  # [L, W]
        states = (self.token_embedding(text) + positions).to(self.transformer.get_cast_dtype())  # [B, L, W]
        states = self.ln_final(self.transformer(states, attn_mask=self.attn_mask[:length, :length]))
        # The end token has the highest id of all, so argmax finds it.
        return states[torch.arange(len(text), device=text.device), text.argmax(dim=-1)] @ self.text_projection


def stretch_clip(model: "CustomTextCLIP") -> "CustomTextCLIP":
    """Turns a CLIP of 77 tokens into a Long-CLIP, in place; short texts keep their embeddings."""
    model.text = LongTextTower(model.text, stretch_positions(model.text.positional_embedding.detach()))
    model.context_length = model.text.context_length
    return model


def build_long_clip(config: dict[str, Any]) -> "CustomTextCLIP":
    """Returns an untrained Long-CLIP that extends the CLIP of open_clip's ``model_cfg``."""
    model = build_clip(config | {"text_cfg": config["text_cfg"] | {"context_length": LONG_CONTEXT}})
    model.text = LongTextTower(model.text, model.text.positional_embedding.detach())
    return model


def load_long_clip(
    name: str, path: Path | None, *, architecture: str, pretrained: str, device: torch.device
) -> TowerEncoder:
    """Returns an encoder of a Long-CLIP checkpoint, in OpenAI CLIP's names with both tables of positions.

    ``architecture`` is open_clip's name of the CLIP it extends, ``pretrained`` the hub repository. Where the
    checkpoint's folder has an ``open_clip_config.json``, configuration and tokenizer are the folder's.

    Raises:
        MissingWeightsError: If the weights are not there or do not fit.
    """
    home = path or fetch_from_hub("encoder", name, pretrained, files="*.pt")
    checkpoint, source = inspect_long_clip(name, home, architecture=architecture, pretrained=pretrained)
    model = build_long_clip(source.config)
    load_strictly(name, model, adapt_names(model, read_state_dict(name, checkpoint)), source=str(checkpoint))
    tokenizer = find_tokenizer(source, context_length=LONG_CONTEXT)
    return assemble(name, model.to(device), source, tokenizer)


def inspect_long_clip(name: str, path: Path, *, architecture: str, pretrained: str) -> tuple[Path, OpenClipSource]:
    """Returns the checkpoint that a path leads to and what is known about its model; nothing is loaded.

    Raises:
        MissingWeightsError: If the weights are not there, not whole, or of another architecture than the name's.
    """
    checkpoint = find_checkpoint(name, path, CHECKPOINT_SUFFIXES, own=OWN_FILES)
    # No tag: Long-CLIP's preprocessing is its CLIP's, whatever the hub repository is called.
    return checkpoint, read_source(name, path, architecture, context_length=LONG_CONTEXT)
