"""Wiring of the pretraining pipeline (`make weights`).

One model alone: ``kedro run --env=pretraining --pipeline=pretraining --nodes=train_llama``.
"""

from collections.abc import Callable

from kedro.pipeline import Pipeline, node
from kedro.pipeline.node import Node

from gmail_kedro.mini.pretraining import nodes


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: tokenizers, the mini models, the other mini encoders, FLUX, LLaMA and LLaVA, and all their cards."""
    clip, vision, generator, reader = "mini_clip", "mini_clip_vision", "mini_stable_diffusion", "mini_reader"
    tokenizer, checkpoints = "clip_tokenizer", "pretraining_checkpoints"
    return Pipeline(
        [
            _node(nodes.train_tokenizers, [], [tokenizer, "gpt2_tokenizer"]),
            _node(nodes.train_digit_reader, [], [reader]),
            _node(nodes.train_encoder, [tokenizer, checkpoints], [clip]),
            _node(nodes.train_generator, [tokenizer, checkpoints], [generator]),
            _node(nodes.train_language_model, ["gpt2_tokenizer"], ["mini_gpt2"]),
            _cards(nodes.write_cards, [clip, generator, "mini_gpt2", reader]),
            _node(nodes.train_clip_vision, [clip, checkpoints], [vision]),
            _node(nodes.train_long_clip, [vision, tokenizer, checkpoints], ["mini_long_clip"]),
            _node(nodes.train_siglip, [clip, checkpoints], ["mini_siglip"]),
            _node(nodes.train_synclr, [clip, generator, checkpoints], ["mini_synclr"]),
            _cards(nodes.write_encoder_cards, [vision, "mini_long_clip", "mini_siglip", "mini_synclr"]),
            _node(nodes.train_flux, [generator, checkpoints], ["mini_flux"]),
            _node(nodes.write_flux_card, ["mini_flux", reader], ["mini_flux_card"]),
            _node(nodes.train_llama, [checkpoints], ["mini_llama"]),
            _node(nodes.train_llava, [vision, checkpoints], ["mini_llava"]),
            _cards(nodes.write_language_cards, ["mini_llama", "mini_llava"]),
        ],
        tags="pretraining",
    )


def _node(function: Callable[..., object], inputs: list[str], outputs: list[str]) -> Node:
    return node(
        function,
        [*inputs, "params:pretraining"],
        outputs[0] if len(outputs) == 1 else outputs,
        name=function.__name__,
    )


def _cards(function: Callable[..., object], models: list[str]) -> Node:
    """Returns the node that measures models and writes a card for each, in their order."""
    return _node(function, models, [f"{model}_card" for model in models])
