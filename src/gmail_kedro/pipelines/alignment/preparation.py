"""What an alignment run needs before its first step, from the parameters: student, data, objective, fingerprint."""

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from gmail_kedro.engine.batches import FrozenActivations, PixelBatches
from gmail_kedro.hardware import check_compiler
from gmail_kedro.interfaces import Corpus, GeneratedImages
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.student.student import Student, StudentSpec
from gmail_kedro.params.alignment import AlignmentParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.alignment.objective import Objective
from gmail_kedro.pipelines.alignment.training import AlignmentData


def teacher_views(params: AlignmentParams) -> list[str]:
    """Returns the views of photographs that are needed from the frozen teacher."""
    views = ["embedding"]
    if params.real_path == "proj":
        views.append("pooled")
    if params.level != "pooled":
        views.append("patch_mean")
    return views


def needs_text(params: AlignmentParams) -> bool:
    """Says whether a term needs the captions' embeddings."""
    return params.generated_text_weight + params.real_text_weight > 0


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
    if params.compile:
        check_compiler()
    encoder = build_encoder(run.encoder, run.encoder_path, device=device)
    spec = StudentSpec(
        image=_image_tuning(encoder, params),
        text=_text_tuning(params),
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


def frozen_blocks(student: Student, params: AlignmentParams) -> int | None:
    """Returns how many first blocks no adapter is in, when their output is to be kept; otherwise None."""
    if not params.cache_prefix:
        return None
    return 0 if student.spec.image.blocks is None else min(student.spec.image.blocks)


def aligned_rows(pairs: pd.DataFrame, params: AlignmentParams) -> np.ndarray:
    """Returns the rows that are aligned: the training split's, of its first ``photograph_count`` photographs."""
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
) -> AlignmentData:
    """Returns the pairs as the step function reads them.

    Raises:
        ValueError: If there are fewer than two training pairs.
    """
    train_rows = aligned_rows(pairs, params)
    if len(train_rows) < 2:
        raise ValueError(f"The alignment needs at least 2 training pairs. Got {len(train_rows)}. Generate more images.")
    encoder = student.encoder
    return AlignmentData(
        generated=_generated_batches(student, generated_images, list(pairs["generated_key"]), params, device=device),
        real=PixelBatches(encoder.preprocess, corpus.images, list(pairs["real_key"])),
        teacher={view: features for view, features in teacher_features.items() if view != "text"},
        text=teacher_features.get("text"),
        tokens=encoder.tokenize(list(pairs["caption"])) if params.tune_text else None,
        image_ids=pd.factorize(pairs["image_id"])[0].copy(),
        train_rows=train_rows,
        val_rows=np.flatnonzero(pairs["split"] != "train"),
    )


def _generated_batches(
    student: Student, source: GeneratedImages, keys: list[str], params: AlignmentParams, *, device: torch.device
) -> PixelBatches | FrozenActivations:
    encoder, blocks = student.encoder, frozen_blocks(student, params)
    if blocks is None:
        return PixelBatches(encoder.preprocess, source, keys)
    pixels = PixelBatches(encoder.preprocess, source, keys, limit_bytes=0)
    return FrozenActivations(
        pixels,
        lambda images: encoder.run_prefix(images.to(device), blocks=blocks),
        remedy="Set alignment.cache_prefix to false.",
    )


def build_objective(
    student: Student, data: AlignmentData, params: AlignmentParams, *, device: torch.device
) -> Objective:
    """Returns the weighted sum of losses, with its constants on the device."""
    _, first = np.unique(data.image_ids[data.train_rows], return_index=True)
    return Objective(
        student,
        params,
        teacher={view: features.to(device) for view, features in data.teacher.items()},
        text=None if data.text is None else data.text.to(device),
        image_ids=torch.from_numpy(data.image_ids).to(device),
        moment_rows=data.train_rows[first],
    ).to(device)


def fingerprint_run(
    student: Student,
    pairs: pd.DataFrame,
    generated_images: GeneratedImages,
    params: AlignmentParams,
    run: RunParams,
) -> dict[str, str]:
    """Returns what a checkpoint of this run depends on."""
    rows = hashlib.sha256(pairs.to_csv(index=False).encode()).hexdigest()
    settings = {name: repr(value) for name, value in params.flat().items()}
    return settings | {
        "run.seed": str(run.seed),
        "run.precision": run.precision,
        "weights": student.spec.teacher,
        "pairs": rows,
        "generated set": generated_images.identity["fingerprint"],
        "gate of the generated set": generated_images.identity["gate"],
    }


def _image_tuning(encoder: TowerEncoder, params: AlignmentParams) -> TuningSpec:
    count, blocks = encoder.block_count, None
    if params.lora.blocks is not None:
        if params.lora.blocks > count:
            raise ValueError(
                f"The encoder {encoder.name!r} has {count} transformer blocks. Got alignment.lora.blocks="
                f"{params.lora.blocks}. Lower it, or set it to null for all."
            )
        blocks = tuple(range(count - params.lora.blocks, count))
    return TuningSpec(
        kind=params.tune,
        rank=params.lora.rank,
        alpha=params.lora.alpha,
        dropout=params.lora.dropout,
        targets=tuple(params.lora.targets or encoder.lora_targets),
        blocks=blocks,
        block_pattern=encoder.block_pattern,
    )


def _text_tuning(params: AlignmentParams) -> TuningSpec:
    """Returns the same tuning for a text tower; open_clip's all have fused attention."""
    return TuningSpec(
        kind=params.tune if params.tune_text else "none",
        rank=params.lora.rank,
        alpha=params.lora.alpha,
        dropout=params.lora.dropout,
        targets=("attn",),
    )
