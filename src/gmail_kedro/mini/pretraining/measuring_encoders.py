"""Measures the mini Long-CLIP, SigLIP, SynCLR and CLIP vision tower on held-out handwriting."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gmail_kedro.hardware import fast_arithmetic
from gmail_kedro.interfaces import ImageTextEncoder
from gmail_kedro.metrics.retrieval import RetrievalResult, retrieval_scores
from gmail_kedro.metrics.statistics import Interval, bootstrap_interval, paired_difference
from gmail_kedro.mini.pretraining.measuring import (
    CPU,
    RESAMPLES,
    TEST_COUNT,
    captioned_pool,
    embed,
    measure_digits,
    retrieve,
)
from gmail_kedro.mini.world.caption_grammar import describe_at_length, shuffle_sentences
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import INKS, Scene, ScenePool, draw_pool
from gmail_kedro.models.encoders.known_encoders import build_encoder

SHORT_CONTEXT = 77
PROBE_TRAIN, PROBE_TEST = 3000, 1000


def measure_siglip(folder: str) -> dict[str, Any]:
    """Measures retrieval on 500 test scenes with five captions each, and reading of single digits."""
    encoder = build_encoder("mini_siglip", folder, device=CPU)
    pool, captions = captioned_pool("test", TEST_COUNT)
    hits = retrieve(encoder, pool, captions)
    return _recalls("test", hits, captions) | {"test_digit_accuracy": measure_digits(encoder)}


def measure_clip_vision(folder: str) -> dict[str, Any]:
    """Measures the tower through the mini CLIP's texts, and how near its embeddings are to the mini CLIP's."""
    tower = build_encoder("mini_clip_vision", folder, device=CPU)
    clip = build_encoder("mini_clip", None, device=CPU)
    pool, captions = captioned_pool("test", TEST_COUNT)
    own, _ = embed_images(tower, pool)
    target, text = embed(clip, pool, [caption for texts in captions for caption in texts])
    index = torch.arange(len(captions)).repeat_interleave(torch.tensor([len(texts) for texts in captions]))
    cosines = (own * target).sum(1).numpy()
    return _recalls("test", retrieval_scores(own, text, index), captions) | {
        "test_cosine_to_mini_clip": bootstrap_interval(cosines, count=RESAMPLES, seed=0),
        **_probes(tower),
    }


def measure_synclr(folder: str) -> dict[str, Any]:
    """Measures linear probes of digit and ink on real test scenes, with the mini CLIP's and raw pixels' beside them."""
    scores = _probes(build_encoder("mini_synclr", folder, device=CPU))
    reference = _probes(build_encoder("mini_clip", None, device=CPU))
    return scores | {f"mini_clip_{name}": value for name, value in reference.items()}


def measure_long_clip(folder: str) -> dict[str, Any]:
    """Measures retrieval with long captions, whole and cut at 77 tokens, and with short captions."""
    encoder = build_encoder("mini_long_clip", folder, device=CPU)
    pool, captions = captioned_pool("test", TEST_COUNT)
    rng = np.random.default_rng(904)
    in_order = [describe_at_length(scene, rng) for scene in pool.scenes]
    texts = {"long": in_order, "shuffled": [shuffle_sentences(text, rng) for text in in_order]}
    clip = build_encoder("mini_clip", None, device=CPU)
    scores: dict[str, Any] = {"over_77_tokens": _share_over(encoder, in_order)}
    for name, long in texts.items():
        whole, cut = (
            _retrieve_long(encoder, pool, long, context) for context in (encoder.context_length, SHORT_CONTEXT)
        )
        for way in ("i2t", "t2i"):
            hits = [getattr(result, f"{way}_hits")[1] * 100.0 for result in (whole, cut)]
            scores[f"{name}_{way}_r1"] = bootstrap_interval(hits[0], count=RESAMPLES, seed=0)
            scores[f"{name}_cut_{way}_r1"] = bootstrap_interval(hits[1], count=RESAMPLES, seed=0)
            scores[f"{name}_gain_{way}_r1"] = paired_difference(hits[0], hits[1], count=RESAMPLES, seed=0)
        reference = _retrieve_long(clip, pool, long, SHORT_CONTEXT)
        scores[f"{name}_mini_clip_i2t_r1"] = float(reference.i2t_hits[1].mean() * 100)
        scores[f"{name}_mini_clip_t2i_r1"] = float(reference.t2i_hits[1].mean() * 100)
    return scores | _recalls("short", retrieve(encoder, pool, captions), captions)


def embed_images(encoder: ImageTextEncoder, pool: ScenePool) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns unit embeddings [N, D] and raw pooled features [N, W] of a pool, through the encoder's preprocessing."""
    from PIL import Image

    images = torch.stack([encoder.preprocess(Image.fromarray(pixels)) for pixels in pool.pixels])
    with torch.no_grad(), fast_arithmetic(CPU, precision="auto"):
        embeddings = torch.cat([encoder.encode_image(part).float() for part in images.split(100)])
        pooled = torch.cat([encoder.pool_image(part)[0].float() for part in images.split(100)])
    return F.normalize(embeddings, dim=-1), pooled


def _retrieve_long(encoder: ImageTextEncoder, pool: ScenePool, texts: list[str], context: int) -> RetrievalResult:
    """Retrieves one long caption a scene, cut at ``context`` tokens with the end token kept."""
    image, _ = embed_images(encoder, pool)
    tokens = encoder.tokenize(texts)
    end = int(tokens.max())
    tokens = tokens[:, :context].clone()
    tokens[:, -1] = end
    with torch.no_grad(), fast_arithmetic(CPU, precision="auto"):
        text = torch.cat([encoder.encode_text(part).float() for part in tokens.split(100)])
    return retrieval_scores(image, F.normalize(text, dim=-1), torch.arange(len(texts)))


def _share_over(encoder: ImageTextEncoder, texts: list[str]) -> Interval:
    tokens = encoder.tokenize(texts)
    lengths = (tokens != tokens.max()).sum(1) + 1
    return bootstrap_interval((lengths > SHORT_CONTEXT).float().numpy() * 100, count=RESAMPLES, seed=0)


def _recalls(name: str, hits: RetrievalResult, captions: list[list[str]]) -> dict[str, Any]:
    """Returns R@1 both ways, with intervals over scenes."""
    scenes = np.repeat(np.arange(len(captions)), [len(texts) for texts in captions])
    return {
        f"{name}_i2t_r1": bootstrap_interval(hits.i2t_hits[1] * 100.0, count=RESAMPLES, seed=0),
        f"{name}_t2i_r1": bootstrap_interval(hits.t2i_hits[1] * 100.0, count=RESAMPLES, seed=0, groups=scenes),
    }


def _probes(encoder: ImageTextEncoder) -> dict[str, Interval]:
    """Returns the accuracy of linear probes on pooled features, fitted on real training scenes, on test scenes."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pools = {
        split: draw_pool(load_scans(split), count=count, seed=905, pair_fraction=0.0)
        for split, count in (("train", PROBE_TRAIN), ("test", PROBE_TEST))
    }
    features = {split: embed_images(encoder, pool)[1].numpy() for split, pool in pools.items()}
    scores = {}
    for name, fact in (("digit", _digit), ("ink", _ink)):
        labels = {split: [fact(scene) for scene in pool.scenes] for split, pool in pools.items()}
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        right = probe.fit(features["train"], labels["train"]).predict(features["test"]) == np.array(labels["test"])
        scores[f"probe_{name}"] = bootstrap_interval(right * 100.0, count=RESAMPLES, seed=0)
    return scores


def _digit(scene: Scene) -> int:
    return scene.digits[0]


def _ink(scene: Scene) -> int:
    return list(INKS).index(scene.ink)
