"""Planning and pairing from one to twelve million captions, and what sets of the paper's sizes cost.

    python benchmarks/scale.py [--rows 1000000 3000000 12000000] [--results benchmarks/scale.json]

Captions are synthetic, one a photograph, with lengths of web alternative texts. Each step runs in a process of its
own, from Parquet file to Parquet file as `kedro run` does it, so that its peak memory is its own.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from gmail_kedro.datasets.blocks import BlocksDataset
from gmail_kedro.params import GenerationParams, PairingParams
from gmail_kedro.pipelines.generation.nodes import plan_generation
from gmail_kedro.pipelines.pairing.nodes import pair

ROOT = Path(__file__).resolve().parents[1]
BASE = yaml.safe_load((ROOT / "conf/base/parameters_generation.yml").read_text())
PAPER = yaml.safe_load((ROOT / "conf/paper/parameters_generation.yml").read_text())
GENERATION = GenerationParams(**{**BASE["generation"], **PAPER["generation"]})
PAIRING = PairingParams(**{**BASE["pairing"], **PAPER["pairing"]})
SECONDS_A_DAY = 86_400
BLOCK_ROWS = 65_536
LIMITS = {"rows": 12_000_000, "seconds": 180, "peak_gb": 4.0}
# Images and GPU-days as the paper gives them, Appendix A: Stable Diffusion v2, 50 steps, A100-80GB.
PAPER_SETS = {"coco": (560_000, 5), "cc3m": (3_300_000, 30), "cc12m": (12_000_000, 109)}


def write_captions(path: Path, rows: int) -> None:
    """Writes captions of 8 to 32 words (112 characters on average), each with a number of its own."""
    rng = np.random.default_rng(0)
    words = [
        "a",
        "the",
        "photo",
        "of",
        "red",
        "blue",
        "man",
        "woman",
        "dog",
        "cat",
        "street",
        "city",
        "beach",
        "with",
        "and",
        "in",
        "on",
        "small",
        "old",
        "table",
    ]
    pool = [" ".join(rng.choice(words, rng.integers(16, 40))) for _ in range(4096)]

    def blocks() -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, BLOCK_ROWS):
            numbers = range(start, min(start + BLOCK_ROWS, rows))
            yield pa.RecordBatch.from_pydict(
                {
                    "caption_id": [f"cc12m_{number}" for number in numbers],
                    "image_id": [f"{number // 10_000:05d}/{number:09d}.jpg" for number in numbers],
                    "caption": [f"{pool[number % 4096]} {number}" for number in numbers],
                    "split": ["train"] * len(numbers),
                }
            )

    schema = pa.schema([(name, pa.string()) for name in ("caption_id", "image_id", "caption", "split")])
    BlocksDataset(filepath=str(path)).save(pa.RecordBatchReader.from_batches(schema, blocks()))


def write_manifest(plan: Path, manifest: Path) -> None:
    """Writes the plan as a manifest in which every picture was made, with the columns pairing does not read."""
    table = BlocksDataset(filepath=str(plan), load_as="blocks").load()
    extra = {"sha256": "0" * 64, "revision": "0" * 64, "status": "made", "reason": ""}
    schema = table.schema
    for name in extra:
        schema = schema.append(pa.field(name, pa.string()))

    def blocks() -> Iterator[pa.RecordBatch]:
        for block in table.to_batches(batch_size=BLOCK_ROWS):
            columns = [pa.repeat(value, block.num_rows) for value in extra.values()]
            yield pa.RecordBatch.from_arrays([*block.columns, *columns], schema=schema)

    BlocksDataset(filepath=str(manifest)).save(pa.RecordBatchReader.from_batches(schema, blocks()))


def run_step(step: str, folder: Path) -> None:
    """Runs one step here and prints its cost as JSON."""
    files = {name: str(folder / f"{name}.parquet") for name in ("captions", "plan", "manifest", "pairs")}
    captions = BlocksDataset(filepath=files["captions"], load_as="blocks").load()
    started, cpu_started = time.perf_counter(), time.process_time()
    if step == "plan":
        BlocksDataset(filepath=files["plan"]).save(plan_generation(captions, GENERATION))
    else:
        manifest = BlocksDataset(filepath=files["manifest"], load_as="blocks").load()
        BlocksDataset(filepath=files["pairs"]).save(pair(captions, manifest, PAIRING, GENERATION))
    cost = {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu_started, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }
    print(json.dumps(cost))


def measure(rows: int) -> dict[str, object]:
    """Returns seconds and peak memory of planning and pairing that many captions."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_captions(folder / "captions.parquet", rows)
        costs = {}
        for step in ("plan", "pair"):
            if step == "pair":
                write_manifest(folder / "plan.parquet", folder / "manifest.parquet")
            command = [sys.executable, __file__, "--step", step, "--folder", name]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            costs[step] = json.loads(done.stdout.splitlines()[-1])
        pairs = BlocksDataset(filepath=str(folder / "pairs.parquet"), load_as="blocks").load()
        assert pairs.count_rows() == rows
    return {"rows": rows, **costs, "load_average": round(os.getloadavg()[0], 1)}


def slope(measured: list[dict[str, object]], step: str) -> float:
    """Returns the exponent of seconds against rows: 1 is linear."""
    rows = [math.log(entry["rows"]) for entry in measured]
    seconds = [math.log(entry[step]["seconds"]) for entry in measured]
    return round(float(np.polyfit(rows, seconds, 1)[0]), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 3_000_000, 12_000_000])
    parser.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--step", choices=["plan", "pair"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        run_step(args.step, args.folder)
        return
    measured = []
    for rows in args.rows:
        measured.append(measure(rows))
        print(json.dumps(measured[-1]), flush=True)


if __name__ == "__main__":
    main()
