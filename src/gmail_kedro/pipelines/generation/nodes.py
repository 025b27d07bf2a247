"""From a corpus to a generated set: read the captions, plan, generate, record."""

from functools import partial

import pandas as pd
import pyarrow as pa

from gmail_kedro.corpora.checking import check_images
from gmail_kedro.interfaces import Corpus, ImageGenerator
from gmail_kedro.params import GenerationParams, RunParams
from gmail_kedro.records.captions import CAPTION_COLUMNS, check_captions
from gmail_kedro.records.generate import GenerationWork
from gmail_kedro.records.manifest import build_manifest
from gmail_kedro.records.plan import plan_blocks
from gmail_kedro.records.stored import StoredImages
from gmail_kedro.records.tables import Table


def read_captions(corpus: Corpus) -> pd.DataFrame:
    """Returns the captions of a corpus: ``caption_id``, ``image_id``, ``caption``, ``split``.

    Every photograph is decoded once here, so that a bad one is found before hours of generation.

    Args:
        corpus: The captioned photographs.

    Raises:
        ValueError: If the table cannot be planned, or a photograph is missing or damaged; the message names it.
    """
    check_captions(corpus.captions)
    check_images(corpus, list(corpus.captions["image_id"].unique()))
    return corpus.captions[list(CAPTION_COLUMNS)].reset_index(drop=True)


def plan_generation(captions: Table, params: GenerationParams) -> pa.RecordBatchReader:
    """Returns one row a picture to make, with prompt, seed and shard, block by block.

    Args:
        captions: The captions of the corpus.
        params: How many pictures, from which base seed, how many a shard.
    """
    return plan_blocks(captions, params=params)


def prepare_generation(generation_plan: pd.DataFrame, params: GenerationParams, run: RunParams) -> GenerationWork:
    """Returns the work that makes the pictures when the catalog saves it; no model is built before one is missing.

    Args:
        generation_plan: The pictures to make.
        params: The generator and its settings.
        run: Device, precision, and whether this process or a Ray cluster does the work.
    """
    from gmail_kedro.engine.distributed import job_mapper
    from gmail_kedro.zoo.generators import generator_revision

    settings = {
        **_settings_of(params),
        "revision": generator_revision(params.generator, params.generator_path),
        "precision": run.precision,
    }
    return GenerationWork(
        plan=generation_plan,
        build_generator=partial(_build_generator, params, run),
        settings=settings,
        batch_size=params.batch_size,
        map_jobs=job_mapper(run),
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


def _settings_of(params: GenerationParams) -> dict[str, str | int | float]:
    # float(): YAML's 3 and 3.0 are the same guidance and must be the same set.
    return {
        "generator": params.generator,
        "steps": params.steps,
        "guidance": float(params.guidance),
        "resolution": params.resolution,
        "jpeg_quality": params.jpeg_quality,
    }


def _build_generator(params: GenerationParams, run: RunParams) -> ImageGenerator:
    from gmail_kedro.hardware import resolve_device
    from gmail_kedro.zoo.generators import build_generator

    return build_generator(
        params.generator,
        params.generator_path,
        steps=params.steps,
        guidance=params.guidance,
        resolution=params.resolution,
        device=resolve_device(run.device),
        precision=run.precision,
    )
