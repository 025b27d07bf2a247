"""Chats: the real formats, what is learnt of a conversation, and images as tokens."""

import pytest
import torch

from gmail_kedro.mini.pretraining.language_tokenizers import train_llama_3_tokenizer, train_vicuna_tokenizer
from gmail_kedro.models.vision_language.chat import (
    IGNORE_INDEX,
    IMAGE,
    LLAVA_TEMPLATE,
    VICUNA_SYSTEM,
    Conversation,
    Turn,
    build_chat,
    collate,
)

from ..tiny_llava import TEXTS

TURNS = [Turn("What color is the ink?", "red"), Turn("And the paper?", "lined paper.")]
HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n"


@pytest.fixture(scope="module")
def llama_3():
    tokenizer = train_llama_3_tokenizer(TEXTS, vocab_size=270)
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    return tokenizer


@pytest.fixture(scope="module")
def vicuna():
    return train_vicuna_tokenizer(TEXTS, vocab_size=300)


def written(tokenizer, conversation: Conversation) -> tuple[str, str]:
    """What is read and learnt, and what of it is learnt."""
    return tokenizer.decode(conversation.ids), tokenizer.decode(
        [label for label in conversation.labels if label != IGNORE_INDEX]
    )


def test_llama_3_reads_its_own_format_and_learns_answers_with_their_end(llama_3):
    chat = build_chat(llama_3, None, chat_format="auto")
    everything, learnt = written(llama_3, chat.encode(TURNS, with_image=True))
    assert everything == (
        f"<|begin_of_text|>{HEADER.format('user')}<image>\nWhat color is the ink?<|eot_id|>"
        f"{HEADER.format('assistant')}red<|eot_id|>{HEADER.format('user')}And the paper?<|eot_id|>"
        f"{HEADER.format('assistant')}lined paper.<|eot_id|>"
    )
    assert learnt == "red<|eot_id|>lined paper.<|eot_id|>"
    assert {llama_3.convert_ids_to_tokens(token) for token in chat.end_tokens} == {"<|eot_id|>", "<|end_of_text|>"}


def test_llava_reads_its_processors_format(vicuna):
    chat = build_chat(vicuna, LLAVA_TEMPLATE, chat_format="auto")
    everything, learnt = written(vicuna, chat.encode(TURNS, with_image=True))
    assert everything.startswith("<s>") and everything.count(IMAGE) == 1
    assert "USER:" in everything and everything.index(IMAGE) < everything.index("What color")
    assert learnt.replace(" ", "") == "red</s>linedpaper.</s>"
    assert chat.end_tokens == [vicuna.eos_token_id]


def test_vicuna_begins_with_its_system_sentence(vicuna):
    chat = build_chat(vicuna, None, chat_format="vicuna_v1.5")
    everything, learnt = written(vicuna, chat.encode(TURNS, with_image=False))
    assert everything.removeprefix("<s>").strip().startswith(VICUNA_SYSTEM)
    assert everything.count(VICUNA_SYSTEM) == 1  # not again before the second question
    assert learnt.replace(" ", "") == "red</s>linedpaper.</s>"


@pytest.mark.parametrize("name", ["llama_3", "vicuna"])
def test_a_conversation_begins_with_exactly_what_the_model_is_asked_when_it_writes(name, request):
    tokenizer = request.getfixturevalue(name)
    chat = build_chat(tokenizer, LLAVA_TEMPLATE if name == "vicuna" else None, chat_format="auto")
    asked, whole = chat.encode_prompt(TURNS[0].prompt, with_image=True), chat.encode(TURNS[:1], with_image=True)
    assert list(whole.ids[: len(asked)]) == asked
    assert set(whole.labels[: len(asked)]) == {IGNORE_INDEX} and IGNORE_INDEX not in whole.labels[len(asked) :]


def test_without_a_template_the_format_has_to_be_said(vicuna):
    with pytest.raises(ValueError, match=r"vision_language\.chat_format to the format"):
        build_chat(vicuna, None, chat_format="auto")
    with pytest.raises(ValueError, match=r"one of \['auto', 'vicuna_v1.5', 'llama_3'\]. Got 'chatml'"):
        build_chat(vicuna, None, chat_format="chatml")


def test_images_are_widened_and_padding_is_masked():
    conversations = [Conversation((1, 9, 2, 3), (-100, -100, 2, 3)), Conversation((1, 4), (-100, 4))]
    right = collate(conversations, image_token=9, patch_count=3, pad=0, side="right")
    assert right.ids.tolist() == [[1, 9, 9, 9, 2, 3], [1, 4, 0, 0, 0, 0]]
    assert right.labels.tolist() == [[-100, -100, -100, -100, 2, 3], [-100, 4, -100, -100, -100, -100]]
    assert right.mask.tolist() == [[1] * 6, [1, 1, 0, 0, 0, 0]]
    left = collate(conversations, image_token=9, patch_count=3, pad=0, side="left")
    assert torch.equal(left.ids[1], torch.tensor([0, 0, 0, 0, 1, 4])) and left.mask[1].tolist() == [0, 0, 0, 0, 1, 1]
