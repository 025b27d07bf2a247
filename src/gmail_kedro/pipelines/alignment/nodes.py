"""Nodes of the alignment pipeline: the teacher's view once, then the student, then a training-free map."""

import logging
from pathlib import Path

import pandas as pd
import torch

from gmail_kedro.interfaces import Corpus, GeneratedImages, SavesItself
from gmail_kedro.params import AlignmentParams, RunParams
from gmail_kedro.pipelines.alignment.preparation import (
    build_student,
    fingerprint_run,
    load_data,
    needs_text,
    teacher_views,
)

logger = logging.getLogger(__name__)


def encode_teacher(
    pairs: pd.DataFrame, corpus: Corpus, feature_store: Path, params: AlignmentParams, run: RunParams
) -> dict[str, torch.Tensor]:
    """Returns what the frozen teacher says of every pair, in the order of pairs.

    Returns:
        ``embedding`` [N, D] of the photographs, and where the parameters ask for them ``pooled`` [N, W],
        ``patch_mean`` [N, W'] and ``text`` [N, D], the captions' embeddings.
    """
    from gmail_kedro.engine.features import FeatureStore
    from gmail_kedro.engine.inference import encode_images, encode_texts
    from gmail_kedro.hardware import resolve_device
    from gmail_kedro.zoo.encoders import build_encoder

    device = resolve_device(run.device)
    encoder = build_encoder(run.encoder, run.encoder_path, device=device)
    settings = {
        "store": FeatureStore(feature_store),
        "batch_size": run.image_batch_size,
        "device": device,
        "precision": run.precision,
    }
    keys = list(pairs["real_key"])
    features = {
        view: encode_images(encoder, corpus.images, keys, view=view, **settings) for view in teacher_views(params)
    }
    if needs_text(params):
        features["text"] = encode_texts(encoder, list(pairs["caption"]), **settings)
    return features


def align(
    pairs: pd.DataFrame,
    corpus: Corpus,
    generated_images: GeneratedImages,
    teacher_features: dict[str, torch.Tensor],
    checkpoints: Path,
    params: AlignmentParams,
    run: RunParams,
) -> tuple[SavesItself, pd.DataFrame, dict[str, str]]:
    """Tunes the student on the training pairs.

    Returns:
        The student, the history, one row a step, and the hash of the weights it started from.

    Raises:
        ValueError: If there are fewer than two training pairs, or the adapter's targets do not exist.
        FloatingPointError: If too many steps had a loss that was not finite; the last checkpoint is kept.
    """
    from gmail_kedro.engine.checkpoint import Checkpoint
    from gmail_kedro.engine.early_stopping import EarlyStopping
    from gmail_kedro.engine.loop import fit
    from gmail_kedro.engine.optim import build_adamw, build_schedule
    from gmail_kedro.engine.progress import step_progress
    from gmail_kedro.hardware import fast_arithmetic, resolve_device
    from gmail_kedro.pipelines.alignment.preparation import build_objective
    from gmail_kedro.pipelines.alignment.training import AlignmentStep

    device = resolve_device(run.device)
    student = build_student(params, run, device=device)
    lineage = {"weights": student.spec.teacher}
    if params.tune == "none":
        return student, pd.DataFrame({"step": [], "loss": []}), lineage
    data = load_data(student, pairs, corpus, generated_images, teacher_features, params)
    objective = build_objective(student, data, params, device=device)
    step = AlignmentStep(student, data, objective, params, seed=run.seed, device=device)
    parameters = [*student.parameters(), *(value for value in objective.parameters() if value.requires_grad)]
    logger.info("Aligning: %d parameters are trained", sum(parameter.numel() for parameter in parameters))
    optimizer = build_adamw(parameters, learning_rate=params.learning_rate, weight_decay=params.weight_decay)
    schedule = build_schedule(
        optimizer,
        kind=params.schedule,
        steps=params.steps,
        warmup_steps=params.warmup_steps,
        restarts=params.restarts,
    )
    checkpoint = Checkpoint(
        checkpoints / "alignment.safetensors",
        fingerprint_run(student, pairs, params, run),
        every=params.checkpoint_every,
        buffers=student.buffers(),
    )
    stopping = None
    if params.validate_every is not None:
        stopping = EarlyStopping(step.validate, every=params.validate_every, patience=params.patience)
    student.train()
    with fast_arithmetic(device, precision=run.precision), step_progress("Aligning", params.steps) as on_step:
        history = fit(
            step,
            optimizer,
            schedule,
            steps=params.steps,
            clip_norm=params.clip_norm,
            checkpoint=checkpoint,
            early_stopping=stopping,
            on_step=on_step,
        )
    checkpoint.remove()
    if history.skipped_count:
        logger.warning("%d steps were skipped: their loss or gradient was not finite", history.skipped_count)
    return student, pd.DataFrame(history.rows), lineage
