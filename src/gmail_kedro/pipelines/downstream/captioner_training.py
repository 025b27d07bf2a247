"""Builds the captioner that a configuration asks for, and trains it: its examples, a step's loss, the held-out loss.

ClipCap and IFCap share everything but their examples. An example's random part (IFCap's noise and which of its entities
are left out) is drawn anew in every step, from a stream that the step's index names, so a resumed training draws it
again; validation draws none.
"""

import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from gmail_kedro.engine.batches import Stream, batch_rows, split_rows, stream_rng
from gmail_kedro.interfaces import Corpus
from gmail_kedro.models.captioners.captioner import Captioner
from gmail_kedro.models.captioners.ifcap import EntityFilter, IfcapCaptioner, IfcapDetails
from gmail_kedro.models.captioners.prefix_mappers import MapperSpec
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.vision_language.chat import IGNORE_INDEX
from gmail_kedro.models.vision_language.language_models import TunedLanguageModel
from gmail_kedro.params.downstream import DownstreamParams, IfcapParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.downstream.training_features import TrainingFeatures

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaptionExamples:
    """Examples of one captioner, training and validation rows together.

    Attributes:
        captioner: What is trained.
        tokens: Token ids of the captions, [M, T], padded with ``IGNORE_INDEX``.
        loss: Maps rows and a step to their mean loss; random choices depend on the step alone, and None makes none.
    """

    captioner: Captioner
    tokens: torch.Tensor
    loss: Callable[[np.ndarray, int | None], torch.Tensor]


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

    Raises:
        ValueError: If prefix and caption are longer than the language model reads, or nouns cannot be found.
    """
    from gmail_kedro.models.captioners.captioner import build_captioner
    from gmail_kedro.models.vision_language.language_models import prepare_language_model

    tuning = TuningSpec.of(params.tune_language_model, params.lora, targets=params.lora.targets or ())
    # + 3: the mapper takes the seed itself, and no two parts may start from the same random numbers.
    language = prepare_language_model(params.language_model, params.language_model_path, tuning, seed=run.seed + 3)
    _refuse_too_long(language, params)
    chosen = pairs.iloc[features.rows]
    if params.model == "ifcap":
        # It needs all pairs, not only the chosen ones: its memory is every training caption.
        return _prepare_ifcap(pairs, corpus, chosen, features, language, params, ifcap, seed=run.seed, device=device)
    captioner = build_captioner(
        language,
        _mapper(params, params.mapper, features.embeddings.shape[1], language.width),
        caption_end=params.caption_end,
        origin=features.origin,
        seed=run.seed,
    ).to(device)
    embeddings = features.embeddings.to(device)  # [M, D]
    tokens = captioner.tokenize(list(chosen["caption"]), max_tokens=params.max_tokens).to(device)  # [M, T]
    return CaptionExamples(captioner, tokens, lambda rows, step: captioner.loss(embeddings[rows], tokens[rows]))


def captioner_step(
    examples: CaptionExamples, chosen: np.ndarray, *, batch_size: int, seed: int
) -> Callable[[int], dict[str, torch.Tensor]]:
    """Returns the step function, index to losses, that trains on the ``chosen`` rows."""

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = batch_rows(index, count=len(chosen), batch_size=batch_size, seed=seed)
        return {"loss": examples.loss(chosen[rows], index)}

    return step


@torch.no_grad()
def validation_loss(examples: CaptionExamples, held_out: np.ndarray, *, batch_size: int) -> float:
    """Returns the mean cross-entropy per token over held-out rows; not a number where there are none."""
    total, count = 0.0, 0
    for rows in split_rows(held_out, batch_size):
        # By tokens, padding left out: a mean of batch means would weigh short captions like long ones.
        token_count = int((examples.tokens[rows] != IGNORE_INDEX).sum())
        total += float(examples.loss(rows, None)) * token_count
        count += token_count
    return total / count if count else float(np.nan)


def add_noise(embeddings: torch.Tensor, std: float, rng: np.random.Generator) -> torch.Tensor:
    """Returns N(N(f) + noise) of each row, where N brings to unit length; with ``std`` 0 the rows as they are.

    Args:
        embeddings: float32 [N, D], any norm.
        std: Standard deviation of the noise in each coordinate.
        rng: Source of the noise.
    """
    if std == 0:
        return embeddings
    # From numpy, on the CPU: the noise is the same on every device.
    noise = torch.from_numpy(rng.standard_normal(tuple(embeddings.shape), dtype=np.float32))  # [N, D]
    return F.normalize(F.normalize(embeddings, dim=-1) + std * noise, dim=-1)


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
    # Each caption once: a caption with several generated images would be retrieved several times over.
    known = np.flatnonzero((pairs["split"] == "train") & ~pairs["caption_id"].duplicated())
    remembered = pairs.iloc[known]
    memory = build_memory(
        features.texts[known], list(remembered["caption"]), [nouns[key] for key in remembered["caption_id"]]
    )
    mapper = _mapper(params, "fusion", features.embeddings.shape[1], language.width)
    captioner = build_ifcap(
        language, mapper, memory, _details(ifcap), caption_end=params.caption_end, origin=features.origin, seed=seed
    ).to(device)
    # A caption must not retrieve itself, or the captioner would learn to copy.
    own_row = {key: row for row, key in enumerate(remembered["caption_id"])}
    excluded = torch.tensor([own_row.get(key, -1) for key in chosen["caption_id"]])  # [M]
    is_noisy = ifcap.train_source == "text_noise"
    queries = features.embeddings  # [M, D]
    # Trained on texts, the query is too close to the memory's texts; noise stands for the gap that images have.
    if is_noisy:
        queries = add_noise(queries, ifcap.query_noise_std, stream_rng(seed, Stream.RETRIEVAL_NOISE))
    retrieved = memory.nearest(queries.to(device), count=ifcap.retrieved_count, excluded=excluded).cpu()  # [M, K]
    tokens = captioner.tokenize(list(chosen["caption"]), max_tokens=params.max_tokens)  # [M, T]
    loss = partial(
        _ifcap_loss,
        captioner,
        features.embeddings,
        tokens,
        retrieved,
        [list(dict.fromkeys(nouns[key])) for key in chosen["caption_id"]],
        noise_std=math.sqrt(ifcap.feature_noise_variance) if is_noisy else 0.0,
        drop=ifcap.entity_drop,
        seed=seed,
    )
    return CaptionExamples(captioner, tokens, loss)


def _ifcap_loss(
    captioner: IfcapCaptioner,
    embeddings: torch.Tensor,
    tokens: torch.Tensor,
    retrieved: torch.Tensor,
    entities: Sequence[Sequence[str]],
    rows: np.ndarray,
    step: int | None,
    *,
    noise_std: float,
    drop: float,
    seed: int,
) -> torch.Tensor:
    """Returns the mean loss of some rows; without a step there is no noise and no entity is left out."""
    chosen, named = embeddings[rows], [list(entities[row]) for row in rows]
    if step is not None:
        rng = stream_rng(seed, Stream.CAPTIONER_NOISE, step)
        chosen = add_noise(chosen, noise_std, rng)  # [B, D]
        # Entities are left out by chance, for at test time the retrieved captions miss some of them.
        named = [[noun for noun in nouns if rng.random() >= drop] for nouns in named]
    # Cut only now, so that what is left out makes room for the next noun.
    named = [nouns[: captioner.details.entities.limit] for nouns in named]
    device = next(captioner.mapper.parameters()).device
    return captioner.loss_with(chosen.to(device), tokens[rows], retrieved[rows], named)


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
    kind: str = ifcap.nouns
    if kind == "grammar":
        if corpus.grammar is None:
            raise ValueError(
                f"ifcap.nouns: grammar needs a corpus whose captions come from a grammar. {corpus.name!r} has none. "
                "Set it to textblob, nltk, or to a vocabulary of this corpus."
            )
        # The grammar's own nouns: a tagger would have to guess what is known exactly.
        kind, words = "vocabulary", corpus.grammar.nouns
    find = build_noun_finder(kind, words)
    captions = pairs.drop_duplicates("caption_id")
    nouns = {key: find(text) for key, text in zip(captions["caption_id"], captions["caption"], strict=True)}
    # A finder of another language finds nothing and says nothing; training on no entities would look like a result.
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
