"""Wiring of the pretraining pipeline (`make weights`)."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.pretraining.flux_nodes import train_flux, write_flux_card
from gmail_kedro.pipelines.pretraining.nodes import (
    train_digit_reader,
    train_encoder,
    train_generator,
    train_language_model,
    train_tokenizers,
    write_cards,
)
from gmail_kedro.pipelines.pretraining.twin_nodes import (
    train_clip_vision,
    train_long_clip,
    train_siglip,
    train_synclr,
    write_twin_cards,
)


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: tokenizers, the mini models, the mini CLIP's relatives, the mini FLUX, and all their cards."""
    params = "params:pretraining"
    checkpoints = "pretraining_checkpoints"
    return Pipeline(
        [
            node(train_tokenizers, params, ["clip_tokenizer", "gpt2_tokenizer"]),
            node(train_digit_reader, params, "mini_reader"),
            node(train_encoder, ["clip_tokenizer", checkpoints, params], "mini_clip"),
            node(train_generator, ["clip_tokenizer", checkpoints, params], "mini_stable_diffusion"),
            node(train_language_model, ["gpt2_tokenizer", params], "mini_gpt2"),
            node(
                write_cards,
                ["mini_clip", "mini_stable_diffusion", "mini_gpt2", "mini_reader", params],
                ["mini_clip_card", "mini_stable_diffusion_card", "mini_gpt2_card", "mini_reader_card"],
            ),
            node(train_clip_vision, ["mini_clip", checkpoints, params], "mini_clip_vision"),
            node(train_long_clip, ["mini_clip_vision", "clip_tokenizer", checkpoints, params], "mini_long_clip"),
            node(train_siglip, ["mini_clip", checkpoints, params], "mini_siglip"),
            node(train_synclr, ["mini_clip", "mini_stable_diffusion", checkpoints, params], "mini_synclr"),
            node(train_flux, ["mini_stable_diffusion", checkpoints, params], "mini_flux"),
            node(write_flux_card, ["mini_flux", "mini_reader", params], "mini_flux_card"),
            node(
                write_twin_cards,
                ["mini_clip_vision", "mini_long_clip", "mini_siglip", "mini_synclr", params],
                ["mini_clip_vision_card", "mini_long_clip_card", "mini_siglip_card", "mini_synclr_card"],
            ),
        ]
    )
