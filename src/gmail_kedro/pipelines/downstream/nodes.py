"""Nodes of the downstream pipeline: features on the declared route, then the captioner."""

from pathlib import Path

import pandas as pd
import torch

from gmail_kedro.interfaces import Corpus, GeneratedImages
from gmail_kedro.params import DownstreamParams, RunParams
from gmail_kedro.zoo.adapters import StoredAdapter
from gmail_kedro.zoo.captioner import Captioner


def encode_training_images(
    pairs: pd.DataFrame,
    corpus: Corpus,
    generated_images: GeneratedImages,
    adapter: StoredAdapter,
    feature_store: Path,
    params: DownstreamParams,
    run: RunParams,
) -> torch.Tensor:
    """Returns the embeddings the captioner trains on, float32 [N, D], in the order of pairs.

    Generated pictures go through the student and photographs through the teacher, never the other way round.
    """
    from gmail_kedro.engine.features import FeatureStore
    from gmail_kedro.engine.inference import encode_images
    from gmail_kedro.hardware import resolve_device
    from gmail_kedro.zoo.adapters import load_student
    from gmail_kedro.zoo.encoders import build_encoder

    device = resolve_device(run.device)
    encoder = build_encoder(run.encoder, run.encoder_path, device=device)
    source, keys = corpus.images, list(pairs["real_key"])
    if params.train_on == "generated":
        encoder = load_student(encoder, adapter)
        source, keys = generated_images, list(pairs["generated_key"])
    return encode_images(
        encoder,
        source,
        keys,
        store=FeatureStore(feature_store),
        batch_size=run.image_batch_size,
        device=device,
        precision=run.precision,
    )


def train_captioner(
    pairs: pd.DataFrame,
    training_features: torch.Tensor,
    checkpoints: Path,
    params: DownstreamParams,
    run: RunParams,
) -> tuple[Captioner, pd.DataFrame]:
    """Trains prefix mapper and language model on the training pairs' embeddings and captions.

    Returns:
        The captioner and its history, one row a step; ``val_loss`` is filled after the last step.
    """
    from gmail_kedro.engine.checkpoint import Checkpoint
    from gmail_kedro.engine.loop import fit
    from gmail_kedro.engine.optim import build_adamw, build_schedule
    from gmail_kedro.engine.progress import step_progress
    from gmail_kedro.hardware import fast_arithmetic, resolve_device
    from gmail_kedro.pipelines.downstream.training import captioner_step, validation_loss
    from gmail_kedro.zoo.captioner import build_captioner
    from gmail_kedro.zoo.language_models import build_language_model

    device = resolve_device(run.device)
    language_model, tokenizer = build_language_model(params.language_model, params.language_model_path)
    captioner = build_captioner(
        language_model,
        tokenizer,
        embed_dim=training_features.shape[1],
        prefix_length=params.prefix_length,
        seed=run.seed,
    ).to(device)
    tokens = captioner.tokenize(list(pairs["caption"]), max_tokens=params.max_tokens)
    is_train = (pairs["split"] == "train").to_numpy().copy()
    step = captioner_step(
        captioner, training_features[is_train], tokens[is_train], params, seed=run.seed, device=device
    )
    optimizer = build_adamw(
        captioner.parameters(), learning_rate=params.learning_rate, weight_decay=params.weight_decay
    )
    schedule = build_schedule(optimizer, kind="linear", steps=params.steps, warmup_steps=params.warmup_steps)
    facts = _fingerprint(training_features, pairs, params, run)
    checkpoint = Checkpoint(checkpoints / "captioner.safetensors", facts, every=params.checkpoint_every)
    captioner.train()
    with fast_arithmetic(device, precision=run.precision), step_progress("Captioner", params.steps) as on_step:
        history = fit(
            step,
            optimizer,
            schedule,
            steps=params.steps,
            clip_norm=params.clip_norm,
            checkpoint=checkpoint,
            on_step=on_step,
        )
        captioner.eval()
        history.rows[-1]["val_loss"] = validation_loss(
            captioner, training_features[~is_train], tokens[~is_train], batch_size=params.batch_size, device=device
        )
    checkpoint.remove()
    return captioner, pd.DataFrame(history.rows)


def _fingerprint(
    features: torch.Tensor, pairs: pd.DataFrame, params: DownstreamParams, run: RunParams
) -> dict[str, str]:
    """Returns what a checkpoint of this run depends on."""
    import hashlib
    from dataclasses import asdict

    from gmail_kedro.zoo.registry import hash_tensors

    rows = hashlib.sha256(pairs.to_csv(index=False).encode()).hexdigest()
    settings = {f"downstream.{name}": repr(value) for name, value in asdict(params).items()}
    return settings | {
        "run.seed": str(run.seed),
        "run.precision": run.precision,
        "features": hash_tensors({"features": features}),
        "pairs": rows,
    }
