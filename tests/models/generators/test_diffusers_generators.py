"""What decides a generated image: its row and the declared settings, not its neighbours, its order or a cache."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from gmail_kedro.models.generators.known_generators import GENERATORS, build_generator
from gmail_kedro.models.generators.sampling import Sampling

from ..tiny import promising_nothing
from ..tiny_pipelines import save_flux, save_lcm, save_stable_diffusion_2, save_turbo, tiny_safety_checker

pytestmark = pytest.mark.usefixtures("attention_in_bfloat16")

CPU = torch.device("cpu")
SAMPLING = Sampling(steps=3, guidance=3.0, resolution=32, precision="float32")
PROMPTS, SEEDS = ["a red 7.", "the number 42.", "a blue 3.", "a red 7.", "a red 7."], [11, 22, 33, 44, 55]


@pytest.fixture(scope="module", autouse=True)
def stand_ins():
    with promising_nothing(*GENERATORS):
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny pipelines in the true layouts; the mini ones come from the package."""
    base = tmp_path_factory.mktemp("pipelines")
    return {
        "mini_stable_diffusion": None,
        "mini_flux": None,
        "stable_diffusion_2_base": str(save_stable_diffusion_2(base / "sd2")),
        "flux_dev": str(save_flux(base / "dev")),
        "lcm": str(save_lcm(base / "lcm")),
        "turbo": str(save_turbo(base / "turbo")),
    }


@pytest.fixture(scope="module", params=["mini_stable_diffusion", "mini_flux"])
def generator(request, folders):
    return build_generator(request.param, folders[request.param], SAMPLING, device=CPU)


def build(folders, name, **changes):
    return build_generator(name, folders[name], replace(SAMPLING, **changes), device=CPU)


def pixels(generator, prompts=PROMPTS, seeds=SEEDS):
    made = generator.generate(prompts, seeds)
    assert [one.fault for one in made] == [""] * len(prompts)
    return np.stack([np.asarray(one.image) for one in made]).astype(int)


def difference(first, second):
    return np.abs(first - second).max()


def test_an_image_is_its_row_in_any_batch_and_order(generator):
    """Another batch size or order may round the last bits differently: at most one level of 255."""
    together = pixels(generator)
    alone = np.concatenate([pixels(generator, [p], [s]) for p, s in zip(PROMPTS, SEEDS, strict=True)])
    backwards = pixels(generator, PROMPTS[::-1], SEEDS[::-1])[::-1]
    assert difference(together, alone) <= 1 and difference(together, backwards) <= 1
    assert difference(together[0], together[3]) > 5  # the same prompt with another seed
    assert together.shape == (5, 32, 32, 3)


def test_the_same_batch_is_bit_equal_whatever_the_cache_remembers(generator):
    warm = generator.denoise(PROMPTS, SEEDS)
    generator._embed.cache_clear()
    generator.denoise(PROMPTS[1:2], [1])
    assert torch.equal(generator.denoise(PROMPTS, SEEDS), warm)


def test_embeddings_are_computed_once_a_prompt_and_images_are_those_without_a_cache(folders, monkeypatch):
    cached, plain = (build(folders, "stable_diffusion_2_base") for _ in range(2))
    monkeypatch.setattr(plain, "_embed", plain._embed_together)
    read = []
    for generator in (cached, plain):
        encoder = generator._pipeline.text_encoder
        encoder.register_forward_hook(lambda _, inputs, __, who=generator: read.append((who, len(inputs[0]))))
    for _ in range(2):
        assert torch.equal(cached.denoise(PROMPTS, SEEDS), plain.denoise(PROMPTS, SEEDS))
    assert [count for who, count in read if who is cached] == [3, 1]  # three prompts and the unconditional one
    assert [count for who, count in read if who is plain] == [3, 1, 3]


@pytest.mark.parametrize("name", ["mini_stable_diffusion", "stable_diffusion_2_base", "flux_dev"])
def test_images_are_those_of_the_plain_pipeline(name, folders):
    from diffusers import DiffusionPipeline

    from gmail_kedro.models.generators.known_generators import find_generator

    pipeline = DiffusionPipeline.from_pretrained(find_generator(name, folders[name]), dtype=torch.float32)
    sources = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    plain = pipeline(
        prompt=PROMPTS, generator=sources, num_inference_steps=3, guidance_scale=3.0, height=32, width=32
    ).images
    assert difference(pixels(build(folders, name)), np.stack([np.asarray(one) for one in plain]).astype(int)) <= 1


def test_decoding_in_another_thread_gives_the_same_images(generator):
    latents = generator.denoise(PROMPTS, SEEDS)
    expected = [np.asarray(one.image) for one in generator.decode(latents)]
    decoded = []
    thread = threading.Thread(target=lambda: decoded.extend(generator.decode(latents)))
    thread.start()
    again = generator.denoise(PROMPTS, SEEDS)
    thread.join()
    assert torch.equal(again, latents)
    assert all(np.array_equal(np.asarray(one.image), right) for one, right in zip(decoded, expected, strict=True))


def test_latents_that_are_not_finite_are_a_fault_of_their_row_alone(generator):
    latents = generator.denoise(PROMPTS[:3], SEEDS[:3])
    expected = generator.decode(latents)
    latents[1].view(-1)[3] = float("nan")
    made = generator.decode(latents)
    assert [one.fault for one in made] == ["", "not_finite", ""]
    assert made[1].image is None
    assert difference(np.asarray(made[2].image).astype(int), np.asarray(expected[2].image).astype(int)) <= 1


@pytest.mark.parametrize(("threshold", "fault"), [(2.0, ""), (-2.0, "safety")])
def test_what_the_safety_checker_flags_is_a_fault(threshold, fault, tmp_path):
    folder = save_stable_diffusion_2(tmp_path, **tiny_safety_checker(threshold))
    made = build_generator("stable_diffusion_2_base", str(folder), SAMPLING, device=CPU).generate(PROMPTS, SEEDS)
    assert [one.fault for one in made] == [fault] * 5
    assert all((one.image is None) == bool(fault) for one in made)
    assert fault or max(np.asarray(one.image).std() for one in made) > 1


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("stable_diffusion_2_base", {"negative_prompt": "a blue 3."}),
        ("stable_diffusion_2_base", {"prompt_template": "a photograph of {}"}),
        ("stable_diffusion_2_base", {"scheduler": "EulerAncestralDiscreteScheduler"}),
        ("stable_diffusion_2_base", {"precision": "bfloat16"}),
        ("stable_diffusion_2_base", {"precision": "float16"}),
        ("flux_dev", {"scheduler": "UniPCMultistepScheduler"}),
        ("flux_dev", {"max_prompt_tokens": 20}),
        ("flux_dev", {"guidance": 7.0}),
        ("mini_stable_diffusion", {"scheduler": "UniPCMultistepScheduler"}),
    ],
)
def test_each_setting_reaches_the_image(name, changes, folders):
    plain, changed = build(folders, name), build(folders, name, **changes)
    assert not torch.equal(changed.denoise(PROMPTS, SEEDS).float(), plain.denoise(PROMPTS, SEEDS))
    assert pixels(changed).std() > 1


def test_the_template_keeps_braces_of_the_prompt_and_counts_towards_its_length(folders):
    generator = build(folders, "flux_dev", max_prompt_tokens=10, prompt_template="a photograph of {}")
    assert generator.prompt_tokens == 10
    assert replace(SAMPLING, prompt_template="x {}").fill_template("{0} {}") == "x {0} {}"
    assert generator.count_truncated(["7", "ruled page"]) == 1


@pytest.mark.parametrize("variant", ["attention_broadcast", "taylorseer", "lcm", "turbo", "deepcache"])
def test_a_variant_makes_other_images_that_still_depend_on_their_rows_alone(variant, folders):
    name = {"lcm": "stable_diffusion_2_base", "turbo": "stable_diffusion_2_base"}.get(variant, "flux_dev")
    changes = {"lcm": {"steps": 4}, "turbo": {"steps": 3, "guidance": 0.0}}.get(variant, {"steps": 12})
    path = folders.get(variant, folders[name])
    if variant == "deepcache":
        pytest.importorskip("DeepCache", reason="the extra 'deepcache' is not installed")
        name, path = "mini_stable_diffusion", None
    sampling = replace(SAMPLING, **changes)
    varied = build_generator(name, path, replace(sampling, variant=variant), device=CPU)
    first = varied.denoise(PROMPTS, SEEDS)
    assert torch.equal(varied.denoise(PROMPTS, SEEDS), first)  # nothing is left over from the batch before
    assert torch.allclose(varied.denoise(PROMPTS[1:2], SEEDS[1:2]), first[1:2], atol=1e-4)
    if variant not in ("lcm", "turbo"):  # those are distilled weights
        plain = build_generator(name, path, sampling, device=CPU).denoise(PROMPTS, SEEDS)
        assert not torch.allclose(plain, first, atol=1e-4)


@pytest.mark.parametrize(("variant", "guidance"), [("lcm", 3.0), ("turbo", 0.0)])
def test_a_distilled_sampler_refuses_weights_that_are_not(variant, guidance, folders):
    with pytest.raises(ValueError, match=f"'{variant}' needs weights distilled .* These come with PNDMScheduler"):
        build(folders, "stable_diffusion_2_base", variant=variant, guidance=guidance)
