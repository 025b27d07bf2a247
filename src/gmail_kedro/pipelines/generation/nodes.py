"""From a corpus to a generated set: read the captions, plan, generate, record."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa

from gmail_kedro.evaluation.leakage import leave_out_copies
from gmail_kedro.generated_sets.captions import CAPTION_COLUMNS, check_captions
from gmail_kedro.generated_sets.generation_work import GenerationWork
from gmail_kedro.generated_sets.manifest import build_manifest
from gmail_kedro.generated_sets.pairing import check_division
from gmail_kedro.generated_sets.plan import plan_blocks
from gmail_kedro.generated_sets.stored import StoredImages
from gmail_kedro.generated_sets.tables import Table
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
    """Returns the captions of a corpus whose photographs can be used, and a table of the photographs that cannot.

    Every photograph is decoded once here, so that a bad one is found before hours of generation. A training photograph
    that cannot be read is left out with its captions: nothing is generated for it and nothing paired with it.
    Validation and test photographs must all be readable: a benchmark without some of them is another benchmark.

    One photograph is one, whatever its names: one with the bytes of a measured photograph is left out like an
    unreadable one, and the captions of training photographs with equal bytes become those of the first.

    Args:
        corpus: The captioned photographs.
        benchmark_corpus: What will be measured on; the same corpus, or another.
        quality: How large a share of the training photographs may be unreadable, or copies of measured ones.

    Returns:
        ``caption_id``, ``image_id``, ``caption``, ``split`` of the usable captions; and ``image_id``, ``caption_count``
        and ``reason`` of the unreadable photographs.

    Raises:
        ValueError: If the table cannot be planned, too many training photographs or any other one cannot be used, the
            benchmark shows one that is trained on, or fewer than two are left; the message names them.
    """
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
    _warn_of_copies("val and test", corpus.name, measured_copies, "each is measured as a photograph of its own")
    counts = captions.loc[is_train, "image_id"].value_counts(sort=False)
    faults = find_faults(corpus, counts.index.difference(list(copies), sort=False))
    reasons = {**copies, **faults.unusable}
    refuse_unusable(corpus, reasons, total=len(counts), limit=quality.max_unreadable)
    if len(counts) - len(reasons) - len(faults.copies) < 2:
        raise ValueError(
            f"The split 'train' of the corpus {corpus.name!r} has {len(counts)} photographs, of which {len(reasons)} "
            f"cannot be used and {len(faults.copies)} are copies of others; a run needs two. Add photographs."
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
    """Returns captions in which those of a copy are those of the photograph it is a copy of."""
    if not copies:
        return captions
    _warn_of_copies("training", name, copies, "their captions become captions of those")
    return captions.assign(image_id=captions["image_id"].map(lambda image_id: copies.get(image_id, image_id)))


def _warn_of_copies(kind: str, name: str, copies: Mapping[str, str], consequence: str) -> None:
    if copies:
        logger.warning(
            "%d %s photographs of the corpus %r have the very bytes of others (the first: %r is %r); %s.",
            len(copies), kind, name, *next(iter(copies.items())), consequence,
        )  # fmt: skip


def plan_generation(captions: Table, params: GenerationParams, pairing: PairingParams) -> pa.RecordBatchReader:
    """Returns one row a picture to make, with prompt, seed and shard, block by block.

    Args:
        captions: The captions of the corpus.
        params: How many pictures, from which base seed, how many a shard.
        pairing: How the pairs will be divided.

    Raises:
        ValueError: If nothing can be planned, or pairing would find no photograph for train or val.
    """
    check_division(captions, params, pairing)
    return plan_blocks(captions, params=params)


def prepare_generation(
    generation_plan: pd.DataFrame, params: GenerationParams, run: RunParams, quality: QualityParams
) -> GenerationWork:
    """Returns the work that makes the pictures when the catalog saves it; no generator is built before one is missing.

    Args:
        generation_plan: The pictures to make.
        params: The generator and its settings.
        run: The device; whether this process or a Ray cluster does the work; the encoder that gives caption scores.
        quality: What the gate refuses.
    """
    from gmail_kedro.engine.distributed import job_mapper
    from gmail_kedro.models.generators.known_generators import check_sampling, generator_revision

    check_sampling(params.generator, _sampling_of(params))
    settings = {
        **_settings_of(params),
        "revision": generator_revision(params.generator, params.generator_path),
    }
    return GenerationWork(
        plan=generation_plan,
        build_generator=partial(_build_generator, params, run),
        settings=settings,
        batch_size=params.batch_size,
        quality=quality,
        scorer_name="" if quality.min_caption_score is None else identify_scorer(run),
        build_scorer=partial(build_scorer, run),
        map_jobs=job_mapper(run) if run.engine == "ray" else None,
    )


def write_manifest(
    generation_plan: pd.DataFrame, generated_images: StoredImages, params: GenerationParams
) -> pd.DataFrame:
    """Returns the plan with place, hash and origin of every picture.

    Args:
        generation_plan: The pictures that were asked for.
        generated_images: The finished set.
        params: The settings that were asked for.

    Raises:
        ValueError: If the set was made with other settings, or from another plan.
    """
    made_with = generated_images.description.settings
    for name, wanted in _settings_of(params).items():
        if made_with.get(name) != wanted:
            raise ValueError(
                f"The generated set was made with {name}={made_with.get(name)!r}; generation.{name} is {wanted!r}. "
                "Set it back, or make the set anew: kedro run --pipeline=generation"
            )
    return build_manifest(generation_plan, generated_images)


def _settings_of(params: GenerationParams) -> dict[str, Any]:
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


def _build_generator(params: GenerationParams, run: RunParams) -> ImageGenerator:
    from gmail_kedro.hardware import resolve_device
    from gmail_kedro.models.generators.known_generators import build_generator

    return build_generator(
        params.generator,
        params.generator_path,
        _sampling_of(params),
        device=resolve_device(run.device),
    )
