"""Nodes of the vision_language pipeline: LLaVA on the student's tower, its captions and answers, its scores."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from gmail_kedro.engine.checkpoint import Checkpoints, data_of, settings_of
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
    """Trains projector and language model on images of the declared source; without steps nothing is trained.

    Returns:
        What was trained, and its history, one row a step; ``val_loss`` is filled after the last step.
    """
    from gmail_kedro.engine.loop import train
    from gmail_kedro.hardware import fast_arithmetic, resolve_device
    from gmail_kedro.models.vision_language.tuned_llava import TunedLlava
    from gmail_kedro.pipelines.vision_language.conversation_training import (
        held_out_loss,
        load_examples,
        training_step,
    )
    from gmail_kedro.pipelines.vision_language.model_and_towers import build_model, open_towers, tuning_of

    device = resolve_device(run.device)
    model = build_model(params, run, device=device)
    towers = open_towers(model, adapter, run)
    # Without steps the projector is the model's own and is not stored a second time.
    trains_projector = params.train_projector and params.training.steps > 0
    tuned = TunedLlava(model, tuning_of(params), towers, train_projector=trains_projector, seed=run.seed)
    if params.training.steps == 0:
        return tuned, pd.DataFrame({"step": [], "loss": []})
    if params.training.checkpoint_activations:
        tuned.checkpoint_activations()
    # The held-out conversations too: what cannot be written is refused now, not after the last step.
    sources = (pairs, corpus, generated_images, model, towers, params)
    examples, held_out = (load_examples(split, *sources, seed=run.seed) for split in ("train", "val"))
    facts = settings_of(run, params) | data_of(pairs, generated=generated_images)
    # The weights that stay frozen are not in the checkpoint; only their hashes tell that they are still the same.
    facts |= {"model": tuned.recipe.base, "towers": json.dumps(tuned.recipe.towers, sort_keys=True)}
    training = params.training
    model.train()
    history = train(
        training_step(model, examples, params, seed=run.seed),
        tuned.groups(learning_rate=training.learning_rate, projector_learning_rate=training.projector_learning_rate),
        training,
        checkpoints.open("vision_language", facts, every=training.checkpoint_every),
        title="Vision-language model",
        device=device,
        precision=run.precision,
    )
    model.eval()
    # By micro-batches: without a graph more would fit, but no other size is known to.
    with fast_arithmetic(device, precision=run.precision):
        history.rows[-1]["val_loss"] = held_out_loss(model, held_out, batch_size=training.micro_batch_size)
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
    from gmail_kedro.pipelines.vision_language.model_and_towers import build_model, open_towers

    device = resolve_device(run.device)
    model = build_model(params, run, device=device)
    tower = open_towers(model, adapter, run)["real"]  # evaluation sees real images alone
    load_tuned_llava(model, vision_language_model, tower)
    answering = Answering(model, tower, params)
    rows = split_rows(corpus, evaluation.split, image_count=evaluation.image_count)
    image_ids = list(dict.fromkeys(rows["image_id"]))  # an image has several captions, and is captioned once
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
    from gmail_kedro.pipelines.vision_language.answering import score_questions

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
