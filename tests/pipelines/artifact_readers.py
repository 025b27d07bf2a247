"""Every kind of file that the project writes below data/, and how it is read again."""

import shutil
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from kedro.io import DataCatalog

from gmail_kedro.engine.checkpoint import Checkpoints
from gmail_kedro.engine.inference import FeatureStore
from gmail_kedro.generated_sets.stored_images import ShardImages
from gmail_kedro.generated_sets.verify import verify_set
from gmail_kedro.interfaces import Corpus, Question
from gmail_kedro.metrics.caption_scores import tokenize_simple
from gmail_kedro.metrics.word_movers import OWN_SEED, train_word_vectors
from gmail_kedro.models.captioners.known_captioners import load_captioner
from gmail_kedro.models.encoders.classifier import Classifiers, build_classifier, load_classifier
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.encoders.tuned_text_tower import put_text_tower
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.vision_language.known_vision_language_models import LlavaSettings, build_vision_language_model
from gmail_kedro.models.vision_language.tuned_llava import TunedLlava, load_tuned_llava
from gmail_kedro.models.vision_language.vision_language_model import VisionFeatures, VisionLanguageModel
from gmail_kedro.models.vision_language.vision_towers import VisionTower
from gmail_kedro.pipelines.generation.card import check_card
from gmail_kedro.reporting.finished_runs import find_runs, read_runs
from gmail_kedro.reporting.report_files import read_png
from gmail_kedro.whole_files import read_tensors

CPU = torch.device("cpu")
WORLDS = {"mini_world": "corpus", "mini_flickr": "flickr_corpus", "mini_long_captions": "long_caption_corpus"}


@dataclass
class Written:
    """A project that ran.

    Attributes:
        data: Its folder data/.
        catalogs: Its catalog, by run id.
        tensors: What the files of tensors held before anything was damaged: tensors and facts, by path.
    """

    data: Path
    catalogs: dict[str, DataCatalog]
    tensors: dict[Path, tuple[dict[str, torch.Tensor], dict[str, Any]]] = field(default_factory=dict)

    def remember_tensors(self) -> None:
        """Reads what features and training states are of, which who asks for them knows."""
        for path in (*self.data.glob("04_feature/**/*.safetensors"), *self.data.glob("06_models/*/checkpoints/*")):
            tensors, facts = read_tensors(path, remedy="")
            # Tensors of safetensors are pages of the file itself: whoever writes over it writes over them.
            self.tensors[path] = {name: tensor.clone() for name, tensor in tensors.items()}, facts

    @cached_property
    def entries(self) -> dict[Path, Any]:
        """The datasets that are one file, by their file."""
        found = {}
        for catalog in self.catalogs.values():
            datasets = [catalog[name] for name in catalog if not name.startswith("params:")]
            found |= {Path(str(each._filepath)): each for each in datasets if hasattr(each, "_filepath")}
        return found

    def load(self, name: str) -> Any:
        """Loads an entry of the run main."""
        return self.catalogs["main"][name].load()

    def corpus(self, path: Path) -> Corpus:
        """The corpus that a file of data/01_raw is of."""
        return self.load(WORLDS[path.relative_to(self.data / "01_raw").parts[0]])

    @cached_property
    def clip(self) -> Any:
        return build_encoder("mini_clip", None, device=CPU)

    @cached_property
    def synclr(self) -> Any:
        return build_encoder("mini_synclr", None, device=CPU)


# How a file is read: by what a run or a command calls, down to its bytes.
Reader = Callable[[Written, Path], object]


def by_catalog(written: Written, path: Path) -> object:
    return written.entries[path].load()


def world(written: Written, path: Path) -> Corpus:
    return written.corpus(path)


def real_images(written: Written, path: Path) -> list[bytes]:
    corpus = written.corpus(path)
    return [corpus.images.read(key) for key in corpus.captions["image_id"].unique()]


def questions(written: Written, path: Path) -> list[Question]:
    name = path.relative_to(written.data / "01_raw").parts[0]
    return written.load(f"{name.removeprefix('mini_')}_questions")


def image_bytes(written: Written, path: Path) -> list[bytes]:
    images = written.load("generated_images")
    return [images.read(key) for key in list(images.keys())]


def verified(written: Written, path: Path) -> None:
    """As ``gmail-kedro set verify`` does."""
    folder = next(parent for parent in path.parents if parent.parent.name == "02_intermediate")
    found = [*verify_set(folder, written.data / "03_primary" / folder.name / "pairs.parquet").problems]
    if problems := [*found, *check_card(folder)]:
        raise ValueError("; ".join(f"{problem.place}: {problem.what}" for problem in problems))


def run_sums(written: Written, path: Path) -> list[object]:
    return [
        dataset.load()
        for file, dataset in written.entries.items()
        if file.parent == path.parent and file.suffix in (".json", ".csv", ".parquet") and file.is_file()
    ]


def features(written: Written, path: Path) -> None:
    tensors, facts = written.tensors[path]
    wanted = tensors["features"]
    found = FeatureStore(path.parent).get_or_compute(facts["of"], len(wanted), wanted.clone)
    assert torch.equal(found, wanted)


def parts(written: Written, path: Path) -> None:
    tensors, facts = written.tensors[path]
    FeatureStore(path.parents[1]).read_parts(facts["of"], [len(tensors["features"])])


def word_vectors(written: Written, path: Path) -> None:
    captions = written.load("corpus").captions
    training = captions.loc[captions["split"] == "train", "caption"]
    train_word_vectors([" ".join(tokenize_simple(each)) for each in training], path.parent, seed=OWN_SEED)
    assert path.is_file()


def training_state(written: Written, path: Path) -> int:
    """Goes on with a training in a copy of its folder; one before the newest is read where the newest is damaged."""
    tensors, facts = written.tensors[path]
    with tempfile.TemporaryDirectory() as copy:
        folder = shutil.copytree(path.parent, Path(copy) / "checkpoints")
        if "previous" in path.name:
            (folder / path.name.replace(".previous", "")).write_bytes(b"")
        buffers = {name.removeprefix("buffer."): tensors[name] for name in tensors if name.startswith("buffer.")}
        state = Checkpoints(folder).open("alignment", facts["fingerprint"], every=2, buffers=buffers)
        count = sum(name.startswith("parameter.") for name in tensors)
        parameters = [torch.nn.Parameter(torch.zeros_like(tensors[f"parameter.{index}"])) for index in range(count)]
        optimizer = torch.optim.AdamW(parameters)
        return state.load(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0))[0]


def captioner(written: Written, path: Path) -> object:
    return load_captioner(written.load("captioner"), device=CPU)


def text_tower(written: Written, path: Path) -> bool:
    return put_text_tower(deepcopy(written.clip), written.load("text_tower"))


def classifiers(written: Written, path: Path) -> object:
    return load_classifier(written.synclr, path.parent, "light", 2)


def vision_language(written: Written, path: Path) -> None:
    model, towers = build_llava()
    load_tuned_llava(model, written.catalogs["stopped"]["vision_language_model"].load(), towers["real"])


def cell(written: Written, path: Path) -> None:
    """As the tables and the report read a run of the reproduction; what they leave is read by the catalog."""
    name, _, seed = path.parent.name.rpartition("-")
    find_runs(path.parents[1], name, [int(seed)])
    read_runs(path.parents[1])


def figure(written: Written, path: Path) -> object:
    return read_png(path)


def build_llava() -> tuple[VisionLanguageModel, dict[str, VisionTower]]:
    encoder = build_encoder("mini_clip_vision", None, device=CPU)
    settings = LlavaSettings("float32", VisionFeatures(-2, "default"), "auto", 0)
    model = build_vision_language_model("mini_llava", None, encoder=encoder, settings=settings, device=CPU)
    towers = {route: VisionTower(model.vision_tower, route, model.vision_features) for route in ("generated", "real")}
    return model, towers


def tuned_llava() -> TunedLlava:
    model, towers = build_llava()
    spec = TuningSpec(kind="lora", rank=2, alpha=4.0, dropout=0.0, targets=("q_proj",))
    return TunedLlava(model, spec, towers, train_projector=True, seed=0)


def tuned_classifiers(encoder: Any) -> Classifiers:
    state = build_classifier(encoder, 2, drop_path=0.0, seed=0).state_dict()
    return Classifiers({"light": state}, {"light": 2}, encoder.fingerprint)


def middle_of_an_image(written: Written, path: Path) -> int:
    """Where a shard's bytes are an image's; the others are those of headers and facts."""
    images: ShardImages = written.load("generated_images")
    place = next(place for place in map(images.locate, images.keys()) if place.shard_id == path.stem)
    return place.offset + place.size // 2


def digit_of_a_sum(written: Written, path: Path) -> int:
    """The first decimal digit of the middle line, where its checksum is: another one is a checksum, too."""
    lines = path.read_bytes().splitlines(keepends=True)
    before, line = lines[: len(lines) // 2], lines[len(lines) // 2]
    return len(b"".join(before)) + next(place for place, byte in enumerate(line) if chr(byte).isdigit())


@dataclass(frozen=True)
class Kind:
    """Files that are read in one way.

    Attributes:
        pattern: Of their paths below data/, as ``fnmatch`` has it: a star may hold slashes.
        reader: Who reads them, for people.
        read: How; None where nobody does.
        place: Which byte is changed; the middle one where that is None.
    """

    pattern: str
    reader: str
    read: Reader | None
    place: Callable[[Written, Path], int] | None = None


NOBODY = "nobody: it is for people"
RUN, VERIFY, TABLES = "a run", "`gmail-kedro set verify`", "tables and report"
KINDS = (
    Kind("01_raw/mini_scienceqa/*", RUN, questions),
    Kind("01_raw/mini_mmmu/*", RUN, questions),
    Kind("01_raw/*/images/*.jpg", RUN, real_images),
    Kind("01_raw/*/world.json", RUN, world),
    Kind("01_raw/*/SHA256SUMS", RUN, real_images, digit_of_a_sum),
    Kind("01_raw/*.json", RUN, world),
    Kind("02_intermediate/*/*.tar", RUN, image_bytes, middle_of_an_image),
    Kind("02_intermediate/*/set.json", RUN, image_bytes),
    Kind("02_intermediate/*.parquet", RUN, by_catalog),
    Kind("02_intermediate/*/SHA256SUMS", RUN, run_sums, digit_of_a_sum),
    Kind("02_intermediate/*/card.json", VERIFY, verified),
    Kind("02_intermediate/*/README.md", VERIFY, verified),
    Kind("02_intermediate/*/samples.png", VERIFY, verified),
    Kind("02_intermediate/*/unreadable_photographs.csv", VERIFY, verified),
    Kind("03_primary/*/pairs.parquet", RUN, by_catalog),
    Kind("03_primary/*/SHA256SUMS", RUN, lambda written, path: written.load("pairs"), digit_of_a_sum),
    Kind("04_feature/word_vectors-*.safetensors", RUN, word_vectors),
    Kind("04_feature/*.parts/*.safetensors", RUN, parts),
    Kind("04_feature/*.safetensors", RUN, features),
    Kind("06_models/*/checkpoints/*.previous.safetensors", RUN, training_state),
    Kind("06_models/*/checkpoints/*.safetensors", RUN, training_state),
    Kind("06_models/*/README.md", NOBODY, None),
    Kind("06_models/*/feature_map.safetensors", RUN, by_catalog),
    Kind("06_models/*/adapter/*", RUN, lambda written, path: written.load("adapter")),
    Kind("06_models/*/captioner/*", RUN, captioner),
    Kind("06_models/*/text_tower/*", RUN, text_tower),
    Kind("06_models/*/classifiers/*", RUN, classifiers),
    Kind("06_models/*/vision_language/*", RUN, vision_language),
    Kind("07_model_output/*.json", RUN, by_catalog),
    Kind("07_model_output/*/SHA256SUMS", RUN, run_sums, digit_of_a_sum),
    Kind("08_reporting/*.md", NOBODY, None),
    Kind("08_reporting/*/tsne.png", TABLES, figure),
    Kind("08_reporting/*.png", NOBODY, None),
    Kind("08_reporting/repro/*/gap_items.parquet", RUN, by_catalog),
    Kind("08_reporting/repro/*/against_*.json", RUN, by_catalog),
    Kind("08_reporting/repro/*/fine_tuning_history.csv", RUN, by_catalog),
    Kind("08_reporting/*/SHA256SUMS", RUN, run_sums, digit_of_a_sum),
    Kind("08_reporting/repro/*", TABLES, cell),
    Kind("08_reporting/*.json", RUN, by_catalog),
    Kind("08_reporting/*.csv", RUN, by_catalog),
    Kind("08_reporting/*.parquet", RUN, by_catalog),
    Kind(".locks/*.lock", "nobody: whether it is held counts", None),
)


def kind_of(name: str) -> Kind | None:
    """Returns the first kind whose pattern a path below data/ has."""
    return next((kind for kind in KINDS if fnmatch(name, kind.pattern)), None)
