"""The language model's two phases of a round: checking the physics, and rewriting with the memory of earlier rounds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..data.ids import derived_seed
from ..data.trajectory import Row, mean_score
from ..models.base import Embedder, LanguageModel
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


def physics_messages(row: Row, stage2: Stage2) -> Messages:
    """The conversation in which the model compares a video's motion with its law."""
    flow = ", ".join(f"({x:.1f}, {y:.1f})" for x, y in row["flow"])
    user = template("stage2", "physics_user").format(
        law=row["phys_law"], request=row["source_prompt"], seconds=stage2.flow_seconds, flow=flow
    )
    return [{"role": "system", "content": template("stage2", "physics_system")}, {"role": "user", "content": user}]


def check_physics(rows: Sequence[Row], stage2: Stage2, model: LanguageModel) -> list[str]:
    """The model's remark on the physics of each row; empty where the prompt has no law."""
    answers = [""] * len(rows)
    chosen = [index for index, row in enumerate(rows) if row["phys_law"] and stage2.physics != "off"]
    if chosen:
        sampling = replace(stage2.sampling, max_new_tokens=stage2.physics_tokens)
        seeds = [derived_seed("physics", rows[i]["prompt_id"], rows[i]["round"], rows[i]["seed"]) for i in chosen]
        conversations = [physics_messages(rows[index], stage2) for index in chosen]
        for index, (answer,) in zip(chosen, model.complete(conversations, seeds, sampling), strict=True):
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
    rewrites = [row for row in rounds if row["prompt"] != row["source_prompt"]]
    best = sorted(rewrites, key=lambda row: (-mean_score(row), row["round"]))[: stage2.memory]
    memory = "".join(
        template("stage2", "memory_line").format(score=f"{mean_score(row):.2f}", prompt=row["prompt"]) + "\n"
        for row in best
    )
    return [*messages, _user_turn(rounds[0]["source_prompt"], problem, memory)]


def _choose(candidates: Sequence[str], query: str, tried: set[str], pool: ExamplePool, stage2: Stage2,
            embedder: Embedder) -> str:  # fmt: skip
    """The candidate nearest to request and critique and to the examples' style; one already tried only if all are."""
    fresh = [text for text in candidates if text and text not in tried] or [text for text in candidates if text]
    if not fresh:
        return ""
    vectors = embedder.encode([query, *fresh])
    scores = vectors[1:] @ vectors[0] + stage2.style_weight * np.array([pool.style(text) for text in fresh])
    return fresh[int(np.argmax(scores))]


def rewrite(
    histories: Sequence[Sequence[Row]], stage2: Stage2, model: LanguageModel, embedder: Embedder, pool: ExamplePool
) -> list[str]:
    """Proposes the next prompt of each trajectory.

    Args:
        histories: For each prompt its rounds so far, in order, the last with its critique and physics.
        stage2: The loop's settings.
        model: The rewriter.
        embedder: Finds examples and compares candidates.
        pool: Example rewrites.

    Returns:
        One prompt each; the last round's own prompt where the model gave nothing usable.
    """
    problems = []
    for rounds in histories:
        parts = [known_problems(rounds)]
        if stage2.physics == "rewrite":
            parts.append(rounds[-1]["physics"])
        problems.append(" ".join(part for part in parts if part))
    requests = [rounds[0]["source_prompt"] for rounds in histories]
    queries = [query_text(request, problem) for request, problem in zip(requests, problems, strict=True)]
    shown = pool.nearest(queries, stage2.examples_per_prompt, embedder)
    conversations = [
        rewrite_messages(rounds, problem, examples, stage2)
        for rounds, problem, examples in zip(histories, problems, shown, strict=True)
    ]
    seeds = [
        derived_seed("rewrite", rounds[-1]["prompt_id"], rounds[-1]["round"], rounds[-1]["seed"])
        for rounds in histories
    ]
    answers = model.complete(conversations, seeds, stage2.sampling, stage2.candidates)
    proposals = []
    for rounds, query, candidates in zip(histories, queries, answers, strict=True):
        cleaned = [shorten(one_line(text), stage2.max_words) for text in candidates]
        tried = {row["prompt"] for row in rounds}
        proposals.append(_choose(cleaned, query, tried, pool, stage2, embedder) or rounds[-1]["prompt"])
    return proposals
