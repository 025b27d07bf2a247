"""Nodes of the alignment pipeline: the teacher's view once, then the student, then a training-free map."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from gmail_kedro.engine.checkpoint import Checkpoints, data_of, settings_of
from gmail_kedro.interfaces import Corpus, GeneratedImages, SavesItself
from gmail_kedro.method.realign import FeatureMap
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.student.student import StoredStudent, Student
from gmail_kedro.params.alignment import AlignmentParams
from gmail_kedro.params.run import RunParams

if TYPE_CHECKING:
    from gmail_kedro.pipelines.alignment.alignment_step import AlignmentData

CHUNK_ROWS = 4096  # of features that the training-free map sees at once


def encode_teacher(
    pairs: pd.DataFrame, corpus: Corpus, feature_store: Path, params: AlignmentParams, run: RunParams
) -> dict[str, torch.Tensor]:
    """Returns what the frozen teacher says of every pair, in the order of pairs.

    Returns:
        ``embedding`` [N, D] of the real images, and where the parameters ask for them ``pooled`` [N, W],
        ``patch_mean`` [N, W'] and ``text`` [N, D], the captions' embeddings.
    """
    from gmail_kedro.engine.inference import encode_images, encode_texts, run_encoding
    from gmail_kedro.models.encoders.known_encoders import build_teacher
    from gmail_kedro.pipelines.alignment.alignment_step import needs_text, teacher_views

    encoding = run_encoding(feature_store, run, partial(build_teacher, run))
    encoder = build_teacher(run, encoding.device)
    keys = list(pairs["real_key"])
    features = {
        view: encode_images(encoder, corpus.images, keys, encoding, view=view) for view in teacher_views(params)
    }
    if needs_text(params):
        features["text"] = encode_texts(encoder, list(pairs["caption"]), encoding)
    return features


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
    from gmail_kedro.engine.loop import train
    from gmail_kedro.engine.stopping import EarlyStopping
    from gmail_kedro.hardware import resolve_device
    from gmail_kedro.pipelines.alignment.alignment_step import AlignmentStep

    device, training = resolve_device(run.device), params.training
    student = build_student(params, run, device=device, generated_set=generated_images.identity)
    lineage = {"weights": student.spec.teacher}
    if params.tune == "none":
        return student, pd.DataFrame({"step": [], "loss": []}), lineage
    data = load_data(student, pairs, corpus, generated_images, teacher_features, params, device=device)
    step = AlignmentStep(student, data, params, seed=run.seed, device=device)
    stopping = None
    if training.validate_every is not None:
        stopping = EarlyStopping(step.validate, every=training.validate_every, patience=training.patience)
    buffers = student.buffers()  # a batch normalisation's means: changed by training, and no optimizer's
    facts = settings_of(run, params) | data_of(pairs, generated=generated_images) | lineage
    student.train()
    history = train(
        step,
        [*student.parameters(), *step.objective.trainable_parameters()],
        training,
        checkpoints.open("alignment", facts, every=training.checkpoint_every, buffers=buffers),
        title="Aligning",
        device=device,
        precision=run.precision,
        early_stopping=stopping,
        statistics=buffers.values(),
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

    It is fitted on what the routes give after tuning, so it repairs what tuning left; each real image counts once.
    """
    from gmail_kedro.engine.inference import encode_images, run_encoding
    from gmail_kedro.method.realign import fit_feature_map
    from gmail_kedro.models.encoders.known_encoders import build_teacher
    from gmail_kedro.models.student.student import take_route

    if params.training_free == "none":
        return fit_feature_map("none", lambda: [], lambda: [])
    encoding, chosen = run_encoding(feature_store, run), pairs.iloc[aligned_rows(pairs, params)]
    sides = {
        "generated": (generated_images, list(chosen["generated_key"])),
        "real": (corpus.images, list(dict.fromkeys(chosen["real_key"]))),
    }
    features = {}
    for route, (source, keys) in sides.items():
        encoder = take_route(build_teacher(run, encoding.device), adapter, route)  # changes the encoder it takes
        features[route] = encode_images(encoder, source, keys, encoding)  # [N, D]
    return fit_feature_map(
        params.training_free,
        lambda: features["generated"].split(CHUNK_ROWS),
        lambda: features["real"].split(CHUNK_ROWS),
    )


def aligned_rows(pairs: pd.DataFrame, params: AlignmentParams) -> np.ndarray:
    """Returns the rows that are aligned: the training split's, of its first ``photograph_count`` real images."""
    is_train = (pairs["split"] == "train").to_numpy()
    if params.photograph_count is None:
        return np.flatnonzero(is_train)
    known = pairs.loc[is_train, "image_id"].unique()[: params.photograph_count]
    return np.flatnonzero(is_train & pairs["image_id"].isin(known).to_numpy())


def load_data(
    student: Student,
    pairs: pd.DataFrame,
    corpus: Corpus,
    generated_images: GeneratedImages,
    teacher_features: dict[str, torch.Tensor],
    params: AlignmentParams,
    *,
    device: torch.device,
) -> "AlignmentData":
    """Returns the pairs as the step reads them.

    Raises:
        ValueError: If there are fewer than two training pairs.
    """
    from gmail_kedro.engine.batches import FrozenActivations, PixelBatches
    from gmail_kedro.pipelines.alignment.alignment_step import AlignmentData, frozen_block_count

    train_rows = aligned_rows(pairs, params)
    if len(train_rows) < 2:
        raise ValueError(f"The alignment needs at least 2 training pairs. Got {len(train_rows)}. Generate more images.")
    encoder = student.encoder
    generated_keys = list(pairs["generated_key"])
    generated: PixelBatches | FrozenActivations = PixelBatches(encoder.preprocess, generated_images, generated_keys)
    if params.cache_prefix:
        generated = FrozenActivations(
            PixelBatches(encoder.preprocess, generated_images, generated_keys, limit_bytes=0),
            lambda images: encoder.run_prefix(images.to(device), blocks=frozen_block_count(student)),
            remedy="Set alignment.cache_prefix to false.",
        )
    return AlignmentData(
        generated=generated,
        real=PixelBatches(encoder.preprocess, corpus.images, list(pairs["real_key"])),
        teacher={view: features for view, features in teacher_features.items() if view != "text"},
        text=teacher_features.get("text"),
        tokens=encoder.tokenize(list(pairs["caption"])) if params.tune_text else None,
        image_ids=pd.factorize(pairs["image_id"])[0].copy(),  # a copy: pandas may return a read-only view
        train_rows=train_rows,
        val_rows=np.flatnonzero(pairs["split"] != "train"),
    )


def build_student(
    params: AlignmentParams, run: RunParams, *, device: torch.device, generated_set: Mapping[str, str] | None = None
) -> Student:
    """Returns a student that computes what the teacher does, ready to be trained.

    Args:
        params: What is tuned.
        run: Names the teacher.
        device: Where it goes.
        generated_set: What it will say that it was aligned on.

    Raises:
        ValueError: If the adapter's targets do not exist, the encoder cannot do what is asked for, or kernels are to be
            compiled and there is no compiler.
    """
    from gmail_kedro.hardware import check_compiler
    from gmail_kedro.models.encoders.known_encoders import build_teacher
    from gmail_kedro.models.student.adapters import TuningSpec
    from gmail_kedro.models.student.student import StudentSpec

    if params.compile:
        check_compiler()  # before anything is loaded; torch would say so at the first step
    encoder = build_teacher(run, device)
    spec = StudentSpec(
        image=TuningSpec.of(
            params.tune,
            params.lora,
            targets=params.lora.targets or encoder.lora_targets,
            blocks=_last_blocks(encoder, params),
            block_pattern=encoder.block_pattern,
        ),
        # open_clip's text towers all have fused attention, whatever the image tower's layers are called.
        text=TuningSpec.of(params.tune if params.tune_text else "none", params.lora, targets=["attn"]),
        real_path=params.real_path,
        projection=params.projection,
        batch_norm=params.projection_batch_norm,
        teacher=encoder.fingerprint,
        generated_set=generated_set,
    )
    if params.patch_dropout:
        encoder.drop_patches(params.patch_dropout)
    if params.training.checkpoint_activations:
        encoder.checkpoint_activations()
    return Student(encoder, spec, seed=run.seed)


def _last_blocks(encoder: TowerEncoder, params: AlignmentParams) -> tuple[int, ...] | None:
    """Returns the transformer blocks that get an adapter, or None for all."""
    wanted, count = params.lora.blocks, encoder.block_count
    if wanted is None:
        return None
    if wanted > count:
        raise ValueError(
            f"The encoder {encoder.name!r} has {count} transformer blocks. Got alignment.lora.blocks={wanted}. Lower "
            "it, or set it to null for all."
        )
    return tuple(range(count - wanted, count))
