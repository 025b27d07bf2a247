"""Nodes of the classification pipeline: every set zero-shot, by a linear probe and fine-tuned, on the real route."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmail_kedro.engine.checkpoint import Checkpoints
from gmail_kedro.evaluation.benchmark import interval_of, item_rows, no_scores, real_route
from gmail_kedro.evaluation.measured_sets import ClassSets, open_class_sets, refuse_unmeasured
from gmail_kedro.interfaces import Corpus, LabelledImages, SavesItself
from gmail_kedro.method.realign import FeatureMap
from gmail_kedro.metrics.classification import ClassificationResult
from gmail_kedro.models.student.student import StoredStudent
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.fine_tuning import FineTuningParams
from gmail_kedro.params.run import RunParams

Scored = tuple[dict[str, Any], pd.DataFrame]
NO_ITEMS = item_rows([], "acc1", np.zeros(0))
PROBE, FINE_TUNED = "linear_probe_", "fine_tuning_"  # their items stand beside the zero-shot ones of the same sets


def score_classification(
    class_sets: ClassSets,
    corpus: Corpus,
    adapter: StoredStudent,
    feature_map: FeatureMap,
    feature_store: Path,
    params: EvaluationParams,
    run: RunParams,
) -> Scored:
    """Scores every set zero-shot; without sets, or without a text tower, there are no scores, and it says so.

    Returns:
        The scores, top-1 and mean per class of each set, and top-1 image by image.

    Raises:
        FileNotFoundError: If sets or images are missing on disk; no set is scored in part.
        ValueError: If a set is damaged or unknown.
    """
    from gmail_kedro.engine.inference import encode_images, encode_texts, run_encoding
    from gmail_kedro.metrics.classification import classification_result, zero_shot_weights

    found = open_class_sets(class_sets, corpus, params)
    if not found:
        return no_scores(_no_sets(corpus, params)), NO_ITEMS
    encoding = run_encoding(feature_store, run)
    encoder = real_route(adapter, run, encoding.device)
    if encoder.text_tower is None:
        return no_scores(f"the encoder {run.encoder!r} reads no texts"), NO_ITEMS
    results = {}
    # All sets or none: a missing image ends the node, so that no set is scored in part.
    for name, one in found.items():
        task = one.task
        prompts = [template.format(label) for label in task.classes for template in task.templates]
        texts = encode_texts(encoder, prompts, encoding).view(len(task.classes), len(task.templates), -1)  # [C, T, D]
        image = encode_images(encoder, one.images, list(task.labels), encoding)  # [N, D]
        # The training-free map moves real images too; texts stay where the teacher puts them.
        image = image if feature_map.kind == "none" else feature_map.target(image)
        labels = torch.tensor(list(task.labels.values()))
        results[name] = classification_result(image, zero_shot_weights(texts), labels)
    return _scored(found, results, params)


def score_linear_probe(
    class_sets: ClassSets,
    corpus: Corpus,
    adapter: StoredStudent,
    feature_store: Path,
    params: EvaluationParams,
    fine_tuning: FineTuningParams,
    run: RunParams,
) -> Scored:
    """Trains a linear classifier on pooled features of the real route for each set that is not fine-tuned on.

    Returns:
        The scores on what is measured, with the weight decays that were chosen, and top-1 image by image.

    Raises:
        FileNotFoundError: If sets or images are missing on disk.
        ValueError: If a set is damaged or unknown, or has nothing to train on.
    """
    from gmail_kedro.engine.inference import encode_images, run_encoding
    from gmail_kedro.metrics.linear_probe import linear_probe

    if not params.linear_probe:
        return no_scores("evaluation.linear_probe is off"), NO_ITEMS
    found = open_class_sets(class_sets, corpus, params)
    # A set that is fine-tuned on has its own number from all weights; a probe beside it would be a second answer.
    probed = {name: one for name, one in found.items() if name not in fine_tuning.sets}
    if not probed:
        return no_scores("every set is fine-tuned on" if found else _no_sets(corpus, params)), NO_ITEMS
    encoding = run_encoding(feature_store, run)
    encoder = real_route(adapter, run, encoding.device)
    results, chosen = {}, {}
    for name, one in probed.items():
        splits = one.training()
        sides = {split: (splits.images, labels) for split, labels in splits.labels.items()}
        sides["test"] = (one.images, one.task.labels)
        features = {
            # Before the projection, as CLIP's own linear probes.
            split: encode_images(encoder, images, list(labels), encoding, view="pooled").numpy()
            for split, (images, labels) in sides.items()
        }
        truth = {split: np.array(list(labels.values())) for split, (_, labels) in sides.items()}
        probe = linear_probe(features, truth, metric=one.metric)
        results[name], chosen[name] = probe.result, probe.weight_decay
    scores, items = _scored(probed, results, params, prefix=PROBE)
    return scores | {"weight_decay": chosen}, items


def fine_tune(
    class_sets: ClassSets,
    corpus: Corpus,
    adapter: StoredStudent,
    checkpoints: Checkpoints,
    params: FineTuningParams,
    evaluation: EvaluationParams,
    run: RunParams,
) -> tuple[SavesItself, pd.DataFrame]:
    """Fine-tunes the tower of the real route, all its weights, on each set of ``fine_tuning.sets``.

    Returns:
        The classifiers, and the history, one row a step and set.

    Raises:
        FileNotFoundError: If a set is missing on disk.
        ValueError: If a set is not measured, is damaged, or the encoder cannot be fine-tuned.
        FloatingPointError: If too many steps had a loss that was not finite; the last checkpoint is kept.
    """
    from gmail_kedro.engine.inference import guard_route
    from gmail_kedro.hardware import resolve_device
    from gmail_kedro.models.encoders.classifier import Classifiers
    from gmail_kedro.pipelines.classification.classifier_training import fine_tune_on

    device, fingerprint = resolve_device(run.device), ""
    states, counts = {}, {}
    histories = [pd.DataFrame({"set": [], "step": [], "loss": []})]  # the columns of a history without any set
    for name, one in _chosen(class_sets, corpus, params, evaluation).items():
        encoder = real_route(adapter, run, device)  # a fresh one each time: it is trained in place
        fingerprint = encoder.fingerprint
        guard_route(encoder, one.training().images)
        states[name], history = fine_tune_on(one, encoder, checkpoints, params, run)
        counts[name] = len(one.task.classes)
        histories.append(history.assign(set=name))
    return Classifiers(states, counts, fingerprint), pd.concat(histories, ignore_index=True)


def score_fine_tuning(
    class_sets: ClassSets,
    corpus: Corpus,
    adapter: StoredStudent,
    classifiers: Path,
    params: FineTuningParams,
    evaluation: EvaluationParams,
    run: RunParams,
) -> Scored:
    """Scores the fine-tuned classifiers on what of their sets is measured.

    Returns:
        The scores, and top-1 image by image.

    Raises:
        MissingWeightsError: If a set was not fine-tuned on.
        FileNotFoundError: If sets or images are missing on disk.
        ValueError: If a classifier belongs to another real route.
    """
    from gmail_kedro.engine.inference import guard_route
    from gmail_kedro.hardware import resolve_device
    from gmail_kedro.metrics.classification import result_of
    from gmail_kedro.models.encoders.classifier import load_classifier
    from gmail_kedro.pipelines.classification.classifier_training import predict_classes

    if not params.sets:
        return no_scores("fine_tuning.sets is empty"), NO_ITEMS
    device = resolve_device(run.device)
    found, results = _chosen(class_sets, corpus, params, evaluation), {}
    for name, one in found.items():
        encoder = real_route(adapter, run, device)  # load_classifier puts its weights into this tower
        guard_route(encoder, one.images)
        model = load_classifier(encoder, classifiers, name, len(one.task.classes))
        predicted = predict_classes(model, encoder, one, params, run)
        results[name] = result_of(predicted, np.array(list(one.task.labels.values())))
    return _scored(found, results, evaluation, prefix=FINE_TUNED)


def collect_class_scores(
    classification: dict[str, Any], linear_probe: dict[str, Any], fine_tuning: dict[str, Any]
) -> dict[str, Any]:
    """Returns the three groups of scores by name."""
    return {"classification": classification, "linear_probe": linear_probe, "fine_tuning": fine_tuning}


def collect_class_items(*items: pd.DataFrame) -> pd.DataFrame:
    """Returns top-1 of all three, image by image."""
    return pd.concat(items, ignore_index=True)


def _chosen(
    class_sets: ClassSets, corpus: Corpus, params: FineTuningParams, evaluation: EvaluationParams
) -> dict[str, LabelledImages]:
    """Returns the sets that are fine-tuned on."""
    if not params.sets:
        return {}
    found = open_class_sets(class_sets, corpus, evaluation)
    refuse_unmeasured(params, found)
    return {name: found[name] for name in params.sets}


def _no_sets(corpus: Corpus, params: EvaluationParams) -> str:
    if params.class_sets is not None:
        return "evaluation.class_sets is empty"
    return f"the corpus {corpus.name!r} has no labels, and the catalog no class_sets"


def _scored(
    found: dict[str, LabelledImages],
    results: dict[str, ClassificationResult],
    params: EvaluationParams,
    *,
    prefix: str = "",
) -> Scored:
    """Returns scores with intervals by set, and top-1 image by image under the prefix."""
    scores: dict[str, float] = {}
    intervals, items = {}, [NO_ITEMS]
    for name, result in results.items():
        scores |= {f"{name}_{measure}": value for measure, value in result.scores().items()}
        correct = result.correct * 100.0  # [N], in percent, so that its mean is top-1
        intervals[f"{name}_acc1"] = interval_of(correct, params)
        items.append(item_rows(list(found[name].task.labels), f"{prefix}{name}_acc1", correct))
    return {"scores": scores, "intervals": intervals}, pd.concat(items, ignore_index=True)
