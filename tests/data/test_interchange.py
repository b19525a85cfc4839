"""Videos of a benchmark are named after the users' prompts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rapo_lightning.data.interchange import RefinedPrompt, benchmark_files, trajectory_csv, video_stems


def stems(*sources: str) -> list[str]:
    return video_stems([RefinedPrompt(source, "", "refined") for source in sources])


def test_a_name_is_the_prompt_itself_as_vbench_looks_for_it() -> None:
    prompt = "A beautiful coastal beach in spring, waves lapping on sand by Hokusai, in the style of Ukiyo"
    assert stems(prompt, "a café, 夕日?", "..") == [prompt, "a café, 夕日?", ".."]


def test_what_is_no_name_is_told_apart_by_the_prompts_id() -> None:
    slash, other, long = stems("a cat/dog", "a cat\\dog", "夕" * 200)
    assert slash.startswith("a cat_dog_")
    assert other.startswith("a cat_dog_")
    assert slash != other
    assert len(f"{long}-24.mp4".encode()) <= 255
    assert long.startswith("夕夕")


def test_prompts_of_one_name_have_videos_of_their_own() -> None:
    laws = video_stems([RefinedPrompt("a cat", law, "b") for law in ("", "gravity", "inertia")])
    assert laws[0] == "a cat"
    assert len(set(laws)) == 3
    # File systems that know no case.
    first, second = stems("A Cat", "a cat")
    assert first == "A Cat"
    assert second.startswith("a cat_")


@given(st.lists(st.text(min_size=1, max_size=300), max_size=8, unique=True))
def test_names_are_plain_and_unique(sources: list[str]) -> None:
    found = stems(*sources)
    assert len({name.casefold() for name in found}) == len(sources)
    for name in found:
        assert Path(f"{name}-0.mp4").name == f"{name}-0.mp4"
        assert len(f"{name}-0.mp4".encode()) <= 255
        assert not re.search(r"[/\\\x00-\x1f\x7f]", name)


def test_the_files_agree_line_by_line() -> None:
    prompts = [RefinedPrompt("a cat", "", "a fat\ncat"), RefinedPrompt("a dog", "gravity", "a dog")]
    files = benchmark_files(prompts, 2)
    assert files["source.txt"] == "a cat\na dog\n"
    assert files["refined.txt"] == "a fat cat\na dog\n"
    assert files["prompts.csv"].startswith(
        'video,prompt,phys_law,refined\na cat-0.mp4,a cat,,"a fat\ncat"\na cat-1.mp4,'
    )
    assert list(json.loads(files["prompt_file.json"]).values()) == ["a cat", "a cat", "a dog", "a dog"]


def test_a_csv_has_all_columns_of_all_rows() -> None:
    rows = [
        {"prompt": "a, b", "score_x": None, "flow": [[0.5, 1.0]]},
        {"prompt": "c", "score_x": float(np.float32(0.9)), "flow": None, "more": 1},
    ]
    assert trajectory_csv(rows) == 'prompt,score_x,flow,more\n"a, b",,"[[0.5, 1.0]]",\nc,0.9,,1\n'
