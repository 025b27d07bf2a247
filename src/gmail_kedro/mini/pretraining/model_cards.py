"""Model cards of the mini models: recipe, seed, data and what was measured, in Markdown."""

from typing import Any

from gmail_kedro.metrics.statistics import Interval
from gmail_kedro.mini.pretraining.params import PretrainingParams

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


def flux_card(scores: dict[str, Any], params: PretrainingParams) -> str:
    """Returns the card of the mini FLUX."""
    recipe = (
        "Flow-matching transformer (one double block, two single ones, width 96), one-layer CLIP and T5 text "
        "encoders, f=4 autoencoder with 16 latent channels in the mini Stable Diffusion's latent space, float16. The "
        f"autoencoder copies the mini Stable Diffusion's latents ({params.flux_vae_steps} steps). The rest is "
        f"guidance-distilled, as FLUX.1 dev is: on noised latents of {params.flux_scene_count:,} "
        "training scenes it copies the mini Stable Diffusion's velocity with guidance 2 to 6, with a reading loss on "
        f"the caption's digits ({params.flux_steps} steps of {params.flux_batch_size}, AdamW 2e-3, EMA), seed "
        f"{params.seed}. Measured with "
        f"{params.flux_sampling_steps} steps and guidance {params.flux_sampling_guidance}."
    )
    note = (
        "`*_number_read`: share of generated scenes whose number a CNN trained on real handwriting reads as the "
        "caption says (chance: 10 for one digit, 1 for two); `*_said_ink_read`: share of those whose caption names the "
        "ink that show it (chance: about 17); `*_real_read`: the same number on real test scenes; the card of "
        "the mini Stable Diffusion has the teacher's numbers. `*_count_read`: share read as having as many digits as "
        "the caption says (chance: 50). `*_probe_auc`: a linear probe on frozen mini-CLIP features, generated against "
        "real test scenes of the same facts; 0.5 would mean no style gap."
    )
    return _card("Mini FLUX", "diffusers `FluxPipeline`", recipe, scores, note)


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


def clip_vision_card(scores: dict[str, Any], params: PretrainingParams) -> str:
    """Returns the card of the mini CLIP vision tower."""
    recipe = (
        f"Four layers of width 96 on 4-pixel patches, float16. It copies the mini CLIP's image embeddings of "
        f"{params.encoder_scene_count:,} training scenes and reads facts off its embedding and digits off layer -2 "
        f"(heads thrown away): {params.clip_vision_steps} steps of {params.encoder_batch_size}, AdamW 1.5e-3, seed "
        f"{params.seed}. "
        "It lives in the mini CLIP's space, so the mini CLIP's text tower goes with it."
    )
    note = (
        "Retrieval is through the mini CLIP's text tower on 500 scenes with five captions each. `probe_*`: linear "
        "probes on the pooled features of single-digit scenes."
    )
    layout = "transformers `CLIPVisionModelWithProjection` (what LLaVA's vision tower is)"
    return _card("Mini CLIP vision tower", layout, recipe, scores, note)


def long_clip_card(scores: dict[str, Any], params: PretrainingParams) -> str:
    """Returns the card of the mini Long-CLIP."""
    recipe = (
        f"A CLIP of 77 tokens, stretched to 248 and tuned, float16. Its image tower is the mini CLIP vision tower; its "
        f"two-layer text tower learns web texts ({params.long_clip_short_steps} steps of {params.encoder_batch_size}, "
        f"AdamW 2e-3); after the stretching all weights but the first 20 positions learn long captions, half of them "
        f"with their sentences in another order, with the primary components matched to web texts "
        f"({params.long_clip_long_steps} steps, AdamW 4e-4); seed {params.seed}."
    )
    note = (
        "500 scenes. `long_*`: one long caption each; `shuffled_*`: the same with their sentences in random order, so "
        "that facts come late; `*_cut_*`: the same model, caption cut at 77 tokens; `*_gain_*`: whole minus cut, "
        "paired bootstrap; `*_mini_clip_*`: the mini CLIP, cut at its 77 tokens; `short_*`: five captions each. "
        "`over_77_tokens`: percent of the long captions "
        "that cutting touches."
    )
    layout = "Long-CLIP's state dict (OpenAI CLIP's names, two tables of positions) with an open_clip configuration"
    return _card("Mini Long-CLIP", layout, recipe, scores, note)


def siglip_card(scores: dict[str, Any], params: PretrainingParams) -> str:
    """Returns the card of the mini SigLIP."""
    recipe = (
        "timm's `test_vit` with attention pooling on 128-pixel pictures and a two-layer text tower, both of width 64, "
        f"float16. The image tower copies the mini CLIP's image embeddings (in their 64 strongest directions) of "
        f"{params.encoder_scene_count:,} training scenes, with the reading losses as help (heads thrown away): "
        f"{params.siglip_seeing_steps} steps with one warm restart. Then text tower, scale and bias learn web texts by "
        f"the pairwise sigmoid loss: {params.siglip_reading_steps} steps. {params.encoder_batch_size} scenes a step, "
        f"AdamW 2e-3 and 3e-3, seed {params.seed}."
    )
    note = "Retrieval on 500 scenes with five captions each; single digits named zero-shot."
    return _card("Mini SigLIP", "open_clip's hub layout (`local-dir:`)", recipe, scores, note)


def synclr_card(scores: dict[str, Any], params: PretrainingParams) -> str:
    """Returns the card of the mini SynCLR."""
    recipe = (
        f"timm's `test_vit` on 128-pixel pictures, class token, float16. Multi-positive contrastive loss on four "
        f"pictures each of {params.synclr_captions} captions, generated by the mini Stable Diffusion; no real picture "
        f"is seen. The features also copy the mini CLIP's embeddings of those pictures, in their 64 strongest "
        f"directions: {params.synclr_steps} steps of {params.encoder_batch_size} pictures, AdamW 2e-3, "
        f"seed {params.seed}."
    )
    note = (
        "Linear probes on pooled features of 3,000 real training scenes, read on 1,000 real test scenes of one digit; "
        "`mini_clip_*`: the same probes on the mini CLIP."
    )
    return _card("Mini SynCLR", "SynCLR's state dict (`visual.` and timm's names)", recipe, scores, note)


def llama_card(scores: dict[str, Any], params: PretrainingParams) -> str:
    """Returns the card of the mini LLaMA-3."""
    recipe = (
        "LLaMA-3's layout in small: 4 layers of width 96, 6 heads on 2 key-value heads, rotary base 500,000, tied "
        "words, byte-level BPE that reads numbers digit by digit, LLaMA-3's chat tokens and template, float16. Trained "
        "on captions and on conversations about scenes drawn in words (four rows of four words), so that it knows "
        f"where in its context to look: {params.llama_steps} steps of {params.llama_batch_size}, AdamW 2e-3, seed "
        f"{params.seed}. It has seen no picture; a projector has to teach it to take a patch for a word."
    )
    note = (
        "Answers to 300 questions about drawings of test scenes, equal to the true answer word for word; of "
        "those with choices one in four is right by guessing. A drawing does not tell everything."
    )
    return _card("Mini LLaMA-3", "transformers `LlamaForCausalLM`", recipe, scores, note)


def llava_card(scores: dict[str, Any], params: PretrainingParams) -> str:
    """Returns the card of the mini LLaVA."""
    recipe = (
        "The mini CLIP vision tower, frozen and unchanged (layer -2, no class token), a two-layer projector and a "
        "language model in LLaMA-2's layout (4 layers of width 80, 5 heads), with LLaMA-2's kind of tokenizer and "
        "LLaVA-1.5's chat template, float16. Projector and language model learn together, from nothing, on "
        f"{params.llava_scene_count:,} real training scenes: web texts and questions, no captions of an annotator's "
        f"kind. {params.llava_steps} steps of {params.llava_batch_size} conversations, AdamW 2e-3, seed {params.seed}."
    )
    note = (
        "300 questions with four choices in ScienceQA's words (guessing: 25) and 300 open ones in MMMU's, about test "
        "scenes, scored by the benchmarks' rules."
    )
    return _card("Mini LLaVA", "transformers `LlavaForConditionalGeneration`", recipe, scores, note)


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
