"""Nodes of the vision_language pipeline: LLaVA on the student's tower, its captions and answers, its scores."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.engine.checkpoint import Checkpoints
from gmail_kedro.evaluation.benchmark import score_texts
from gmail_kedro.evaluation.splits import split_rows
from gmail_kedro.interfaces import Corpus, GeneratedImages, Question, SavesItself
from gmail_kedro.models.student.student import StoredStudent
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.params.vision_language import VisionLanguageParams


def train_vision_language_model(
    pairs: pd.DataFrame,
    corpus: Corpus,
    generated_images: GeneratedImages,
    adapter: StoredStudent,
    checkpoints: Checkpoints,
    params: VisionLanguageParams,
    run: RunParams,
) -> tuple[SavesItself, pd.DataFrame]:
    """Trains projector and language model on pictures of the declared source; without steps nothing is trained.

    Returns:
        What was trained, and its history, one row a step; ``val_loss`` is filled after the last step.
    """
    from gmail_kedro.engine.loop import train
    from gmail_kedro.hardware import fast_arithmetic, resolve_device
    from gmail_kedro.models.vision_language.tuned_llava import TunedLlava
    from gmail_kedro.pipelines.vision_language.building import build_model, open_towers, tuning_of
    from gmail_kedro.pipelines.vision_language.lessons import held_out_loss, lesson_step

    device = resolve_device(run.device)
    model = build_model(params, run, device=device)
    towers = open_towers(model, adapter, run)
    trains_projector = params.train_projector and params.training.steps > 0
    tuned = TunedLlava(model, tuning_of(params), towers, train_projector=trains_projector, seed=run.seed)
    if params.training.steps == 0:
        return tuned, pd.DataFrame({"step": [], "loss": []})
    if params.training.checkpoint_activations:
        tuned.checkpoint_activations()
    sources = (pairs, corpus, generated_images, model, towers, params)
    lessons, held_out = (_lessons(split, *sources, seed=run.seed) for split in ("train", "val"))
    facts = _fingerprint(pairs, generated_images, tuned.recipe, params, run)
    checkpoint = checkpoints.open("vision_language", facts, every=params.training.checkpoint_every)
    groups = tuned.groups(
        learning_rate=params.training.learning_rate, projector_learning_rate=params.training.projector_learning_rate
    )
    model.train()
    step = lesson_step(model, lessons, params, seed=run.seed)
    history = train(
        step,
        groups,
        params.training,
        checkpoint,
        title="Vision-language model",
        device=device,
        precision=run.precision,
    )
    model.eval()
    with fast_arithmetic(device, precision=run.precision):
        history.rows[-1]["val_loss"] = held_out_loss(model, held_out, batch_size=params.training.micro_batch_size)
    return tuned, pd.DataFrame(history.rows)


def answer_prompts(
    vision_language_model: Path,
    corpus: Corpus,
    scienceqa_questions: list[Question],
    mmmu_questions: list[Question],
    adapter: StoredStudent,
    params: VisionLanguageParams,
    evaluation: EvaluationParams,
    run: RunParams,
) -> dict[str, list[dict[str, Any]]]:
    """Captions real evaluation images and answers both benchmarks' questions, greedily, all on the real route.

    Returns:
        ``captions`` (``image_id``, ``text``), ``scienceqa`` and ``mmmu`` (``question_id``, ``prompt``, ``text``; the
        text is None where a question cannot be asked).
    """
    from gmail_kedro.hardware import fast_arithmetic, resolve_device
    from gmail_kedro.models.vision_language.prompts import mmmu_prompt, scienceqa_prompt
    from gmail_kedro.models.vision_language.tuned_llava import load_tuned_llava
    from gmail_kedro.pipelines.vision_language.answering import Answering, ask_all
    from gmail_kedro.pipelines.vision_language.building import build_model, open_towers

    device = resolve_device(run.device)
    model = build_model(params, run, device=device)
    tower = open_towers(model, adapter, run)["real"]
    load_tuned_llava(model, vision_language_model, tower)
    answering = Answering(model, tower, params)
    rows = split_rows(corpus, evaluation.split, image_count=evaluation.image_count)
    image_ids = list(dict.fromkeys(rows["image_id"]))
    with fast_arithmetic(device, precision=run.precision):
        texts = answering.caption(corpus.images, image_ids)
        return {
            "captions": [{"image_id": key, "text": text} for key, text in zip(image_ids, texts, strict=True)],
            "scienceqa": ask_all(answering, scienceqa_questions, scienceqa_prompt),
            "mmmu": ask_all(answering, mmmu_questions, mmmu_prompt),
        }


def score_answers(
    vision_language_predictions: dict[str, list[dict[str, Any]]],
    corpus: Corpus,
    scienceqa_questions: list[Question],
    mmmu_questions: list[Question],
    adapter: StoredStudent,
    feature_store: Path,
    params: VisionLanguageParams,
    evaluation: EvaluationParams,
    run: RunParams,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Scores captions against all references, and answers by the rules of ScienceQA and of MMMU.

    Returns:
        ``captioning``, ``scienceqa`` and ``mmmu`` with intervals and chance levels, and ``protocol``; and what is
        a mean over images or questions one by one: ``group``, ``image_id`` (or the question's), ``measure``, ``value``.
    """
    from gmail_kedro.metrics.vqa import mmmu_result, scienceqa_result
    from gmail_kedro.pipelines.vision_language.scoring import score_questions

    rows = split_rows(corpus, evaluation.split, image_count=evaluation.image_count)
    references = {str(key): list(group) for key, group in rows.groupby("image_id", sort=False)["caption"]}
    predictions = vision_language_predictions
    scored = {
        "captioning": score_texts(predictions["captions"], references, corpus, evaluation, feature_store=feature_store),
        "scienceqa": score_questions(predictions["scienceqa"], scienceqa_questions, scienceqa_result, evaluation),
        "mmmu": score_questions(predictions["mmmu"], mmmu_questions, mmmu_result, evaluation),
    }
    items = pd.concat([items.assign(group=group) for group, (_, items) in scored.items()], ignore_index=True)
    return {group: scores for group, (scores, _) in scored.items()} | {
        "protocol": {
            "corpus": corpus.name,
            "split": evaluation.split,
            "image_count": int(rows["image_id"].nunique()),
            "model": params.model,
            "encoder": run.encoder,
            "train_on": params.train_on,
            "steps": params.training.steps,
            "tuned_tower": adapter.spec.image.kind,
            "real_path": adapter.spec.real_path,
            "student": adapter.fingerprint,
            "seed": run.seed,
        },
    }, items


def _lessons(
    split: str,
    pairs: pd.DataFrame,
    corpus: Corpus,
    generated_images: GeneratedImages,
    model: Any,
    towers: dict[str, Any],
    params: VisionLanguageParams,
    *,
    seed: int,
) -> Any:
    """Returns the conversations of one split's pairs with what each route's tower makes of their images."""
    from gmail_kedro.engine.batches import mixed_rows
    from gmail_kedro.pipelines.vision_language.building import open_tokens
    from gmail_kedro.pipelines.vision_language.lessons import Lessons, write_conversations

    chosen = pairs[pairs["split"] == split]
    everything = np.arange(len(chosen))
    rows = {params.train_on: everything}
    if params.train_on == "mixed":
        real, generated = mixed_rows(len(chosen), params.real_fraction, seed=seed)
        rows = {"real": real, "generated": generated}
    written = write_conversations(chosen, corpus.grammar, model, params, seed=seed)
    sources: dict[str, Any] = {"real": corpus.images, "generated": generated_images}
    tokens = tuple(
        open_tokens(
            model,
            towers[route],
            sources[route],
            list(chosen[f"{route}_key"].iloc[kept]),
            origin=route,
            cache_gib=params.cache_gib / len(rows),
        )
        for route, kept in rows.items()
    )
    return Lessons(tokens, tuple(written[row] for kept in rows.values() for row in kept))


def _fingerprint(
    pairs: pd.DataFrame,
    generated_images: GeneratedImages,
    recipe: Any,
    params: VisionLanguageParams,
    run: RunParams,
) -> dict[str, str]:
    """Returns what a checkpoint of this run depends on."""
    settings = {name: json.dumps(value) for name, value in params.flat().items()}
    return settings | {
        "run.seed": str(run.seed),
        "run.precision": run.precision,
        "model": recipe.base,
        "towers": json.dumps(recipe.towers, sort_keys=True),
        "pairs": hashlib.sha256(pairs.to_csv(index=False).encode()).hexdigest(),
        "generated set": generated_images.identity["fingerprint"],
        "gate of the generated set": generated_images.identity["gate"],
    }
