"""Images that are unusual but sound. Those that are refused are in test_decoding.py."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from gmail_kedro.images.decoding import decode_image

pytestmark = pytest.mark.reliability(11)


@pytest.mark.reliability(11)
def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("P", (6, 4), index) for index in (0, 1, 2)]
    for frame in frames:
        frame.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200])
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=50, loop=0)
    with Image.open(io.BytesIO(buffer.getvalue())) as stored:
        assert stored.n_frames == 3
    decoded = decode_image(buffer.getvalue(), name="moving")
    assert (np.asarray(decoded) == (200, 10, 10)).all()
    assert decoded.size == (6, 4)


@pytest.mark.reliability(11)
def test_an_image_of_one_pixel_is_an_image(encode):
    decoded = decode_image(encode(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"), name="dot")
    assert (decoded.size, decoded.getpixel((0, 0))) == ((1, 1), (9, 8, 7))


@pytest.mark.reliability(11)
def test_what_is_hidden_behind_an_image_is_neither_read_nor_run(encode, real_image):
    jpeg, archive = encode(real_image), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("__main__.py", "raise SystemExit(1)")
    polyglot = jpeg + archive.getvalue()
    assert zipfile.is_zipfile(io.BytesIO(polyglot))
    assert decode_image(polyglot, name="both").tobytes() == decode_image(jpeg, name="one").tobytes()
