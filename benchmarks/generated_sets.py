"""Times a generated set on disk: how soon a resumed run makes its first picture, and reading against an ImageFolder.

Start-up is what passes between the call and the first batch the generator is asked for, in a set whose last shard is
missing. For reading, the same JPEGs lie in our shards and in a folder tree; a pass over all pictures, decoded to
RGB, is timed for each contender in turn, in the same process, and the ratio of medians is what to quote. All files are
in the page cache, so the processor's seconds are what differs; the clock's are given too, but a busy machine adds to
them.

    python benchmarks/generated_sets.py            # 100,000 pictures for start-up, 1,000 of 256 pixels for reading
    python benchmarks/generated_sets.py --quick    # a tenth of that
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torchvision.datasets import ImageFolder

from gmail_kedro.generated_sets.generate import generate_images
from gmail_kedro.generated_sets.image_maker import encode_jpeg
from gmail_kedro.generated_sets.make_shard import ShardMaker
from gmail_kedro.generated_sets.shard_format import read_shard, write_shard
from gmail_kedro.generated_sets.stored_images import (
    COMPLETE_FILE,
    UNFINISHED_FILE,
    ShardImages,
    shard_path,
    write_description,
)
from gmail_kedro.images.decoding import decode_image
from gmail_kedro.interfaces import ImageRecord
from gmail_kedro.params.quality import QualityParams

Pass = Callable[[np.ndarray], Iterator[Image.Image]]
WHOLE = "whole shards, every hash checked"
RESULTS = Path(__file__).with_name("generated_sets.json")
SETTINGS = {"generator": "none", "revision": "1", "steps": 1, "guidance": 1.0, "resolution": 256, "jpeg_quality": 95}
QUALITY = QualityParams(
    black_level=8,
    min_deviation=4.0,
    duplicate_distance=3,
    min_caption_score=None,
    retries=0,
    max_quarantined=0.02,
    limit_after=200,
    max_unreadable=0.001,
)
SHARD_SIZE = 1000


class FirstBatch:
    """A generator that only notes when it is asked."""

    name, revision, prompt_tokens = "none", "1", 77

    def count_truncated(self, prompts):
        """Returns 0."""
        return 0

    def denoise(self, prompts, seeds):
        """Ends the run; a BaseException passes the handlers that would try the rows one by one."""
        raise KeyboardInterrupt


def make_plan(count: int, shard_size: int) -> pd.DataFrame:
    """Returns a plan of so many captions, as ``plan_images`` would."""
    rows = np.arange(count)
    ids = [f"caption_{row:08d}" for row in rows]
    return pd.DataFrame(
        {
            "caption_id": ids,
            "image_id": [f"image_{row:08d}.jpg" for row in rows],
            "sample_index": 0,
            "prompt": [f"a photograph of the things that number {row} has in it" for row in rows],
            "seed": rows,
            "shard_id": [f"{row // shard_size:05d}" for row in rows],
            "key": [f"{name}/0" for name in ids],
        }
    )


def make_work(plan: pd.DataFrame) -> ShardMaker:
    """Returns the work that would make the plan's pictures."""
    return ShardMaker(plan, FirstBatch, Path(), SETTINGS, QUALITY, 16)


def write_set(work: ShardMaker, jpegs: list[bytes], folder: Path, *, name: str, last: int | None = None) -> None:
    """Writes the shards of a plan, all or those before ``last``, and the description."""
    for shard_id in list(work.description.shards)[:last]:
        rows = work.rows(shard_id)
        facts = ({**SETTINGS, **{key: row[key] for key in row if key not in ("key", "shard_id")}} for row in rows)
        records = [
            ImageRecord(row["key"], jpegs[row["seed"] % len(jpegs)], {**fact, "truncated": False})
            for row, fact in zip(rows, facts, strict=True)
        ]
        write_shard(shard_path(folder, shard_id), work.description.shards[shard_id], records)
    write_description(folder, work.description, name)


def make_jpegs(count: int, side: int) -> list[bytes]:
    """Returns pictures with some structure and some noise, as photographs have."""
    rng = np.random.default_rng(0)
    jpegs = []
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8))
        jpegs.append(encode_jpeg(small.resize((side, side), Image.Resampling.BICUBIC), 95))
    return jpegs


def time_start_up(image_count: int, repeats: int) -> dict[str, object]:
    """Returns the seconds to the first batch of a resumed run."""
    plan = make_plan(image_count + SHARD_SIZE, SHARD_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        write_set(make_work(plan), make_jpegs(8, 32), Path(folder), name=UNFINISHED_FILE, last=-1)
        clock, processor = [], []
        for _ in range(repeats):
            started = (time.perf_counter(), time.process_time())
            try:
                generate_images(plan, FirstBatch, Path(folder), settings=SETTINGS, quality=QUALITY, batch_size=16)
            except KeyboardInterrupt:
                clock.append(time.perf_counter() - started[0])
                processor.append(time.process_time() - started[1])
        used = sum(path.stat().st_size for path in Path(folder).iterdir())
    return {
        "finished_images": image_count,
        "bytes": used,
        "median_seconds": statistics.median(clock),
        "best_seconds": min(clock),
        "median_processor_seconds": statistics.median(processor),
    }


def write_both(folder: Path, plan: pd.DataFrame, jpegs: list[bytes]) -> dict[str, Pass]:
    """Writes the pictures twice; returns for each contender a pass over them in a given order."""
    work = make_work(plan)
    (folder / "shards").mkdir()
    write_set(work, jpegs, folder / "shards", name=COMPLETE_FILE)
    for row, jpeg in enumerate(jpegs):
        home = folder / "tree" / f"{row // SHARD_SIZE:05d}"
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{row:08d}.jpg").write_bytes(jpeg)
    tree, images, keys = (
        ImageFolder(str(folder / "tree")),
        ShardImages(folder / "shards", work.description),
        plan["key"],
    )
    return {
        "shards by key": lambda order: (decode_image(images.read(keys[row]), name="") for row in order),
        "ImageFolder": lambda order: (tree[row][0] for row in order),
        WHOLE: lambda order: (
            decode_image(record.jpeg, name=record.key)
            for shard_id in work.description.shards
            for record in read_shard(shard_path(folder / "shards", shard_id))
        ),
    }


def time_reading(image_count: int, repeats: int) -> dict[str, object]:
    """Returns pictures a second of each contender, in file order and shuffled."""
    results: dict[str, object] = {"images": image_count, "pixels": 256}
    plan, jpegs = make_plan(image_count, SHARD_SIZE), make_jpegs(image_count, 256)
    orders = {"sequential": np.arange(image_count), "shuffled": np.random.default_rng(1).permutation(image_count)}
    with tempfile.TemporaryDirectory() as folder:
        contenders = write_both(Path(folder), plan, jpegs)
        for name, order in orders.items():
            chosen = [label for label in contenders if name == "sequential" or label != WHOLE]
            seconds: dict[str, list[tuple[float, float]]] = {label: [] for label in chosen}
            for repeat in range(repeats):
                for label in chosen[repeat % len(chosen) :] + chosen[: repeat % len(chosen)]:
                    started = time.perf_counter(), time.process_time()
                    assert sum(1 for _ in contenders[label](order)) == image_count
                    seconds[label].append((time.perf_counter() - started[0], time.process_time() - started[1]))
            clock, processor = (
                {label: image_count / statistics.median(pair[which] for pair in seconds[label]) for label in chosen}
                for which in (0, 1)
            )
            results[name] = {
                "images_per_second": clock,
                "images_per_processor_second": processor,
                "ratio_over_image_folder": processor["shards by key"] / processor["ImageFolder"],
            }
    return results


def main() -> None:
    """Runs both and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the pictures; nothing is written")
    quick = parser.parse_args().quick
    scale = 10 if quick else 1
    results = {
        "resume_start_up": time_start_up(100_000 // scale, repeats=3 if quick else 5),
        "reading": time_reading(1_000 // scale, repeats=3 if quick else 7),
    }
    print(json.dumps(results, indent=2))
    if not quick:
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
