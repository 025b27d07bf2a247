"""Times retrieval against the dense one-hot way, with peak memory above the embeddings; each run in its own process.

The dense way is how CLIP_benchmark scores retrieval, written here anew: the whole score matrix, a boolean matrix of the
positives, then for every k and direction, batch by batch, top-k indices as one-hot rows times the positives. Synthetic
unit vectors, d = 512, five texts an image. Runs are interleaved contender by contender, so that a busy machine slows
all of them; the ratio of medians is what to quote, on a very busy machine that of CPU seconds.

    python benchmarks/evaluation.py            # 5,000 x 25,000, three rounds; about 10 minutes on one core
    python benchmarks/evaluation.py --large    # and 31,783 x 158,915, once
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from gmail_kedro.metrics.retrieval import retrieval_scores

RESULTS = Path(__file__).with_name("evaluation.json")
KS = (1, 5, 10)
WIDTH, TEXTS_PER_IMAGE, NOISE = 512, 5, 8.0
SMALL, LARGE = 5_000, 31_783
BATCH_SIZE = 64  # CLIP_benchmark's default
MEBIBYTE = 2**20


def embeddings(image_count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns unit images [N, 512], unit texts [5 N, 512] around them, and each text's image."""
    rng = torch.Generator().manual_seed(0)
    image = torch.nn.functional.normalize(torch.randn(image_count, WIDTH, generator=rng), dim=1)
    owner = torch.arange(image_count).repeat_interleave(TEXTS_PER_IMAGE)
    text = torch.randn(len(owner), WIDTH, generator=rng).mul_(NOISE / WIDTH**0.5)
    for rows in torch.arange(len(owner)).split(8192):
        text[rows] = torch.nn.functional.normalize(text[rows] + image[owner[rows]], dim=1)
    return image, text, owner


def ours(image: torch.Tensor, text: torch.Tensor, owner: torch.Tensor) -> dict[str, float]:
    """The project's scorer: ranks counted block by block."""
    return retrieval_scores(image, text, owner, ks=KS).scores()


def dense(image: torch.Tensor, text: torch.Tensor, owner: torch.Tensor) -> dict[str, float]:
    """The dense one-hot way."""
    scores = text @ image.T
    positives = torch.zeros_like(scores, dtype=torch.bool)
    positives[torch.arange(len(text)), owner] = True
    recalls = {}
    for k in KS:
        for name, side, truth in (("t2i", scores, positives), ("i2t", scores.T, positives.T)):
            parts = zip(side.split(BATCH_SIZE), truth.split(BATCH_SIZE), strict=True)
            found = torch.cat([_found(part, part_truth, k) for part, part_truth in parts])
            recalls[f"{name}_r{k}"] = 100 * (found > 0).double().mean().item()
    return recalls


def _found(scores: torch.Tensor, positives: torch.Tensor, k: int) -> torch.Tensor:
    """Returns the share of each query's positives that are in its top k."""
    best = torch.nn.functional.one_hot(scores.topk(k, dim=1).indices, num_classes=scores.shape[1])
    return (best * positives[:, None, :]).sum(dim=(1, 2)) / positives.sum(dim=1)


CONTENDERS = {"ours": ours, "dense": dense}


def measure(contender: str, image_count: int) -> dict[str, object]:
    """Runs one contender in this process; memory is the peak of the resident set above what the embeddings left."""
    sides = embeddings(image_count)
    torch.ones(64, 64) @ torch.ones(64, 64)  # the libraries' own buffers are there before the clock starts
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, started, busy = _resident("VmRSS"), time.perf_counter(), time.process_time()
    try:
        recalls = CONTENDERS[contender](*sides)
    except (RuntimeError, MemoryError) as error:
        return {"contender": contender, "images": image_count, "failed": str(error).splitlines()[0][:200]}
    return {
        "contender": contender,
        "images": image_count,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - busy,
        "mebibytes_above_embeddings": (_resident("VmHWM") - before) / MEBIBYTE,
        "total_mebibytes": _resident("VmHWM") / MEBIBYTE,
        "recalls": recalls,
    }


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def in_new_process(contender: str, image_count: int) -> dict[str, object]:
    """Returns what ``measure`` says in a fresh interpreter that may take what memory is free now, and no more."""
    memory = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in memory if line.startswith("MemAvailable:"))
    command = [sys.executable, __file__, "--contender", contender, "--images", str(image_count)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (free, free)),
    )
    if done.returncode:
        return {"contender": contender, "images": image_count, "failed": f"exit status {done.returncode}"}
    return json.loads(done.stdout)


def compare(rounds: int) -> list[dict[str, object]]:
    """Runs every contender in turn at the smaller size, prints the ratios of medians and checks the recalls."""
    runs = [in_new_process(name, SMALL) for _ in range(rounds) for name in CONTENDERS]
    for name in CONTENDERS:
        own, best = ([run for run in runs if run["contender"] == which] for which in (name, "ours"))
        shown = []
        for key, unit in (("seconds", "s"), ("cpu_seconds", "s of CPU"), ("mebibytes_above_embeddings", "MiB")):
            value, reference = (statistics.median(run[key] for run in side) for side in (own, best))
            shown.append(f"{value:8.2f} {unit} ({value / reference:5.1f} x ours)")
        print(f"{SMALL} x {SMALL * TEXTS_PER_IMAGE}  {name:6s}", *shown, flush=True)
    for run in runs[1:]:
        off = max(abs(run["recalls"][key] - value) for key, value in runs[0]["recalls"].items())
        assert off < 0.05, f"{run['contender']} has recalls that are {off} points from ours"
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--contender", choices=list(CONTENDERS))
    parser.add_argument("--images", type=int)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(measure(options.contender, options.images)))
        return
    runs = compare(options.rounds)
    write(runs)
    if options.large:
        runs += [in_new_process(name, LARGE) for name in CONTENDERS]
        for run in runs[-len(CONTENDERS) :]:
            print(json.dumps({key: value for key, value in run.items() if key != "recalls"}))
        write(runs)


def write(runs: list[dict[str, object]]) -> None:
    """Writes the runs, and what they ran on, beside this file."""
    facts = {"threads": torch.get_num_threads(), "torch": torch.__version__, "cores": os.cpu_count()}
    RESULTS.write_text(json.dumps({"machine": facts, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
