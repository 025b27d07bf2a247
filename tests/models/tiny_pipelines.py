"""Tiny generators with random weights, made of the real classes and saved in the layouts of the published ones."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

from gmail_kedro.mini.pretraining.tokenizers import sample_texts, train_t5_tokenizer
from gmail_kedro.models.weight_sources import packaged_weights

NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
SD2_SCHEDULERS = {
    "stable_diffusion_2_base": lambda: PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **NOISE),
    "stable_diffusion_2": lambda: DDIMScheduler(
        prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, **NOISE
    ),
}


def save_stable_diffusion_2(folder: Path, name: str = "stable_diffusion_2_base", **changes: Any) -> Path:
    """Stable Diffusion 2 as published: linear projections, heads by level, its scheduler, no safety checker."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(packaged_weights("clip"))
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        time_cond_proj_dim=changes.pop("time_cond_proj_dim", None),
    )
    parts = {
        "vae": _vae(latent_channels=4),
        "text_encoder": _clip(tokenizer, hidden_act="gelu"),
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": SD2_SCHEDULERS[name](),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    StableDiffusionPipeline(**(parts | changes)).save_pretrained(folder)
    return folder


def save_flux(folder: Path, name: str = "flux_dev") -> Path:
    """FLUX.1 as published: dev is told its guidance and shifts by size, schnell neither."""
    torch.manual_seed(0)
    is_dev = name == "flux_dev"
    clip_tokenizer = CLIPTokenizer.from_pretrained(packaged_weights("clip"))
    t5_tokenizer = train_t5_tokenizer(sample_texts(scene_count=20), context_length=512)
    t5 = T5Config(
        vocab_size=len(t5_tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if is_dev else 1.0, use_dynamic_shifting=is_dev),
        vae=_vae(latent_channels=16, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(clip_tokenizer),
        tokenizer=clip_tokenizer,
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=t5_tokenizer,
        transformer=FluxTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            guidance_embeds=is_dev,
            axes_dims_rope=(4, 4, 8),
        ),
    ).save_pretrained(folder)
    return folder


def save_lcm(folder: Path) -> Path:
    """A latent consistency model: its U-Net is told the guidance scale."""
    return save_stable_diffusion_2(folder, time_cond_proj_dim=16, scheduler=LCMScheduler(**NOISE))


def save_turbo(folder: Path) -> Path:
    """As SD-Turbo: trailing Euler steps."""
    return save_stable_diffusion_2(folder, scheduler=EulerDiscreteScheduler(timestep_spacing="trailing", **NOISE))


def tiny_safety_checker(threshold: float) -> dict[str, Any]:
    """The safety checker as pipelines carry it; it flags everything below a threshold of -1, nothing above 1."""
    vision = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = CLIPConfig(
        vision_config=vision | {"image_size": 32, "patch_size": 16}, text_config=vision, projection_dim=16
    )
    checker = StableDiffusionSafetyChecker(config)
    checker.concept_embeds_weights.data.fill_(threshold)
    checker.special_care_embeds_weights.data.fill_(2.0)
    extractor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return {"safety_checker": checker, "feature_extractor": extractor, "requires_safety_checker": True}


def _clip(tokenizer: CLIPTokenizer, **changes: Any) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, **changes,
    )  # fmt: skip
    return CLIPTextModel(config)


def _vae(**changes: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, **changes,
    )  # fmt: skip
