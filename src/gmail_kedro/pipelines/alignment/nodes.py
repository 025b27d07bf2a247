"""Nodes of the alignment pipeline: the teacher's view once, then the student, then a training-free map."""

from functools import partial
from pathlib import Path

import pandas as pd
import torch

from gmail_kedro.engine.checkpoint import Checkpoints
from gmail_kedro.interfaces import Corpus, GeneratedImages, ImageTextEncoder, SavesItself
from gmail_kedro.method.realign import FeatureMap
from gmail_kedro.models.student.student import StoredStudent
from gmail_kedro.params.alignment import AlignmentParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.alignment.preparation import (
    aligned_rows,
    build_objective,
    build_student,
    fingerprint_run,
    frozen_blocks,
    load_data,
    needs_text,
    teacher_views,
)

CHUNK_ROWS = 4096


def encode_teacher(
    pairs: pd.DataFrame, corpus: Corpus, feature_store: Path, params: AlignmentParams, run: RunParams
) -> dict[str, torch.Tensor]:
    """Returns what the frozen teacher says of every pair, in the order of pairs.

    Returns:
        ``embedding`` [N, D] of the photographs, and where the parameters ask for them ``pooled`` [N, W],
        ``patch_mean`` [N, W'] and ``text`` [N, D], the captions' embeddings.
    """
    from gmail_kedro.engine.inference import encode_images, encode_texts, run_encoding

    encoding = run_encoding(feature_store, run, partial(_build_teacher, run))
    encoder = _build_teacher(run, encoding.device)
    keys = list(pairs["real_key"])
    features = {
        view: encode_images(encoder, corpus.images, keys, encoding, view=view) for view in teacher_views(params)
    }
    if needs_text(params):
        features["text"] = encode_texts(encoder, list(pairs["caption"]), encoding)
    return features


def _build_teacher(run: RunParams, device: torch.device) -> ImageTextEncoder:
    from gmail_kedro.models.encoders.known_encoders import build_encoder

    return build_encoder(run.encoder, run.encoder_path, device=device)


def align(
    pairs: pd.DataFrame,
    corpus: Corpus,
    generated_images: GeneratedImages,
    teacher_features: dict[str, torch.Tensor],
    checkpoints: Checkpoints,
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
    from gmail_kedro.engine.loop import TrainingPlan, train
    from gmail_kedro.engine.optim import EarlyStopping
    from gmail_kedro.hardware import resolve_device
    from gmail_kedro.pipelines.alignment.training import AlignmentStep

    device = resolve_device(run.device)
    student = build_student(params, run, device=device, generated_set=generated_images.identity)
    lineage = {"weights": student.spec.teacher}
    if params.tune == "none":
        return student, pd.DataFrame({"step": [], "loss": []}), lineage
    data = load_data(student, pairs, corpus, generated_images, teacher_features, params, device=device)
    objective = build_objective(student, data, params, device=device)
    prefix = frozen_blocks(student, params)
    step = AlignmentStep(student, data, objective, params, seed=run.seed, device=device, prefix=prefix)
    checkpoint = checkpoints.open(
        "alignment",
        fingerprint_run(student, pairs, generated_images, params, run),
        every=params.training.checkpoint_every,
        buffers=student.buffers(),
    )
    stopping = None
    if params.training.validate_every is not None:
        stopping = EarlyStopping(step.validate, every=params.training.validate_every, patience=params.training.patience)
    plan = TrainingPlan.of("Aligning", params.training)
    student.train()
    parameters = [*student.parameters(), *objective.trainable_parameters()]
    history = train(
        step,
        parameters,
        plan,
        checkpoint,
        device=device,
        precision=run.precision,
        early_stopping=stopping,
        statistics=student.buffers().values(),
    )
    student.train(False)
    return student, pd.DataFrame(history.rows), lineage


def fit_training_free(
    pairs: pd.DataFrame,
    corpus: Corpus,
    generated_images: GeneratedImages,
    adapter: StoredStudent,
    feature_store: Path,
    params: AlignmentParams,
    run: RunParams,
) -> FeatureMap:
    """Fits the training-free map from generated to real features, on the training pairs alone.

    It is fitted on what the routes give after tuning, so it repairs what tuning left; each photograph counts once.
    """
    from gmail_kedro.engine.inference import encode_images, run_encoding
    from gmail_kedro.method.realign import fit_feature_map
    from gmail_kedro.models.encoders.known_encoders import build_encoder
    from gmail_kedro.models.student.student import take_route

    if params.training_free == "none":
        return fit_feature_map("none", lambda: [], lambda: [])
    encoding, chosen = run_encoding(feature_store, run), pairs.iloc[aligned_rows(pairs, params)]
    photographs = list(dict.fromkeys(chosen["real_key"]))
    features = {}
    for route, source, keys in (
        ("generated", generated_images, list(chosen["generated_key"])),
        ("real", corpus.images, photographs),
    ):
        encoder = take_route(build_encoder(run.encoder, run.encoder_path, device=encoding.device), adapter, route)
        features[route] = encode_images(encoder, source, keys, encoding)
    return fit_feature_map(
        params.training_free,
        lambda: features["generated"].split(CHUNK_ROWS),
        lambda: features["real"].split(CHUNK_ROWS),
    )
