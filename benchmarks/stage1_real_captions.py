"""What the parts of stage 1 do on real prompts, on text alone: `python benchmarks/stage1_real_captions.py --captions FILE`.

FILE is a text file with a caption a line, or `VBench_full_info.json`, by itself or in the wheel of vbench 0.1.5. One half
makes a relation graph, by the language model of 135 M parameters; prompts of the other half are aligned under the variants.
Prompts that are alike up to the first comma (a scene in several styles) fall into one half. No video is made.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rapo_lightning.data.ids import derived_seed
from rapo_lightning.data.prompts import Prompt
from rapo_lightning.data.store import Row
from rapo_lightning.evaluation.statistics import bootstrap_interval
from rapo_lightning.models import ModelPool, SentenceEmbedder, TransformersLanguageModel
from rapo_lightning.models.base import LanguageModel
from rapo_lightning.models.refiner import Refiner
from rapo_lightning.models.refiner_folder import read_refiner
from rapo_lightning.prompting.chat import Messages, Sampling
from rapo_lightning.prompting.examples import ExamplePool
from rapo_lightning.prompting.templates import table
from rapo_lightning.prompting.text import stem, telling_stems, words
from rapo_lightning.recipe import Recipe
from rapo_lightning.recipe.stages import Stage1
from rapo_lightning.stage1.align import Aligner, AlignParts
from rapo_lightning.stage1.extract import LanguageModelExtractor, extract_captions, open_log
from rapo_lightning.stage1.modifiers import read_groups
from relation_graph import RelationGraph, RetrievalSettings, RowReport, build_graph, read_rows, retrieve

MODEL, EMBEDDER, REWRITER = "smollm2-135m-instruct", "all-minilm-l6-v2", "ckpt/lab/rewriter"
VBENCH = "VBench_full_info.json"
SHUFFLES = 20
"""Shuffled graphs that the graph is compared to."""
BATCH = 32
"""Rows per generation: more pad more, on a CPU."""


class Remembering:
    """A language model that is asked the same only once: variants share most of their questions."""

    def __init__(self, model: LanguageModel) -> None:
        """Takes the model."""
        self.model, self.name = model, model.name
        self.known: dict[str, list[str]] = {}

    def load(self) -> None:
        """Loads the model."""
        self.model.load()

    def to(self, device: torch.device) -> None:
        """Moves the model."""
        self.model.to(device)

    def complete(
        self, conversations: Sequence[Messages], seeds: Sequence[int], sampling: Sampling, count: int = 1
    ) -> list[list[str]]:
        """As `LanguageModel`."""
        keys = [repr((talk, seed, sampling, count)) for talk, seed in zip(conversations, seeds, strict=True)]
        new = [number for number, key in enumerate(keys) if key not in self.known]
        if new:
            asked = [conversations[number] for number in new], [seeds[number] for number in new]
            for number, answers in zip(new, self.model.complete(*asked, sampling, count), strict=True):
                self.known[keys[number]] = answers
        return [self.known[key] for key in keys]


def read_prompts(path: Path) -> list[str]:
    """The captions of a file, each once, in order."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as wheel:
            text = wheel.read(f"vbench/{VBENCH}").decode()
    else:
        text = path.read_text(encoding="utf-8")
    found = [entry["prompt_en"] for entry in json.loads(text)] if text.lstrip().startswith("[") else text.splitlines()
    return list(dict.fromkeys(" ".join(prompt.split()) for prompt in found if prompt.strip()))


def split(prompts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Captions for the graph, and the prompts to align in an order that has nothing to do with the file's."""
    halves: tuple[list[str], list[str]] = ([], [])
    for prompt in prompts:
        halves[derived_seed("half", prompt.split(",")[0].casefold()) % 2].append(prompt)
    return halves[0], sorted(halves[1], key=lambda prompt: derived_seed("sample", prompt))


def make_graph(captions: Sequence[str], models: ModelPool, rows: Path) -> RelationGraph:
    """Extracts and builds the graph, and says how good the extraction is."""
    begin = time.monotonic()
    extract_captions(captions, LanguageModelExtractor(max_new_tokens=96), models.language, open_log(rows, captions))
    graph, reports = build_graph([rows], models.embedder)
    copied, loose, total = 0, 0, 0
    shown = {phrase.casefold() for _, answer in table("stage1", "extract_examples") for part in json.loads(answer).values()
             for phrase in part}  # fmt: skip
    for row in read_rows(rows, RowReport()):
        said = set(map(stem, words(row.caption)))
        for phrase in (*row.places, *row.verb_objects, *row.scenarios):
            total += 1
            copied += phrase.casefold() in shown
            loose += not telling_stems(phrase) <= said
    nodes = ", ".join(f"{len(graph.nodes[kind])} {kind}" for kind in graph.nodes)
    print(f"graph: {len(captions)} captions, {next(iter(reports.values()))}; {nodes}; {time.monotonic() - begin:.0f} s")
    print(f"extraction: {total} phrases, {loose / total:.1%} with a word that the caption lacks, {copied / total:.1%} copied "
          "from the examples of the instruction")  # fmt: skip
    return graph


def shuffled(graph: RelationGraph, seed: int) -> RelationGraph:
    """The graph with its modifiers' phrases dealt out anew: the same links, between what does not belong together."""
    rng, nodes = np.random.default_rng(seed), dict(graph.nodes)
    for kind in graph.edges:
        old, order = graph.nodes[kind], rng.permutation(len(graph.nodes[kind]))
        nodes[kind] = dataclasses.replace(
            old, phrases=old.phrases.take(order), vectors=old.vectors[order], norms=old.norms[order]
        )
    return dataclasses.replace(graph, nodes=nodes)


def fit(graph: RelationGraph, requests: Sequence[str], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """For each request the cosine of the nearest modifier that says something new, and how many of them pass the threshold.

    Returns:
        `(2, requests)`.
    """
    stage1, rows = Stage1(), []
    settings = RetrievalSettings(stage1.place_num, stage1.verb_num, stage1.topk_num)
    for request, items in zip(requests, retrieve(graph, vectors, settings), strict=True):
        said = telling_stems(request)
        scores = [item.score for item in items if item.kind != "place" and not telling_stems(item.phrase) <= said]
        rows.append([max(scores, default=0.0), sum(score >= stage1.threshold for score in scores)])
    return np.array(rows, dtype=np.float64).T


def align(prompts: Sequence[Prompt], models: ModelPool, rewriter: Refiner, graph: RelationGraph | None,
          **fields: object) -> list[Row]:  # fmt: skip
    """Aligns under one variant, with both branches; the authors' settings but for `fields`."""
    recipe = Recipe(stage1=dataclasses.replace(Stage1(), rewriter=REWRITER, **fields))  # type: ignore[arg-type]
    parts = AlignParts(graph, rewriter, None, ExamplePool([]), read_groups(), all_branches=True)
    return Aligner(recipe, models, parts).run(prompts)


def told(values: NDArray[np.float64] | Sequence[float], sign: str = "") -> str:
    """A mean with its interval."""
    low, high = bootstrap_interval(values)
    return f"{np.mean(values):{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def kept(request: str, text: str) -> float:
    """Share of the request's telling stems that a text has."""
    wanted = telling_stems(request)
    return len(wanted & set(map(stem, words(text)))) / len(wanted) if wanted else 1.0


def measure(texts: Sequence[str], requests: Sequence[str], vectors: NDArray[np.float32], models: ModelPool
            ) -> NDArray[np.float64]:  # fmt: skip
    """Stems kept, cosine to the request and words, `(3, prompts)`."""
    cosines = (models.embedder.encode(list(texts)) * vectors).sum(axis=1)
    shares = [kept(request, text) for request, text in zip(requests, texts, strict=True)]
    return np.array([shares, cosines, [len(text.split()) for text in texts]], dtype=np.float64)


def tell_graph(graph: RelationGraph, requests: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """The graph against shuffled ones."""
    own = fit(graph, requests, vectors)
    chance = np.mean([fit(shuffled(graph, seed), requests, vectors) for seed in range(SHUFFLES)], axis=0)
    for name, mine, other in zip(("cosine of the nearest new modifier", "new modifiers at the threshold"), own, chance,
                                 strict=True):  # fmt: skip
        print(f"{name}: {told(mine)}, shuffled {told(other)}, paired difference {told(mine - other, '+')}")


def tell_merges(rows: Sequence[Row]) -> None:
    """What was merged."""
    kinds = [kind for row in rows for kind in row["merge_kinds"]]
    chosen = [item["kind"] for row in rows for item in row["modifiers"] if item["outcome"] == "chosen"]
    print(f"prompts with a merge: {told([float(bool(row['merges'])) for row in rows])}; "
          f"merges a prompt: {told([float(len(row['merges'])) for row in rows])}")  # fmt: skip
    print("merges: " + ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("model", "join")) + "; of "
          + ", ".join(f"{chosen.count(kind)} {kind}" for kind in ("place", "verb_object", "scenario")))  # fmt: skip
    same = sum(row["refactored"] == row["instructed"] for row in rows)
    print(f"requests with a word unknown to the rewriter that its caption lacks: {sum(bool(row['carried']) for row in rows)} "
          f"of {len(rows)}; the two branches are the same text for {same}")  # fmt: skip


def tell_variants(variants: dict[str, list[Row]], measured: Callable[[Sequence[str]], NDArray[np.float64]]) -> None:
    """One line per text of each variant, and the paired differences."""
    texts = {"request": [row["source_prompt"] for row in variants["whole"]]}
    for name, rows in variants.items():
        for column in ("augmented", "refactored", "instructed", "prompt"):
            texts[f"{name}, {column}"] = [row[column] for row in rows]
        choices = [row["choice"] for row in rows]
        print(f"{name}: choice " + ", ".join(f"{choice} {choices.count(choice)}" for choice in sorted(set(choices))))
    found = {name: measured(items) for name, items in texts.items()}
    print(f"{'text':32} {'stems kept':24} {'cosine to the request':24} words")
    for name, values in found.items():
        if not name.startswith("whole") and texts[name] == texts.get(f"whole,{name.partition(',')[2]}"):
            continue  # the same texts as the whole
        print(f"{name:32} {told(values[0]):24} {told(values[1]):24} {values[2].mean():.1f}")
    for other in list(variants)[1:]:
        for column in ("refactored", "instructed", "prompt"):
            same = sum(a == b for a, b in zip(texts[f"whole, {column}"], texts[f"{other}, {column}"], strict=True))
            gain = found[f"whole, {column}"] - found[f"{other}, {column}"]
            print(f"whole - {other}, {column}: stems kept {told(gain[0], '+')}, cosine {told(gain[1], '+')}; "
                  f"the same text for {same}")  # fmt: skip


def main(source: Path, folder: Path, sample: int) -> None:
    """Runs all parts and prints what was found."""
    begin = time.monotonic()
    captions, left = split(read_prompts(source))
    requests = left[:sample]
    base = TransformersLanguageModel(MODEL, batch_size=BATCH)
    models = ModelPool(language=Remembering(base), embedder=SentenceEmbedder(EMBEDDER, batch_size=256))
    settings = read_refiner(REWRITER)
    rewriter = Refiner(settings, Remembering(base.adapted(settings.weights)))
    graph = make_graph(captions, models, folder / "rows.csv")
    prompts, vectors = [Prompt(request) for request in requests], models.embedder.encode(requests)
    print(f"{len(requests)} of {len(left)} prompts aligned; cosine to the nearest caption of the graph's half "
          f"{told((vectors @ models.embedder.encode(captions).T).max(axis=1))}", flush=True)  # fmt: skip
    tell_graph(graph, requests, vectors)
    variants = {
        "whole": align(prompts, models, rewriter, graph, carry_over=True),
        "no graph": align(prompts, models, rewriter, None, carry_over=True),
        "no merge": align(prompts, models, rewriter, graph, carry_over=True, threshold=1.0),
        "no carry-over": align(prompts, models, rewriter, graph),
    }
    tell_merges(variants["whole"])
    tell_variants(variants, lambda texts: measure(texts, requests, vectors, models))
    for row in variants["whole"][:5]:
        print("\n".join(f"{column:>13}: {row[column]}" for column in ("source_prompt", "augmented", "refactored",
                                                                      "instructed", "choice")))  # fmt: skip
    print(f"{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True, help="text file, VBench's JSON or the wheel with it")
    parser.add_argument("--folder", type=Path, default=Path("runs/stage1-real"), help="gets the extracted `rows.csv`")
    parser.add_argument("--sample", type=int, default=120, help="prompts to align")
    options = parser.parse_args()
    main(options.captions, options.folder, options.sample)
