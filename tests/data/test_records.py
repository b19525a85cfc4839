from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from rapo_lightning.data.records import PHASES, Records
from rapo_lightning.errors import RunError

WHOLE = {"video": "", "bytes": 0, "seconds": 1.0, "physics": "", "next_prompt": ""}
"""What a record of any phase has."""


def test_records_are_found_again_and_the_latest_counts(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.append("generations", [{**WHOLE, "key": "a"}, {**WHOLE, "key": "b"}])
    records.append("generations", [{**WHOLE, "key": "a", "seconds": 3.0}])
    for found in (records, Records(tmp_path)):
        assert found.get("generations", "a") == {**WHOLE, "key": "a", "seconds": 3.0}
        assert found.get("generations", "b") == {**WHOLE, "key": "b"}
        assert found.get("judgements", "a") is None


@pytest.mark.parametrize("phase", PHASES)
def test_half_a_record_of_any_phase_is_dropped(tmp_path: Path, phase: str) -> None:
    Records(tmp_path).append(phase, [{**WHOLE, "key": "whole", "text": "ä\nb"}])  # type: ignore[arg-type]
    path = tmp_path / f"records/{phase}.0.jsonl"
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut])
        records = Records(tmp_path)
        assert records.get(phase, "whole") == {**WHOLE, "key": "whole", "text": "ä\nb"}  # type: ignore[arg-type]
        records.append(phase, [{**WHOLE, "key": "next"}])  # type: ignore[arg-type]
        assert path.read_bytes() == whole + json.dumps({**WHOLE, "key": "next"}).encode() + b"\n"


def test_half_a_record_of_another_process_is_not_read_and_not_touched(tmp_path: Path) -> None:
    other = tmp_path / "records/rewrites.1.jsonl"
    Records(tmp_path, 1).append("rewrites", [{**WHOLE, "key": "a"}])
    with other.open("ab") as file:
        file.write(json.dumps({**WHOLE, "key": "b"}).encode()[:-1])
    records = Records(tmp_path)
    assert records.get("rewrites", "a") == {**WHOLE, "key": "a"}
    assert records.get("rewrites", "b") is None
    with other.open("ab") as file:
        file.write(b"}\n")
    records.refresh()
    assert records.get("rewrites", "b") == {**WHOLE, "key": "b"}


@pytest.mark.parametrize("line", [b"garbage", b'{"key": "a"}', b"[1]", b"null"])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    Records(tmp_path).append("judgements", [{**WHOLE, "key": "a"}])
    path = tmp_path / "records/judgements.0.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes())
    with pytest.raises(RunError, match=r"judgements.0.jsonl is no record. Got .*; delete that line"):
        Records(tmp_path)


def test_a_full_disk_leaves_whole_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(tmp_path)
    records.append("judgements", [{**WHOLE, "key": "a"}])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        records.append("judgements", [{**WHOLE, "key": "b"}])
    monkeypatch.undo()
    assert (tmp_path / "records/judgements.0.jsonl").read_bytes() == json.dumps({**WHOLE, "key": "a"}).encode() + b"\n"
    assert records.get("judgements", "b") is None
