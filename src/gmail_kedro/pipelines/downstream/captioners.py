"""Builds the captioner a configuration asks for, with its training examples."""

import logging
import math
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gmail_kedro.interfaces import Corpus
from gmail_kedro.models.captioners.ifcap import EntityFilter, IfcapDetails
from gmail_kedro.models.captioners.prefix_mappers import MapperSpec
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.vision_language.language_models import TunedLanguageModel
from gmail_kedro.params.downstream import DownstreamParams, IfcapParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.downstream.examples import CaptionExamples, ClipcapExamples, IfcapExamples, add_noise
from gmail_kedro.pipelines.downstream.features import TrainingFeatures

logger = logging.getLogger(__name__)


def prepare_captioner(
    pairs: pd.DataFrame,
    corpus: Corpus,
    features: TrainingFeatures,
    params: DownstreamParams,
    ifcap: IfcapParams,
    run: RunParams,
    *,
    device: torch.device,
) -> CaptionExamples:
    """Returns a fresh captioner with its examples, one for each row of the features.

    Args:
        pairs: Give captions and splits.
        corpus: Gives the nouns of its grammar, where it has one.
        features: What stands for the images.
        params: Which captioner.
        ifcap: What IFCap does beyond ClipCap.
        run: Seed.
        device: Where the captioner goes.

    Raises:
        ValueError: If prefix and caption are longer than the language model reads.
    """
    from gmail_kedro.models.captioners.captioner import build_captioner
    from gmail_kedro.models.vision_language.language_models import prepare_language_model

    tuning = TuningSpec.of(params.tune_language_model, params.lora, targets=params.lora.targets or ())
    language = prepare_language_model(params.language_model, params.language_model_path, tuning, seed=run.seed + 3)
    _refuse_too_long(language, params)
    chosen = pairs.iloc[features.rows]
    if params.model == "ifcap":
        return _prepare_ifcap(pairs, corpus, chosen, features, language, params, ifcap, seed=run.seed, device=device)
    captioner = build_captioner(
        language,
        _mapper(params, params.mapper, features.embeddings.shape[1], language.width),
        caption_end=params.caption_end,
        origin=features.origin,
        seed=run.seed,
    ).to(device)
    tokens = captioner.tokenize(list(chosen["caption"]), max_tokens=params.max_tokens)
    return ClipcapExamples(captioner, features.embeddings, tokens, device=device)


def _prepare_ifcap(
    pairs: pd.DataFrame,
    corpus: Corpus,
    chosen: pd.DataFrame,
    features: TrainingFeatures,
    language: TunedLanguageModel,
    params: DownstreamParams,
    ifcap: IfcapParams,
    *,
    seed: int,
    device: torch.device,
) -> CaptionExamples:
    """Returns an IFCap captioner that remembers the training captions, with its examples."""
    from gmail_kedro.models.captioners.ifcap import build_ifcap, build_memory

    assert features.texts is not None
    nouns = _find_nouns(pairs, corpus, ifcap)
    known = np.flatnonzero((pairs["split"] == "train") & ~pairs["caption_id"].duplicated())
    remembered = pairs.iloc[known]
    memory = build_memory(
        features.texts[known], list(remembered["caption"]), [nouns[key] for key in remembered["caption_id"]]
    )
    mapper = _mapper(params, "fusion", features.embeddings.shape[1], language.width)
    captioner = build_ifcap(
        language, mapper, memory, _details(ifcap), caption_end=params.caption_end, origin=features.origin, seed=seed
    ).to(device)
    own_row = {key: row for row, key in enumerate(remembered["caption_id"])}
    excluded = torch.tensor([own_row.get(key, -1) for key in chosen["caption_id"]])
    is_noisy = ifcap.train_source == "text_noise"
    queries = features.embeddings
    if is_noisy:
        queries = add_noise(queries, ifcap.query_noise_std, np.random.default_rng((seed, 30)))
    retrieved = memory.nearest(queries.to(device), count=ifcap.retrieved_count, excluded=excluded).cpu()
    return IfcapExamples(
        captioner,
        features.embeddings,
        captioner.tokenize(list(chosen["caption"]), max_tokens=params.max_tokens),
        retrieved,
        [list(dict.fromkeys(nouns[key])) for key in chosen["caption_id"]],
        noise_std=math.sqrt(ifcap.feature_noise_variance) if is_noisy else 0.0,
        drop=ifcap.entity_drop,
        seed=seed,
    )


def _details(ifcap: IfcapParams) -> IfcapDetails:
    return IfcapDetails(
        retrieved_count=ifcap.retrieved_count,
        entities=EntityFilter(
            captions=ifcap.entity_captions,
            kind=ifcap.entity_filter,
            threshold=ifcap.entity_threshold,
            alpha=ifcap.entity_alpha,
            limit=ifcap.entity_limit,
        ),
        nouns_from=ifcap.nouns if ifcap.vocabulary is None else f"{ifcap.nouns}, {ifcap.vocabulary}",
    )


def _find_nouns(pairs: pd.DataFrame, corpus: Corpus, ifcap: IfcapParams) -> dict[str, list[str]]:
    """Returns the nouns of every caption by its id."""
    from gmail_kedro.models.captioners.nouns import build_noun_finder, read_vocabulary

    words: Collection[str] | None = None if ifcap.vocabulary is None else read_vocabulary(Path(ifcap.vocabulary))
    kind = ifcap.nouns
    if kind == "grammar":
        if corpus.grammar is None:
            raise ValueError(
                f"ifcap.nouns: grammar needs a corpus whose captions come from a grammar. {corpus.name!r} has none. "
                "Set it to textblob, nltk, or to a vocabulary of this corpus."
            )
        kind, words = "vocabulary", corpus.grammar.nouns
    find = build_noun_finder(kind, words)
    captions = pairs.drop_duplicates("caption_id")
    nouns = {key: find(text) for key, text in zip(captions["caption_id"], captions["caption"], strict=True)}
    with_any = sum(bool(found) for found in nouns.values())
    logger.info("Nouns (%s): %d of %d captions have any", ifcap.nouns, with_any, len(nouns))
    if with_any == 0:
        raise ValueError(
            f"ifcap.nouns: {ifcap.nouns} finds no noun in any of {len(nouns)} captions, such as "
            f"{captions['caption'].iloc[0]!r}. Set it to textblob, nltk, or to a vocabulary of this corpus."
        )
    return nouns


def _mapper(params: DownstreamParams, kind: str, embed_dim: int, width: int) -> MapperSpec:
    return MapperSpec(
        kind=kind,
        embed_dim=embed_dim,
        prefix_length=params.prefix_length,
        width=width,
        layers=params.mapper_layers,
        heads=params.mapper_heads,
        constant_count=params.constant_count,
        normalize=params.normalize_prefix,
    )


def _refuse_too_long(language: TunedLanguageModel, params: DownstreamParams) -> None:
    needed = params.prefix_length + params.max_tokens
    if needed > language.position_count:
        raise ValueError(
            f"Prefix and caption are {params.prefix_length} + {params.max_tokens} tokens; the language model "
            f"{params.language_model!r} reads {language.position_count}. Lower downstream.prefix_length or max_tokens."
        )
