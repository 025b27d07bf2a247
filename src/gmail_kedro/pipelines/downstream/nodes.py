"""Nodes of the downstream pipeline: features on the declared route, then the captioner and the text tower."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gmail_kedro.engine.checkpoint import Checkpoints
from gmail_kedro.interfaces import Corpus, GeneratedImages, SavesItself
from gmail_kedro.method.realign import FeatureMap
from gmail_kedro.models.captioners.captioner import Captioner
from gmail_kedro.models.student.student import StoredStudent
from gmail_kedro.params.base import Parameters
from gmail_kedro.params.downstream import DownstreamParams, IfcapParams, RetrieverParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.downstream.features import FeatureSource, TrainingFeatures, gather


def open_feature_source(
    pairs: pd.DataFrame,
    corpus: Corpus,
    generated_images: GeneratedImages,
    adapter: StoredStudent,
    feature_map: FeatureMap,
    feature_store: Path,
    run: RunParams,
) -> FeatureSource:
    """Returns what encodes the pairs; nothing is encoded yet.

    Generated pictures take the generated route and photographs the real one, never the other way round.
    """
    from gmail_kedro.engine.inference import run_encoding

    encoding = run_encoding(feature_store, run)
    return FeatureSource(pairs, corpus, generated_images, adapter, feature_map, run, encoding)


def encode_training_features(
    feature_source: FeatureSource, params: DownstreamParams, ifcap: IfcapParams, run: RunParams
) -> TrainingFeatures:
    """Returns the embeddings the consumers train on."""
    return gather(feature_source, params, ifcap, seed=run.seed)


def train_captioner(
    pairs: pd.DataFrame,
    corpus: Corpus,
    training_features: TrainingFeatures,
    checkpoints: Checkpoints,
    params: DownstreamParams,
    ifcap: IfcapParams,
    run: RunParams,
) -> tuple[Captioner, pd.DataFrame]:
    """Trains a captioner on the training pairs' embeddings and captions, or takes one that is trained already.

    Returns:
        The captioner and its history, one row a step; ``val_loss`` is filled after the last step. The history is
        empty for a captioner that is not trained here.
    """
    from gmail_kedro.checksums import hash_tensors
    from gmail_kedro.engine.loop import train
    from gmail_kedro.hardware import fast_arithmetic, resolve_device
    from gmail_kedro.models.captioners.known_captioners import load_captioner, start_from
    from gmail_kedro.models.student.adapters import trainable_parameters
    from gmail_kedro.pipelines.downstream.captioners import prepare_captioner
    from gmail_kedro.pipelines.downstream.training import captioner_step, validation_loss

    device = resolve_device(run.device)
    if params.pretrained is not None:
        return load_captioner(Path(params.pretrained), device=device), pd.DataFrame({"step": [], "loss": []})
    examples = prepare_captioner(pairs, corpus, training_features, params, ifcap, run, device=device)
    captioner = examples.captioner
    if params.start_from is not None:
        start_from(captioner, Path(params.start_from), device=device)
    is_train = (pairs["split"].iloc[training_features.rows] == "train").to_numpy()
    step = captioner_step(examples, np.flatnonzero(is_train), batch_size=params.training.batch_size, seed=run.seed)
    facts = _fingerprint(training_features, pairs, params, run) | _settings(ifcap)
    if params.start_from is not None:
        facts["start"] = hash_tensors(captioner.state_dict())
    checkpoint = checkpoints.open("captioner", facts, every=params.training.checkpoint_every)
    captioner.train()
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)  # of the dropout in a language model
        history = train(
            step,
            trainable_parameters(captioner),
            params.training,
            checkpoint,
            title="Captioner",
            device=device,
            precision=run.precision,
        )
    captioner.eval()
    with fast_arithmetic(device, precision=run.precision):
        held_out = np.flatnonzero(~is_train)
        history.rows[-1]["val_loss"] = validation_loss(examples, held_out, batch_size=params.training.batch_size)
    return captioner, pd.DataFrame(history.rows)


def tune_text_tower(
    pairs: pd.DataFrame,
    training_features: TrainingFeatures,
    adapter: StoredStudent,
    checkpoints: Checkpoints,
    params: RetrieverParams,
    run: RunParams,
) -> tuple[SavesItself, pd.DataFrame]:
    """Tunes the text tower to retrieve by the training pairs' embeddings; image embeddings stay as they are.

    Returns:
        The text tower and its history, one row a step; both are empty without steps, or without a text tower.
    """
    from gmail_kedro.engine.loop import train
    from gmail_kedro.hardware import resolve_device
    from gmail_kedro.models.encoders.known_encoders import build_encoder
    from gmail_kedro.models.encoders.tuned_text_tower import TunedTextTower
    from gmail_kedro.models.student.student import take_route
    from gmail_kedro.pipelines.downstream.training import retriever_step

    device = resolve_device(run.device)
    encoder = take_route(build_encoder(run.encoder, run.encoder_path, device=device), adapter, "real")
    if params.training.steps == 0 or encoder.text_tower is None:
        return TunedTextTower(None, encoder.fingerprint), pd.DataFrame({"step": [], "loss": []})
    chosen = pairs.iloc[training_features.rows]
    is_train = (chosen["split"] == "train").to_numpy().copy()
    step = retriever_step(
        encoder,
        training_features.embeddings[is_train],
        encoder.tokenize(list(chosen["caption"][is_train])),
        torch.from_numpy(pd.factorize(chosen["image_id"][is_train])[0].copy()),
        params,
        seed=run.seed,
        device=device,
    )
    facts = _fingerprint(training_features, pairs, params, run) | {"encoder": encoder.fingerprint}
    checkpoint = checkpoints.open("retriever", facts, every=params.training.checkpoint_every)
    tower = encoder.text_tower.train().requires_grad_(True)
    history = train(
        step,
        tower.parameters(),
        params.training,
        checkpoint,
        title="Retriever",
        device=device,
        precision=run.precision,
    )
    return TunedTextTower(tower.eval(), encoder.fingerprint), pd.DataFrame(history.rows)


def _fingerprint(features: TrainingFeatures, pairs: pd.DataFrame, params: Parameters, run: RunParams) -> dict[str, str]:
    """Returns what a checkpoint of this run depends on."""
    from gmail_kedro.checksums import hash_tensors

    texts = {} if features.texts is None else {"texts": features.texts}
    rows = hashlib.sha256(pairs.to_csv(index=False).encode() + features.rows.tobytes()).hexdigest()
    return _settings(params) | {
        "run.seed": str(run.seed),
        "run.precision": run.precision,
        "features": hash_tensors({"features": features.embeddings} | texts),
        "pairs": rows,
    }


def _settings(params: Parameters) -> dict[str, str]:
    return {name: repr(value) for name, value in params.flat().items()}
