"""The student: a copy of the teacher with what alignment trains in it, and the two routes through it.

Loading what a run aligned takes three calls, of ``known_encoders`` and of this module:

    teacher = build_encoder("mini_clip", None, device=torch.device("cpu"))
    student = open_student(Path("data/06_models/gmail/adapter"))
    encoder = take_route(teacher, student, "generated")  # or "real"; then encode_image and encode_text as before

A *route* is what images of one modality go through. Generated images take the tuned tower and the head for generated
features ("Proj for Gen" of the paper). Real images take what ``real_path`` declares: the teacher itself (``frozen``),
their own head behind the teacher's tower (``proj``), or the tuned tower too (``lora_proj``). Both routes end in one
space, and texts are shared. An encoder on one route refuses images of the other: their embeddings would look right and
be off by exactly the gap that alignment closed.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path

import torch
import torch.nn.functional as F

from gmail_kedro.interfaces import FeatureOrigin
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.fingerprints import finish_folder, open_folder, save_weights
from gmail_kedro.models.strict_loading import load_file_strictly
from gmail_kedro.models.student.adapters import TuningSpec, load_tuned, save_tuned, trainable_parameters, tune_tower
from gmail_kedro.models.weight_sources import MissingWeightsError
from gmail_kedro.whole_files import hash_tensors

RECIPE_FILE, HEADS_FILE, TEXT_FOLDER = "student.json", "heads.safetensors", "text"
ROUTES = ("generated", "real")
REMEDY = "Align again: kedro run --pipeline=align"
HIDDEN_FACTOR = 2  # width of the MLP's hidden layer, in embeddings

logger = logging.getLogger(__name__)


class SeedStream(IntEnum):
    """What is added to the run's seed, so that no two parts start from the same random numbers."""

    IMAGE_ADAPTER = 0
    TEXT_ADAPTER = 1
    HEADS = 2


class ProjectionHead(torch.nn.Module):
    """Maps pooled features [B, W] to embeddings [B, D], not normalised.

    ``linear`` (bias-free) and ``residual`` (the same plus an MLP whose last layer is zero) start as the encoder's own
    projection, so that step 0 is the teacher; ``mlp`` starts afresh.

    Args:
        kind: ``linear``, ``residual`` or ``mlp``.
        start: The encoder's own projection, of shape [W, D].
        batch_norm: Whether batch normalisation follows.

    Raises:
        ValueError: If the kind is unknown.
    """

    def __init__(self, kind: str, start: torch.Tensor, *, batch_norm: bool = False) -> None:
        super().__init__()
        if kind not in ("linear", "residual", "mlp"):
            raise ValueError(f"The kind of a projection must be linear, residual or mlp. Got {kind!r} instead.")
        width, embed_dim = start.shape
        self.weight = torch.nn.Parameter(start.detach().float().T.clone()) if kind != "mlp" else None  # [D, W]
        self.mlp = _mlp(width, embed_dim, is_zero=kind == "residual") if kind != "linear" else None
        self.norm = torch.nn.BatchNorm1d(embed_dim) if batch_norm else None

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Maps [B, W] to [B, D]."""
        terms = []  # [B, D] each
        if self.weight is not None:
            terms.append(F.linear(pooled, self.weight))
        if self.mlp is not None:
            terms.append(self.mlp(pooled))
        embedding = terms[0] if len(terms) == 1 else terms[0] + terms[1]
        return embedding if self.norm is None else self.norm(embedding)


def _mlp(width: int, embed_dim: int, *, is_zero: bool) -> torch.nn.Sequential:
    hidden = HIDDEN_FACTOR * embed_dim
    last = torch.nn.Linear(hidden, embed_dim, bias=False)
    if is_zero:
        torch.nn.init.zeros_(last.weight)
    return torch.nn.Sequential(torch.nn.Linear(width, hidden, bias=False), torch.nn.GELU(), last)


class DualProjection(torch.nn.Module):
    """A head for generated and a head for real features ("Proj for Gen" and "Proj for Real" of the paper).

    Both are always made and stored, whatever ``real_path`` says: a recipe then has one layout of ``heads.safetensors``.
    Arguments are as for ``ProjectionHead``.
    """

    def __init__(self, kind: str, start: torch.Tensor, *, batch_norm: bool = False) -> None:
        super().__init__()
        self.generated = ProjectionHead(kind, start, batch_norm=batch_norm)
        self.real = ProjectionHead(kind, start, batch_norm=batch_norm)


@dataclass(frozen=True)
class StudentSpec:
    """What a student consists of; with the teacher's weights and its own files it can be built again.

    Attributes:
        image: What is tuned in the image tower.
        text: What is tuned in the text tower.
        real_path: ``frozen``, ``proj`` or ``lora_proj``.
        projection: ``none``, ``linear``, ``residual`` or ``mlp``.
        batch_norm: Whether the heads end in batch normalisation.
        teacher: Fingerprint of the encoder it started from.
        generated_set: ``name``, ``fingerprint`` and ``gate`` of the set it was aligned on, or None where nobody says.
    """

    image: TuningSpec
    text: TuningSpec
    real_path: str
    projection: str
    batch_norm: bool
    teacher: str
    generated_set: Mapping[str, str] | None = None


class Student:
    """An encoder whose towers are being tuned, with its heads.

    Args:
        encoder: Changed in place: its towers become tunable.
        spec: What is tuned.
        seed: Of the run; see ``SeedStream``.

    Raises:
        ValueError: If an adapter's targets do not exist, or a text tower is to be tuned and there is none.
    """

    def __init__(self, encoder: TowerEncoder, spec: StudentSpec, *, seed: int) -> None:
        self.encoder, self.spec = encoder, spec
        encoder.image_tower = tune_tower(
            encoder.image_tower, spec.image, owner=encoder.name, seed=seed + SeedStream.IMAGE_ADAPTER
        )
        if spec.text.kind != "none":
            if encoder.text_tower is None:
                raise ValueError(
                    f"The encoder {encoder.name!r} has no text tower to tune. Set alignment.tune_text: false."
                )
            encoder.text_tower = tune_tower(
                encoder.text_tower, spec.text, owner=encoder.name, seed=seed + SeedStream.TEXT_ADAPTER
            )
        self.heads = _build_heads(encoder, spec, seed=seed)

    def project(self, pooled: torch.Tensor, route: str) -> torch.Tensor:
        """Maps pooled features [B, W] to embeddings [B, D] by the head of a route, or the encoder's projection."""
        if self.heads is None:
            return self.encoder.project(pooled)
        return (self.heads.generated if route == "generated" else self.heads.real)(pooled)

    def modules(self) -> list[torch.nn.Module]:
        """Returns everything that holds trained weights."""
        parts = [self.encoder.image_tower, self.encoder.text_tower, self.heads]
        return [part for part in parts if part is not None]

    def parameters(self) -> list[torch.nn.Parameter]:
        """Returns the parameters that training changes: adapters or towers, and heads."""
        return [parameter for module in self.modules() for parameter in trainable_parameters(module)]

    def buffers(self) -> dict[str, torch.Tensor]:
        """Returns the running statistics of the heads, by name; the towers have none that training changes."""
        return {} if self.heads is None else dict(self.heads.named_buffers())

    def train(self, mode: bool = True) -> None:
        """Switches dropout and batch statistics on or off in what is tuned."""
        for module in self.modules():
            module.train(mode)

    def save_pretrained(self, folder: Path) -> None:
        """Writes PEFT's files (or the whole tower), the heads, the recipe, and the checksums of all."""
        save_tuned(self.encoder.image_tower, self.spec.image, folder)
        save_tuned(self.encoder.text_tower, self.spec.text, folder / TEXT_FOLDER)
        if self.heads is not None:
            save_weights(folder / HEADS_FILE, self.heads.state_dict())
        finish_folder(folder, RECIPE_FILE, asdict(self.spec))  # last: see fingerprints


def _build_heads(encoder: TowerEncoder, spec: StudentSpec, *, seed: int) -> DualProjection | None:
    if spec.projection == "none":
        return None
    # SynCLR and SigLIP project nothing: their heads start as the identity.
    start = encoder.projection if encoder.projection is not None else torch.eye(encoder.pooled_dim)  # [W, D]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + SeedStream.HEADS)
        heads = DualProjection(spec.projection, start.cpu(), batch_norm=spec.batch_norm)
    return heads.to(start.device)


@dataclass(frozen=True)
class StoredStudent:
    """A student's folder on disk, what it consists of, and the hash of all its files."""

    folder: Path
    spec: StudentSpec
    fingerprint: str


def open_student(folder: Path) -> StoredStudent:
    """Returns the student stored in a folder, its files held against their checksums.

    Raises:
        MissingWeightsError: If there is none, or files of it are not there; says how to make it.
        DamagedFileError: If a file is not what was stored.
    """
    facts, fingerprint = open_folder(folder, RECIPE_FILE, what="adapter", remedy=REMEDY)
    image, text = (TuningSpec.from_json(facts.pop(tower)) for tower in ("image", "text"))
    return StoredStudent(folder=folder, spec=StudentSpec(image=image, text=text, **facts), fingerprint=fingerprint)


def refuse_other_set(student: StoredStudent, found: Mapping[str, str]) -> None:
    """Refuses a generated set whose identity is not that of the set a student was aligned on.

    A student from before its set was recorded is taken, with a warning.

    Raises:
        ValueError: If it is another one, or was made anew since; names both.
    """
    known = student.spec.generated_set
    if known is None:
        logger.warning(
            "The student in %s does not say which generated set it was aligned on; that it was %r cannot be checked. "
            "Align again to have it recorded.",
            student.folder,
            found["name"],
        )
    elif any(known[key] != found[key] for key in ("fingerprint", "gate")):  # a name may have been given again
        anew = known["name"] == found["name"]
        raise ValueError(
            f"The student in {student.folder} was aligned on the generated set {known['name']!r} "
            f"({known['fingerprint'][:12]}). Got {'one made anew since' if anew else repr(found['name'])} "
            f"({found['fingerprint'][:12]}) instead. Align again: kedro run --pipeline=align"
            + ("" if anew else f", or name its own: --params=set={known['name']}")
        )


def take_route(encoder: TowerEncoder, student: StoredStudent, route: str) -> TowerEncoder:
    """Turns the teacher, in place, into what images of one modality go through, and returns it.

    The real route of a student with ``real_path: frozen`` and an untouched text tower is the teacher as it is, under
    the teacher's own fingerprint: features that are stored already are found again.

    Args:
        encoder: The teacher the student started from.
        student: The stored student.
        route: ``generated`` or ``real``; from then on images of the other modality are refused.

    Raises:
        ValueError: If the route is unknown, or the student started from another encoder.
        MissingWeightsError: If the student's files are not complete, or do not fit the encoder.
    """
    if route not in ROUTES:
        raise ValueError(f"The route must be one of {list(ROUTES)}. Got {route!r} instead.")
    spec = student.spec
    encoder.route = route
    if spec.teacher != encoder.fingerprint:
        raise ValueError(
            f"The student in {student.folder} was tuned from another encoder than {encoder.name!r} (weights, "
            f"configuration, preprocessing and tokenizer with the hash {spec.teacher[:12]}; here it is "
            f"{encoder.fingerprint[:12]}). Align again, or set run.encoder and run.encoder_path back."
        )
    path = spec.real_path if route == "real" else "lora_proj"
    changed = False
    # A tuned text tower serves both routes: both modalities are compared with the same texts.
    if spec.text.kind != "none":
        encoder.text_tower = load_tuned(encoder.text_tower, spec.text, student.folder / TEXT_FOLDER, owner=encoder.name)
        changed = True
    if path == "lora_proj" and spec.image.kind != "none":
        encoder.image_tower = load_tuned(encoder.image_tower, spec.image, student.folder, owner=encoder.name)
        changed = True
    if path != "frozen" and spec.projection != "none":
        encoder.head = _load_head(encoder, student, route)
        changed = True
    if changed:
        facts = f"{encoder.fingerprint}{student.fingerprint}{path}{route}"
        encoder.fingerprint = hashlib.sha256(facts.encode()).hexdigest()
    return encoder


def _load_head(encoder: TowerEncoder, student: StoredStudent, route: str) -> torch.nn.Module:
    heads = _build_heads(encoder, student.spec, seed=0)  # every weight is replaced below
    assert heads is not None
    path = student.folder / HEADS_FILE
    if not path.is_file():
        raise MissingWeightsError(f"There is no {HEADS_FILE} in {student.folder}. {REMEDY}")
    load_file_strictly(f"{encoder.name} (its heads)", heads, path)
    head = heads.generated if route == "generated" else heads.real
    return head.eval().requires_grad_(False)


def describe_origin(
    real_route: TowerEncoder,
    student: StoredStudent,
    *,
    sides: Sequence[str],
    map_kind: str,
    map_tensors: Mapping[str, torch.Tensor],
) -> FeatureOrigin:
    """Returns what embeddings were made by; ``sides`` are what was encoded, each by its own route.

    Raises:
        ValueError: If the encoder is not on the real route.
    """
    if real_route.route != "real":
        raise ValueError(f"The origin of features needs the real route. Got {real_route.route!r} instead.")
    return FeatureOrigin(
        encoder=real_route.name,
        sides=tuple(sides),
        real_route=real_route.fingerprint,
        student=student.fingerprint,
        feature_map=f"{map_kind} {hash_tensors(map_tensors)[:16]}",
    )
