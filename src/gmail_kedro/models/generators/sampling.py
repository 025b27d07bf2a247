"""How a generator samples, and which schedulers and variants each layout takes.

What does not fit a generator is refused before anything is loaded: diffusers takes a scheduler of another family, or a
guidance scale that nothing reads, and gives other images, or the same ones, without a word.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

FLOW_EULER = "FlowMatchEulerDiscreteScheduler"
LCM_SCHEDULER = "LCMScheduler"
FLOW_SOLVERS = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
DIFFUSION_SOLVERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
# How many steps share what is computed once; larger ones are faster and further from the plain sampler's images.
DEEPCACHE_INTERVAL, BROADCAST_RANGE, TAYLOR_INTERVAL = 3, 2, 3
TAYLOR_FROM = 3  # steps computed whole before anything is extrapolated
DISTILLED_STEPS = {"lcm": 8, "turbo": 4}  # most steps that the distilled weights were made for


@dataclass(frozen=True)
class Sampling:
    """Settings that decide an image beside the weights, the prompt and the seed."""

    steps: int
    guidance: float  # classifier-free, or what a guidance-distilled model is told
    resolution: int  # height and width, in pixels
    scheduler: str | None = None  # name of a diffusers scheduler; None: the shipped one
    precision: str = "auto"  # auto, float32, bfloat16 or float16; the autoencoder is always in float32
    negative_prompt: str = ""
    prompt_template: str = "{}"  # with one {} for the prompt
    max_prompt_tokens: int | None = None  # of FLUX's T5; None: the model's own
    variant: str = "none"  # a cache or distilled sampler that changes the images

    def fill_template(self, prompt: str) -> str:
        """Returns the prompt inside the template; braces of its own stay as they are."""
        return self.prompt_template.replace("{}", prompt)


@dataclass(frozen=True)
class Layout:
    """What the samplers of one family of generators can be asked for."""

    schedulers: tuple[str, ...]  # names of diffusers schedulers
    variants: tuple[str, ...]  # beside none
    side_multiple: int  # of height and width, in pixels
    takes_guidance: bool = True  # whether the guidance scale reaches the model
    takes_negative: bool = True  # whether there is an unconditional pass that a negative prompt can replace
    prompt_tokens: int = 0  # longest prompt that may be asked for, or 0 where the length is fixed


def check_fit(name: str, layout: Layout, sampling: Sampling) -> None:
    """Refuses settings that a generator has no use for, before anything is loaded.

    Raises:
        ValueError: At the first such setting; the message names it and what the generator takes.
    """
    most = DISTILLED_STEPS.get(sampling.variant, sampling.steps)
    longest = layout.prompt_tokens
    rules = (
        (sampling.scheduler in (None, *layout.schedulers), "scheduler", f"null or one of {list(layout.schedulers)}"),
        (sampling.variant in ("none", *layout.variants), "variant", f"one of {['none', *layout.variants]}"),
        (sampling.resolution % layout.side_multiple == 0, "resolution", f"a multiple of {layout.side_multiple}"),
        (layout.takes_guidance or sampling.guidance == 0, "guidance", "0: the model was distilled without a scale"),
        (
            not sampling.negative_prompt or (layout.takes_negative and sampling.guidance > 1),
            "negative_prompt",
            "empty: only classifier-free guidance above 1 reads it",
        ),
        (
            sampling.max_prompt_tokens is None or 0 < sampling.max_prompt_tokens <= longest,
            "max_prompt_tokens",
            f"null or 1 to {longest}" if longest else "null: the text encoder's length is fixed",
        ),
        (sampling.steps <= most, "steps", f"at most {most} with the variant {sampling.variant!r}"),
        (
            sampling.variant not in DISTILLED_STEPS or sampling.scheduler is None,
            "scheduler",
            f"null: the variant {sampling.variant!r} brings its own",
        ),
        (sampling.variant != "turbo" or sampling.guidance <= 1, "guidance", "1 or less with the variant 'turbo'"),
    )
    for holds, setting, expected in rules:
        if not holds:
            raise ValueError(
                f"The setting generation.{setting} of the generator {name!r} must be {expected}. "
                f"Got {getattr(sampling, setting)!r} instead."
            )


def set_scheduler(pipeline: "DiffusionPipeline", scheduler: str | None) -> None:
    """Replaces a pipeline's scheduler by the named one with the shipped one's noise schedule; None keeps that one."""
    import diffusers

    if scheduler is None:
        return
    changes: dict[str, Any] = {}
    shipped = pipeline.scheduler.config
    if type(pipeline.scheduler).__name__ == FLOW_EULER and scheduler != FLOW_EULER:
        # Solvers of diffusion read a flow-matching model right only when they are told that it is one.
        changes = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shipped.shift}
    pipeline.scheduler = getattr(diffusers, scheduler).from_config(shipped, **changes)


def apply_variant(pipeline: "DiffusionPipeline", variant: str) -> None:
    """Turns a declared variant on. None of them lets one image of a batch decide what another one's steps skip.

    ``deepcache`` computes the deep blocks of the U-Net in every third step only; ``attention_broadcast`` computes
    FLUX's attention in every second step between the times 100 and 800; ``taylorseer`` computes FLUX's attention in
    every third step from the fourth on and extrapolates between them; ``lcm`` and ``turbo`` sample distilled weights
    with the scheduler they were distilled for. First-block caching is not offered: it compares means over the batch.

    Raises:
        ValueError: If ``lcm`` or ``turbo`` is asked of weights that do not say they were distilled so.
        ImportError: If ``deepcache`` is asked for and the package is not installed.
    """
    if variant == "lcm":
        _sample_lcm(pipeline)
    elif variant == "turbo":
        _sample_turbo(pipeline)
    elif variant == "deepcache":
        _cache_deep_blocks(pipeline)
    elif variant == "attention_broadcast":
        from diffusers import PyramidAttentionBroadcastConfig

        pipeline.transformer.enable_cache(
            PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=BROADCAST_RANGE,
                current_timestep_callback=lambda: pipeline._current_timestep,
            )
        )
    elif variant == "taylorseer":
        import torch
        from diffusers import TaylorSeerCacheConfig

        pipeline.transformer.enable_cache(
            TaylorSeerCacheConfig(
                cache_interval=TAYLOR_INTERVAL,
                disable_cache_before_step=TAYLOR_FROM,
                taylor_factors_dtype=torch.float32,  # diffusers' default would round them to bfloat16
            )
        )


def _sample_lcm(pipeline: "DiffusionPipeline") -> None:
    from diffusers import LCMScheduler

    # The scheduler runs on any weights, but only distilled ones make images in so few steps.
    shipped = type(pipeline.scheduler).__name__
    if pipeline.unet.config.time_cond_proj_dim is None and shipped != LCM_SCHEDULER:
        raise ValueError(
            "The variant 'lcm' needs weights distilled into a latent consistency model: a U-Net told the guidance "
            f"scale, or a pipeline stored with LCMScheduler. These come with {shipped} and neither. Set "
            "generation.generator_path to distilled weights, or generation.variant to none."
        )
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)


def _sample_turbo(pipeline: "DiffusionPipeline") -> None:
    scheduler = pipeline.scheduler
    shipped = f"{type(scheduler).__name__} ({scheduler.config.get('timestep_spacing')})"
    if shipped != "EulerDiscreteScheduler (trailing)":
        raise ValueError(
            "The variant 'turbo' needs weights distilled for one to four steps, as SD-Turbo is; those are stored with "
            f"EulerDiscreteScheduler (trailing). These come with {shipped}. Set generation.generator_path to distilled "
            "weights, or generation.variant to none."
        )


def _cache_deep_blocks(pipeline: "DiffusionPipeline") -> None:
    try:
        from DeepCache import DeepCacheSDHelper
    except ImportError as error:
        raise ImportError(
            "The variant 'deepcache' needs the package DeepCache. Install it: pip install 'gmail_kedro[deepcache]'"
        ) from error
    helper = DeepCacheSDHelper(pipe=pipeline)
    helper.set_params(cache_interval=DEEPCACHE_INTERVAL, cache_branch_id=0)
    helper.enable()
