"""Nodes of the downstream pipeline: features on the declared route, then the captioner and the text tower."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gmail_kedro.engine.checkpoint import Checkpoints, data_of, settings_of
from gmail_kedro.evaluation.benchmark import real_route
from gmail_kedro.interfaces import Corpus, GeneratedImages, ImageTextEncoder, SavesItself
from gmail_kedro.method.realign import FeatureMap
from gmail_kedro.models.captioners.captioner import Captioner
from gmail_kedro.models.student.student import StoredStudent
from gmail_kedro.params.downstream import DownstreamParams, IfcapParams, RetrieverParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.downstream.training_features import TrainingFeatures


def encode_training_features(
    pairs: pd.DataFrame,
    corpus: Corpus,
    generated_images: GeneratedImages,
    adapter: StoredStudent,
    feature_map: FeatureMap,
    feature_store: Path,
    params: DownstreamParams,
    ifcap: IfcapParams,
    run: RunParams,
) -> TrainingFeatures:
    """Returns the embeddings the consumers train on, one for each row of the chosen source."""
    from gmail_kedro.engine.inference import run_encoding
    from gmail_kedro.pipelines.downstream.training_features import FeatureSource, gather

    encoding = run_encoding(feature_store, run)
    source = FeatureSource(pairs, corpus, generated_images, adapter, feature_map, run, encoding)
    return gather(source, params, ifcap, seed=run.seed)


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
    from gmail_kedro.engine.loop import train
    from gmail_kedro.hardware import fast_arithmetic, resolve_device
    from gmail_kedro.models.captioners.known_captioners import load_captioner, start_from
    from gmail_kedro.models.student.adapters import trainable_parameters
    from gmail_kedro.pipelines.downstream.captioner_training import captioner_step, prepare_captioner, validation_loss
    from gmail_kedro.whole_files import hash_tensors

    device, batch_size = resolve_device(run.device), params.training.batch_size
    if params.pretrained is not None:
        # An empty history says that nothing was trained here.
        return load_captioner(Path(params.pretrained), device=device), pd.DataFrame({"step": [], "loss": []})
    examples = prepare_captioner(pairs, corpus, training_features, params, ifcap, run, device=device)
    captioner = examples.captioner
    facts = settings_of(run, params, ifcap) | training_features.facts() | data_of(pairs, rows=training_features.rows)
    if params.start_from is not None:
        # Its weights, not its path, are what the training depends on: the folder may have been trained anew.
        start_from(captioner, Path(params.start_from), device=device)
        facts["start"] = hash_tensors(captioner.state_dict())
    # By the rows of the features: a mixed source has pairs twice.
    is_train = (pairs["split"].iloc[training_features.rows] == "train").to_numpy()  # bool [M]
    captioner.train()
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)  # of the dropout in a language model; a checkpoint keeps where it is
        history = train(
            captioner_step(examples, np.flatnonzero(is_train), batch_size=batch_size, seed=run.seed),
            trainable_parameters(captioner),
            params.training,
            checkpoints.open("captioner", facts, every=params.training.checkpoint_every),
            title="Captioner",
            device=device,
            precision=run.precision,
        )
    captioner.eval()
    # In the precision it was trained in, so that the two losses of the history can be compared.
    with fast_arithmetic(device, precision=run.precision):
        held_out = np.flatnonzero(~is_train)
        history.rows[-1]["val_loss"] = validation_loss(examples, held_out, batch_size=batch_size)
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
    from gmail_kedro.models.encoders.tuned_text_tower import TunedTextTower

    device = resolve_device(run.device)
    # The text tower belongs to the real route: at test time it is asked for real images.
    encoder = real_route(adapter, run, device)
    if params.training.steps == 0 or encoder.text_tower is None:
        return TunedTextTower(None, encoder.fingerprint), pd.DataFrame({"step": [], "loss": []})
    chosen = pairs.iloc[training_features.rows]
    is_train = (chosen["split"] == "train").to_numpy().copy()  # bool [M]; a copy, for torch warns of read-only views
    step = _retriever_step(
        encoder,
        training_features.embeddings[is_train].to(device),  # [N, D]
        encoder.tokenize(list(chosen["caption"][is_train])).to(device),  # [N, L]
        # Numbers for the names: several captions share a real image and are no negatives of one another.
        torch.from_numpy(pd.factorize(chosen["image_id"][is_train])[0].copy()).to(device),
        batch_size=params.training.batch_size,
        seed=run.seed,
    )
    facts = settings_of(run, params) | training_features.facts() | data_of(pairs, rows=training_features.rows)
    facts["encoder"] = encoder.fingerprint
    tower = encoder.text_tower.train().requires_grad_(True)
    history = train(
        step,
        tower.parameters(),
        params.training,
        checkpoints.open("retriever", facts, every=params.training.checkpoint_every),
        title="Retriever",
        device=device,
        precision=run.precision,
    )
    return TunedTextTower(tower.eval(), encoder.fingerprint), pd.DataFrame(history.rows)


def _retriever_step(
    encoder: ImageTextEncoder,
    features: torch.Tensor,
    tokens: torch.Tensor,
    image_ids: torch.Tensor,
    *,
    batch_size: int,
    seed: int,
) -> Callable[[int], dict[str, torch.Tensor]]:
    """Returns the step function of the text tower: CLIP's contrast of its texts with fixed image embeddings.

    Args:
        encoder: Its text tower is trained in place.
        features: Image embeddings, float32 [N, D].
        tokens: Token ids of the captions, [N, L].
        image_ids: Real image of each row, int64 [N]; others of one image are no negatives.
        batch_size: Captions a step.
        seed: Seeds the order of the captions.
    """
    from gmail_kedro.engine.batches import batch_rows
    from gmail_kedro.method.alignment import sigmoid_alignment_loss, symmetric_loss

    # As it was pre-trained, and not learned on: image embeddings stay as they are, so their scale should.
    scale, bias = encoder.logit_scale, encoder.logit_bias

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = batch_rows(index, count=len(features), batch_size=batch_size, seed=seed)
        text, image, ids = encoder.encode_text(tokens[rows]), features[rows], image_ids[rows]  # [B, D], [B, D], [B]
        same = ids[:, None] == ids[None]  # [B, B]
        if bias is not None:  # pre-trained with a sigmoid, as SigLIP
            return {"loss": sigmoid_alignment_loss(image, text, scale=scale, bias=bias, same_image=same)}
        return {"loss": symmetric_loss(image, text, temperature=1 / scale, same_image=same)}

    return step
