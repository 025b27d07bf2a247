"""Keys of generated images, and the names they carry inside a shard."""

import contextlib
import re
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc

# A ustar name holds 100 bytes and ".json" takes five of them.
MAX_BASE_BYTES = 95
# Greedy: a caption id may have slashes itself, the sample index is behind the last one and has no leading zero.
_KEY = re.compile(r"(?P<caption_id>.+)/(?P<sample_index>0|[1-9][0-9]*)", re.DOTALL)
_BASE = re.compile(r"(?P<caption_id>[A-Za-z0-9_%~-]+)_(?P<sample_index>0|[1-9][0-9]*)")


def member_base(key: str) -> str:
    """Returns the name of an image's members in a shard, without the extension.

    WebDataset takes everything after the first dot for the extension and a slash for a folder, so both,
    and everything but ASCII letters, digits, ``_``, ``-`` and ``~``, are written as ``%XX``;
    ``key_of`` turns the name back into the key.

    Args:
        key: ``caption_id/sample_index``.

    Raises:
        ValueError: If the key is not of that form, or its name is too long for a tar header.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise ValueError(f"The key {key!r} must be caption_id/sample_index, such as 'train_7/0'.")
    # quote() never escapes a dot. Lone surrogates come from file names that are not UTF-8.
    escaped = quote(match["caption_id"], safe="", errors="surrogatepass").replace(".", "%2E")
    base = f"{escaped}_{match['sample_index']}"
    if len(base) > MAX_BASE_BYTES:
        raise ValueError(
            f"The key {key!r} takes {len(base)} bytes as a name in a shard (characters other than A-Z a-z 0-9 _ - ~ "
            f"take three a byte); at most {MAX_BASE_BYTES} fit. Give the corpus shorter caption ids."
        )
    return base


def check_caption_ids(caption_ids: pa.Array, sample_index: int) -> None:
    """Refuses caption ids, texts [N], as ``member_base`` would; ids of plain letters are checked all at once."""
    longest = MAX_BASE_BYTES - len(f"_{sample_index}")
    is_plain = pc.match_substring_regex(caption_ids, f"^[A-Za-z0-9_~-]{{1,{longest}}}$")
    for caption_id in caption_ids.filter(pc.invert(is_plain)).to_pylist():
        member_base(f"{caption_id}/{sample_index}")


def key_of(base: str) -> str:
    """Returns the key whose members are called ``base``.

    Raises:
        ValueError: If no key has that name.
    """
    match = _BASE.fullmatch(base)
    if match is not None:
        with contextlib.suppress(UnicodeDecodeError):
            key = f"{unquote(match['caption_id'], errors='surrogatepass')}/{match['sample_index']}"
            # "%61_0" would be read as "a/0", too: one image must have one name.
            if member_base(key) == base:
                return key
    raise ValueError(f"{base!r} is not the name of a generated image; expected such as 'train_7_0'.")
