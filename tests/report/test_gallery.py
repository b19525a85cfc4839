from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from rapo_lightning.cli import main
from rapo_lightning.data.trajectory import TrajectoryStore
from rapo_lightning.errors import RunError, UserError
from rapo_lightning.evaluation.arms import ArmResult, summarize
from rapo_lightning.report import write_report
from tests.data.test_trajectory import make_row

EVIL = "<script>alert('x')</script> & \"quotes\" $title ${sections}"


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def results(**changes: Any) -> dict[str, Any]:
    noise = np.linspace(-0.1, 0.1, 9)
    arms = [
        ArmResult(name, mean + noise, 1, 0.5) for name, mean in (("raw", 0.2), ("refiner", 0.5), ("reference", 0.8))
    ]
    return {**summarize(arms, "lab_oracle", "hash"), **changes}


def run_of(folder: Path, *rows: dict[str, Any], verifiers: tuple[str, ...] = ("a", "b")) -> Path:
    store = TrajectoryStore(folder / "trajectories", list(verifiers))
    store.append([{name: value for name, value in row.items() if name in store.features} for row in rows])
    return folder


def test_everything_a_run_says_is_escaped(tmp_path: Path) -> None:
    evil = dict.fromkeys(("prompt", "source_prompt", "critique", "physics", "phys_law"), EVIL)
    run = run_of(tmp_path, make_row(**evil, video="videos/p/0.mp4"))
    (run / "results.json").write_text(json.dumps(results(metric=EVIL)))
    text = write_report(run).read_text()
    page = Tags(text)
    assert "script" not in page.tags
    assert page.tags.count("video") == 1
    assert not {name for name in page.attributes if name.startswith("on")}
    assert text.count("&lt;script&gt;") == 6
    assert '<video src="../videos/p/0.mp4"' in text
    assert "<td>refiner</td><td>0.500</td>" in text


def test_the_page_may_load_nothing_but_videos(tmp_path: Path) -> None:
    text = write_report(run_of(tmp_path, make_row())).read_text()
    assert (
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "media-src 'self' file:; img-src 'self' data:\">" in text
    )
    # Before anything that it is to govern.
    assert text.index("Content-Security-Policy") < text.index("<style>")


@pytest.mark.parametrize(
    "video",
    ["../../etc/secret.mp4", "videos/../../x.mp4", "/etc/x.mp4", "https://x.org/x.mp4", "//x.org/x", "file:x", "..\\x"],
)
def test_videos_stay_in_the_run_folder(tmp_path: Path, video: str) -> None:
    text = write_report(run_of(tmp_path, make_row(video=video))).read_text()
    assert "video" not in Tags(text).tags
    assert "lies outside the run folder" in text


def test_names_of_videos_are_addresses(tmp_path: Path) -> None:
    text = write_report(run_of(tmp_path, make_row(video='videos/a #1?"/0.mp4'))).read_text()
    assert '<video src="../videos/a%20%231%3F%22/0.mp4"' in text


def labels(text: str) -> list[str]:
    return re.findall("<dt>(.*?)</dt>", text)


def test_scores_of_another_recipes_verifier_are_no_missing_ones(tmp_path: Path) -> None:
    run = run_of(tmp_path, make_row("p", 0, a=0.5), make_row("p", 1, a=None), verifiers=("a",))
    other = [make_row("q", 0, a=None, b=math.nan, recipe_hash="i"), make_row("q", 1, a=None, b=0.5, recipe_hash="i")]
    run_of(run, *other, verifiers=("b",))
    TrajectoryStore(run / "trajectories", []).clean()
    text = write_report(run).read_text()
    assert sorted(labels(text)) == ["a", "a", "b", "b", *["mean rank"] * 4]
    assert text.count("missing") == 2
    # Ranks are those of the own verifier alone.
    assert (text.count("<dd>1.00</dd>"), text.count("<dd>2.00</dd>")) == (2, 2)


def test_a_run_without_verifiers_has_no_ranks(tmp_path: Path) -> None:
    assert labels(write_report(run_of(tmp_path, make_row(), verifiers=())).read_text()) == []


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "7",
        "{}",
        json.dumps({"arms": {}, "gap_closure": {}}),
        json.dumps(results(arms={"raw": 1})),
        json.dumps(results(arms={"raw": {"mean": 0.5, "ci95": [0.4], "n": 9, "videos_per_prompt": 1}})),
        json.dumps(results(arms={"raw": {"mean": "<b>", "ci95": [0.4, 0.6], "n": 9, "videos_per_prompt": 1}})),
        json.dumps(results(arms={"raw": {"mean": 0.5, "ci95": [0.4, 0.6], "n": "<b>", "videos_per_prompt": 1}})),
        json.dumps(results(gap_closure=[])),
        json.dumps(results(metric=3)),
        "[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_damaged_results_are_named(tmp_path: Path, content: str | bytes, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path, make_row())
    (run / "results.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["report", str(run)]) == 1
    told = capsys.readouterr().err
    assert "results.json must hold what `evaluate` writes. Got " in told
    assert told.count("\n") == 1
    assert not (run / "report").exists()


@pytest.mark.parametrize("change", [{"round": EVIL}, {"prompt": 3}, {"score_a": EVIL}, {"video": 1.0}, {"critique": 2}])
def test_rows_of_other_types_are_named(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = tmp_path / "trajectories"
    folder.mkdir()
    table = pyarrow.Table.from_pylist([{**make_row(), "schema_version": 2, **change}])
    pyarrow.parquet.write_table(table, folder / "part-1.parquet")
    with pytest.raises(RunError, match=f"must be what `collect` writes. Got .* for `{next(iter(change))}`"):
        write_report(tmp_path)


def test_rows_without_columns_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "trajectories"
    folder.mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["x"]}), folder / "part-1.parquet")
    with pytest.raises(RunError, match="Rows must have the columns"):
        write_report(tmp_path)


def test_nothing_is_written_through_links(tmp_path: Path) -> None:
    run, elsewhere = run_of(tmp_path / "run", make_row()), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "index.html").write_text("mine")
    (run / "report").symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a link to elsewhere; remove it"):
        write_report(run)
    (run / "report").unlink()
    (run / "report").mkdir()
    (run / "report" / "index.html").symlink_to(elsewhere / "index.html")
    (run / "report" / "index.tmp").symlink_to(elsewhere / "index.html")
    assert write_report(run).read_text().startswith("<!doctype html>")
    assert (elsewhere / "index.html").read_text() == "mine"


def test_a_gallery_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a run folder"):
        write_report(tmp_path)
    with pytest.raises(UserError, match="at least one prompt. Got 0 for `limit`"):
        write_report(tmp_path, limit=0)
