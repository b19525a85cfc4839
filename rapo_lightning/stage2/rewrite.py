"""The language model's two phases of a round: checking the physics, and rewriting with the memory of earlier rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..data.ids import derived_seed
from ..data.ranking import mean_score
from ..data.store import Row
from ..data.trajectory import score_columns
from ..models import Embedder, ModelPool
from ..models.usage import at_places
from ..prompting.chat import Messages
from ..prompting.examples import Example, ExamplePool, query_text
from ..prompting.templates import template
from ..prompting.text import one_line, shorten
from ..recipe import Stage2
from .candidates import Proposal, Shortened, fitting, new_first, tried, usable
from .memory import History, history_of, request_of

NO_PROBLEM = "None was seen; describe the request more clearly."


def physics_messages(row: Row) -> Messages:
    """The conversation in which the model compares a video's motion with its law."""
    user = template("stage2", "physics_user").format(
        law=row["phys_law"], request=row["source_prompt"], motion=row["motion"]
    )
    return [{"role": "system", "content": template("stage2", "physics_system")}, {"role": "user", "content": user}]


def check_physics(rows: Sequence[Row], stage2: Stage2, models: ModelPool) -> list[str]:
    """The model's remark on the physics of each row; empty where the prompt has no law."""
    answers = [""] * len(rows)
    chosen = [index for index, row in enumerate(rows) if row["phys_law"] and stage2.physics != "off"]
    if chosen:
        sampling = replace(stage2.sampling, max_new_tokens=stage2.physics_tokens)
        seeds = [derived_seed("physics", rows[i]["prompt_id"], rows[i]["round"], rows[i]["seed"]) for i in chosen]
        conversations = [physics_messages(rows[index]) for index in chosen]
        with at_places(chosen):
            found = models.language.complete(conversations, seeds, sampling)
        for index, (answer,) in zip(chosen, found, strict=True):
            answers[index] = one_line(answer)
    return answers


def _user_turn(request: str, problem: str, memory: str = "") -> dict[str, str]:
    text = template("stage2", "rewrite_user").format(request=request, memory=memory, problem=problem or NO_PROBLEM)
    return {"role": "user", "content": text}


def rewrite_messages(request: str, history: History, shown: Sequence[Example]) -> Messages:
    """The conversation that asks for the next prompt: examples as turns, then the request with its history.

    Args:
        request: The user's prompt.
        history: What is told of the rounds so far.
        shown: Examples, the nearest last.
    """
    messages = [{"role": "system", "content": template("stage2", "rewrite_system")}]
    for example in shown:
        messages += [
            _user_turn(example.prompt, example.critique),
            {"role": "assistant", "content": example.caption},
        ]
    return [*messages, _user_turn(request, history.problem, history.memory)]


def _choose(
    options: Sequence[Sequence[str]], requests: Sequence[str], pool: ExamplePool, stage2: Stage2, embedder: Embedder
) -> list[str]:
    """Of each prompt's options the most faithful to the request, and nearest to the examples' style; empty without options.

    Faithful is near the request alone: one that is near the critique as well has taken up its words, which say what is
    wrong.
    """
    texts = list(dict.fromkeys([*requests, *(text for items in options for text in items)]))
    if not any(options):
        return [""] * len(options)
    vectors = dict(zip(texts, embedder.encode(texts), strict=True))
    chosen = []
    for request, items in zip(requests, options, strict=True):
        scores = [float(vectors[t] @ vectors[request]) + stage2.style_weight * pool.style(t) for t in items]
        chosen.append(items[int(np.argmax(scores))] if items else "")
    return chosen


def rewrite_inputs(rounds: Sequence[Row], stage2: Stage2) -> list[object]:
    """What a rewrite, with its physics check, is made from beside models, settings and texts."""
    first, last = rounds[0], rounds[-1]
    # A fine-tuned rewriter is shown the best attempts by the ranking, which looks at every score.
    scores = [[row[name] for name in score_columns(row)] if stage2.rewriter else mean_score(row) for row in rounds]
    shown = scores if stage2.memory or stage2.memory_tokens else [None] * len(rounds)
    told = [[row["prompt"], row["critique"], score] for row, score in zip(rounds, shown, strict=True)]
    physics = [first["phys_law"], last["motion"]] if stage2.physics != "off" else []
    return [request_of(rounds, stage2), last["prompt_id"], last["seed"], told, physics]


def rewrite(histories: Sequence[Sequence[Row]], stage2: Stage2, models: ModelPool, pool: ExamplePool) -> list[Proposal]:
    """Proposes the next prompt of each trajectory.

    Where no answer keeps `max_words`, the model is asked once more to say it shorter; what is too long then is cut.

    Args:
        histories: For each prompt its rounds so far, in order, the last with its critique and physics.
        stage2: The loop's settings.
        models: Lends the rewriter, and the embedder that finds examples and compares candidates.
        pool: Example rewrites.

    Returns:
        One prompt each; the last round's own prompt where the model gave nothing usable.
    """
    requests = [request_of(rounds, stage2) for rounds in histories]
    told = [history_of(rounds, stage2, models.lend_language()) for rounds in histories]
    queries = [query_text(request, history.problem) for request, history in zip(requests, told, strict=True)]
    shown = pool.nearest(queries, stage2.examples_per_prompt, lambda texts: models.embedder.encode(texts))
    conversations = [rewrite_messages(*parts) for parts in zip(requests, told, shown, strict=True)]
    lasts = [rounds[-1] for rounds in histories]
    seeds = [derived_seed("rewrite", row["prompt_id"], row["round"], row["seed"]) for row in lasts]
    answers = models.language.complete(conversations, seeds, stage2.sampling, stage2.candidates)
    known = [tried(rounds) for rounds in histories]
    options = [new_first(usable(a), k, stage2.max_words) for a, k in zip(answers, known, strict=True)]
    second = _ask_shorter(conversations, options, seeds, stage2, models)
    kept = [_short_enough(first, second.get(i, []), known[i], stage2.max_words) for i, first in enumerate(options)]
    chosen = _choose([texts for texts, _ in kept], requests, pool, stage2, models.embedder)
    return [
        Proposal(text, shortened) if text else Proposal(row["prompt"])
        for text, (_, shortened), row in zip(chosen, kept, lasts, strict=True)
    ]


def _ask_shorter(
    conversations: Sequence[Messages],
    options: Sequence[Sequence[str]],
    seeds: Sequence[int],
    stage2: Stage2,
    models: ModelPool,
) -> dict[int, list[str]]:
    """Usable answers of a second try by place, where all options of the first are too long."""
    places = [index for index, texts in enumerate(options) if texts and not fitting(texts, stage2.max_words)]
    if not places:
        return {}
    asked = []
    for index in places:
        long = options[index][0]
        turn = template("stage2", "shorter_user").format(words=len(long.split()), limit=stage2.max_words)
        asked.append([*conversations[index], {"role": "assistant", "content": long}, {"role": "user", "content": turn}])
    with at_places(places):
        answers = models.language.complete(
            asked, [derived_seed("again", seeds[index]) for index in places], stage2.sampling, stage2.candidates
        )
    return {index: usable(found) for index, found in zip(places, answers, strict=True)}


def _short_enough(
    first: Sequence[str], second: Sequence[str], known: set[str], max_words: int
) -> tuple[list[str], Shortened]:
    """The texts among which is chosen: the first answers that keep the limit, else new ones of the second, else cut ones."""
    found = fitting(first, max_words)
    if found or not first:
        return found, ""
    again = [text for text in fitting(second, max_words) if text not in known]
    if again:
        return again, "again"
    return [shorten(text, max_words) for text in new_first([*first, *second], known, max_words)], "cut"
