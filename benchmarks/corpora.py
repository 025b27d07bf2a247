"""Times the reading of captioned corpora of growing size, each in a process of its own, and its memory.

Run: python benchmarks/corpora.py [--rows 250000 500000 1000000]. Writes benchmarks/corpora.json.

The table is like CC12M's: a caption of 8 to 28 words and the name of a picture. The tar is like img2dataset's: jpg, txt
and json a sample, with pax headers; it is read once from its headers and once from its index.
"""

import argparse
import io
import json
import random
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

WORDS = (
    "a",
    "the",
    "man",
    "woman",
    "dog",
    "street",
    "photo",
    "view",
    "in",
    "with",
    "red",
    "large",
    "background",
    "vector",
)
MEGABYTE = 2**20
READINGS = {
    "table": {"layout": "table", "annotations": "rows.tsv", "images": ".", "header": ["caption", "file"]},
    "tar": {"layout": "webdataset", "tars": "samples.tar", "index": "index"},
}


def write_table(path: Path, rows: int) -> None:
    rng = random.Random(0)
    with path.open("w") as file:
        for row in range(rows):
            file.write(f"{' '.join(rng.choices(WORDS, k=rng.randint(8, 28)))}\t{row // 10_000:05d}/{row:09d}.jpg\n")


def write_tar(path: Path, samples: int) -> None:
    with tarfile.open(path, "w") as tar:
        for number in range(samples):
            for extension, content in (("jpg", b"x" * 900), ("txt", b"a caption"), ("json", b"{}")):
                header = tarfile.TarInfo(f"{number:09d}.{extension}")
                header.size, header.mtime = len(content), 1.5
                tar.addfile(header, io.BytesIO(content))


def read_here(kind: str) -> None:
    """Reads the corpus in the working directory and prints what it cost beyond the imports."""
    from gmail_kedro.datasets.corpus import CorpusDataset

    peak_before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.process_time()
    captions = CorpusDataset(name="benchmark", protocol={"split": "train"}, **READINGS[kind]).load().captions
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - peak_before
    table = captions.memory_usage(deep=True).sum() / MEGABYTE
    facts = {"rows": len(captions), "cpu_seconds": seconds, "peak_mb": peak, "table_mb": float(table)}
    print(json.dumps({name: round(value, 2) for name, value in facts.items()}))


def measure(kind: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).resolve()), "--read", kind]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(finished.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--read", choices=READINGS)
    chosen = parser.parse_args()
    if chosen.read:
        read_here(chosen.read)
        return
    results: dict[str, object] = {"table": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rows in chosen.rows:
            write_table(folder / "rows.tsv", rows)
            results["table"] = [*results["table"], measure("table", folder)]
        write_tar(folder / "samples.tar", chosen.samples)
        results["tar"] = {"first": measure("tar", folder), "from_index": measure("tar", folder)}
    Path(__file__).with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
