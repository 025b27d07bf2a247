"""Image-text encoders by name: CLIP through open_clip, from its hub tags or from a local folder."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.zoo.registry import MissingWeightsError, hash_tensors, local_folder, look_up, packaged_weights

if TYPE_CHECKING:
    from PIL.Image import Image

CONFIG_FILE = "open_clip_config.json"


@dataclass(frozen=True)
class EncoderSpec:
    """Where an encoder comes from.

    Attributes:
        packaged: Folder of mini weights inside the package, or empty.
        architecture: open_clip's name of the architecture.
        pretrained: open_clip's tag of the weights.
    """

    packaged: str = ""
    architecture: str = ""
    pretrained: str = ""


ENCODERS = {
    "mini_clip": EncoderSpec(packaged="clip"),
    "clip_vit_b_32": EncoderSpec(architecture="ViT-B-32-quickgelu", pretrained="openai"),
    "clip_vit_b_16": EncoderSpec(architecture="ViT-B-16-quickgelu", pretrained="openai"),
    "clip_vit_l_14": EncoderSpec(architecture="ViT-L-14-quickgelu", pretrained="openai"),
    "clip_vit_l_14_336": EncoderSpec(architecture="ViT-L-14-336-quickgelu", pretrained="openai"),
}


class OpenClipEncoder:
    """An open_clip model behind the house's ``ImageTextEncoder`` protocol.

    Args:
        name: The zoo's name.
        model: The open_clip model, in eval mode.
        preprocess: Maps a picture to the tower's input.
        tokenizer: open_clip's tokenizer of the model.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        preprocess: Callable[["Image"], torch.Tensor],
        tokenizer: Any,
    ) -> None:
        self.name = name
        self.model = model
        self._preprocess, self._tokenizer = preprocess, tokenizer
        self.context_length = int(tokenizer.context_length)
        self.embed_dim = int(model.text.output_dim if hasattr(model, "text") else model.text_projection.shape[1])
        recipe = hashlib.sha256(repr(preprocess).encode()).hexdigest()
        self.fingerprint = hashlib.sha256(f"{hash_tensors(model.state_dict())}{recipe}".encode()).hexdigest()

    @property
    def image_tower(self) -> torch.nn.Module:
        """The vision tower; an adapter replaces it."""
        return self.model.visual

    @image_tower.setter
    def image_tower(self, tower: torch.nn.Module) -> None:
        self.model.visual = tower

    def preprocess(self, image: "Image") -> torch.Tensor:
        """Maps a picture to float32 [3, H, W]."""
        return self._preprocess(image)

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Maps texts to ids [B, L]; a longer text is cut and its end token kept."""
        return self._tokenizer(list(texts))

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Counts texts that need more than ``context_length`` tokens."""
        hugging_face = getattr(self._tokenizer, "tokenizer", None)
        if hugging_face is not None:
            lengths = [len(ids) for ids in hugging_face(list(texts), truncation=False, verbose=False).input_ids]
        else:
            lengths = [len(self._tokenizer.encode(text)) + 2 for text in texts]
        return sum(length > self.context_length for length in lengths)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images [B, 3, H, W] to embeddings [B, D], not normalised."""
        return self.model.encode_image(images)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Maps ids [B, L] to embeddings [B, D], not normalised."""
        return self.model.encode_text(tokens)


def build_encoder(name: str, path: str | None, *, device: torch.device) -> OpenClipEncoder:
    """Returns a frozen encoder in eval mode.

    Args:
        name: A key of ``ENCODERS``.
        path: A local folder in open_clip's hub layout, a checkpoint file of the architecture, or None for the
            zoo's own source.
        device: Where the model goes.

    Raises:
        UnknownModelError: If the zoo does not know the name.
        MissingWeightsError: If the weights are not there or do not fit; says what was looked for.
    """
    import open_clip

    spec = look_up("encoder", name, ENCODERS)
    source, pretrained = _resolve(name, spec, path)
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            source, pretrained=pretrained, device=device, require_pretrained=True
        )
        tokenizer = open_clip.get_tokenizer(source)
    except Exception as error:
        raise MissingWeightsError(
            f"The weights of the encoder {name!r} could not be loaded from {source} ({pretrained or 'local folder'}): "
            f"{error}. Put them in a local folder (open_clip_config.json and open_clip_model.safetensors) and set "
            "run.encoder_path to it."
        ) from error
    model.eval().requires_grad_(False)
    return OpenClipEncoder(name, model, preprocess, tokenizer)


def _resolve(name: str, spec: EncoderSpec, path: str | None) -> tuple[str, str | None]:
    """Returns open_clip's model name and pretrained tag for a spec and an optional local path."""
    if path is not None:
        folder = local_folder("encoder", name, path)
        if (folder / CONFIG_FILE).is_file():
            return f"local-dir:{folder}", None
        if folder.is_file() and spec.architecture:
            return spec.architecture, str(folder)
        raise MissingWeightsError(
            f"The encoder {name!r} was to be read from {folder}, but {Path(folder) / CONFIG_FILE} is not there. "
            "Expected a folder in open_clip's hub layout, or a checkpoint file of the architecture."
        )
    if spec.packaged:
        return f"local-dir:{packaged_weights(spec.packaged)}", None
    return spec.architecture, spec.pretrained
