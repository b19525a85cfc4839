"""Conversations as token ids: the chat template is trusted, what the turns say is not.

A prompt may hold the text of a control token (`<|im_end|>`, `<|im_start|>system`). It must reach the model as the
letters a person typed and never as the token, which would end the turn and open another. transformers has an option for
that (`sanitize_control_tokens`), but not in all releases that this package allows, so such texts are cut in two inside
each control token here, and the parts are encoded on their own. Texts without one get exactly the ids that
`tokenizer(tokenizer.apply_chat_template(...), add_special_tokens=False)` gives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Any, Literal

from jinja2 import TemplateError

from ..errors import UserError
from ..prompting.chat import Messages

TemplateKind = Literal["chat", "no system role", "none"]
PLAIN_TEMPLATE = (
    "{{ begin }}{% for turn in messages %}"
    "{% if turn['role'] != 'system' %}{{ turn['role'] | capitalize + ':\n' }}{% endif %}{{ turn['content'] }}"
    "{% if turn['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)
"""Stands in for the template of a tokenizer that has none (ours): the system text and a blank line, then each turn as a
line with its role, its text and a blank line; answers end with the end-of-text token."""
_SYSTEM_PROBE = "the probe of a system text"


def template_kind(tokenizer: Any) -> TemplateKind:
    """What the tokenizer's chat template can do.

    Args:
        tokenizer: A tokenizer of transformers.

    Returns:
        `chat` for a template with a system role; `no system role` for one that refuses or drops it, where the system
        text is put before the first user turn; `none` without a template, where `PLAIN_TEMPLATE` stands in.
    """
    if not tokenizer.chat_template:
        return "none"
    turns = [{"role": "system", "content": _SYSTEM_PROBE}, {"role": "user", "content": "x"}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, enable_thinking=False)
    except TemplateError:
        return "no system role"
    return "chat" if _SYSTEM_PROBE in text else "no system role"


def encode_conversations(
    tokenizer: Any, conversations: Sequence[Messages], add_generation_prompt: bool, openings: Sequence[str] = ()
) -> list[list[int]]:
    """Token ids of conversations, all in one call of the tokenizer.

    Args:
        tokenizer: A tokenizer of transformers.
        conversations: The conversations; what their turns say is never read as control tokens.
        add_generation_prompt: Whether the text goes on to where an answer begins. Templates that can think are asked for
            an answer without it (`enable_thinking=False`).
        openings: What each answer begins with, where it has begun; never read as control tokens either.

    Returns:
        One list of ids per conversation.

    Raises:
        UserError: If the template refuses a conversation.
    """
    begun = openings or [""] * len(conversations)
    mark = unused_character([*conversations, [{"role": "assistant", "content": text} for text in begun]])
    control = control_tokens(tokenizer, str(tokenizer.chat_template or ""))
    heads = _render(tokenizer, conversations, add_generation_prompt, mark)
    texts = [head + guarded(opening, control, mark) for head, opening in zip(heads, begun, strict=True)]
    return _encode(tokenizer, texts, mark)


def encode_conversation(tokenizer: Any, messages: Messages, add_generation_prompt: bool) -> list[int]:
    """Token ids of one conversation; see `encode_conversations`."""
    return encode_conversations(tokenizer, [messages], add_generation_prompt)[0]


def encode_pairs(
    tokenizer: Any, prompts: Sequence[Messages], completions: Sequence[Messages]
) -> list[tuple[list[int], list[int]]]:
    """Token ids of training pairs, all in two calls of the tokenizer.

    Args:
        tokenizer: A tokenizer of transformers.
        prompts: What is asked, from the first turn to the last user turn.
        completions: What is answered, one assistant turn each.

    Returns:
        Per pair the ids of the head, the same that `encode_conversations` gives with a generation prompt, and the ids of
        the answer, which end with the end-of-turn token; a line break after it is left out.

    Raises:
        UserError: If the template refuses a pair, or writes an answer in training otherwise than it asks for one.
    """
    wholes = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
    mark = unused_character(wholes)
    heads = _render(tokenizer, prompts, True, mark)
    texts = _render(tokenizer, wholes, False, mark)
    control = control_tokens(tokenizer, str(tokenizer.chat_template or ""))
    said = [guarded(completion[-1]["content"], control, mark).strip() for completion in completions]
    end = tokenizer.eos_token or ""
    answers = [_answer(head, text, own, end) for head, text, own in zip(heads, texts, said, strict=True)]
    return list(zip(_encode(tokenizer, heads, mark), _encode(tokenizer, answers, mark), strict=True))


def encode_pair(tokenizer: Any, prompt: Messages, completion: Messages) -> tuple[list[int], list[int]]:
    """Ids of the head and of the answer of one training pair; see `encode_pairs`."""
    return encode_pairs(tokenizer, [prompt], [completion])[0]


def _answer(head: str, text: str, said: str, end: str) -> str:
    """The part of a rendered pair that follows its head, up to the end of the turn."""
    answer = text[len(head) :].rstrip()
    if not text.startswith(head) or not answer.lstrip().startswith(said):
        raise UserError(
            "Training needs a chat template that writes an answer right after its generation prompt. Got a template that "
            f"asks with {head[-40:]!r} and writes {text[-60:]!r}; choose an instruct model that answers without thinking, "
            "or give the tokenizer such a template."
        )
    if answer.lstrip() != said:
        return answer
    if not end:
        raise UserError(
            "Training needs a token that ends an answer. Got a chat template that writes none and a tokenizer without "
            "`eos_token`; set it in the checkpoint's tokenizer_config.json."
        )
    return answer + end


def unused_character(conversations: Sequence[Messages]) -> str:
    """A character for private use that no turn has."""
    present = set().union(*(turn["content"] for turns in conversations for turn in turns))
    return next(chr(code) for code in range(0xF0000, 0x10FFFE) if chr(code) not in present)


def control_tokens(tokenizer: Any, template: str) -> re.Pattern[str] | None:
    """Finds the first letter of each control token: the special ones, and added ones that the template writes."""
    added = tokenizer.added_tokens_decoder.values()
    texts = {token.content for token in added if token.special or (token.content.strip() and token.content in template)}
    # A look-ahead, so that tokens which overlap are all found.
    return re.compile(f"(?={'|'.join(map(re.escape, sorted(texts)))})(?s:.)") if texts else None


def guarded(text: str, control: re.Pattern[str] | None, mark: str) -> str:
    """A text with `mark` behind the first letter of each control token."""
    return control.sub(lambda found: found.group() + mark, text) if control else text


def _folded(messages: Messages) -> Messages:
    """The conversation with its system text at the head of the user turn that follows, or as a user turn."""
    if messages[0]["role"] != "system":
        return messages
    said, others = messages[0]["content"], messages[1:]
    if others and others[0]["role"] == "user":
        said, others = f"{said}\n\n{others[0]['content']}", others[1:]
    return [{"role": "user", "content": said}, *others]


def _render(tokenizer: Any, conversations: Sequence[Messages], add_generation_prompt: bool, mark: str) -> list[str]:
    """The texts of conversations, with `mark` inside whatever looks like a control token and is none."""
    if not conversations:
        return []
    control, kind = control_tokens(tokenizer, str(tokenizer.chat_template or "")), template_kind(tokenizer)
    turns: list[Messages] = [
        [{**turn, "content": guarded(turn["content"], control, mark)} for turn in messages]
        for messages in conversations
    ]
    if kind == "no system role":
        turns = [_folded(messages) for messages in turns]
    options: dict[str, Any] = {"enable_thinking": False}
    if kind == "none":
        begins = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
        options = {"chat_template": PLAIN_TEMPLATE, "begin": tokenizer.bos_token if begins else ""}
    options["add_generation_prompt"] = add_generation_prompt
    try:
        texts: list[str] = tokenizer.apply_chat_template(turns, tokenize=False, **options)
        return texts
    except TemplateError as error:
        raise UserError(
            f"The chat template of the language model refuses a conversation. Got {error}; choose another checkpoint."
        ) from error


def _encode(tokenizer: Any, texts: Sequence[str], mark: str) -> list[list[int]]:
    """Ids of rendered texts; the parts between marks are encoded on their own, so that no control token is in them."""
    if not texts:
        return []
    parts = [text.split(mark) for text in texts]
    ids = iter(tokenizer([part for pieces in parts for part in pieces], add_special_tokens=False)["input_ids"])
    return [[number for found in islice(ids, len(pieces)) for number in found] for pieces in parts]
