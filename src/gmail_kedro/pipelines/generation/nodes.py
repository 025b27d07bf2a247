"""From a corpus to a generated set: read the captions, plan, generate, record."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from gmail_kedro.evaluation.leakage import leave_out_copies
from gmail_kedro.generated_sets import generate
from gmail_kedro.generated_sets.block_tables import Table
from gmail_kedro.generated_sets.captions import CAPTION_COLUMNS, check_captions
from gmail_kedro.generated_sets.manifest import build_manifest
from gmail_kedro.generated_sets.pairing import check_division
from gmail_kedro.generated_sets.plan import plan_blocks
from gmail_kedro.generated_sets.stored_images import ShardImages, open_images
from gmail_kedro.images.image_faults import check_images, find_faults, refuse_absent, refuse_unusable
from gmail_kedro.interfaces import Corpus, ImageGenerator
from gmail_kedro.models.generators.sampling import Sampling
from gmail_kedro.params.generation import GenerationParams, PairingParams
from gmail_kedro.params.quality import QualityParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.generation.scoring import build_scorer, identify_scorer

logger = logging.getLogger(__name__)


def read_captions(
    corpus: Corpus, benchmark_corpus: Corpus, quality: QualityParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the captions of a corpus whose real images can be used, and a table of the real images that cannot.

    Every real image is decoded once here, so that a bad one is found before hours of generation. A training real image
    that cannot be read is left out with its captions: nothing is generated for it and nothing paired with it.
    Validation and test real images must all be readable: a benchmark without some of them is another benchmark.

    One real image is one, whatever its names: one with the bytes of a measured real image is left out like an
    unreadable one, and the captions of training real images with equal bytes become those of the first.

    Args:
        corpus: The captioned real images.
        benchmark_corpus: What will be measured on; the same corpus, or another.
        quality: How large a share of the training real images may be unreadable, or copies of measured ones.

    Returns:
        ``caption_id``, ``image_id``, ``caption``, ``split`` of the usable captions; and ``image_id``, ``caption_count``
        and ``reason`` of the unreadable real images.

    Raises:
        ValueError: If the table cannot be planned, too many training real images or any other one cannot be used, the
            benchmark shows one that is trained on, or fewer than two are left; the message names them.
    """
    # Cheapest first: a table that cannot be planned is refused before a million images are opened.
    check_captions(corpus.captions)
    refuse_absent(corpus, limit=quality.max_unreadable)
    is_own = benchmark_corpus.captions.equals(corpus.captions)
    copies = {
        image_id: reason
        for measured in ([corpus] if is_own else [benchmark_corpus, corpus])
        for image_id, reason in leave_out_copies(corpus, measured, limit=quality.max_unreadable).items()
    }
    captions = corpus.captions[list(CAPTION_COLUMNS)]
    is_train = captions["split"] == "train"
    measured_copies = check_images(corpus, captions.loc[~is_train, "image_id"].unique())
    _warn_of_copies("val and test", corpus.name, measured_copies, "each is measured as a real image of its own")
    counts = captions.loc[is_train, "image_id"].value_counts(sort=False)
    faults = find_faults(corpus, counts.index.difference(list(copies), sort=False))
    reasons = {**copies, **faults.unusable}
    refuse_unusable(corpus, reasons, total=len(counts), limit=quality.max_unreadable)
    if len(counts) - len(reasons) - len(faults.copies) < 2:
        raise ValueError(
            f"The split 'train' of the corpus {corpus.name!r} has {len(counts)} real images, of which {len(reasons)} "
            f"cannot be used and {len(faults.copies)} are copies of others; a run needs two. Add real images."
        )
    bad = pd.DataFrame(
        {
            "image_id": pd.Series(list(reasons), dtype=str),
            "caption_count": [int(counts[image_id]) for image_id in reasons],
            "reason": pd.Series(list(reasons.values()), dtype=str),
        }
    ).astype({"caption_count": int})
    usable = captions[~captions["image_id"].isin(reasons.keys())].reset_index(drop=True)
    return _merge_copies(corpus.name, usable, faults.copies), bad


def _merge_copies(name: str, captions: pd.DataFrame, copies: Mapping[str, str]) -> pd.DataFrame:
    """Returns captions in which those of a copy are those of the real image it is a copy of."""
    if not copies:
        return captions
    _warn_of_copies("training", name, copies, "their captions become captions of those")
    return captions.assign(image_id=captions["image_id"].map(lambda image_id: copies.get(image_id, image_id)))


def _warn_of_copies(kind: str, name: str, copies: Mapping[str, str], consequence: str) -> None:
    if copies:
        logger.warning(
            "%d %s real images of the corpus %r have the very bytes of others (the first: %r is %r); %s.",
            len(copies), kind, name, *next(iter(copies.items())), consequence,
        )  # fmt: skip


def plan_generation(captions: Table, params: GenerationParams, pairing: PairingParams) -> pa.RecordBatchReader:
    """Returns one row an image to make, with prompt, seed and shard, block by block.

    Args:
        captions: The captions of the corpus.
        params: How many images, from which base seed, how many a shard.
        pairing: How the pairs will be divided.

    Raises:
        ValueError: If nothing can be planned, or pairing would find no real image for train or val.
    """
    # Pairing comes after hours of generation, and would be the first to find that one side is empty.
    check_division(captions, params, pairing)
    return plan_blocks(captions, params=params)


def generate_images(
    generation_plan: pd.DataFrame, shard_folder: Path, params: GenerationParams, run: RunParams, quality: QualityParams
) -> ShardImages:
    """Generates what is missing of the plan into the folder and returns all of its images, by key.

    Args:
        generation_plan: The images to make.
        shard_folder: Where the shards go; whole ones that are there already are kept.
        params: The generator and its settings.
        run: The device; whether this process or a Ray cluster does the work; the encoder that gives caption scores.
        quality: What the gate refuses.

    Raises:
        RuntimeError: If the generator fails; whole shards are kept.
        QuarantineError: If the gate refuses too many images.
    """
    from gmail_kedro.engine.distributed import job_mapper

    generate.generate_images(
        generation_plan,
        partial(build_generator, params, run),
        shard_folder,
        settings=settings_of(params),
        quality=quality,
        batch_size=params.batch_size,
        scorer_name="" if quality.min_caption_score is None else identify_scorer(run),
        build_scorer=partial(build_scorer, run),
        map_jobs=job_mapper(run) if run.engine == "ray" else None,
    )
    return open_images(shard_folder)


def write_manifest(
    generation_plan: pd.DataFrame, generated_images: ShardImages, params: GenerationParams
) -> pd.DataFrame:
    """Returns the plan with place, hash and origin of every image.

    Args:
        generation_plan: The images that were asked for.
        generated_images: The complete set.
        params: The settings that were asked for.

    Raises:
        ValueError: If the set was made with other settings, or from another plan.
    """
    made_with = generated_images.description.settings
    for name, wanted in _asked_for(params).items():
        if made_with.get(name) != wanted:
            raise ValueError(
                f"The generated set was made with {name}={made_with.get(name)!r}; generation.{name} is {wanted!r}. "
                "Set it back, or make the set anew: kedro run --pipeline=generation"
            )
    return build_manifest(generation_plan, generated_images)


def settings_of(params: GenerationParams) -> dict[str, Any]:
    """Returns what decides the pixels beside the plan, the revision of the weights included; builds no model.

    Raises:
        ValueError: If the generator cannot be asked for these settings, or its weights are not there.
    """
    from gmail_kedro.models.generators.known_generators import check_sampling, generator_revision

    check_sampling(params.generator, _sampling_of(params))
    return {**_asked_for(params), "revision": generator_revision(params.generator, params.generator_path)}


def build_generator(params: GenerationParams, run: RunParams) -> ImageGenerator:
    """Returns the image generator of the parameters, on the run's device."""
    from gmail_kedro.hardware import resolve_device
    from gmail_kedro.models.generators import known_generators

    device = resolve_device(run.device)
    return known_generators.build_generator(
        params.generator, params.generator_path, _sampling_of(params), device=device
    )


def _asked_for(params: GenerationParams) -> dict[str, Any]:
    return {"generator": params.generator, **asdict(_sampling_of(params)), "jpeg_quality": params.jpeg_quality}


def _sampling_of(params: GenerationParams) -> Sampling:
    return Sampling(
        steps=params.steps,
        guidance=float(params.guidance),  # YAML's 3 and 3.0 are the same guidance and must be the same set
        resolution=params.resolution,
        scheduler=params.scheduler,
        precision=params.precision,
        negative_prompt=params.negative_prompt,
        prompt_template=params.prompt_template,
        max_prompt_tokens=params.max_prompt_tokens,
        variant=params.variant,
    )
