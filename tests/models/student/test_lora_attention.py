"""LoRA in fused attention equals its definition: the layer with W + s B A in both projections."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from gmail_kedro.models.student.lora_attention import FactoredAttention

WIDTH, HEADS, SCALING = 16, 4, 3.0


class Block(torch.nn.Module):
    """Self-attention as the towers call it."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first, dtype=torch.float64)

    def forward(self, x, mask=None):
        return self.attn(x, x, x, need_weights=False, attn_mask=mask)[0]


@pytest.fixture(params=[True, False], ids=["batch first", "sequence first"])
def layers(request):
    """Returns a block with a trained adapter, and the same block with the update added to its weights."""
    torch.manual_seed(0)
    plain = Block(batch_first=request.param)
    config = LoraConfig(r=2, lora_alpha=2 * SCALING, target_modules=["attn"])
    config._register_custom_module({torch.nn.MultiheadAttention: FactoredAttention})
    tuned = get_peft_model(copy.deepcopy(plain), config).double()
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return tuned, plain


def factors(tuned):
    attention = tuned.base_model.model.attn
    inner = attention.get_base_layer().out_proj
    return [(side.lora_A["default"].weight, side.lora_B["default"].weight) for side in (attention, inner)]


def by_definition(tuned, plain, x, mask=None):
    (a_in, b_in), (a_out, b_out) = factors(tuned)
    weights = {
        "attn.in_proj_weight": plain.attn.in_proj_weight.detach() + SCALING * b_in @ a_in,
        "attn.out_proj.weight": plain.attn.out_proj.weight.detach() + SCALING * b_out @ a_out,
    }
    return torch.func.functional_call(plain, weights, (x, mask))


@pytest.mark.parametrize("mask", [None, "added", "boolean"])
def test_output_and_gradients_are_those_of_the_definition(layers, mask):
    tuned, plain = layers
    x = torch.randn(5, 5, WIDTH, dtype=torch.float64)
    future = torch.ones(5, 5, dtype=torch.bool).triu(1)
    added = torch.zeros(5, 5, dtype=torch.float64).masked_fill(future, -torch.inf)
    mask = {None: None, "added": added, "boolean": future}[mask]
    learned = [tensor for pair in factors(tuned) for tensor in pair]
    found, wanted = tuned(x, mask), by_definition(tuned, plain, x, mask)
    assert torch.allclose(found, wanted, atol=1e-12)
    for left, right in zip(
        torch.autograd.grad(found.square().sum(), learned),
        torch.autograd.grad(wanted.square().sum(), learned),
        strict=True,
    ):
        assert torch.allclose(left, right, atol=1e-10) and left.abs().max() > 0


def test_merging_adds_each_update_once_and_can_be_undone(layers):
    tuned, plain = layers
    x = torch.randn(2, 5, WIDTH, dtype=torch.float64)
    wanted = by_definition(tuned, plain, x)
    tuned.merge_adapter()
    assert torch.allclose(tuned(x), wanted, atol=1e-12)
    tuned.unmerge_adapter()
    assert torch.allclose(tuned(x), wanted, atol=1e-12)
    with tuned.disable_adapter():
        assert torch.allclose(tuned(x), plain(x), atol=1e-12)
    merged = tuned.merge_and_unload()
    assert type(merged.attn) is torch.nn.MultiheadAttention
    assert torch.allclose(merged(x), wanted, atol=1e-12)


def test_the_forward_pass_never_writes_a_frozen_weight(layers):
    tuned, plain = layers
    for _ in range(3):
        tuned(torch.randn(2, 5, WIDTH, dtype=torch.float64)).sum().backward()
    attention = tuned.base_model.model.attn.get_base_layer()
    assert torch.equal(attention.in_proj_weight, plain.attn.in_proj_weight)
    assert torch.equal(attention.out_proj.base_layer.weight, plain.attn.out_proj.weight)


def test_the_update_sees_dropout(layers):
    _, plain = layers
    config = LoraConfig(r=2, lora_dropout=0.5, target_modules=["attn"])
    config._register_custom_module({torch.nn.MultiheadAttention: FactoredAttention})
    tuned = get_peft_model(copy.deepcopy(plain), config).double()
    for pair in factors(tuned):
        torch.nn.init.normal_(pair[1])
    x = torch.randn(2, 5, WIDTH, dtype=torch.float64)
    assert not torch.equal(tuned.train()(x), tuned(x))
    assert torch.equal(tuned.eval()(x), tuned(x))


def test_cross_attention_is_refused_with_advice(layers):
    attention = layers[0].base_model.model.attn
    x, y = torch.randn(2, 2, 5, WIDTH, dtype=torch.float64)
    with pytest.raises(NotImplementedError, match=r"self-attention.*lora.targets"):
        attention(x, y, y, need_weights=False)
    with pytest.raises(NotImplementedError, match="need_weights=True"):
        attention(x, x, x, need_weights=True)
