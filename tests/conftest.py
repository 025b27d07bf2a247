"""What all tests share: the repository's root, one thread, and an MLflow store of their own."""

import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; two threads collapse beside other work
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")  # projects that tests make have no .telemetry file


signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background has it ignored


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a temporary store, so that no test writes into the project's."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


@pytest.fixture(scope="module")
def attention_in_bfloat16() -> Iterator[None]:
    """Lets a module's tests ask for bfloat16 where torch was told to leave AVX-512 alone, as a test of other CPUs does.

    The CPU's flash kernel of torch 2.13 then fails on 77 tokens, since it asks the hardware and not the setting:
    "pack_vnni2 is only supported when avx512 is supported". A CPU that has no AVX-512 never gets there.
    """
    import torch

    before = torch.backends.cuda.flash_sdp_enabled()
    torch.backends.cuda.enable_flash_sdp(before and not os.environ.get("ATEN_CPU_CAPABILITY"))
    yield
    torch.backends.cuda.enable_flash_sdp(before)


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """Returns a function that encodes an image of Pillow's."""

    def encode_image(image: Any, kind: str = "JPEG", **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return encode_image


@pytest.fixture
def real_image() -> Any:
    """Returns an image of 48 by 32 pixels without symmetry."""
    import numpy as np
    from PIL import Image

    rows, columns = np.mgrid[:32, :48]
    pixels = np.stack([rows * 7, columns * 5, 200 - rows * columns // 10], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))
