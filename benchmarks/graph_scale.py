"""Stage 1 at the published scale: `python benchmarks/graph_scale.py PART --folder DIR`, the figures of docs/stage1.md.

make       synthetic graph of 500,000 places, 200,000 modifiers and 2,000,000 links, in our format and the published
load       opening it, against reading the published JSON and GraphML; each in a process of its own
retrieve   1,000 prompts at once, against one by one
build      graphs from 25,000 to 200,000 CSV rows
encode     the encoder in batches against one phrase at a time; on a GPU where there is one
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow

from relation_graph import Nodes, RelationGraph, build_graph, load_graph, retrieve, save_graph
from relation_graph.build import edges_from_codes
from relation_graph.published import export_published

PLACES, VERBS, SCENARIOS, LINKS, DIMENSIONS = 500_000, 150_000, 50_000, 2_000_000, 384
SUBJECTS = ["a man", "two women", "a child", "an old dog", "a group of dancers", "a chef", "a red car", "some birds"]
VERBS_ = ["walking", "standing", "sitting", "running", "talking", "waiting", "dancing", "resting", "playing", "working"]
WHERE = [
    "in a park",
    "on a beach",
    "at a table",
    "near a river",
    "in a kitchen",
    "on a street",
    "by a window",
    "in a barn",
]


def phrase(number: int) -> str:
    """A phrase of four to six words, another one for each number up to a few million."""
    parts = [VERBS_[number % 10], WHERE[number // 10 % 8], "with", SUBJECTS[number // 80 % 8]]
    return " ".join(parts) + (f" {number // 640}" if number >= 640 else "")


def _nodes(count: int, per_node: int, rng: np.random.Generator) -> Nodes:
    vectors = rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    offsets = np.arange(count + 1, dtype=np.int64) * per_node
    captions = rng.integers(2_100_000, size=count * per_node, dtype=np.int32)
    texts = pyarrow.array([phrase(i) for i in range(count)], pyarrow.large_string())
    return Nodes(texts, vectors, np.ones(count, np.float32), offsets, captions)


def make(folder: Path) -> None:
    """Writes the synthetic graph twice."""
    rng = np.random.default_rng(0)
    nodes = {
        "place": _nodes(PLACES, 4, rng),
        "verb_object": _nodes(VERBS, 10, rng),
        "scenario": _nodes(SCENARIOS, 10, rng),
    }
    edges = {}
    for kind, share in (("verb_object", 0.75), ("scenario", 0.25)):
        codes = np.zeros(0, np.int64)
        while len(codes) < LINKS * share:
            # Few places and modifiers are frequent, most are rare, as in captions.
            place = (PLACES * rng.random(LINKS) ** 3).astype(np.int64)
            target = (len(nodes[kind]) * rng.random(LINKS) ** 2).astype(np.int64)
            codes = np.unique(np.concatenate([codes, place << 32 | target]))
        codes = np.sort(rng.choice(codes, int(LINKS * share), replace=False))
        edges[kind] = edges_from_codes(codes, rng.integers(1, 9, len(codes)), PLACES)
    graph = RelationGraph(nodes, edges, "all-minilm-l6-v2", 2_100_000)  # type: ignore[arg-type]
    save_graph(graph, folder / "graph")
    export_published(graph, folder / "published")


def _memory() -> float:
    """Resident memory in MB, and the highest so far."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1024


def load_ours(folder: Path) -> None:
    """Opens the graph; prints seconds and the growth of the peak of resident memory."""
    before, begin = _memory(), time.perf_counter()
    graph = load_graph(folder / "graph")
    print(
        json.dumps(
            {"seconds": time.perf_counter() - begin, "megabytes": _memory() - before, "places": len(graph.places)}
        )
    )


def load_published(folder: Path) -> None:
    """Reads the published files as their users must."""
    import networkx

    before, begin = _memory(), time.perf_counter()
    names = [f"{kind}_{what}" for kind in ("verb", "scenario", "place") for what in ("to_idx", "in_sentence")]
    names += ["verb_words_embed", "scenario_words_embed", "place_embed"]
    held = []
    for name in names:
        with (folder / "published" / f"{name}.json").open(encoding="utf-8") as file:
            held.append(json.load(file))
    held += [networkx.read_graphml(folder / "published" / f"graph_place_{k}.graphml") for k in ("verb", "scene")]
    print(json.dumps({"seconds": time.perf_counter() - begin, "megabytes": _memory() - before, "files": len(held)}))


def load(folder: Path) -> None:
    """Compares the two, ours five times."""

    def run(part: str) -> dict[str, float]:
        shown = subprocess.run(
            [sys.executable, __file__, part, "--folder", str(folder)], capture_output=True, text=True, check=True
        )
        found: dict[str, float] = json.loads(shown.stdout)
        return found

    ours = [run("load_ours") for _ in range(5)]
    theirs = run("load_published")
    seconds, memory = np.median([item["seconds"] for item in ours]), np.median([item["megabytes"] for item in ours])
    print(f"ours (median of 5): {seconds:.4f} s, {memory:.1f} MB; published (one reading): {theirs['seconds']:.1f} s, "
          f"{theirs['megabytes']:.0f} MB; {theirs['seconds'] / seconds:.0f} times faster, "
          f"1/{theirs['megabytes'] / memory:.0f} of the memory")  # fmt: skip


def _encoder(device: str = "cpu"):  # type: ignore[no-untyped-def]
    import torch

    from rapo_lightning.models import SentenceEmbedder

    encoder = SentenceEmbedder("all-minilm-l6-v2", 256)
    encoder.to(torch.device(device))
    return encoder


def retrieve_part(folder: Path) -> None:
    """1,000 prompts at once against 100 one by one, in turns, three times; then prompts that all land on large hubs."""
    graph, encoder = load_graph(folder / "graph"), _encoder()
    prompts = [f"{SUBJECTS[i % 8]} {VERBS_[i // 8 % 10]} {WHERE[i // 80 % 8]} at {i} o'clock" for i in range(1000)]
    retrieve(graph, encoder.encode(prompts[:8]))
    for turn in range(3):
        begin = time.perf_counter()
        vectors = encoder.encode(prompts)
        encoded = time.perf_counter()
        together = retrieve(graph, vectors)
        done = time.perf_counter()
        alone = [retrieve(graph, encoder.encode([prompt]))[0] for prompt in prompts[:100]]
        one = (time.perf_counter() - done) / 100
        # Sets, since the encoder's own rounding may swap two neighbours in the last digit.
        same = sum({f.phrase for f in a} == {f.phrase for f in b} for a, b in zip(together, alone, strict=False))
        each = (done - begin) / 1000
        print(f"turn {turn}: at once {each * 1e3:.2f} ms a prompt (search and ranking {(done - encoded):.2f} ms), one by one "
              f"{one * 1e3:.1f} ms: {one / each:.1f} times faster; same result for {same} of 100", flush=True)  # fmt: skip
    _hubs(graph)


def _hubs(graph: RelationGraph) -> None:
    """Prompts that all land on large hubs, three times; on a GPU too, where there is one."""
    import torch

    from rapo_lightning.stage1.search import DeviceSearch

    links, rng = sum(np.diff(edges.offsets) for edges in graph.edges.values()), np.random.default_rng(0)
    hubs = np.argsort(-np.asarray(links))[:100]
    sizes = f"{np.asarray(links)[hubs[-1]]} to {np.asarray(links)[hubs[0]]} links"
    vectors = graph.places.vectors[rng.choice(hubs, 1000)] + rng.normal(0, 0.02, (1000, DIMENSIONS)).astype(np.float32)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    searches = {device: DeviceSearch(torch.device(device)) for device in devices}
    found = {device: retrieve(graph, vectors, search=search) for device, search in searches.items()}
    same = sum(a == b for a, b in zip(found["cpu"], found[devices[-1]], strict=True))
    for turn in range(3):
        for device, search in searches.items():
            begin = time.perf_counter()
            retrieve(graph, vectors, search=search)
            print(f"turn {turn}: prompts at the 100 largest hubs ({sizes}), {device}: {time.perf_counter() - begin:.2f} ms "
                  f"a prompt; same result as on the CPU for {same} of 1000", flush=True)  # fmt: skip


def build(folder: Path) -> None:
    """Rows and phrases per second by size."""
    encoder, rng = _encoder(), np.random.default_rng(0)
    for rows in (25_000, 50_000, 100_000, 200_000):
        path = folder / f"rows-{rows}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["Input", "verb_obj_word", "scenario_word", "place"])
            # A quarter of the phrases a caption uses is new, whatever the number of captions.
            for i in range(rows):
                verbs = [phrase(int(n)) for n in rng.integers(rows // 4, size=2)]
                writer.writerow([f"caption {i}", verbs, ["calm"], [phrase(int(rng.integers(rows // 10)))]])
        begin = time.perf_counter()
        graph, reports = build_graph([path], encoder)
        seconds, phrases = time.perf_counter() - begin, sum(len(nodes) for nodes in graph.nodes.values())
        print(f"{rows} rows: {seconds:.1f} s, {seconds / rows * 1e3:.3f} ms a row, {phrases} phrases, "
              f"{sum(report.good for report in reports.values())} rows read", flush=True)  # fmt: skip


def encode(folder: Path) -> None:
    """Phrases per second of the encoder in batches and one by one, in turns."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder, rng = _encoder(device), np.random.default_rng(0)
    texts = [phrase(int(n)) for n in rng.integers(100_000, size=20_000 if device == "cuda" else 4000)]
    encoder.encode(texts[:512])
    for turn in range(3):
        begin = time.perf_counter()
        encoder.encode(texts)
        batched = len(texts) / (time.perf_counter() - begin)
        begin = time.perf_counter()
        for text in texts[:200]:
            encoder.encode([text])
        single = 200 / (time.perf_counter() - begin)
        print(
            f"{device}, turn {turn}: {batched:.0f} phrases/s in batches, {single:.0f} one by one: {batched / single:.1f} times",
            flush=True,
        )


if __name__ == "__main__":
    parts = {"make": make, "load": load, "load_ours": load_ours, "load_published": load_published,
             "retrieve": retrieve_part, "build": build, "encode": encode}  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(parts))
    parser.add_argument("--folder", type=Path, required=True, help="where the synthetic graphs are (12 GB)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    parts[options.part](options.folder)
