"""Model cards of the mini models: recipe, seed, data and what was measured, in Markdown."""

from typing import Any

from gmail_kedro.metrics.statistics import Interval
from gmail_kedro.params import PretrainingParams

DATA = (
    "Scenes of the mini world: scikit-learn's 1,797 scanned digits (UCI optdigits, CC BY 4.0), 1,197 of them for "
    "training, 200 for validation, 400 for test, so that the handwriting measured below was never seen."
)


def encoder_card(scores: dict[str, Any], params: PretrainingParams) -> str:
    """Returns the card of the mini CLIP."""
    recipe = (
        f"open_clip ViT (4 layers, width 128, 4-pixel patches) and a two-layer text tower, float16. Symmetric "
        f"contrastive loss on web-style texts plus two reading losses whose heads are thrown away; "
        f"{params.clip_stop_after} of {params.clip_steps} scheduled steps of {params.clip_batch_size} pairs, AdamW "
        f"1e-3, seed {params.seed}. It was stopped, on validation, where retrieval leaves room to gain."
    )
    note = (
        "`gain_*`: what tuning all weights on 1,500 real training pairs adds on the same test scenes "
        "(paired bootstrap over queries)."
    )
    return _card("Mini CLIP", "open_clip's hub layout (`local-dir:`)", recipe, scores, note)


def generator_card(scores: dict[str, Any], params: PretrainingParams) -> str:
    """Returns the card of the mini Stable Diffusion."""
    recipe = (
        f"f=4 autoencoder with 16 latent channels ({params.vae_steps} steps), U-Net and CLIP text encoder trained "
        f"together by flow matching on captions and web texts ({params.unet_steps} steps of "
        f"{params.generator_batch_size}, AdamW 1e-3, EMA, 10 % caption dropout), seed {params.seed}, float16. "
        "Three stages: drawing, obeying the caption at high noise, and a reading loss on its digits. "
        f"Measured with {params.sampling_steps} steps and guidance {params.sampling_guidance}."
    )
    note = (
        "`*_number_read`: share of generated scenes whose number a CNN trained on real handwriting reads as the "
        "caption says; `*_real_read`: the same on real test scenes. `*_probe_auc`: a linear probe on frozen mini-CLIP "
        "features, generated against real test scenes of the same facts; 0.5 would mean no style gap."
    )
    return _card("Mini Stable Diffusion", "diffusers `StableDiffusionPipeline`", recipe, scores, note)


def language_model_card(scores: dict[str, Any], params: PretrainingParams) -> str:
    """Returns the card of the mini GPT-2."""
    recipe = (
        f"GPT-2 with 4 layers of width 128, trained on captions and web texts without pictures: {params.gpt2_steps} "
        f"steps of {params.gpt2_batch_size}, AdamW 1e-3, seed {params.seed}, float16."
    )
    return _card("Mini GPT-2", "transformers `GPT2LMHeadModel`", recipe, scores, "Perplexity per token.")


def reader_card(scores: dict[str, Any], params: PretrainingParams) -> str:
    """Returns the card of the digit reader."""
    recipe = (
        f"A small CNN trained on real training handwriting: {params.reader_steps} steps of "
        f"{params.reader_batch_size}, AdamW 2e-3, seed {params.seed}, float16. It judges generated pictures and is "
        "no part of the method."
    )
    return _card("Digit reader", "safetensors", recipe, scores, "Percent of 2,000 real test scenes read right.")


def _card(title: str, layout: str, recipe: str, scores: dict[str, Any], note: str) -> str:
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in scores.items())
    return (
        f"# {title}\n\nFormat: {layout}. Licence: Apache-2.0.\n\n## Recipe\n\n{recipe}\n\n## Data\n\n{DATA}\n\n"
        f"## Measured on held-out data\n\n{note}\nMade by `make weights`; intervals are 95 % bootstrap.\n\n"
        f"| measure | value |\n|---|---|\n{rows}\n"
    )


def _cell(value: Interval | float) -> str:
    if isinstance(value, Interval):
        return f"{value.mean:.1f} [{value.low:.1f}, {value.high:.1f}]"
    return f"{value:.3f}" if abs(value) < 5 else f"{value:.1f}"
