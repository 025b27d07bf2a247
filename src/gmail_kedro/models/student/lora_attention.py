"""LoRA in fused attention, computed in its two thin factors instead of through a merged weight.

CLIP's attention keeps queries, keys and values in one matrix [3 W, W] that ``torch.nn.MultiheadAttention`` reads
itself, so an adapter cannot simply wrap a linear layer. This is the layer nearly all of a training step goes through.
"""

from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import MultiheadAttention
from peft.tuners.tuners_utils import check_adapters_to_merge


class FactoredAttention(MultiheadAttention):
    """PEFT's LoRA of ``torch.nn.MultiheadAttention``, with the same tensors under the same names, computed faster.

    PEFT adds B A to the fused weights, runs the layer, and subtracts it again: the backward pass then forms the
    gradient of a full weight only to project it on the factors, rounding makes the frozen weights drift, and (up to
    0.21 at least, pull request 3774) the update of the output projection is added twice. Here x W + x A B is computed
    as it stands, so no full gradient is ever formed and no frozen weight is written before ``merge``. Only
    self-attention is supported, which is all that image and text towers do.
    """

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Adds the update of the active adapters, or of those named, to the frozen weights, once."""
        for adapter in check_adapters_to_merge(self, adapter_names):
            # Only the fused weight here: the output projection holds an adapter of its own and merges itself.
            self.get_base_layer().in_proj_weight.data += self.get_delta_weight(adapter)
            self.get_base_layer().out_proj.merge(safe_merge=safe_merge, adapter_names=[adapter])
            self.merged_adapters.append(adapter)

    def unmerge(self) -> None:
        """Takes the update out of the weights again, up to rounding."""
        while self.merged_adapters:
            self.get_base_layer().in_proj_weight.data -= self.get_delta_weight(self.merged_adapters.pop())
        self.get_base_layer().out_proj.unmerge()

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
        **others: Any,
    ) -> tuple[torch.Tensor, None]:
        """Maps a sequence [B, L, W], or [L, B, W] without ``batch_first``, to one of the same shape, and no weights.

        ``attn_mask`` is added to the scores, [L, L], or true where nothing may be seen.

        Raises:
            NotImplementedError: If it is not plain self-attention with one adapter.
        """
        if self.disable_adapters or self.merged:  # nothing to add: torch's layer computes it as it is
            return super().forward(query, key, value, need_weights=need_weights, attn_mask=attn_mask, **others)
        if query is not key or query is not value or need_weights or others or len(self.active_adapters) != 1:
            raise NotImplementedError(
                "LoRA in fused attention is computed for plain self-attention with one adapter. Got "
                f"need_weights={need_weights}, options {sorted(others)}, adapters {self.active_adapters}. "
                "Set alignment.lora.targets to linear modules, such as [c_fc, c_proj]."
            )
        layer, adapter = self.get_base_layer(), self.active_adapters[0]
        sequence = query if layer.batch_first else query.transpose(0, 1)  # [B, L, W]
        update = self.lora_B[adapter](self.lora_A[adapter](self.lora_dropout[adapter](sequence)))  # [B, L, 3 W]
        fused = F.linear(sequence, layer.in_proj_weight, layer.in_proj_bias) + self.scaling[adapter] * update
        heads = fused.unflatten(-1, (3, layer.num_heads, -1)).transpose(1, 3)  # [B, heads, 3, L, W / heads]
        queries, keys, values = heads.unbind(2)
        mixed = F.scaled_dot_product_attention(  # [B, heads, L, W / heads]
            queries,
            keys,
            values,
            # In torch's attention layer true means "not seen", in this function "seen".
            attn_mask=~attn_mask if attn_mask is not None and attn_mask.dtype == torch.bool else attn_mask,
            dropout_p=layer.dropout if self.training else 0.0,
        )
        result = layer.out_proj(mixed.transpose(1, 2).flatten(2))  # [B, L, W]; with its own adapter inside
        return result if layer.batch_first else result.transpose(0, 1), None
