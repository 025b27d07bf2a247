"""What a captioner consists of, as its folder says it, and whose features it may be given."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gmail_kedro.interfaces import FeatureOrigin
from gmail_kedro.models.captioners.prefix_mappers import MapperSpec
from gmail_kedro.models.stored_models import check_folder, finish_folder, read_json
from gmail_kedro.models.vision_language.language_tuning import LanguageModelRecord
from gmail_kedro.models.weight_sources import MissingWeightsError

CONFIG_FILE = "captioner.json"
REMEDY = "Train it again: kedro run --pipeline=downstream"


@dataclass(frozen=True)
class CaptionerSpec:
    """What a captioner consists of, beside its language model.

    Attributes:
        kind: ``clipcap`` or ``ifcap``.
        mapper: The mapper's kind and sizes.
        caption_end: What closes a caption: ``end_token``, or ``period`` as in the published ClipCap.
        origin: What made the embeddings it was trained on; None where nobody knows.
        details: What else its kind needs; JSON values only.
    """

    kind: str
    mapper: MapperSpec
    caption_end: str
    origin: FeatureOrigin | None
    details: dict[str, Any]

    def refuse_foreign(self, origin: FeatureOrigin | None) -> None:
        """Refuses embeddings that the captioner was not trained for; what one side does not know is not compared.

        Args:
            origin: What made the embeddings, or None.

        Raises:
            ValueError: If they are not of real images through their own route, or made by another encoder, student
                or training-free map than the one that stood beside its training; names the difference.
        """
        if origin is None:
            return
        if origin.sides != ("real",):
            raise ValueError(
                f"Captions are written for real images on the real route. Got features of {list(origin.sides)} images."
            )
        trained = self.origin
        if trained is None:
            return
        for part in ("encoder", "real_route", "feature_map"):
            before, now = getattr(trained, part), getattr(origin, part)
            if before is not None and now is not None and before != now:
                raise ValueError(
                    f"The captioner was trained beside another {part.replace('_', ' ')} ({before[:40]}) than the one "
                    f"these features of real images come from ({now[:40]}). Train it again: kedro run "
                    "--pipeline=downstream"
                )


def write_captioner(folder: Path, spec: CaptionerSpec, record: LanguageModelRecord) -> None:
    """Writes a captioner's configuration and the checksums of its files; they come last, when it is complete.

    Args:
        folder: The captioner's folder.
        spec: What it consists of.
        record: Which language model it has.
    """
    finish_folder(folder, CONFIG_FILE, asdict(spec) | {"language_model": asdict(record)})


def read_captioner(folder: Path) -> tuple[CaptionerSpec, LanguageModelRecord]:
    """Returns what a stored captioner consists of.

    Raises:
        MissingWeightsError: If the folder holds none, lacks files, or is of another layout; says how to make it.
        DamagedFileError: If a file is not what was stored.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise MissingWeightsError(f"There is no captioner at {folder}. Train it: kedro run --pipeline=downstream")
    check_folder(folder, remedy=REMEDY)
    facts = read_json(folder / CONFIG_FILE, remedy=REMEDY)
    try:
        record = LanguageModelRecord(**facts.pop("language_model"))
        origin = facts.pop("origin")
        known = None if origin is None else FeatureOrigin(**{**origin, "sides": tuple(origin["sides"])})
        return CaptionerSpec(mapper=MapperSpec(**facts.pop("mapper")), origin=known, **facts), record
    except (KeyError, TypeError) as error:
        raise MissingWeightsError(
            f"The captioner at {folder} was stored in another layout ({CONFIG_FILE}: {error}). {REMEDY}"
        ) from error
