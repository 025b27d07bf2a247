"""Wiring of the pretraining pipeline (`make weights`)."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.pretraining.nodes import (
    train_digit_reader,
    train_encoder,
    train_generator,
    train_language_model,
    train_tokenizers,
    write_cards,
)


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: tokenizers, the four mini models, and their cards."""
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
        ]
    )
