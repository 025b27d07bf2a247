"""Conversations with a language model as tokens: its own chat template, and which tokens are learnt.

A template is rendered once, around a place for the prompt, and prompts are put in as they are: rendering each prompt
would let a template trim or rewrite it. An image is one ``<image>`` token here; ``collate`` widens it to its patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gmail_kedro.interfaces import IMAGE_MARK

IGNORE_INDEX = -100  # what torch's cross_entropy and transformers leave out of a loss
IMAGE = IMAGE_MARK
PLACE = "{prompt}"
# LLaMA-3 ends an answer with another token than the one its tokenizer calls the end of a text.
LLAMA_3_END = "<|eot_id|>"
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
# For language models that ship without a template. An entry is a Jinja template over messages, each a role and a
# content; `vision_language.chat_format` must allow its name.
TEMPLATES = {
    "vicuna_v1.5": (
        "{{ '" + VICUNA_SYSTEM.replace("'", "\\'") + "' }}{% for message in messages %}"
        "{{ (' USER: ' if message['role'] == 'user' else ' ASSISTANT: ') + message['content'] }}"
        "{{ eos_token if message['role'] == 'assistant' else '' }}{% endfor %}"
        "{{ ' ASSISTANT:' if add_generation_prompt else '' }}"
    ),
    "llama_3": (
        "{{ bos_token }}{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] }}"
        "{{ '" + LLAMA_3_END + "' }}{% endfor %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' if add_generation_prompt else '' }}"
    ),
}
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{{ 'ASSISTANT:' if add_generation_prompt else '' }}"
)


@dataclass(frozen=True)
class Turn:
    """One exchange: what is asked, and what is to be said."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Conversation:
    """A conversation as tokens."""

    ids: tuple[int, ...]  # an image is one <image> token
    labels: tuple[int, ...]  # the same where the model answers, IGNORE_INDEX where it reads


class Chat:
    """Turns prompts and answers into the tokens that a language model was tuned on.

    Args:
        tokenizer: The language model's.
        template: Jinja template of a conversation.
        is_structured: Whether its messages hold parts (``image``, ``text``), as those of processors do, or strings.
    """

    def __init__(self, tokenizer: Any, template: str, *, is_structured: bool) -> None:
        self.tokenizer, self.template, self.is_structured = tokenizer, template, is_structured
        self._first = {with_image: self._render_first(with_image=with_image) for with_image in (False, True)}
        self._next = self._render_next()
        llama_3_end = tokenizer.convert_tokens_to_ids(LLAMA_3_END) if LLAMA_3_END in tokenizer.get_vocab() else None
        self.end = tokenizer.eos_token_id if llama_3_end is None else llama_3_end
        self.end_tokens = sorted({self.end, tokenizer.eos_token_id})

    def encode_prompt(self, prompt: str, *, with_image: bool) -> list[int]:
        """Returns the tokens of a question, up to where the answer begins."""
        return self._tokenize(self._first[with_image].replace(PLACE, prompt), is_first=True)

    def encode(self, turns: Sequence[Turn], *, with_image: bool) -> Conversation:
        """Returns a conversation; answers and the token that ends each are learnt, everything else is read only.

        Args:
            turns: The exchanges, one or more.
            with_image: Whether an image comes before the first prompt.
        """
        ids: list[int] = []
        labels: list[int] = []
        for index, turn in enumerate(turns):
            text = (self._first[with_image] if index == 0 else self._next).replace(PLACE, turn.prompt)
            gap = "" if text[-1].isspace() else " "
            # Tokenized together, as the model will write it: where the seam changes the question's last token, the
            # new one counts to the answer.
            asked = self._tokenize(text, is_first=index == 0)
            whole = [*self._tokenize(text + gap + turn.answer, is_first=index == 0), self.end]
            read = next((place for place, pair in enumerate(zip(asked, whole)) if pair[0] != pair[1]), len(asked))  # noqa: B905
            ids += whole
            labels += [IGNORE_INDEX] * read + whole[read:]
        return Conversation(tuple(ids), tuple(labels))

    def encode_text(self, text: str) -> list[int]:
        """Returns the tokens of a text that is no conversation, after the start token."""
        return self._tokenize(text, is_first=True)

    def decode(self, ids: torch.Tensor) -> list[str]:
        """Returns the text of each row of tokens [B, T], special tokens left out."""
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _tokenize(self, text: str, *, is_first: bool) -> list[int]:
        start = self.tokenizer.bos_token  # LLaMA-3's template writes it, Vicuna's leaves it to the tokenizer
        wants_start = is_first and start is not None and not text.startswith(start)
        ids = list(self.tokenizer(text, add_special_tokens=False).input_ids)
        return [self.tokenizer.bos_token_id, *ids] if wants_start else ids

    def _render_first(self, *, with_image: bool) -> str:
        return self._apply([self._message("user", PLACE, with_image=with_image)], asks=True)

    def _render_next(self) -> str:
        """Returns a later question, as it stands after an earlier exchange."""
        history = [self._message(role, "-", with_image=False) for role in ("user", "assistant")]
        longer = self._apply([*history, self._message("user", PLACE, with_image=False)], asks=True)
        return longer[len(self._apply(history, asks=False)) :]

    def _message(self, role: str, text: str, *, with_image: bool) -> dict[str, Any]:
        if self.is_structured:
            parts = [{"type": "image"}] if with_image else []
            return {"role": role, "content": [*parts, {"type": "text", "text": text}]}
        return {"role": role, "content": f"{IMAGE}\n{text}" if with_image else text}

    def _apply(self, messages: list[dict[str, Any]], *, asks: bool) -> str:
        return self.tokenizer.apply_chat_template(
            messages, chat_template=self.template, tokenize=False, add_generation_prompt=asks
        )


def build_chat(tokenizer: Any, processor_template: str | None, *, chat_format: str) -> Chat:
    """Returns the chat of a model.

    Args:
        tokenizer: The language model's.
        processor_template: The processor's chat template, where there is one.
        chat_format: A key of ``TEMPLATES``, or ``auto`` for the processor's template, or else the tokenizer's.

    Raises:
        ValueError: If the format is unknown, or ``auto`` and there is no template.
    """
    if chat_format in TEMPLATES:
        return Chat(tokenizer, TEMPLATES[chat_format], is_structured=False)
    if chat_format != "auto":
        raise ValueError(f"The chat format must be one of {['auto', *TEMPLATES]}. Got {chat_format!r} instead.")
    if processor_template:
        return Chat(tokenizer, processor_template, is_structured=True)
    if tokenizer.chat_template:
        return Chat(tokenizer, tokenizer.chat_template, is_structured=False)
    raise ValueError(
        "Neither the processor nor the tokenizer has a chat template. Set vision_language.chat_format to the format "
        f"the language model was tuned on: one of {list(TEMPLATES)}."
    )


@dataclass(frozen=True)
class TokenBatch:
    """Conversations side by side, all int64 [B, T]."""

    ids: torch.Tensor
    labels: torch.Tensor  # IGNORE_INDEX where nothing is learnt
    mask: torch.Tensor  # 0 at padding


def pad_rows(rows: Sequence[Sequence[int]], *, fill: int = IGNORE_INDEX, side: str = "right") -> torch.Tensor:
    """Returns int64 [N, T] of rows of any length, the shorter ones filled up on one side."""
    if not rows:
        return torch.zeros(0, 0, dtype=torch.long)
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fill, padding_side=side)


def collate(
    conversations: Sequence[Conversation], *, image_token: int, patch_count: int, pad: int, side: str
) -> TokenBatch:
    """Returns conversations as one batch, each image widened to its patches.

    Args:
        conversations: B of them.
        image_token: Id of the token that stands for an image.
        patch_count: Tokens an image takes.
        pad: Id that fills the shorter rows; it is masked.
        side: ``right`` for training, ``left`` for writing.
    """
    ids, labels = [], []
    for conversation in conversations:
        counts = [patch_count if token == image_token else 1 for token in conversation.ids]
        ids.append(_repeat(conversation.ids, counts))
        labels.append(_repeat(conversation.labels, counts))
    return TokenBatch(
        ids=pad_rows(ids, fill=pad, side=side),
        labels=pad_rows(labels, side=side),
        mask=pad_rows([[1] * len(row) for row in ids], fill=0, side=side),
    )


def _repeat(values: Sequence[int], counts: Sequence[int]) -> list[int]:
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
