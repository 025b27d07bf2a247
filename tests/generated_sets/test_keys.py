import pyarrow as pa
import pytest

from gmail_kedro.generated_sets.keys import MAX_BASE_BYTES, check_caption_ids, key_of, member_base


@pytest.mark.parametrize(
    "key",
    [
        "train_7/0",
        "1000092795.jpg#0/12",
        "a/b/0",
        "a_b/0",
        "../../etc/passwd/0",
        "__meta__/0",
        "ß 猫 🐈/3",
        "100%/0",
        ".../0",
    ],
)
def test_a_name_is_reversible_and_safe_inside_a_tar(key: str) -> None:
    base = member_base(key)
    assert key_of(base) == key
    assert base.isascii()
    assert not set("./\\ ") & set(base)


def test_keys_that_differ_have_names_that_differ() -> None:
    keys = ["a_b/0", "a/b/0", "a.b/0", "a b/0", "a%2Eb/0", "a_b_0/0", "a_b/00001".replace("0000", "")]
    assert len({member_base(key) for key in keys}) == len(keys)


@pytest.mark.parametrize("key", ["", "train_7", "/0", "train_7/", "train_7/01", "train_7/-1", "train_7/x"])
def test_refuses_what_is_no_key(key: str) -> None:
    with pytest.raises(ValueError, match="must be caption_id/sample_index"):
        member_base(key)


def test_refuses_a_key_too_long_for_a_header() -> None:
    assert len(member_base("x" * (MAX_BASE_BYTES - 2) + "/0")) == MAX_BASE_BYTES
    with pytest.raises(ValueError, match="takes 96 bytes .* shorter caption ids"):
        member_base("x" * (MAX_BASE_BYTES - 1) + "/0")


@pytest.mark.parametrize("sample", [0, 10, 123])
@pytest.mark.parametrize(
    "caption_id", ["", "a", "ß", "a b", "x" * 91, "x" * 92, "x" * 93, "x" * 94, "é" * 15, "é" * 16]
)
def test_many_ids_are_judged_as_each_alone(caption_id: str, sample: int) -> None:
    try:
        member_base(f"{caption_id}/{sample}")
        refused = ""
    except ValueError as error:
        refused = str(error)
    ids = pa.array(["fine", caption_id, "fine_too"])
    if not refused:
        check_caption_ids(ids, sample)
        return
    with pytest.raises(ValueError) as caught:
        check_caption_ids(ids, sample)
    assert str(caught.value) == refused


@pytest.mark.parametrize("base", ["", "train", "a.b_0", "a/b_0", "a%2eb_0", "a%2_0", "a_01", "%61_0", "%FF_0"])
def test_refuses_a_name_no_key_has(base: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a generated image"):
        key_of(base)
