"""What each table of the paper needs, as ``conf/<profile>/requirements.yml`` declares it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

FILE = "requirements.yml"
MODELS = ("encoders", "generators", "language_models", "vision_language_models")
TOOLS = ("ptb", "meteor", "spice", "word_vectors", "nouns")
Entry = TypeVar("Entry")
Configuration = Callable[[str], Mapping[str, Any]]  # a parameter group by its name


@dataclass(frozen=True)
class Weights:
    """A model's weights."""

    gb: float  # of the files that are loaded
    instead: tuple[str, ...] = ()  # names of models that can take its place
    licence: str = ""  # terms that bind whoever uses them; empty where nothing beyond a notice is asked
    gated: bool = False  # the hub hands them out only to who accepted the terms and is logged in


@dataclass(frozen=True)
class CorpusFiles:
    """A corpus, a benchmark or a classification set on disk."""

    gb: float
    files: Mapping[str, int] = field(default_factory=dict)  # how many each pattern, seen from the project, must have
    home: str = ""  # where it comes from
    made_by: str = ""  # the pipeline that makes it, where nothing has to be brought


@dataclass(frozen=True)
class Work:
    """A piece of computation."""

    gpu_hours: float  # on one GPU
    gpu_gib: float  # GPU memory; 0 where no GPU is needed
    gb: float  # its results on disk
    origin: str  # of the three figures: paper, measured or assumed, and how
    is_shared: bool = False  # several tables use the result of one, as of a generated set


@dataclass(frozen=True)
class TableNeeds:
    """What one table of the paper needs."""

    encoders: tuple[str, ...] = ()
    generators: tuple[str, ...] = ()
    language_models: tuple[str, ...] = ()
    vision_language_models: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()  # trained on, or measured on
    tools: tuple[str, ...] = ()  # of TOOLS: what metrics and taggers need beside Python
    work: Mapping[str, int] = field(default_factory=dict)  # how often each piece is done

    def models(self) -> list[tuple[str, str]]:
        """Returns kind and name of every model."""
        return [(kind, name) for kind in MODELS for name in getattr(self, kind)]


@dataclass(frozen=True)
class Requirements:
    """What a profile needs: models, corpora and work by name, tables by number."""

    weights_folder: str  # where weights that come from no hub lie: a folder or file for each, by its model's name
    weights: Mapping[str, Weights]
    corpora: Mapping[str, CorpusFiles]
    work: Mapping[str, Work]
    tables: Mapping[int, TableNeeds]


def read_requirements(file: Path) -> Requirements:
    """Returns the requirements of a profile.

    Args:
        file: ``conf/<profile>/requirements.yml``.

    Raises:
        FileNotFoundError: If the profile has none.
        ValueError: If the file has an unknown or a missing key, or a table names what is not described.
    """
    import yaml

    if not file.is_file():
        raise FileNotFoundError(
            f"The profile {file.parent.name!r} says nowhere what it needs: there is no '{file}'. Choose a profile that "
            "does, such as --env paper."
        )
    stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    parts: dict[str, type] = {"weights": Weights, "corpora": CorpusFiles, "work": Work, "tables": TableNeeds}
    built: dict[str, Any] = {
        part: {name: _build(kind, entry, f"{part}.{name} in '{file}'") for name, entry in (stored[part] or {}).items()}
        for part, kind in parts.items()
        if part in stored
    }
    requirements = _build(Requirements, stored | built, f"'{file}'")
    for number, table in requirements.tables.items():
        _check_names(requirements, number, table, file)
    return requirements


def _build(kind: type[Entry], entry: Mapping[str, Any], where: str) -> Entry:
    """Returns an entry as its dataclass, lists as tuples."""
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(entry) - set(known))
    if unknown:
        raise ValueError(f"Unknown keys {unknown} of {where}. The known ones are {list(known)}.")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"Keys are missing from {where}: {error}.") from error


def _check_names(requirements: Requirements, number: int, table: TableNeeds, file: Path) -> None:
    for part, used, known in (
        ("weights", [name for _, name in table.models()], requirements.weights),
        ("corpora", table.corpora, requirements.corpora),
        ("work", table.work, requirements.work),
        ("tools", table.tools, dict.fromkeys(TOOLS)),
    ):
        absent = [name for name in used if name not in known]
        if absent:
            raise ValueError(
                f"Table {number} in '{file}' needs {absent}, which {part} does not describe. It has {list(known)}."
            )
