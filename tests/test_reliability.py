"""What a user may rely on, by number: each has tests that carry its mark, or says why not yet.

``pytest -m reliability -v`` runs them all; ``--durations=0`` says what each takes.
"""

import ast
from collections import defaultdict
from pathlib import Path

PROMISES = {
    1: "Generation killed at any moment ends, once run again, in the bytes of a run that was never killed",
    2: "An image is the same in any batch, on any rank and after a resume",
    3: "With several images a caption, every file is the image of its own caption",
    4: "Of two workers on one shard one wins, and nothing is spoilt",
    5: "A full, read-only or vanished disk is a clean error; nothing half is seen; the run goes on once there is room",
    6: "Unusable images are counted and kept out of the pairs; too many of them stop the run",
    7: "A batch that fails is split, its row marked, and only that row is made again on request",
    8: "Odd caption files are read rightly or refused with the line",
    9: "A model that is missing, gated or of other bytes is refused by name before anything runs",
    10: "Odd tars are refused or counted, and nothing is written outside of the target",
    11: "Odd images are refused before they are decoded, and counted",
    12: "What is left out is counted by its reason, recorded, and stops the run above a limit",
    13: "Fewer shards than ranks: refused with advice; uneven ranks end together",
    14: "Every sample once an epoch, in an order that follows from seed and epoch alone",
    15: "Pairs that do not fit are refused with the row",
    16: "Stored features are used for what they are of, and for nothing else",
    17: "Stored features, micro-batches and masks give the loss and gradient of the plain computation",
    18: "Training that is stopped and resumed ends in the bytes of training that was not",
    19: "A damaged checkpoint falls back to the one before; one of another run is refused with what differs",
    20: "A loss or gradient that is no number is skipped and counted, and stops the run above a limit",
    21: "What is frozen keeps its bytes; what is exported gives the same outputs",
    22: "An image never takes the other modality's path unless told to",
    23: "Recall is that of brute force, whatever the ties, the blocks and the precision",
    24: "Caption scores are those recorded of the reference implementations",
    25: "A missing part of an evaluation stops it",
    26: "A report never mixes protocols, and every number says where it comes from",
    27: "A setting that is unknown, of another type or out of range is refused before any work, by file and key",
    28: "A change makes stale what depends on it and nothing else; damage is found even where DVC sees none",
    29: "A pipeline is one run in MLflow, whatever it starts",
    30: "A tracking store that is down, slow or damaged never costs a run",
    31: "A signal ends training at a checkpoint, with an exit code that says go on; a second one ends it at once",
    32: "Credentials are written nowhere",
    33: "A served model refuses what it cannot take",
    34: "The same seed gives the same files, whatever the clock, the locale, the time zone and the hash seed",
}
NOT_YET = {
    13: "training runs on one rank; shards of a corpus are not divided over ranks",
    33: "nothing is served yet",
}


def marked_tests(folder: Path) -> dict[int, list[str]]:
    """Returns the names of the tests that carry each number."""
    found = defaultdict(list)
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.reliability":
                        found[ast.literal_eval(mark.args[0])].append(f"{path.name}::{node.name}")
    return dict(found)


def test_every_promise_has_a_test_or_says_why_not(repository):
    tested = set(marked_tests(repository / "tests"))
    assert sorted(PROMISES.keys() - tested - NOT_YET.keys()) == [], "these promises have no test"
    assert sorted(tested - PROMISES.keys()) == [], "these numbers promise nothing"
    assert sorted(tested & NOT_YET.keys()) == [], "these have a test: take them out of NOT_YET"
