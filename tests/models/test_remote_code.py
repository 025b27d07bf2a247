"""Code that stands beside weights is never run, and nobody is asked whether it may be."""

import ast
import json
import shutil

import pytest
import torch

from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.generators.known_generators import build_generator
from gmail_kedro.models.generators.sampling import Sampling
from gmail_kedro.models.inventory import find_weights
from gmail_kedro.models.vision_language.language_models import build_language_model
from gmail_kedro.models.weight_sources import MissingWeightsError, packaged_weights

CPU = torch.device("cpu")
NO_CODE = {"LoraConfig", "PeftModel"}  # PEFT reads a dictionary and tensors, and takes no such option
CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast
class Config(GPT2Config):
    model_type = "strange"
class Model(GPT2LMHeadModel):
    config_class = Config
class Tokenizer(GPT2TokenizerFast):
    pass
"""


def calls_without_refusal(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        is_loading = node.func.attr == "from_pretrained" or owner.startswith("Auto")
        said = any(
            word.arg == "trust_remote_code" and isinstance(word.value, ast.Constant) and word.value.value is False
            for word in node.keywords
        )
        if is_loading and owner not in NO_CODE and not said:
            found.append(ast.unparse(node))
    return found


def test_every_call_that_could_run_foreign_code_says_that_it_must_not(repository):
    files = sorted((repository / "src").rglob("*.py")) + sorted((repository / "benchmarks").rglob("*.py"))
    assert sum("from_pretrained(" in file.read_text() for file in files) >= 8
    assert {str(file): calls for file in files if (calls := calls_without_refusal(file.read_text()))} == {}


def test_the_walk_finds_what_it_looks_for():
    assert calls_without_refusal("a = AutoTokenizer.from_pretrained(x)") == ["AutoTokenizer.from_pretrained(x)"]
    assert calls_without_refusal("AutoConfig.for_model(x, trust_remote_code=True)") != []
    assert calls_without_refusal("kind.from_pretrained(x, trust_remote_code=flag)") != []
    assert calls_without_refusal("Model.from_pretrained(x, trust_remote_code=False)") == []


@pytest.fixture(autouse=True)
def nobody_to_ask(monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))


def strange(packaged, tmp_path, file, facts):
    """Copies a packaged model with code beside it that one of its files asks for."""
    folder = shutil.copytree(packaged_weights(packaged), tmp_path / "copy")
    (folder / "strange.py").write_text(CODE)
    stored = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(stored | facts))
    return folder


def test_a_language_model_that_needs_its_own_code_is_refused(tmp_path):
    auto = {"AutoConfig": "strange.Config", "AutoModelForCausalLM": "strange.Model"}
    folder = strange("gpt2", tmp_path, "config.json", {"model_type": "strange", "auto_map": auto})
    with pytest.raises(
        MissingWeightsError, match="'mini_gpt2' could not be loaded from .*code of their own to be run, which is"
    ):
        build_language_model("mini_gpt2", str(folder))
    assert find_weights("language_models", "gpt2", [folder]).path is None
    assert not (folder / "ran").exists()


TOKENIZER = {"tokenizer_class": "Strange", "auto_map": {"AutoTokenizer": ["strange.Tokenizer", "strange.Tokenizer"]}}


def test_a_tokenizer_is_built_without_the_code_that_it_asks_for(tmp_path):
    folder = strange("gpt2", tmp_path, "tokenizer_config.json", TOKENIZER)
    found, packaged = (build_language_model("mini_gpt2", path)[1] for path in (str(folder), None))
    assert found("a red 7.").input_ids == packaged("a red 7.").input_ids
    assert not (folder / "ran").exists()


def test_an_encoders_tokenizer_that_needs_its_own_code_is_refused(tmp_path):
    folder = strange("clip", tmp_path, "tokenizer_config.json", TOKENIZER)
    with pytest.raises(MissingWeightsError, match="'mini_clip' could not be loaded from .*code of their own"):
        build_encoder("mini_clip", str(folder), device=CPU)
    assert not (folder / "ran").exists()


def test_a_generators_part_that_needs_its_own_code_is_refused(tmp_path):
    folder = strange("stable_diffusion", tmp_path, "tokenizer/tokenizer_config.json", TOKENIZER)
    shutil.move(folder / "strange.py", folder / "tokenizer/strange.py")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"tokenizer": ["transformers", "AutoTokenizer"]}))
    sampling = Sampling(steps=2, guidance=2.0, resolution=32, precision="float32")
    with pytest.raises(MissingWeightsError, match=r"\(its tokenizer\)' could not be loaded from .*code of their own"):
        build_generator("mini_stable_diffusion", str(folder), sampling, device=CPU)
    assert not (folder / "tokenizer/ran").exists()
