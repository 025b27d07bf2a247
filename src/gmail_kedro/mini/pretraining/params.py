"""How the mini models are made."""

from typing import ClassVar

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from gmail_kedro.params.base import Parameters


class PretrainingParams(Parameters):
    """How the mini models are made (`make weights`)."""

    GROUP: ClassVar[str] = "pretraining"

    seed: NonNegativeInt  # seeds everything
    scene_count: PositiveInt  # training scenes drawn for each model
    clip_steps: PositiveInt  # length of the mini CLIP's learning-rate schedule, in steps
    clip_stop_after: PositiveInt  # steps that are taken; chosen on validation so that retrieval leaves room to gain
    clip_batch_size: PositiveInt  # pairs a step
    vae_steps: PositiveInt  # steps of the generator's autoencoder
    unet_steps: PositiveInt  # steps of its U-Net and text encoder
    generator_batch_size: PositiveInt  # scenes a step
    gpt2_steps: PositiveInt  # steps of the mini GPT-2
    gpt2_batch_size: PositiveInt  # texts a step
    reader_steps: PositiveInt  # steps of the digit reader
    reader_batch_size: PositiveInt  # scenes a step
    sampling_steps: PositiveInt  # denoising steps used to measure the generator
    sampling_guidance: NonNegativeFloat  # guidance scale used to measure the generator
    encoder_scene_count: PositiveInt  # training scenes drawn for each of the other mini encoders
    encoder_batch_size: PositiveInt  # scenes a step of theirs; a multiple of 4
    clip_vision_steps: PositiveInt  # steps of the mini CLIP vision tower (transformers' format, for LLaVA)
    long_clip_short_steps: PositiveInt  # steps of the mini Long-CLIP's text tower before it is stretched
    long_clip_long_steps: PositiveInt  # steps of the whole mini Long-CLIP on long captions
    siglip_seeing_steps: PositiveInt  # steps of the mini SigLIP's image tower
    siglip_reading_steps: PositiveInt  # steps of its text tower
    synclr_captions: PositiveInt  # captions of which four images each are generated for the mini SynCLR
    synclr_steps: PositiveInt  # steps of the mini SynCLR
    flux_scene_count: PositiveInt  # training scenes on which the mini FLUX copies the mini Stable Diffusion
    flux_batch_size: PositiveInt  # scenes a step
    flux_vae_steps: PositiveInt  # steps of its autoencoder
    flux_steps: PositiveInt  # steps of its transformer and text encoders
    flux_sampling_steps: PositiveInt  # denoising steps used to measure it
    flux_sampling_guidance: NonNegativeFloat  # guidance it is told when it is measured
    llama_steps: PositiveInt  # steps of the mini LLaMA-3 on conversations about scenes drawn in words
    llama_batch_size: PositiveInt  # texts a step
    llava_steps: PositiveInt  # steps of the mini LLaVA's projector and language model on images
    llava_batch_size: PositiveInt  # conversations a step
    llava_scene_count: PositiveInt  # training scenes drawn for it
