"""Planning and pairing from one to twelve million captions, and what sets of the paper's sizes cost.

    python benchmarks/scale.py [--rows 1000000 3000000 12000000] [--results benchmarks/scale.json]

Captions are synthetic, one a photograph, about as long as those of CC12M. Each step runs in a process of its own,
from Parquet file to Parquet file as `kedro run` does it, so that its peak memory is its own. Wall time is that of the
machine as it is; where other work runs beside it, compare `cpu_seconds`, which count all threads of the step.

The table of costs multiplies figures of three origins, and says of each which it is: `measured` here, of the `paper`
(Appendix A), or `assumed`, with the source of the assumption.
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

from gmail_kedro.datasets.table_blocks import BlocksDataset
from gmail_kedro.generated_sets.shard_format import write_shard
from gmail_kedro.interfaces import ImageRecord
from gmail_kedro.params.generation import GenerationParams, PairingParams
from gmail_kedro.pipelines.generation.nodes import plan_generation
from gmail_kedro.pipelines.pairing.nodes import pair

ROOT = Path(__file__).resolve().parents[1]
BASE = yaml.safe_load((ROOT / "conf/base/parameters_generation.yml").read_text())
PAPER = yaml.safe_load((ROOT / "conf/paper/parameters_generation.yml").read_text())
GENERATION = GenerationParams(**{**BASE["generation"], **PAPER["generation"]})
PAIRING = PairingParams(**{**BASE["pairing"], **PAPER["pairing"]})
SECONDS_A_DAY = 86_400
BLOCK_ROWS = 65_536
WORDS = "a the photo of red blue man woman dog cat street city beach with and in on small old table"
LIMITS = {"rows": 12_000_000, "seconds": 180, "peak_gb": 4.0}
# Images and GPU-days as the paper gives them, Appendix A: Stable Diffusion v2, 50 steps, A100-80GB.
PAPER_SETS = {"coco": (560_000, 5), "cc3m": (3_300_000, 30), "cc12m": (12_000_000, 109)}
# Steps a second of FLUX.1 at 1024 x 1024 on an H100 in bfloat16, as the card of fireworks-ai's flumina gives them.
FLUX_STEPS_A_SECOND = 6.1
# A transformer reads (resolution / 16)^2 picture tokens and 512 text tokens; time is taken as linear in their number.
FLUX_512_SHARE = ((512 // 16) ** 2 + 512) / ((1024 // 16) ** 2 + 512)
GENERATORS = {
    "stable_diffusion_2_base, 50 steps": {
        "seconds": None,
        "origin": "paper: GPU-days of Appendix A, A100-80GB; divided by the images 0.77 to 0.79 s an image",
    },
    "flux_1_dev, 50 steps": {
        "seconds": 50 / FLUX_STEPS_A_SECOND * FLUX_512_SHARE,
        "origin": "assumed: 6.1 steps a second at 1024 px on an H100 (card of flumina), time linear in tokens, 512 px",
    },
    "flux_1_schnell, 4 steps": {
        "seconds": 4 / FLUX_STEPS_A_SECOND * FLUX_512_SHARE,
        "origin": "assumed: as flux_1_dev with 4 steps; text encoders and decoding, which then weigh more, left out",
    },
}
JPEG_BYTES = 120_000
JPEG_ORIGIN = (
    "assumed: 512 x 512, quality 95; four times the 30 kB that img2dataset's README gives for 256 x 256 photographs at "
    "quality 95"
)


def write_captions(path: Path, rows: int) -> None:
    """Writes captions of 16 to 39 words and a number of their own."""
    rng, words = np.random.default_rng(0), WORDS.split()
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
        BlocksDataset(filepath=files["plan"]).save(plan_generation(captions, GENERATION, PAIRING))
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


def exponent(measured: list[dict[str, object]], step: str) -> float:
    """Returns the exponent of the cost in CPU seconds against rows: 1 is linear."""
    rows = [math.log(entry["rows"]) for entry in measured]
    seconds = [math.log(entry[step]["cpu_seconds"]) for entry in measured]
    return round(float(np.polyfit(rows, seconds, 1)[0]), 2)


def measure_overhead(count: int = GENERATION.shard_size) -> float:
    """Returns the bytes a picture takes in a shard beside its JPEG, from a shard of ``count`` pictures."""
    facts = {"caption_id": "cc12m_1234567", "image_id": "00123/001234567.jpg", "prompt": "x" * 112, "seed": 2**62}
    keys = [f"cc12m_{number}/0" for number in range(count)]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "00000.tar"
        write_shard(
            path, "0" * 64, [ImageRecord(key, bytes(JPEG_BYTES), {**facts, "truncated": False}) for key in keys]
        )
        return path.stat().st_size / count - JPEG_BYTES


def cost_table(overhead: float) -> list[dict[str, object]]:
    """Returns what each generator's set of each of the paper's sizes costs."""
    rows = []
    for corpus, (images, paper_days) in PAPER_SETS.items():
        for generator, figures in GENERATORS.items():
            seconds = figures["seconds"]
            days = paper_days if seconds is None else images * seconds / SECONDS_A_DAY
            rows.append(
                {
                    "set": corpus,
                    "images": images,
                    "generator": generator,
                    "gpu_days": round(days, 1),
                    "seconds_an_image": round(days * SECONDS_A_DAY / images, 2),
                    "disk_gb": round(images * (JPEG_BYTES + overhead) / 1e9),
                    "shards": math.ceil(images / GENERATION.shard_size),
                    "gpu_days_origin": figures["origin"],
                }
            )
    return rows


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
    overhead = measure_overhead()
    result = {
        "machine": {"cpu_count": os.cpu_count(), "python": sys.version.split()[0], "pyarrow": pa.__version__},
        "limits": LIMITS,
        "measured": measured,
        "exponent": {step: exponent(measured, step) for step in ("plan", "pair")} if len(measured) > 1 else None,
        "bytes_an_image": {
            "jpeg": JPEG_BYTES,
            "jpeg_origin": JPEG_ORIGIN,
            "beside_it": round(overhead),
            "beside_it_origin": f"measured: a shard of {GENERATION.shard_size} pictures",
        },
        "cost": cost_table(overhead),
    }
    args.results.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
