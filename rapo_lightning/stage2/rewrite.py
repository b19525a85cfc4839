"""The language model's two phases of a round: checking the physics, and rewriting with the memory of earlier rounds."""

from __future__ import annotations

import math
import re
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
from ..prompting.examples import ExamplePool, query_text
from ..prompting.templates import template
from ..prompting.text import one_line, shorten
from ..recipe import Stage2

NO_PROBLEM = "None was seen; describe the request more clearly."


def known_problems(rounds: Sequence[Row]) -> str:
    """The sentences of all critiques so far, each once, the newest round's first."""
    sentences: dict[str, None] = {}
    for row in sorted(rounds, key=lambda row: -row["round"]):
        for sentence in re.split(r"(?<=[.!?])\s+", row["critique"] or ""):
            if sentence:
                sentences.setdefault(sentence)
    return " ".join(sentences)


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


def rewrite_messages(rounds: Sequence[Row], problem: str, shown: Sequence, stage2: Stage2) -> Messages:  # type: ignore[type-arg]
    """The conversation that asks for the next prompt: examples as turns, then the request with its memory.

    Args:
        rounds: All rounds of the prompt so far.
        problem: What is to be solved.
        shown: Examples, the nearest last.
        stage2: The loop's settings.
    """
    messages = [{"role": "system", "content": template("stage2", "rewrite_system")}]
    for example in shown:
        messages += [
            _user_turn(example.prompt, example.critique),
            {"role": "assistant", "content": example.caption},
        ]
    rewrites = [row for row in rounds if row["prompt"] != row["source_prompt"] and mean_score(row) > -math.inf]
    best = sorted(rewrites, key=lambda row: (-mean_score(row), row["round"]))[: stage2.memory]
    memory = "".join(
        template("stage2", "memory_line").format(score=f"{mean_score(row):.2f}", prompt=row["prompt"]) + "\n"
        for row in best
    )
    return [*messages, _user_turn(rounds[0]["source_prompt"], problem, memory)]


def _choose(
    options: Sequence[Sequence[str]], queries: Sequence[str], pool: ExamplePool, stage2: Stage2, embedder: Embedder
) -> list[str]:
    """Of each prompt's options the nearest to request and critique, and to the examples' style; empty without options."""
    texts = list(dict.fromkeys([*queries, *(text for items in options for text in items)]))
    if not any(options):
        return [""] * len(options)
    vectors = dict(zip(texts, embedder.encode(texts), strict=True))
    chosen = []
    for query, items in zip(queries, options, strict=True):
        scores = [float(vectors[t] @ vectors[query]) + stage2.style_weight * pool.style(t) for t in items]
        chosen.append(items[int(np.argmax(scores))] if items else "")
    return chosen


def _options(rounds: Sequence[Row], answers: Sequence[str], max_words: int) -> list[str]:
    """The usable answers; those that were tried before only if there is no other."""
    cleaned = [text for text in (shorten(one_line(answer), max_words) for answer in answers) if text]
    tried = {row["prompt"] for row in rounds}
    return [text for text in cleaned if text not in tried] or cleaned


def _problem(rounds: Sequence[Row], stage2: Stage2) -> str:
    """What the next prompt is to solve: the critiques so far, and the remark on the physics."""
    remark = rounds[-1]["physics"] if stage2.physics == "rewrite" else ""
    return " ".join(part for part in (known_problems(rounds), remark) if part)


def rewrite_inputs(rounds: Sequence[Row], stage2: Stage2) -> list[object]:
    """What a rewrite, with its physics check, is made from beside models, settings and texts."""
    first, last = rounds[0], rounds[-1]
    # A fine-tuned rewriter is shown the best attempts by the ranking, which looks at every score.
    scores = [[row[name] for name in score_columns(row)] if stage2.rewriter else mean_score(row) for row in rounds]
    shown = scores if stage2.memory else [None] * len(rounds)
    told = [[row["prompt"], row["critique"], score] for row, score in zip(rounds, shown, strict=True)]
    physics = [first["phys_law"], last["motion"]] if stage2.physics != "off" else []
    return [first["source_prompt"], last["prompt_id"], last["seed"], told, physics]


def rewrite(histories: Sequence[Sequence[Row]], stage2: Stage2, models: ModelPool, pool: ExamplePool) -> list[str]:
    """Proposes the next prompt of each trajectory.

    Args:
        histories: For each prompt its rounds so far, in order, the last with its critique and physics.
        stage2: The loop's settings.
        models: Lends the rewriter, and the embedder that finds examples and compares candidates.
        pool: Example rewrites.

    Returns:
        One prompt each; the last round's own prompt where the model gave nothing usable.
    """
    problems = [_problem(rounds, stage2) for rounds in histories]
    requests = [rounds[0]["source_prompt"] for rounds in histories]
    queries = [query_text(request, problem) for request, problem in zip(requests, problems, strict=True)]
    shown = pool.nearest(queries, stage2.examples_per_prompt, lambda texts: models.embedder.encode(texts))
    conversations = [
        rewrite_messages(rounds, problem, examples, stage2)
        for rounds, problem, examples in zip(histories, problems, shown, strict=True)
    ]
    seeds = [
        derived_seed("rewrite", rounds[-1]["prompt_id"], rounds[-1]["round"], rounds[-1]["seed"])
        for rounds in histories
    ]
    answers = models.language.complete(conversations, seeds, stage2.sampling, stage2.candidates)
    options = [_options(rounds, found, stage2.max_words) for rounds, found in zip(histories, answers, strict=True)]
    chosen = _choose(options, queries, pool, stage2, models.embedder)
    return [text or rounds[-1]["prompt"] for text, rounds in zip(chosen, histories, strict=True)]
