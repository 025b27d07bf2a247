"""Times the alignment step against Algorithm 1 written plainly and against open_clip's distillation, in one process.

"Plain" is what one would write: PEFT's own LoRA layers, both towers in every step; a second one has our LoRA attention.
All contenders get the same model (random weights: speed does not depend on them), the same JPEGs, the same batch size
and AdamW. What is timed is whole optimizer steps, interleaved contender by contender, so that a busy machine
slows all of them; the ratio of medians is what to quote.

    python benchmarks/alignment.py                 # mini encoder, ViT-B/32 at 224 pixels; about 10 minutes on one core
    python benchmarks/alignment.py --quick         # mini encoder only
"""

import argparse
import contextlib
import json
import logging
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from kedro.config import OmegaConfigLoader
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel

from gmail_kedro.engine.inference import Encoding, FeatureStore, encode_images
from gmail_kedro.engine.loop import build_adamw
from gmail_kedro.hardware import fast_arithmetic
from gmail_kedro.images.decoding import decode_image
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.params.alignment import AlignmentParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.alignment.alignment_step import AlignmentStep
from gmail_kedro.pipelines.alignment.nodes import build_student, load_data
from gmail_kedro.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("alignment.json")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BASE = OmegaConfigLoader(str(ROOT / "conf"), env="base", **CONFIG_LOADER_ARGS)["parameters"]
EQ1 = AlignmentParams(**{**BASE["alignment"], "moment_weight": 0.0})

Step = Callable[[int], None]


@dataclass(frozen=True)
class Setting:
    """One model and its data.

    Attributes:
        name: What the table calls it.
        encoder: Its name in known_encoders.py.
        path: Its folder, or None.
        picture_side: Side of the JPEGs, in pixels.
        batch_size: Pairs a step.
        pair_count: Pairs in the world.
        is_warm: Whether our pictures (and frozen blocks) are in memory before the clock starts, as they are after the
            first epoch where they fit; otherwise every timed step decodes pictures it has not seen.
    """

    name: str
    encoder: str
    path: Path | None
    picture_side: int
    batch_size: int
    pair_count: int
    is_warm: bool


class Jpegs:
    """JPEGs by key, made once and held encoded, as a shard holds them."""

    def __init__(self, count: int, side: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._files = []
        for _ in range(count):
            small = Image.fromarray(rng.integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8))
            stream = BytesIO()
            small.resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=95)
            self._files.append(stream.getvalue())

    def read(self, key: str) -> bytes:
        """Returns the encoded picture."""
        return self._files[int(key)]


class World:
    """Pairs of one setting, with what every contender needs."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting, self._folder = setting, folder
        count = setting.pair_count
        self.generated, self.real = (Jpegs(count, setting.picture_side, seed) for seed in (1, 2))
        keys = [str(number) for number in range(count)]
        self.pairs = pd.DataFrame(
            {"image_id": keys, "caption": [f"a photo of number {key}." for key in keys], "real_key": keys,
             "generated_key": keys, "split": ["train"] * (count - 1) + ["val"]}
        )  # fmt: skip
        path = None if setting.path is None else str(setting.path)
        self.run = RunParams(**{**BASE["run"], "encoder": setting.encoder, "encoder_path": path})

    def teacher(self):
        """Returns a fresh frozen encoder."""
        return build_encoder(self.run.encoder, self.run.encoder_path, device=DEVICE)

    def batch(self, index: int) -> list[str]:
        """Returns the keys of one step's pairs."""
        rng = np.random.default_rng((3, index))
        return [str(row) for row in rng.choice(self.setting.pair_count, self.setting.batch_size, replace=False)]

    def ours(self, params: AlignmentParams) -> tuple[AlignmentStep, list[torch.nn.Parameter]]:
        """Returns the project's step, the teacher's features cached before it starts."""
        corpus = SimpleNamespace(images=self.real)
        encoding = Encoding(FeatureStore(self._folder), 64, DEVICE, "float32")
        features = encode_images(self.teacher(), self.real, list(self.pairs["real_key"]), encoding)
        student = build_student(params, self.run, device=DEVICE)
        data = load_data(student, self.pairs, corpus, self.generated, {"embedding": features}, params, device=DEVICE)
        student.train()
        if self.setting.is_warm:
            for rows in np.array_split(np.arange(len(self.pairs)), 16):
                data.generated[rows]
        return AlignmentStep(student, data, params, seed=0, device=DEVICE), student.parameters()


def our_step(world: World, params: AlignmentParams, *, precision: str = "auto", plain: bool = False) -> Step:
    """Returns whole optimizer steps of the project's loop."""
    step, parameters = world.ours(params.replace(**{"training.batch_size": world.setting.batch_size}))
    optimizer = build_adamw(parameters, learning_rate=1e-4, weight_decay=0.01)

    def run(index: int) -> None:
        kernels = sdpa_kernel(SDPBackend.MATH) if plain else contextlib.nullcontext()
        with fast_arithmetic(DEVICE, precision=precision), kernels:
            optimizer.zero_grad(set_to_none=True)
            loss = step(index)["loss"]
            if loss.requires_grad:
                loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()

    return run


def bare_step(world: World) -> Step:
    """Returns the student's forward, backward and update alone: pixels are tensors already, no data, no loop."""
    params = EQ1.replace(**{"training.batch_size": world.setting.batch_size})
    student = build_student(params, world.run, device=DEVICE)
    student.train()
    optimizer = build_adamw(student.parameters(), learning_rate=1e-4, weight_decay=0.01)
    images = torch.stack([decode(student.encoder, world.generated, key) for key in world.batch(0)]).to(DEVICE)
    real = torch.randn(len(images), student.encoder.embed_dim, device=DEVICE)

    def run(index: int) -> None:
        with fast_arithmetic(DEVICE, precision="auto"):
            optimizer.zero_grad(set_to_none=True)
            eq1(student.encoder.encode_image(images), real).backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()

    return run


def peft_student(world: World):
    """Returns an encoder whose image tower PEFT has wrapped, with PEFT's own layers, and its trained parameters."""
    from peft import LoraConfig, get_peft_model

    student = world.teacher()
    config = LoraConfig(r=EQ1.lora.rank, lora_alpha=EQ1.lora.alpha, target_modules=list(student.lora_targets))
    student.image_tower = get_peft_model(student.image_tower, config).train()
    return student, [parameter for parameter in student.image_tower.parameters() if parameter.requires_grad]


def our_student(world: World):
    """Returns the project's student encoder and its trained parameters."""
    student = build_student(EQ1, world.run, device=DEVICE)
    student.train()
    return student.encoder, student.parameters()


def plain_step(world: World, make_student: Callable) -> Step:
    """Algorithm 1 as one would write it: both pictures decoded and both towers run in every step."""
    teacher = world.teacher()
    student, parameters = make_student(world)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01)

    def run(index: int) -> None:
        keys = world.batch(index)
        generated = torch.stack([decode(teacher, world.generated, key) for key in keys]).to(DEVICE)
        real = torch.stack([decode(teacher, world.real, key) for key in keys]).to(DEVICE)
        with torch.no_grad():
            target = teacher.encode_image(real)
        optimizer.zero_grad()
        eq1(student.encode_image(generated), target).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return run


def distillation_step(world: World) -> Step:
    """open_clip's distillation: teacher and student, image and text towers of both, its own DistillClipLoss."""
    from open_clip.loss import DistillClipLoss

    teacher = world.teacher()
    student, parameters = peft_student(world)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01)
    loss, scale = DistillClipLoss(), torch.tensor(100.0, device=DEVICE)

    def run(index: int) -> None:
        keys = world.batch(index)
        images = torch.stack([decode(teacher, world.generated, key) for key in keys]).to(DEVICE)
        tokens = teacher.tokenize([world.pairs["caption"][int(key)] for key in keys]).to(DEVICE)
        with torch.no_grad():
            taught = [
                F.normalize(teacher.encode_image(images), dim=-1),
                F.normalize(teacher.text_tower(tokens), dim=-1),
            ]
        own = [
            F.normalize(student.encode_image(images), dim=-1),
            F.normalize(student.text_tower(tokens), dim=-1),
        ]
        optimizer.zero_grad()
        sum(loss(*own, scale, *taught, scale)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return run


def eq1(generated: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Eq. 1 in two lines."""
    scores = F.normalize(generated, dim=-1) @ F.normalize(real, dim=-1).T / 0.07
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def decode(encoder, source: Jpegs, key: str) -> torch.Tensor:
    """Returns one preprocessed picture."""
    return encoder.preprocess(decode_image(source.read(key), name=key))


def time_steps(contenders: dict[str, Step], *, rounds: int) -> dict[str, float]:
    """Returns the median seconds of a step of each; the first two rounds are not counted.

    Every round starts with another contender: who follows a large model finds its caches cold.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for index in range(rounds + 2):
        for place in range(len(names)):
            name = names[(index + place) % len(names)]
            step = contenders[name]
            started = time.perf_counter()
            step(index)
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            if index >= 2:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure_peak_memory(world: World) -> dict[str, float]:
    """Returns the process's peak resident memory after steps of 256, then of 4,096 in parts of 256, in MiB."""
    peaks = {}
    for size in (256, 4096):
        params = EQ1.replace(**{"training.batch_size": size, "training.micro_batch_size": 256})
        step, parameters = world.ours(params)
        with fast_arithmetic(DEVICE, precision="auto"):
            for index in range(2):
                loss = step(index)["loss"]
                if loss.requires_grad:
                    loss.backward()
        peaks[str(size)] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return peaks


def options(world: World) -> dict[str, Step]:
    """Returns the step with each option that changes its speed."""
    blocks = world.teacher().block_count
    half = max(1, blocks // 2)
    return {
        "as it is": our_step(world, EQ1),
        "plain attention kernel": our_step(world, EQ1, plain=True),
        "bfloat16": our_step(world, EQ1, precision="bfloat16"),
        f"LoRA in the last {half} of {blocks} blocks": our_step(world, EQ1.replace(**{"lora.blocks": half})),
        "the same, frozen blocks cached": our_step(world, EQ1.replace(cache_prefix=True, **{"lora.blocks": half})),
        "half of the patches dropped": our_step(world, EQ1.replace(patch_dropout=0.5)),
        "activations recomputed": our_step(world, EQ1.replace(**{"training.checkpoint_activations": True})),
        "torch.compile": our_step(world, EQ1.replace(compile=True)),
        "micro-batches of a quarter": our_step(
            world, EQ1.replace(**{"training.micro_batch_size": max(1, world.setting.batch_size // 4)})
        ),
        "Eq. 1 + whitened mean": our_step(world, EQ1.replace(moment_weight=1.0)),
    }


def random_clip(folder: Path, architecture: str) -> Path:
    """Writes a randomly initialised CLIP in open_clip's hub layout and returns its folder."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model(architecture, pretrained=None)
    folder.mkdir(parents=True)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    config = {"model_cfg": open_clip.get_model_config(architecture), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def compare(world: World, *, rounds: int) -> dict:
    """Returns samples a second of every contender and option, with ratios."""
    size = world.setting.batch_size
    seconds = time_steps(
        {"ours": our_step(world, EQ1), "bare student": bare_step(world),
         "plain Algorithm 1": plain_step(world, peft_student),
         "plain Algorithm 1, our LoRA attention": plain_step(world, our_student),
         "open_clip distillation": distillation_step(world)},
        rounds=rounds,
    )  # fmt: skip
    speed = {name: size / value for name, value in seconds.items()}
    varied = {name: size / value for name, value in time_steps(options(world), rounds=max(3, rounds // 2)).items()}
    return {
        "batch_size": size,
        "samples_per_second": speed,
        "ratio_over_plain": speed["ours"] / speed["plain Algorithm 1"],
        "ratio_over_plain_with_our_attention": speed["ours"] / speed["plain Algorithm 1, our LoRA attention"],
        "ratio_over_distillation": speed["ours"] / speed["open_clip distillation"],
        "overhead_over_bare_percent": 100 * (seconds["ours"] / seconds["bare student"] - 1),
        "options_samples_per_second": varied,
    }


def main() -> None:
    """Runs everything, prints it, and writes it beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.WARNING)
    results: dict = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"device": str(DEVICE), "threads": torch.get_num_threads(), "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        memory = World(Setting("memory", "mini_clip", None, 32, 256, 4200, is_warm=True), folder / "features")
        results["peak_rss_mib"] = measure_peak_memory(memory)  # first: the peak is the process's, and never falls
        settings = [Setting("mini CLIP, 32 px", "mini_clip", None, 32, 64, 512, is_warm=True)]
        if not arguments.quick:
            path = random_clip(folder / "b32", "ViT-B-32")
            settings.append(Setting("ViT-B/32, 224 px", "clip_vit_b_32", path, 256, 8, 128, is_warm=False))
        for setting in settings:
            world = World(setting, folder / "features")
            rounds = arguments.rounds if setting.picture_side == 32 else max(4, arguments.rounds // 2)
            results[setting.name] = compare(world, rounds=rounds)
            print(json.dumps({setting.name: results[setting.name]}, indent=2), flush=True)
    print(json.dumps(results["peak_rss_mib"]))
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
