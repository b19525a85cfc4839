from __future__ import annotations

import errno
import math
from pathlib import Path

import datasets
import pyarrow.parquet
import pytest

from rapo_lightning.data.ranking import (
    Ranking,
    average_ranks,
    best_round,
    mean_gap,
    mean_score,
    missed_gates,
    reaches,
)
from rapo_lightning.data.trajectory import (
    Row,
    TrajectoryStore,
    by_prompt,
    common_columns,
    read_rows,
)
from rapo_lightning.errors import RunError


def make_row(
    prompt_id: str = "p", round_: int = 0, a: float | None = 0.5, b: float | None = 0.5, **more: object
) -> Row:
    row: Row = {
        "prompt_id": prompt_id, "source_prompt": "a ball", "phys_law": "", "round": round_, "prompt": f"ball {round_}",
        "seed": 1, "video": "", "score_a": a, "score_b": b, "critique": "", "physics": "", "flow": [[0.0, 1.0]], "motion": "",
        "next_prompt": "", "video_model": "v", "vision_language_model": "", "language_model": "l", "recipe_hash": "h",
        "seconds_generate": 0.1, "seconds_judge": 0.1, "seconds_rewrite": 0.1,
    }  # fmt: skip
    return {**row, **more}


def test_rows_come_back_and_load_with_plain_datasets(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path / "t", ["a", "b"])
    store.append([make_row(round_=1, a=None, b=None), make_row("q")])
    store.append([make_row(round_=0, critique="The ball is missing.")])
    rows = store.rows()
    assert [(row["prompt_id"], row["round"]) for row in rows] == [("p", 0), ("p", 1), ("q", 0)]
    assert rows[1]["score_a"] is None
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "t/*.parquet"), cache_dir=str(tmp_path / "c"))
    assert loaded["train"].features == store.features
    assert len(loaded["train"]) == 3


def test_columns_stand_in_the_documented_order(tmp_path: Path) -> None:
    columns = list(TrajectoryStore(tmp_path, ["a"]).features)
    assert columns[:8] == [
        "schema_version",
        "prompt_id",
        "source_prompt",
        "phys_law",
        "round",
        "prompt",
        "seed",
        "video",
    ]
    assert columns[8:10] == ["score_a", "critique"]


def test_a_row_written_twice_counts_once(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path, ["a", "b"])
    store.append([make_row()])
    store.append([make_row(), make_row(recipe_hash="other")])
    assert len(store.rows("h")) == 1
    assert len(store.rows()) == 2


def test_damaged_part_is_named_with_the_way_out(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path, ["a", "b"])
    store.append([make_row()])
    (tmp_path / "part-broken.parquet").write_bytes(b"PAR1 not a parquet")
    with pytest.raises(RunError, match=r"part-broken\.parquet cannot be read.*Move it away"):
        store.rows()
    (tmp_path / "part-broken.parquet").unlink()
    assert len(store.rows()) == 1


def test_full_disk_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TrajectoryStore(tmp_path, ["a", "b"])
    store.append([make_row()])

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pyarrow.parquet, "write_table", full)
    with pytest.raises(RunError, match="No space left on device"):
        store.append([make_row(round_=1)])
    assert len(store.rows()) == 1


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be created"):
        TrajectoryStore(tmp_path / "file" / "t", ["a"])


def test_average_ranks_share_ties_and_put_missing_last() -> None:
    rounds = [make_row(a=0.1, b=0.9), make_row(round_=1, a=0.9, b=0.9), make_row(round_=2, a=None, b=0.1)]
    assert average_ranks(rounds) == [1.75, 1.25, 3.0]
    assert best_round(rounds)["round"] == 1


def test_earliest_round_wins_a_tie() -> None:
    assert best_round([make_row(round_=0, a=0.2, b=0.8), make_row(round_=1, a=0.8, b=0.2)])["round"] == 0


def test_nan_ranks_last_and_never_wins() -> None:
    rounds = [make_row(a=0.5, b=0.5), make_row(round_=1, a=math.nan, b=math.nan), make_row(round_=2, a=None, b=0.5)]
    assert average_ranks(rounds) == [1.25, 2.75, 2.0]
    assert best_round(rounds[::-1])["round"] == 0


def test_a_gate_has_no_vote_and_a_round_below_it_loses() -> None:
    # The paper's equal votes let a check that all but passed outvote the score that matters.
    rounds = [make_row(a=0.0, b=1.0), make_row(round_=1, a=0.8, b=0.96), make_row(round_=2, a=0.9, b=0.95)]
    assert best_round(rounds)["round"] == 0
    assert best_round(rounds, Ranking(gates={"b": 0.9}))["round"] == 2
    assert average_ranks(rounds, Ranking(gates={"b": 0.9})) == [3.0, 2.0, 1.0]
    rounds[2]["score_b"] = None
    assert best_round(rounds, Ranking(gates={"b": -1.0}))["round"] == 1


def test_weights_are_votes_and_all_gates_leave_the_earliest_that_passes() -> None:
    rounds = [make_row(a=0.1, b=0.9), make_row(round_=1, a=0.9, b=0.1)]
    assert best_round(rounds, Ranking(weights={"b": 3}))["round"] == 0
    assert best_round(rounds, Ranking(weights={"a": 3}))["round"] == 1
    assert average_ranks(rounds, Ranking(weights={"a": 3})) == [1.75, 1.25]
    assert best_round(rounds, Ranking(gates={"a": 0.5, "b": 0.0}))["round"] == 1


@pytest.mark.parametrize(
    "given", [{"weights": {"a": -1}}, {"gates": {"a": math.nan}}, {"weights": {"a": 1}, "gates": {"a": 1}}]
)
def test_a_ranking_is_checked(given: dict[str, dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="weights >= 0"):
        Ranking(**given)


def test_mean_score_leaves_missing_out() -> None:
    assert mean_score(make_row(a=math.nan, b=0.4)) == pytest.approx(0.4)
    assert mean_score(make_row(a=None, b=0.4)) == pytest.approx(0.4)
    assert mean_score(make_row(a=None, b=None)) == float("-inf")


def test_rows_group_by_prompt_in_round_order() -> None:
    groups = by_prompt([make_row(round_=2), make_row(round_=0), make_row("q")])
    assert [row["round"] for row in groups["p"]] == [0, 2]


def test_gap_is_over_the_verifiers_that_scored_both() -> None:
    # Means by themselves would say that the second is worse by 0.3.
    assert mean_gap(make_row(a=0.9, b=0.4), make_row(a=None, b=0.3)) == pytest.approx(0.1)
    assert mean_gap(make_row(a=0.5, b=math.nan), make_row(a=0.2, b=0.3)) == pytest.approx(0.3)
    assert math.isnan(mean_gap(make_row(a=0.5, b=None), make_row(a=None, b=0.3)))


def test_stores_read_together_get_the_same_columns(tmp_path: Path) -> None:
    row = {name: value for name, value in make_row().items() if not name.startswith("score_")}
    for name in "ab":
        TrajectoryStore(tmp_path / name, [name]).append([{**row, f"score_{name}": 0.5}])
    folders = [tmp_path / name for name in ("a", "b", "none")]
    assert common_columns(folders, ["c"]) == ["a", "b", "c"]
    found = [pyarrow.parquet.read_schema(path).names for path in tmp_path.rglob("*.parquet")]
    assert len(found) == 2
    assert all({"score_a", "score_b", "score_c"} <= set(names) for names in found)
    assert read_rows(tmp_path / "a")[0]["score_a"] == 0.5


def test_rows_from_before_calls_are_read_and_stand_beside_new_ones(tmp_path: Path) -> None:
    call = {
        "by": "a", "prompt_tokens": 5, "completion_tokens": None, "seconds": 0.5, "failed": True, "remark": "HTTP 500",
    }  # fmt: skip
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder in folders:
        store = TrajectoryStore(folder, ["a", "b"])
        store.append([make_row()])
        (path,) = folder.glob("*.parquet")
        table = pyarrow.parquet.read_table(path).drop_columns("calls")
        version = pyarrow.array([2], pyarrow.int32())
        pyarrow.parquet.write_table(table.set_column(0, "schema_version", version), path)
    assert "calls" not in read_rows(folders[0])[0]
    store.append([make_row(round_=1, calls=[call])])
    store.clean()
    assert [row["calls"] for row in read_rows(folders[1])] == [None, [call]]
    assert common_columns(folders, []) == ["a", "b"]
    assert [row["schema_version"] for folder in folders for row in read_rows(folder)] == [2, 2, 5]
    files = [str(path) for path in tmp_path.rglob("*.parquet")]
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "c"))["train"]
    assert loaded.features == store.features
    assert sorted(map(len, (calls or [] for calls in loaded["calls"]))) == [0, 0, 1]


def test_missing_folder_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "none") == []


def test_a_row_compares_as_it_will_when_it_is_read(tmp_path: Path) -> None:
    rows = [make_row(a=0.7, b=0.3), make_row(round_=1, a=0.7 + 1e-9, b=0.3)]
    store = TrajectoryStore(tmp_path, ["a", "b"])
    store.append(rows)
    for made in (rows, store.rows()):
        assert reaches(made[0], "a", 0.7)
        assert not reaches(made[0], "a", 0.7001)
        assert missed_gates(made[0], Ranking(gates={"a": 0.7, "b": 0.3})) == 0
        assert best_round(made)["round"] == 0


def test_rows_without_their_texts_are_told(tmp_path: Path) -> None:
    TrajectoryStore(tmp_path, ["a", "b"]).append([make_row()])
    (part,) = tmp_path.glob("*.parquet")
    table = pyarrow.parquet.read_table(part).drop_columns(["source_prompt"])
    pyarrow.parquet.write_table(table, tmp_path / "part-other.parquet")
    part.unlink()
    with pytest.raises(
        RunError, match="must have the texts source_prompt, prompt.*without source_prompt; move the part"
    ):
        read_rows(tmp_path)
