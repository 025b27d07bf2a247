"""Fingerprints change with whatever changes what a model gives; hashes of large files are remembered."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from gmail_kedro.models import fingerprints
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.encoders.open_clip_encoder import resolve_config
from gmail_kedro.models.fingerprints import combine_hashes, hash_files, hash_language_model, hash_model, memory_file
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.student.student import Student, StudentSpec, open_student, take_route
from gmail_kedro.models.vision_language.known_vision_language_models import LlavaSettings, build_vision_language_model
from gmail_kedro.models.vision_language.language_models import build_language_model
from gmail_kedro.models.vision_language.vision_language_model import VisionFeatures
from gmail_kedro.models.weight_sources import packaged_weights

CPU = torch.device("cpu")
UNREAD = {"README.md"}


def setting(*keys, to):
    """Returns a change of one value of a JSON file."""

    def change(path):
        facts = json.loads(path.read_text())
        place = facts
        for key in keys[:-1]:
            place = place[key]
        assert place.get(keys[-1]) != to
        place[keys[-1]] = to
        return json.dumps(facts).encode()

    return change


def two_words(path):
    """Swaps the numbers of two words."""
    facts = json.loads(path.read_text())
    words = facts["model"]["vocab"]
    if isinstance(words, list):  # of a unigram model: scores, the number is the place
        words[10], words[11] = words[11], words[10]
    else:
        first, second = sorted(words, key=words.get)[-2:]
        words[first], words[second] = words[second], words[first]
    return json.dumps(facts).encode()


def one_weight(path):
    tensors = load_file(path)
    name = max(tensors, key=lambda name: tensors[name].numel())
    tensors[name].view(-1)[0] += 1
    changed = path.with_name("changed")
    save_file(tensors, changed, metadata={"format": "pt"})
    content = changed.read_bytes()
    changed.unlink()
    return content


def another_template(path):
    return path.read_bytes().replace(b"USER", b"ASK").replace(b"user", b"human") + b"\n{# other #}."


OPEN_CLIP = {
    "open_clip_config.json": {
        "activation": setting("model_cfg", "quick_gelu", to=True),
        "image_heads": setting("model_cfg", "vision_cfg", "head_width", to=64),
        "text_heads": setting("model_cfg", "text_cfg", "heads", to=2),
        "cleaning": setting("model_cfg", "text_cfg", "tokenizer_kwargs", to={"clean": "canonicalize"}),
        "mean": setting("preprocess_cfg", "mean", to=[0.1, 0.2, 0.3]),
        "std": setting("preprocess_cfg", "std", to=[0.1, 0.2, 0.3]),
        "interpolation": setting("preprocess_cfg", "interpolation", to="bilinear"),
        "cropping": setting("preprocess_cfg", "resize_mode", to="longest"),
        "filling": setting("preprocess_cfg", "fill_color", to=9),
        "size": setting("model_cfg", "vision_cfg", "image_size", to=64),
    },
    "tokenizer.json": {"two words": two_words},
    "tokenizer_config.json": {"padding": setting("pad_token", to="<|startoftext|>")},
}
GPT2_TOKENIZER = {
    "tokenizer.json": {"two words": two_words},
    "tokenizer_config.json": {"spaces": setting("clean_up_tokenization_spaces", to=True)},
}


def with_settings(**changes):
    """Returns the changes of a family in open_clip's layout; None leaves one out that means nothing to it."""
    stored = OPEN_CLIP["open_clip_config.json"] | changes
    return OPEN_CLIP | {"open_clip_config.json": {name: change for name, change in stored.items() if change}}


ENCODERS = {
    "clip": OPEN_CLIP | {"open_clip_model.safetensors": {"a weight": one_weight}},
    "long_clip": with_settings(activation=setting("model_cfg", "quick_gelu", to=False))
    | {"longclip.safetensors": {"a weight": one_weight}},
    "siglip": with_settings(text_heads=setting("model_cfg", "text_cfg", "heads", to=4), image_heads=None, cleaning=None)
    | {
        "open_clip_model.safetensors": {"a weight": one_weight},
        "tokenizer_config.json": {"padding": setting("pad_token", to="<unk>")},
    },
    "synclr": {
        "synclr.safetensors": {"a weight": one_weight},
        "config.json": {
            "size": setting("image_size", to=160),
            "architecture": setting("architecture", to="vit_tiny_patch16_224"),
        },
    },
    "clip_vision": {
        "model.safetensors": {"a weight": one_weight},
        "config.json": {
            "activation": setting("hidden_act", to="gelu"),
            "heads": setting("num_attention_heads", to=6),
            "epsilon": setting("layer_norm_eps", to=1e-3),
        },
        "preprocessor_config.json": {
            "mean": setting("image_mean", to=[0.1, 0.2, 0.3]),
            "resampling": setting("resample", to=0),
            "cropping": setting("do_center_crop", to=False),
        },
    },
}
LANGUAGE_MODELS = {
    "gpt2": GPT2_TOKENIZER
    | {
        "model.safetensors": {"a weight": one_weight},
        "config.json": {
            "activation": setting("activation_function", to="relu"),
            "heads": setting("n_head", to=2),
            "epsilon": setting("layer_norm_epsilon", to=1e-3),
        },
        "generation_config.json": {"repetition": setting("repetition_penalty", to=1.5)},
    },
    "llama": GPT2_TOKENIZER
    | {
        "model.safetensors": {"a weight": one_weight},
        "config.json": {
            "activation": setting("hidden_act", to="gelu"),
            "rotation": setting("rope_parameters", "rope_theta", to=500.0),
        },
        "generation_config.json": {"end": setting("eos_token_id", to=3)},
        "chat_template.jinja": {"words": another_template},
    },
}
LLAVA = LANGUAGE_MODELS["llama"] | {
    "config.json": {
        "activation of words": setting("text_config", "hidden_act", to="gelu"),
        "activation of pictures": setting("vision_config", "hidden_act", to="gelu"),
        "activation between": setting("projector_hidden_act", to="relu"),
    },
    "processor_config.json": {"mean": setting("image_processor", "image_mean", to=[0.1, 0.2, 0.3])},
}


def changes_of(layouts):
    return [
        pytest.param(name, file, change, id=f"{name}-{file}-{what}")
        for name, files in layouts.items()
        for file, changes in files.items()
        for what, change in changes.items()
    ]


def change_file(folder, name, file, change):
    """Fills a folder with links to packaged weights, one file changed."""
    folder.mkdir()
    for path in packaged_weights(name).iterdir():
        (folder / path.name).symlink_to(path)
    (folder / file).unlink()
    original = packaged_weights(name) / file
    copy = folder / file
    copy.write_bytes(original.read_bytes())
    copy.write_bytes(change(copy))
    assert copy.read_bytes() != original.read_bytes()
    return str(folder)


def fingerprint_or_refusal(build):
    """Returns the fingerprint of what is built, or None where it is refused."""
    try:
        return build()
    except ValueError:
        return None


@pytest.fixture(scope="module")
def packaged():
    """Remembers the fingerprints of the packaged models."""
    return {}


@pytest.mark.parametrize("layouts", [ENCODERS, LANGUAGE_MODELS, {"llava": LLAVA}])
def test_every_file_of_a_layout_is_walked_through(layouts):
    for name, files in layouts.items():
        assert files.keys() | UNREAD == {path.name for path in packaged_weights(name).iterdir()}, name


@pytest.mark.reliability(16)
@pytest.mark.parametrize(("name", "file", "change"), changes_of(ENCODERS))
def test_a_changed_file_of_an_encoder_gives_another_fingerprint_or_a_refusal(name, file, change, packaged, tmp_path):
    if name not in packaged:
        packaged[name] = build_encoder(f"mini_{name}", None, device=CPU).fingerprint
    folder = change_file(tmp_path / "changed", name, file, change)
    found = fingerprint_or_refusal(lambda: build_encoder(f"mini_{name}", folder, device=CPU).fingerprint)
    assert found != packaged[name]


def hash_language(name, path=None):
    return hash_language_model(*build_language_model(f"mini_{name}", path))


@pytest.mark.parametrize(("name", "file", "change"), changes_of(LANGUAGE_MODELS))
def test_a_changed_file_of_a_language_model_gives_another_fingerprint(name, file, change, packaged, tmp_path):
    if name not in packaged:
        packaged[name] = hash_language(name)
    folder = change_file(tmp_path / "changed", name, file, change)
    assert fingerprint_or_refusal(lambda: hash_language(name, folder)) != packaged[name]


@pytest.fixture(scope="module")
def tower():
    return build_encoder("mini_clip_vision", None, device=CPU)


def hash_llava(tower, path=None):
    settings = LlavaSettings("float32", VisionFeatures(-2, "default"), "auto", 0)
    return build_vision_language_model("mini_llava", path, encoder=tower, settings=settings, device=CPU).fingerprint


@pytest.mark.parametrize(("name", "file", "change"), changes_of({"llava": LLAVA}))
def test_a_changed_file_of_a_llava_gives_another_fingerprint(name, file, change, packaged, tower, tmp_path):
    if name not in packaged:
        packaged[name] = hash_llava(tower)
    folder = change_file(tmp_path / "changed", name, file, change)
    assert fingerprint_or_refusal(lambda: hash_llava(tower, folder)) != packaged[name]


def test_what_nobody_reads_changes_nothing(tmp_path):
    folder = change_file(tmp_path / "same", "clip", "README.md", lambda _: b"other words")
    (tmp_path / "same" / "pytorch_model.bin").write_bytes(b"not read: the safetensors file is preferred")
    save_file({"vision_model.weight": torch.ones(3)}, tmp_path / "same" / "model.safetensors")  # of transformers
    whole = build_encoder("mini_clip", None, device=CPU).fingerprint
    for path in (folder, f"{folder}/open_clip_model.safetensors"):
        assert build_encoder("mini_clip", path, device=CPU).fingerprint == whole


def test_a_configuration_from_a_librarys_code_counts():
    import open_clip

    def hash_named(architecture):
        return hash_model({}, configuration=resolve_config(open_clip.get_model_config(architecture)))

    names = ["ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16", "ViT-B-16-SigLIP"]
    assert len({hash_named(name) for name in names}) == len(names)
    config = open_clip.get_model_config("ViT-B-32")
    said = config | {"quick_gelu": False, "vision_cfg": config["vision_cfg"] | {"mlp_ratio": 4.0}}
    assert resolve_config(said) == resolve_config(config)  # a default that is written out is the default


def test_open_clips_own_tokenizer_counts():
    from open_clip import SimpleTokenizer

    base, other = SimpleTokenizer(), SimpleTokenizer()
    assert hash_model({}, configuration=None, tokenizer=base) == hash_model({}, configuration=None, tokenizer=other)
    other.encoder["red</w>"], other.encoder["blue</w>"] = other.encoder["blue</w>"], other.encoder["red</w>"]
    others = [other, SimpleTokenizer(context_length=32), SimpleTokenizer(clean="whitespace")]
    assert len({hash_model({}, configuration=None, tokenizer=one) for one in [base, *others]}) == 4


def test_a_tokenizer_that_was_used_is_the_same(tower):
    encoder = build_encoder("mini_clip", None, device=CPU)
    tokenizer = encoder.tokenizer
    before = hash_model({}, configuration=None, tokenizer=tokenizer)
    encoder.tokenize(["a red 7"])
    encoder.count_truncated(["a red 7"])
    assert hash_model({}, configuration=None, tokenizer=tokenizer) == before


def test_a_student_of_a_teacher_with_another_activation_is_refused(tmp_path):
    encoder = build_encoder("mini_clip", None, device=CPU)
    lora = TuningSpec(kind="lora", rank=2, alpha=4.0, dropout=0.0, targets=("attn",))
    none = TuningSpec(kind="none", rank=0, alpha=1.0, dropout=0.0, targets=())
    spec = StudentSpec(lora, none, "frozen", "none", batch_norm=False, teacher=encoder.fingerprint)
    Student(encoder, spec, seed=0).save_pretrained(tmp_path / "adapter")
    change = OPEN_CLIP["open_clip_config.json"]["activation"]
    folder = change_file(tmp_path / "other", "clip", "open_clip_config.json", change)
    other = build_encoder("mini_clip", folder, device=CPU)
    with pytest.raises(ValueError, match=r"tuned from another encoder than 'mini_clip' \(weights, configuration"):
        take_route(other, open_student(tmp_path / "adapter"), "real")


@pytest.mark.reliability(34)
def test_fingerprints_are_the_same_in_a_fresh_process_with_another_hash_seed(tower):
    script = (
        "import torch; from gmail_kedro.models.encoders.known_encoders import build_encoder;"
        "print(*[build_encoder(n, None, device=torch.device('cpu')).fingerprint for n in ('mini_clip', 'mini_siglip')])"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run([sys.executable, "-c", script], check=True, env=environment, capture_output=True, text=True)
    here = [build_encoder(name, None, device=CPU).fingerprint for name in ("mini_clip", "mini_siglip")]
    assert said.stdout.split()[-2:] == here


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a large file of weights and a small one, and a cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprints, "LARGE_BYTES", 100)
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "large.safetensors").write_bytes(b"w" * 100)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "README.md").write_bytes(b"not hashed")
    return folder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def count_reads(monkeypatch) -> list[str]:
    read, real = [], fingerprints.hash_file

    def counted(path):
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(fingerprints, "hash_file", counted)
    return read


def test_large_files_are_read_once_and_small_ones_always(folder, monkeypatch):
    read = count_reads(monkeypatch)
    expected = {"config.json": sha256(b"{}"), "large.safetensors": sha256(b"w" * 100)}
    assert hash_files(folder) == hash_files(folder) == expected
    assert read == ["config.json", "large.safetensors", "config.json"]


def test_a_changed_file_is_read_again_even_if_its_time_is_set_back(folder):
    hash_files(folder)
    path = folder / "large.safetensors"
    times = path.stat()
    path.write_bytes(b"v" * 100)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert hash_files(folder)["large.safetensors"] == sha256(b"v" * 100)


def test_remembered_hashes_can_be_left_aside(folder, monkeypatch):
    hash_files(folder)
    read = count_reads(monkeypatch)
    assert hash_files(folder, from_memory=False)["large.safetensors"] == sha256(b"w" * 100)
    assert read == ["config.json", "large.safetensors"]


def test_linked_folders_are_followed_by_every_name_and_circles_are_left(folder, tmp_path):
    part = tmp_path / "elsewhere"
    (part / "deeper").mkdir(parents=True)
    (part / "deeper" / "MODEL.SAFETENSORS").write_bytes(b"t")
    (part / "back").symlink_to(folder)
    (part / "self").symlink_to(part)
    for name in ("text_encoder", "text_encoder_2"):
        (folder / name).symlink_to(part)
    (folder / "nowhere.json").symlink_to(tmp_path / "absent")
    assert hash_files(folder) == {
        "config.json": sha256(b"{}"),
        "large.safetensors": sha256(b"w" * 100),
        "text_encoder/deeper/MODEL.SAFETENSORS": sha256(b"t"),
        "text_encoder_2/deeper/MODEL.SAFETENSORS": sha256(b"t"),
    }


def test_a_damaged_memory_is_replaced(folder):
    memory_file().parent.mkdir(parents=True)
    memory_file().write_text("{half")
    assert hash_files(folder)["large.safetensors"] == sha256(b"w" * 100)
    assert sha256(b"w" * 100) in memory_file().read_text()


def test_a_cache_folder_that_cannot_be_written_costs_only_time(folder, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert hash_files(folder)["large.safetensors"] == sha256(b"w" * 100)


def test_one_hash_over_all_depends_on_names_and_contents():
    base = combine_hashes({"a": "1", "b": "2"})
    assert base == combine_hashes({"b": "2", "a": "1"})
    assert len({base, combine_hashes({"a": "2", "b": "1"}), combine_hashes({"a": "1"})}) == 3
