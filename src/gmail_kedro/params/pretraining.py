"""How the mini models are made."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules


@dataclass(frozen=True)
class PretrainingParams(Parameters):
    """How the mini models are made (`make weights`).

    Attributes:
        seed: Seeds everything.
        scene_count: Training scenes drawn for each model.
        clip_steps: Length of the mini CLIP's learning-rate schedule, in steps.
        clip_stop_after: Steps that are taken; chosen on validation so that retrieval leaves room to gain.
        clip_batch_size: Pairs a step.
        vae_steps: Steps of the generator's autoencoder.
        unet_steps: Steps of its U-Net and text encoder.
        generator_batch_size: Scenes a step.
        gpt2_steps: Steps of the mini GPT-2.
        gpt2_batch_size: Texts a step.
        reader_steps: Steps of the digit reader.
        reader_batch_size: Scenes a step.
        sampling_steps: Denoising steps used to measure the generator.
        sampling_guidance: Guidance scale used to measure the generator.
        twin_scene_count: Training scenes drawn for each relative of the mini CLIP.
        twin_batch_size: Scenes a step of theirs; a multiple of 4.
        clip_vision_steps: Steps of the mini CLIP vision tower (transformers' format, for LLaVA).
        long_clip_short_steps: Steps of the mini Long-CLIP's text tower before it is stretched.
        long_clip_long_steps: Steps of the whole mini Long-CLIP on long captions.
        siglip_seeing_steps: Steps of the mini SigLIP's image tower.
        siglip_reading_steps: Steps of its text tower.
        synclr_captions: Captions of which four pictures each are generated for the mini SynCLR.
        synclr_steps: Steps of the mini SynCLR.
        flux_scene_count: Training scenes on which the mini FLUX copies the mini Stable Diffusion.
        flux_batch_size: Scenes a step.
        flux_vae_steps: Steps of its autoencoder.
        flux_steps: Steps of its transformer and text encoders.
        flux_sampling_steps: Denoising steps used to measure it.
        flux_sampling_guidance: Guidance it is told when it is measured.
    """

    seed: int
    scene_count: int
    clip_steps: int
    clip_stop_after: int
    clip_batch_size: int
    vae_steps: int
    unet_steps: int
    generator_batch_size: int
    gpt2_steps: int
    gpt2_batch_size: int
    reader_steps: int
    reader_batch_size: int
    sampling_steps: int
    sampling_guidance: float
    twin_scene_count: int
    twin_batch_size: int
    clip_vision_steps: int
    long_clip_short_steps: int
    long_clip_long_steps: int
    siglip_seeing_steps: int
    siglip_reading_steps: int
    synclr_captions: int
    synclr_steps: int
    flux_scene_count: int
    flux_batch_size: int
    flux_vae_steps: int
    flux_steps: int
    flux_sampling_steps: int
    flux_sampling_guidance: float

    GROUP: ClassVar[str] = "pretraining"
    RULES: ClassVar[dict[str, Any]] = rules(
        positive="scene_count clip_steps clip_stop_after clip_batch_size vae_steps unet_steps generator_batch_size "
        "gpt2_steps gpt2_batch_size reader_steps reader_batch_size sampling_steps twin_scene_count twin_batch_size "
        "clip_vision_steps long_clip_short_steps long_clip_long_steps siglip_seeing_steps siglip_reading_steps "
        "synclr_captions synclr_steps flux_scene_count flux_batch_size flux_vae_steps flux_steps flux_sampling_steps",
        not_negative="seed sampling_guidance flux_sampling_guidance",
    )
