"""Nodes of the alignment pipeline: the teacher's features once, then the student."""

import logging
from pathlib import Path

import pandas as pd
import torch

from gmail_kedro.interfaces import Corpus, GeneratedImages, ImageTextEncoder, SavesItself
from gmail_kedro.params import AlignmentParams, RunParams
from gmail_kedro.pipelines.alignment.training import TrainingPairs, alignment_step

logger = logging.getLogger(__name__)


def encode_teacher(pairs: pd.DataFrame, corpus: Corpus, feature_store: Path, run: RunParams) -> torch.Tensor:
    """Returns the frozen teacher's embeddings of every pair's photograph, float32 [N, D], in the order of pairs."""
    from gmail_kedro.engine.features import FeatureStore
    from gmail_kedro.engine.inference import encode_images
    from gmail_kedro.hardware import resolve_device
    from gmail_kedro.zoo.encoders import build_encoder

    device = resolve_device(run.device)
    return encode_images(
        build_encoder(run.encoder, run.encoder_path, device=device),
        corpus.images,
        list(pairs["real_key"]),
        store=FeatureStore(feature_store),
        batch_size=run.image_batch_size,
        device=device,
        precision=run.precision,
    )


def align(
    pairs: pd.DataFrame,
    generated_images: GeneratedImages,
    real_features: torch.Tensor,
    checkpoints: Path,
    params: AlignmentParams,
    run: RunParams,
) -> tuple[SavesItself, pd.DataFrame, dict[str, str]]:
    """Tunes the student on the training pairs.

    Returns:
        The adapter (the wrapped image tower, saved as PEFT saves it), the history, one row a step, and the
        hash of the weights it started from.

    Raises:
        ValueError: If there are fewer than two training pairs, or the adapter's targets do not exist.
    """
    from gmail_kedro.engine.checkpoint import Checkpoint
    from gmail_kedro.engine.loop import fit
    from gmail_kedro.engine.optim import build_adamw, build_schedule
    from gmail_kedro.engine.progress import step_progress
    from gmail_kedro.hardware import fast_arithmetic, resolve_device
    from gmail_kedro.zoo.adapters import add_adapter, trainable_parameters
    from gmail_kedro.zoo.encoders import build_encoder

    device = resolve_device(run.device)
    student = build_encoder(run.encoder, run.encoder_path, device=device)
    fingerprint = _fingerprint(student.fingerprint, pairs, params, run)
    tower = add_adapter(
        student,
        rank=params.lora_rank,
        alpha=params.lora_alpha,
        dropout=params.lora_dropout,
        targets=list(params.lora_targets),
        seed=run.seed,
    ).train()
    if params.objective == "none":
        return tower, pd.DataFrame({"step": [], "loss": []}), {"weights": fingerprint["weights"]}
    step = alignment_step(
        student, _training_pairs(student, pairs, generated_images, real_features), params, seed=run.seed, device=device
    )
    adapter_parameters = trainable_parameters(tower)
    logger.info("Aligning: %d parameters are trained", sum(parameter.numel() for parameter in adapter_parameters))
    optimizer = build_adamw(adapter_parameters, learning_rate=params.learning_rate, weight_decay=params.weight_decay)
    schedule = build_schedule(
        optimizer,
        kind=params.schedule,
        steps=params.steps,
        warmup_steps=params.warmup_steps,
        restarts=params.restarts,
    )
    checkpoint = Checkpoint(checkpoints / "alignment.safetensors", fingerprint, every=params.checkpoint_every)
    with fast_arithmetic(device, precision=run.precision), step_progress("Aligning", params.steps) as on_step:
        history = fit(
            step,
            optimizer,
            schedule,
            steps=params.steps,
            clip_norm=params.clip_norm,
            checkpoint=checkpoint,
            on_step=on_step,
        )
    checkpoint.remove()
    return tower, pd.DataFrame(history.rows), {"weights": fingerprint["weights"]}


def _training_pairs(
    student: ImageTextEncoder, pairs: pd.DataFrame, generated_images: GeneratedImages, real_features: torch.Tensor
) -> TrainingPairs:
    """Returns the training rows of the pairs as the step function reads them."""
    from gmail_kedro.engine.inference import PixelBatches

    chosen = pairs.reset_index(drop=True).query("split == 'train'")
    if len(chosen) < 2:
        raise ValueError(f"The alignment needs at least 2 training pairs. Got {len(chosen)}. Generate more images.")
    numbers = pd.factorize(chosen["image_id"])[0].copy()
    return TrainingPairs(
        pixels=PixelBatches(student, generated_images, list(chosen["generated_key"])),
        real=real_features[chosen.index.to_numpy().copy()],
        image_ids=torch.from_numpy(numbers),
    )


def _fingerprint(weights: str, pairs: pd.DataFrame, params: AlignmentParams, run: RunParams) -> dict[str, str]:
    """Returns what a checkpoint of this run depends on."""
    import hashlib
    from dataclasses import asdict

    rows = hashlib.sha256(pairs.to_csv(index=False).encode()).hexdigest()
    settings = {f"alignment.{name}": repr(value) for name, value in asdict(params).items()}
    return settings | {"run.seed": str(run.seed), "run.precision": run.precision, "weights": weights, "pairs": rows}
