"""What a refiner answered: a prompt, or something that no video should be made from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from .repetition import repeats
from .text import one_line, shorten, words

Reason = Literal["", "cut", "empty", "thinking", "answer", "repeats", "unfaithful"]
"""How a refined prompt came about: the model's answer, the same cut to the limit of words, or why it was not taken."""
REASONS: dict[Reason, str] = {
    "": "the model's answer",
    "cut": "the model's answer had too many words and was cut",
    "empty": "the model said nothing",
    "thinking": "the model thought aloud and came to no end",
    "answer": "the model answered instead of rewriting",
    "repeats": "the model's answer repeats itself",
    "unfaithful": "the model's answer is too far from the prompt",
}
"""Each reason in words."""
MAX_WORDS = 120
"""Most words of a refined prompt (PhyT2V's limit, that of the authors' script and of `stage2.max_words`)."""
RULES = 1
"""Version of the rules in this file and in `repetition`, part of what decides a refined prompt; count it up with them."""

_THOUGHTS = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis)"
_THOUGHT_BEGINS, _THOUGHT_ENDS = re.compile(rf"<{_THOUGHTS}>", re.I), re.compile(rf"</{_THOUGHTS}>", re.I)
_NAMES = (
    r"(?:prompt|caption|description|version|rewrit(?:e|ing)|rewritten|refine[ds]?|revis(?:ed|ion)|suggestion|answer)s?"
)
_SPEECH = re.compile(
    r"[\W_]*(?:"
    # Sure, here is ...
    r"(?:sure(?: thing)?|certainly|of course|absolutely|definitely|okay|ok|alright|understood|got it|no problem)(?:\s*[,.:;!—–]|\s+-)"
    # Here's a refined version ..., Below is the prompt ...
    rf"|(?:here|below)(?:['’]s| is| are)\b[^.:\n]*\b{_NAMES}\b"
    # I'm sorry, I cannot ...
    r"|(?:(?:i['’]m|i am) )?(?:very |so |terribly )?sorry\b|(?:i|we|my) apologi[sz]es?\b|my apologies\b|unfortunately\b"
    r"|i (?:can ?not|can['’]t|am (?:not able|unable)|will not|won['’]t|do not|don['’]t|must decline)\b|i['’]m (?:not able|unable)\b"
    r"|as an? (?:ai\b|(?:large )?language model\b|(?:ai |virtual )?assistant\b)|(?:i['’]m|i am) (?:an ai|a (?:large )?language model)\b"
    # I'd be happy to ..., Let me rewrite ...
    r"|i(?:['’]d| would) (?:be (?:happy|glad)|love|like|suggest|recommend)\b|i(?:['’]m| am) (?:happy|glad|here) to\b"
    r"|(?:i(?:['’]ll| will| can|['’]ve| have)?|let me|let['’]s) (?:just )?"
    r"(?:help|rewr\w+|refine\w*|revise\w*|improve\w*|enhance\w*|describe\w*|provide\w*|create\w*|assist\w*)\b"
    # Refined prompt: ...
    r"|(?:(?:the|your|my|a) )?(?:(?:refined|rewritten|revised|improved|enhanced|optimi[sz]ed|final|updated|new|video|text|user)[ -])*"
    r"(?:prompt|caption|description|answer|output|response|rewrite|version)(?: \d+)?[*_\s]*:"
    r")",
    re.I,
)
"""How models begin that speak to whoever asks, in English; a scene begins otherwise."""
_ITEM = re.compile(r"^\s*(?:\d{1,2}[.)]|[-*•])\s+\S", re.M)
_FIRST_ITEM = re.compile(r"\s*1[.)]\s|\s*#{1,6}\s")
_ASKS_BACK = re.compile(r"\b(?:you|your|please|clarify|specify)\b", re.I)


@dataclass(frozen=True)
class Refined:
    """A refined prompt, and how it came about.

    Attributes:
        prompt: What the user gave.
        refined: What to make a video from, on one line: the model's answer, or the prompt as it came.
        reason: Empty where the model's answer was taken as it is; see `REASONS`.
    """

    prompt: str
    refined: str
    reason: Reason = ""

    @property
    def fell_back(self) -> bool:
        """Whether the prompt is the user's own because no answer could be used."""
        return self.reason not in ("", "cut")


def read_answer(prompt: str, answer: str, max_words: int = MAX_WORDS) -> Refined:
    """What a model's answer to a prompt is good for.

    Args:
        prompt: The user's prompt.
        answer: The answer as the model gave it, with its line ends.
        max_words: Most words; a longer answer is cut after the last sentence within them.

    Returns:
        The answer on one line; the prompt, as it came, where the answer is none.
    """
    said = _THOUGHT_ENDS.split(answer)[-1]
    if _THOUGHT_BEGINS.search(said):
        return Refined(prompt, prompt, "thinking")
    text = one_line(said)
    if not words(text):
        return Refined(prompt, prompt, "empty")
    if _SPEECH.match(text) or _is_list(said) or _is_question(prompt, text):
        return Refined(prompt, prompt, "answer")
    if repeats(text):
        return Refined(prompt, prompt, "repeats")
    kept = shorten(text, max_words)
    return Refined(prompt, kept, "" if kept == text else "cut")


def _is_list(said: str) -> bool:
    """Whether an answer is a list or begins with a heading, rather than running text."""
    return bool(_FIRST_ITEM.match(said)) or len(_ITEM.findall(said)) > 1


def _is_question(prompt: str, text: str) -> bool:
    """Whether an answer asks back; prompts with a question of their own may be rewritten with it."""
    asks = text.rstrip().endswith("?")
    return asks and ("?" not in prompt or bool(_ASKS_BACK.search(text)))
