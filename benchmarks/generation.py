"""Times generation against a plain diffusers loop over the same pipeline, in one process.

Both sides make the same pictures in the same batches and keep the same JPEGs: the plain loop asks diffusers for PIL
pictures and saves one file each; ours goes through the project's generator and the project's own shard writer. Runs are
interleaved and each round starts with another side, so that a busy machine slows both. Seconds of the clock and, for
one thread on a CPU that others use too, seconds of the processor: the ratio of medians is what to quote.

    python benchmarks/generation.py                # mini Stable Diffusion and mini FLUX; some minutes on one core
    python benchmarks/generation.py --quick        # fewer pictures and rounds
"""

import argparse
import json
import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from kedro.config import OmegaConfigLoader

from gmail_kedro.generated_sets.generate import generate_images
from gmail_kedro.generated_sets.plan import plan_images
from gmail_kedro.models.generators.known_generators import build_generator, find_generator
from gmail_kedro.models.generators.sampling import Sampling
from gmail_kedro.params.generation import GenerationParams
from gmail_kedro.params.quality import QualityParams
from gmail_kedro.settings import CONFIG_LOADER_ARGS

RESULTS = Path(__file__).with_name("generation.json")
ROOT = Path(__file__).resolve().parents[1]
BASE = OmegaConfigLoader(str(ROOT / "conf"), env="base", **CONFIG_LOADER_ARGS)["parameters"]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
COLOURS = ("red", "blue", "green", "purple", "orange", "black")


@dataclass(frozen=True)
class Setting:
    """One generator and its set.

    Attributes:
        generator: Its name in known_generators.py.
        sampling: Its settings.
        caption_count: Captions.
        samples_per_caption: Pictures of each.
        batch_size: Pictures at once.
        repeats: How many photographs have each caption. From 2 on, ours shares pictures (``dedupe_prompts``), and the
            plain loop, which knows no captions, makes one for each.
    """

    generator: str
    sampling: Sampling
    caption_count: int
    samples_per_caption: int
    batch_size: int
    repeats: int = 1

    @property
    def name(self) -> str:
        shared = f", each caption of {self.repeats} photographs" if self.repeats > 1 else ""
        return f"{self.generator}, {self.samples_per_caption} pictures a caption{shared}"

    @property
    def image_count(self) -> int:
        return self.caption_count * self.samples_per_caption


def draw_plan(setting: Setting, *, shares: bool = False) -> pd.DataFrame:
    """Returns the plan of a set, each caption with its samples one after another.

    Args:
        setting: The set.
        shares: Whether equal captions share their pictures.
    """
    numbers = [index // setting.repeats for index in range(setting.caption_count)]
    rows = [
        (f"c{index}", f"i{index}", f"the number {number} in {COLOURS[number % len(COLOURS)]} ink.", "train")
        for index, number in enumerate(numbers)
    ]
    captions = pd.DataFrame(rows, columns=["caption_id", "image_id", "caption", "split"])
    params = GenerationParams(
        generator=setting.generator,
        generator_path=None,
        image_count=None,
        captions_per_image=1,
        dedupe_prompts=shares,
        samples_per_caption=setting.samples_per_caption,
        seed=0,
        **asdict(setting.sampling),
        batch_size=setting.batch_size,
        shard_size=setting.image_count,
        jpeg_quality=95,
    )
    return plan_images(captions, params=params)


def our_run(setting: Setting, plan: pd.DataFrame) -> Callable[[Path], None]:
    """Returns generation into shards by the project's own code, the model built beforehand."""
    generator = build_generator(setting.generator, None, setting.sampling, device=DEVICE)
    settings = {"generator": setting.generator, "revision": generator.revision, "jpeg_quality": 95}
    quality = QualityParams(**BASE["quality"])

    def run(folder: Path) -> None:
        generator._embed.cache_clear()  # a new run has embedded nothing yet
        generate_images(
            plan,
            lambda: generator,
            folder,
            settings={**asdict(setting.sampling), **settings},
            batch_size=setting.batch_size,
            quality=quality,
        )

    return run


def plain_run(setting: Setting, plan: pd.DataFrame) -> Callable[[Path], None]:
    """Returns the loop one would write with diffusers: prompts in, PIL pictures out, one JPEG file each."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(
        find_generator(setting.generator, None), dtype=torch.float32, trust_remote_code=False
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(DEVICE)
    rows, sampling = plan.to_dict("records"), setting.sampling

    def run(folder: Path) -> None:
        folder.mkdir()
        for start in range(0, len(rows), setting.batch_size):
            batch = rows[start : start + setting.batch_size]
            images = pipeline(
                prompt=[row["prompt"] for row in batch],
                generator=[torch.Generator("cpu").manual_seed(row["seed"]) for row in batch],
                num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance,
                height=sampling.resolution,
                width=sampling.resolution,
                **length_of_prompt(pipeline),
            ).images
            for row, image in zip(batch, images, strict=True):
                path = folder / f"{row['key'].replace('/', '_')}.jpg"
                image.save(path, quality=95, subsampling=0)

    return run


def length_of_prompt(pipeline) -> dict[str, int]:
    """Returns the argument that FLUX pipelines need so that both sides read equally long prompts."""
    if not hasattr(pipeline, "tokenizer_2"):
        return {}
    return {"max_sequence_length": pipeline.tokenizer_2.model_max_length}


def time_runs(contenders: dict[str, Callable[[Path], None]], *, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Returns clock and processor seconds of every counted run of each contender; the first round warms up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    names = list(contenders)
    with tempfile.TemporaryDirectory() as temporary:
        for index in range(rounds + 1):
            for place in range(len(names)):
                name = names[(index + place) % len(names)]
                folder = Path(temporary) / "set"
                started = time.perf_counter(), time.process_time()
                contenders[name](folder)
                if index:
                    seconds[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
                shutil.rmtree(folder)
    return seconds


def compare(setting: Setting, *, rounds: int) -> dict:
    """Returns images a second of both sides, and how much faster ours is."""
    plan = draw_plan(setting)
    ours = our_run(setting, draw_plan(setting, shares=setting.repeats > 1))
    seconds = time_runs({"ours": ours, "plain diffusers": plain_run(setting, plan)}, rounds=rounds)
    clock, processor = (
        {name: statistics.median(run[kind] for run in runs) for name, runs in seconds.items()} for kind in (0, 1)
    )
    return {
        "images": setting.image_count,
        "batch_size": setting.batch_size,
        "steps": setting.sampling.steps,
        "rounds": rounds,
        "images_per_second": {name: setting.image_count / value for name, value in clock.items()},
        "images_per_processor_second": {name: setting.image_count / value for name, value in processor.items()},
        "ratio_over_plain": clock["plain diffusers"] / clock["ours"],
        "processor_ratio_over_plain": processor["plain diffusers"] / processor["ours"],
    }


def list_settings(*, quick: bool) -> list[Setting]:
    """Returns both mini generators with one and with eight pictures a caption, in few steps, and captions that repeat.

    Four steps are FLUX schnell's, one is Turbo's. What a repeated prompt saves is its text encoding: the fewer the
    steps, the more that is of the whole.
    """
    count = 32 if quick else 96  # captions: a sample has shards of its own, so they fill the batches
    stable_diffusion = Sampling(steps=12, guidance=5.0, resolution=32, precision="float32")
    flux = Sampling(steps=12, guidance=4.0, resolution=32, precision="float32")
    samplings = [
        ("mini_stable_diffusion", stable_diffusion),
        ("mini_stable_diffusion", replace(stable_diffusion, steps=1)),
    ]
    samplings += [("mini_flux", flux), ("mini_flux", replace(flux, steps=4)), ("mini_flux", replace(flux, steps=1))]
    settings = [Setting(name, sampling, count, samples, 32) for name, sampling in samplings for samples in (1, 8)]
    return [*settings, Setting("mini_flux", flux, count, 1, 32, repeats=2)]


def main() -> None:
    """Runs everything, prints it, and writes it beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="the name of one generator")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.WARNING)
    results: dict = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"device": str(DEVICE), "threads": torch.get_num_threads(), "torch": torch.__version__}
    for setting in list_settings(quick=arguments.quick):
        if arguments.only not in (None, setting.generator):
            continue
        name = f"{setting.name}, {setting.sampling.steps} steps"
        results[name] = compare(setting, rounds=arguments.rounds)
        print(json.dumps({name: results[name]}, indent=2), flush=True)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
